//! The custom resources that the tests apply, as YAML: what a user would write, and nothing more.

/// A NameServerSet.
pub fn name_servers(name: &str, replicas: usize) -> String {
    resource("NameServerSet", name, &format!("replicas: {replicas}"))
}

/// A BrokerGroup that registers with a NameServerSet, with more lines of spec.
pub fn brokers(name: &str, name_servers: &str, more: &str) -> String {
    let storage = if more.contains("storage:") { "" } else { "storage: {commitLog: {size: 1Gi}}\n" };
    // The volumes of a test cluster share the disk of whoever runs the tests.
    let retention =
        if more.contains("messageRetention:") { "" } else { "messageRetention: {refusePercent: 100}\n" };
    resource(
        "BrokerGroup",
        name,
        &format!("nameServerRef: {{name: {name_servers}}}\n{storage}{retention}{more}"),
    )
}

/// A Topic, with more lines of spec.
pub fn topic(name: &str, name_servers: &str, more: &str) -> String {
    resource("Topic", name, &format!("nameServerRef: {{name: {name_servers}}}\n{more}"))
}

/// Any resource of ours.
pub fn resource(kind: &str, name: &str, spec: &str) -> String {
    let spec: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "---\napiVersion: mq.gantry.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n{spec}"
    )
}
