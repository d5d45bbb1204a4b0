//! Generates the Rust types of both protocols, without a protoc binary.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "apache/rocketmq/v2/definition.proto",
        "apache/rocketmq/v2/service.proto",
        "gantry/control/v1/control.proto",
    ];
    for file in files {
        println!("cargo::rerun-if-changed={file}");
    }
    // Bodies become slices of the buffer that they were read into.
    let configured = tonic_prost_build::configure().bytes(".").codec_path("crate::codec::SmallBuffers");
    // A message has a handful of properties: nothing is hashed, and they lie in the log in the same order every time.
    let configured = configured.btree_map(".apache.rocketmq.v2.Message.user_properties");
    configured.compile_fds(protox::compile(files, ["."])?)?;
    Ok(())
}
