//! `gantry dev` and the commands against it, as processes: what a developer types on the first day.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

mod bench;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

fn gantry() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    // The tests' own surroundings decide nothing.
    for name in ["GANTRY_SERVER", "GANTRY_ENDPOINT", "KUBECONFIG", "KUBERNETES_SERVICE_HOST"] {
        command.env_remove(name);
    }
    command
}

/// A dev server on ports that the system chose.
struct Dev {
    process: Child,
    ready: Value,
}

impl Dev {
    fn start(data: &Path) -> Self {
        let mut process = gantry()
            .args(["dev", "--port", "0", "--segment-size", "4Mi", "-o", "json", "--data"])
            .arg(data)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { process, ready }
    }

    fn address(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    /// Runs a command against this server.
    fn run(&self, arguments: &str) -> Output {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &str, stdin: &str) -> Output {
        let mut process = gantry()
            .args(arguments.split_whitespace())
            .env("GANTRY_SERVER", self.address("server"))
            .env("GANTRY_ENDPOINT", self.address("endpoint"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        process.wait_with_output().unwrap()
    }

    /// Asks it to stop as a terminal does, and gives its exit code.
    fn stop(mut self) -> i32 {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It is gone already, if the test went well.
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

/// Stdout of a command that must succeed.
#[track_caller]
fn good(output: Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// Stderr of a command that must end with this exit code.
#[track_caller]
fn bad(output: Output, code: i32) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

#[track_caller]
fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
}

fn lines_of_json(text: &str) -> Vec<Value> {
    text.lines().map(json).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn many_topics_are_made_listed_and_deleted_each_standing_for_itself() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create t-7 --queues 3"));
    let differs = bad(dev.run("topic create t-{n} --count 6000 --queues 1 -o json"), 1);
    assert!(differs.contains("topic t-7 was refused") && differs.contains("3 queues"), "{differs}");
    let again = json(&{
        let output = dev.run("topic create t-{n} --count 6001 --queues 1 -o json");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    });
    assert_eq!((&again["changed"], &again["unchanged"]), (&1.into(), &5999.into()));
    assert_eq!(again["refused"][0]["topic"], "t-7");
    let refused =
        bad(dev.run_with("topic create from-args --file -", "# a list\nfrom-stdin\n\nfrom args\n"), 1);
    assert!(refused.contains("topic from args was refused"), "{refused}");

    let listed = json(&good(dev.run("topic list -o json")));
    let listed: Vec<&str> =
        listed.as_array().unwrap().iter().map(|topic| topic["name"].as_str().unwrap()).collect();
    assert_eq!(listed.len(), 6003);
    assert!(listed.is_sorted() && listed.contains(&"from-args") && listed.contains(&"from-stdin"));
    assert_eq!(json(&good(dev.run("topic describe t-7 -o json")))["readQueues"], 3);

    assert_eq!(good(dev.run("topic delete t-{n} --count 6001")), "6001 topics deleted on broker-a\n");
    let gone = bad(dev.run("topic delete t-1 from-args"), 1);
    assert!(gone.contains("topic t-1 does not exist"), "{gone}");
    assert_eq!(json(&good(dev.run("topic list -o json"))).as_array().unwrap().len(), 1);
}

#[test]
fn what_was_sent_is_there_after_a_restart_and_what_was_consumed_does_not_come_again() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create orders --queues 2"));
    let stored = good(
        dev.run("produce orders --count 3 --body order-{n} --tag eu --key k1 --property colour=red -o json"),
    );
    assert_eq!(lines_of_json(&stored).len(), 3);

    let received = good(dev.run("consume orders --group billing --count 3 --timeout 30s -o json"));
    let received = lines_of_json(&received);
    let mut bodies: Vec<&str> = received.iter().map(|message| message["body"].as_str().unwrap()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["order-1", "order-2", "order-3"]);
    for message in &received {
        assert_eq!(message["tag"], "eu");
        assert_eq!(message["keys"], serde_json::json!(["k1"]));
        assert_eq!(message["properties"], serde_json::json!({ "colour": "red" }));
        assert_eq!(message["deliveryAttempt"], 1);
        assert!(stored.contains(message["messageId"].as_str().unwrap()));
    }
    good(dev.run_with("produce orders --quiet", "later-1\n\nlater-2\n"));
    assert_eq!(dev.stop(), 0);

    let dev = Dev::start(data.path());
    let topics = json(&good(dev.run("topic list -o json")));
    assert_eq!(topics[0]["name"], "orders");
    assert_eq!(topics[0]["writeQueues"], 2);
    let rest = good(dev.run("consume orders --group billing --count 2 --timeout 30s --raw"));
    assert_eq!(sorted(&rest), ["later-1", "later-2"]);
    let all = good(dev.run("consume orders --group audit --count 5 --timeout 30s --raw"));
    assert_eq!(sorted(&all), ["later-1", "later-2", "order-1", "order-2", "order-3"]);
    assert_eq!(dev.stop(), 0);
}

#[test]
fn messages_are_found_by_key_by_id_and_by_place() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create orders --queues 1"));
    let stored =
        good(dev.run("produce orders --count 3 --body order-{n} --tag eu --key k{n} --key all -o json"));
    let found = json(&good(dev.run("message find --topic orders --key all -o json")));
    let places: Vec<u64> =
        found["messages"].as_array().unwrap().iter().map(|m| m["queueOffset"].as_u64().unwrap()).collect();
    assert_eq!((places, &found["more"]), (vec![2, 1, 0], &false.into()));
    let one = json(&good(dev.run("message find --topic orders --key k2 --since 1h -o json")));
    let id = one["messages"][0]["properties"]["UNIQ_KEY"].as_str().unwrap();
    assert!(stored.contains(id), "{id}");
    assert_eq!(json(&good(dev.run(&format!("message find --topic orders --id {id} -o json")))), one);
    let table = good(dev.run("message find --topic orders --key all --limit 2"));
    assert!(table.lines().count() == 3 && table.contains("k3 all"), "{table}");
    let got = good(dev.run("message get --topic orders --queue 0 --offset 1 --body"));
    assert!(got.ends_with("order-2\n"), "{got}");

    assert!(bad(dev.run("message find --topic orders --key k2 --until 1h"), 3).contains("the key k2"));
    assert!(bad(dev.run("message find --topic nowhere --key k"), 3).contains("topic create nowhere"));
    assert!(bad(dev.run("message get --topic orders --queue 0 --offset 9"), 3).contains("from 0 to 3"));
    assert!(bad(dev.run("message find --topic orders --key k --broker b"), 3).contains("broker-a"));
    assert_eq!(dev.stop(), 0);
}

#[test]
fn consumers_are_listed_and_what_they_cannot_be_asked_is_told() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create orders --queues 1"));
    good(dev.run("produce orders --body hello"));
    let nobody = bad(dev.run("client list billing"), 3);
    assert!(nobody.contains("no broker knows the group billing"), "{nobody}");
    // It leaves with a goodbye.
    good(dev.run("consume orders --group billing --count 1 --timeout 30s"));
    assert_eq!(good(dev.run("client list billing -o json")), "[]\n");
    for command in ["stack billing me", "reconnect billing"] {
        let gone = bad(dev.run(&format!("client {command}")), 3);
        assert!(gone.contains("broker-a: no client") && gone.contains("gantry client list"), "{gone}");
    }
    let unknown = bad(dev.run("client verify billing me --topic orders --id 0A"), 3);
    assert!(unknown.contains("broker-a: topic orders has no message with the id 0A"), "{unknown}");
    let elsewhere = bad(dev.run("client stack billing me --broker b"), 3);
    assert!(elsewhere.contains("broker-a"), "{elsewhere}");
    assert_eq!(dev.stop(), 0);
}

#[test]
fn topics_and_groups_are_made_changed_shown_and_deleted() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    assert!(good(dev.run("topic create orders")).contains("created on broker-a"));
    assert!(good(dev.run("topic create orders")).contains("unchanged"));
    let differs = bad(dev.run("topic create orders --queues 2"), 1);
    assert!(differs.contains("differs") && differs.contains("gantry topic update orders"), "{differs}");
    assert!(good(dev.run("topic update orders --queues 16")).contains("updated"));
    let orders = json(&good(dev.run("topic describe orders -o json")));
    assert_eq!(orders["queues"].as_array().unwrap().len(), 16);

    good(dev.run("group update billing --max-attempts 3"));
    let groups = json(&good(dev.run("group list -o json")));
    let billing = groups.as_array().unwrap().iter().find(|group| group["name"] == "billing").unwrap();
    assert_eq!(billing["maxAttempts"], 3);

    let trip = json(&good(dev.run("check --topic orders -o json")));
    assert_eq!((&trip["topic"], &trip["broker"]), (&Value::from("orders"), &Value::from("broker-a")));

    let status = json(&good(dev.run("status -o json")));
    assert_eq!(status["brokers"][0]["state"]["acceptsWrites"], true);
    assert_eq!(status["topics"][0]["name"], "orders");
    assert_eq!(status["problems"], serde_json::json!([]));

    good(dev.run("topic delete orders"));
    bad(dev.run("topic describe orders"), 3);
    bad(dev.run("topic delete orders"), 3);
    assert_eq!(dev.stop(), 0);
}

#[test]
fn messages_that_are_not_acknowledged_come_again() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create orders --queues 1"));
    good(dev.run("produce orders --body again"));
    let look = "consume orders --group look --no-ack --invisible 10s --count 1 --timeout 40s -o json";
    assert_eq!(json(&good(dev.run(look)))["deliveryAttempt"], 1);
    assert_eq!(json(&good(dev.run(look)))["deliveryAttempt"], 2);
    assert_eq!(dev.stop(), 0);
}

