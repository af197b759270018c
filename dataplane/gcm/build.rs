//! Compiles the shim and finds the library, which is linked statically: the size of its expanded
//! keys differs between versions with the same name, so code and header must be of one version.

use std::{env, path::Path};

const ARCHIVE: &str = "libIPSec_MB.a";

fn main() -> Result<(), String> {
    println!("cargo:rerun-if-changed=src/shim.c");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() != Ok("x86_64") {
        return Err(
            "intel-ipsec-mb is for x86_64 only: build without the feature `ipsec-mb`".into()
        );
    }
    let mut build = cc::Build::new();
    build.file("src/shim.c").warnings(true).extra_warnings(true).warnings_into_errors(true);
    let found = build
        .get_compiler()
        .to_command()
        .arg(format!("-print-file-name={ARCHIVE}"))
        .output()
        .map_err(|error| format!("the C compiler does not start: {error}"))?;
    let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    // A compiler that does not find the file gives back its bare name.
    let folder = Path::new(&found).parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.ok_or_else(|| {
        format!(
            "{ARCHIVE} not found: install it (Debian: libipsec-mb-dev), or build without the \
             feature `ipsec-mb`"
        )
    })?;
    build.compile("weft_gcm_shim");
    println!("cargo:rustc-link-search=native={}", folder.display());
    println!("cargo:rustc-link-lib=static:-bundle=IPSec_MB");
    Ok(())
}
