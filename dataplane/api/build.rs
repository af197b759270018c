//! Compiles the protocol definition with a compiler that is itself a crate, so that no `protoc`
//! needs to be installed.

use std::{error::Error, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new("proto");
    let file = Path::new("weft/local/v1/local.proto");
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile([file], [root])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
