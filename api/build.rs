//! Compiles proto/*.proto, without protoc.

use prost::Message as _;

const FILES: [&str; 6] = [
    "proto/snapshot.proto",
    "proto/config.proto",
    "proto/load.proto",
    "proto/kv.proto",
    "proto/stream.proto",
    "proto/peers.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, ["proto"])?;
    pbjson_build::Builder::new()
        .register_descriptors(&descriptors.encode_to_vec())?
        .btree_map(["."])
        .build(&[".kthena"])?;

    let mut config = prost_build::Config::new();
    // Sorted maps make equal messages equal bytes, which the content hash needs.
    config.btree_map(["."]).compile_well_known_types();
    config.extern_path(".google.protobuf.Duration", "crate::duration::Duration");
    #[cfg(any(feature = "client", feature = "server"))]
    config.service_generator(
        tonic_prost_build::configure()
            .build_client(cfg!(feature = "client"))
            .build_server(cfg!(feature = "server"))
            .build_transport(false)
            .service_generator(),
    );
    config.compile_fds(descriptors)?;
    Ok(())
}
