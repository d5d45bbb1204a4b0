//! Our files against the wire table of the official protocol.

use std::process::Command;

#[test]
fn our_proto_files_equal_the_wire_table() {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("python3")
        .arg(format!("{root}/spec/check-proto"))
        .arg(format!("{root}/apache/rocketmq/v2/definition.proto"))
        .arg(format!("{root}/apache/rocketmq/v2/service.proto"))
        .output()
        .expect("python3 runs the checker");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