#[test]
fn tls_and_plaintext_share_the_port() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    good(dev.run("topic create orders"));
    good(dev.run("check --topic orders"));
    good(dev.run("check --topic orders --tls"));
    assert_eq!(dev.stop(), 0);
}

#[test]
fn mistakes_have_an_exit_code_and_a_next_step() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path());
    let missing = bad(dev.run("produce nowhere --body x"), 3);
    assert!(
        missing.contains("TOPIC_NOT_FOUND") && missing.contains("gantry topic create nowhere"),
        "{missing}"
    );
    bad(dev.run("topic create bad.name"), 1);
    bad(dev.run("group describe nobody"), 3);

    good(dev.run("topic create orders"));
    let empty = dev.run("consume orders --group g --count 1 --timeout 100ms");
    assert!(empty.stdout.is_empty());
    assert!(bad(empty, 5).contains("received 0 of 1"));

    let in_use = gantry().args(["dev", "--port", "0", "--data"]).arg(data.path()).output().unwrap();
    assert!(bad(in_use, 1).contains(&format!("in use by process {}", dev.process.id())));
    assert_eq!(dev.stop(), 0);
}

#[test]
fn without_a_server_the_commands_say_how_to_get_one() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let status = gantry().args(["status", "--server", &free]).output().unwrap();
    assert!(bad(status, 4).contains("gantry dev"));
    let produce = gantry().args(["produce", "t", "--body", "x", "--endpoint", &free]).output().unwrap();
    assert!(bad(produce, 4).contains("gantry dev"));
}

#[test]
fn a_port_in_use_is_told_before_the_directory_is_touched() {
    // The other ports lie above: take one that leaves room for them.
    let taken = (20_000..60_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap();
    let port = taken.local_addr().unwrap().port();
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("data");
    let output = gantry().args(["dev", "--port", &port.to_string(), "--data"]).arg(&data).output().unwrap();
    let said = bad(output, 1);
    assert!(said.contains(&format!("127.0.0.1:{port}, for clients, is in use")), "{said}");
    assert!(!data.exists());
}
