//! Compiles etcd's protocol with a compiler that is itself a crate, so that no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "etcd")]
    {
        let descriptors = protox::compile(["rpc.proto"], ["proto/etcd"])?;
        tonic_prost_build::configure()
            .build_server(false)
            .build_transport(false)
            .bytes(".")
            .emit_rerun_if_changed(false)
            .compile_fds(descriptors)?;
    }
    Ok(())
}
