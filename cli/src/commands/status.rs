//! `gantry status`: one screen.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proto::control as wire;
use serde::Serialize;

use super::topic::list::{Topics, merge};
use crate::control::{Broker, Control, join_host_port, reach};
use crate::failure::Failure;
use crate::output::{Cell, Paint, Printer, Table, View};
use crate::place::Place;
use crate::units;

/// More topics than this are counted, not shown.
const TOPICS_SHOWN: usize = 20;

/// A cluster as its control plane shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The name server that was asked.
    pub name_server: NameServer,
    /// The brokers registered there.
    pub brokers: Vec<BrokerStatus>,
    /// The topics of the brokers that answered.
    pub topics: Topics,
    /// What is not as it should be, a sentence each.
    pub problems: Vec<String>,
    #[serde(skip)]
    now: Timestamp,
}

/// The name server that was asked, and its like.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NameServer {
    /// Its control plane.
    pub address: String,
    /// Its version.
    pub version: String,
    /// Whether every broker group that it expects has registered.
    pub warm: bool,
    /// All name servers that a broker is registered with.
    pub registered_with: BTreeSet<String>,
}

/// One broker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerStatus {
    /// `broker-a`, or `broker-a/1` for a replica.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// Where clients reach it.
    pub clients_at: String,
    /// What it says of itself; nothing if it does not answer.
    pub state: Option<State>,
}

/// What a broker says of itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of GetStateResponse, documented there")]
pub struct State {
    pub version: String,
    pub epoch: u64,
    pub started_at_ms: i64,
    pub accepts_writes: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    pub log_min_offset: u64,
    pub log_end_offset: u64,
    pub log_flushed_offset: u64,
    pub disk_total_bytes: u64,
    pub disk_free_bytes: u64,
    pub topics: u32,
    pub groups: u32,
    pub connections: u32,
    pub parked_polls: u32,
    pub damaged_places: u64,
    pub damaged_bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedPlace>,
    pub scrubbed_at_ms: i64,
}

/// A place of a broker's log where no valid record lies.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the control plane's DamagedPlace, documented there")]
pub struct DamagedPlace {
    pub log_offset: u64,
    pub bytes: u64,
    pub reason: String,
    pub found_at_ms: i64,
}

impl View for Status {
    fn text(&self, paint: Paint) -> String {
        let server = &self.name_server;
        let warm = if server.warm { paint.good("warm") } else { paint.bad("waiting for brokers") };
        let mut text =
            format!("{}   {}   {}   {warm}", paint.heading("name server"), server.address, server.version);
        let others: Vec<&str> = server.registered_with.iter().map(String::as_str).collect();
        if others.len() > 1 {
            text.push_str(&format!("\nbrokers are registered with {}", others.join(", ")));
        }
        let mut table = Table::new([
            "BROKER",
            "STATE",
            "UP",
            "CLIENTS AT",
            "LOG",
            "UNFLUSHED",
            "DISK FREE",
            "TOPICS",
            "GROUPS",
            "CONNECTIONS",
            "POLLS",
        ]);
        for broker in &self.brokers {
            table.row(broker.cells(self.now));
        }
        text.push_str(&format!("\n\n{}", table.text(paint)));
        match self.topics.topics.len() {
            0 => text.push_str("\n\nno topics; gantry topic create NAME makes one"),
            1..=TOPICS_SHOWN => text.push_str(&format!("\n\n{}", self.topics.text(paint))),
            many => {
                let first = Topics { topics: self.topics.topics[..TOPICS_SHOWN].to_vec() };
                let more = format!("… and {} more: gantry topic list", many - TOPICS_SHOWN);
                text.push_str(&format!("\n\n{}\n{}", first.text(paint), paint.faint(&more)));
            }
        }
        for problem in &self.problems {
            text.push_str(&format!("\n\n{}", paint.bad(problem)));
        }
        text
    }
}

impl BrokerStatus {
    fn cells(&self, now: Timestamp) -> [Cell; 11] {
        let name = Cell::from(&self.name);
        let clients_at = Cell::from(&self.clients_at);
        let Some(state) = &self.state else {
            let [up, log, unflushed, disk, topics, groups, connections, polls] =
                [(); 8].map(|()| Cell::from("-"));
            let silent = Cell::judged(false, "no answer");
            return [name, silent, up, clients_at, log, unflushed, disk, topics, groups, connections, polls];
        };
        let word = if state.accepts_writes { "serving" } else { "no writes" };
        let disk = match state.disk_total_bytes {
            0 => "-".to_owned(),
            total => format!("{} of {}", units::bytes(state.disk_free_bytes), units::bytes(total)),
        };
        [
            name,
            Cell::judged(state.accepts_writes, word),
            Cell::from(units::since(state.started_at_ms, now).unwrap_or_default()),
            clients_at,
            Cell::from(units::bytes(state.log_end_offset.saturating_sub(state.log_min_offset))),
            Cell::from(units::bytes(state.log_end_offset.saturating_sub(state.log_flushed_offset))),
            Cell::from(disk),
            Cell::from(state.topics),
            Cell::from(state.groups),
            Cell::from(state.connections),
            Cell::from(state.parked_polls),
        ]
    }
}

/// Runs the command.
pub async fn run(place: Place, out: Printer) -> Result<(), Failure> {
    let problems = match place {
        Place::Kubernetes(kubernetes) => {
            let status = kubernetes.status().await?;
            out.print(&status)?;
            status.problems()
        }
        Place::Direct(server) => {
            let status = gather(&Control::connect(&server).await?).await;
            out.print(&status)?;
            status.problems.len()
        }
    };
    match problems {
        0 => Ok(()),
        count => Err(Failure::failed(units::counted(count as u64, "thing") + " above not as it should be")),
    }
}

/// Asks every broker; one that does not answer is a problem, not the end.
async fn gather(control: &Control) -> Status {
    let wire::DescribeClusterResponse { brokers: summaries, warm, missing_groups, version, certificate: _ } =
        control.cluster.clone();
    let mut problems = Vec::new();
    if summaries.is_empty() {
        problems.push("no broker is registered: look at the brokers' own logs".to_owned());
    }
    problems
        .extend(missing_groups.iter().map(|group| format!("broker group {group} has not registered yet")));
    let mut registered_with = BTreeSet::new();
    let mut brokers = Vec::new();
    let mut topics = Vec::new();
    for summary in summaries {
        let endpoints = summary.clients.clone().unwrap_or_default();
        let clients_at: Vec<String> =
            endpoints.addresses.iter().map(|at| join_host_port(&at.host, at.port)).collect();
        let name = match summary.broker_id {
            0 => summary.broker_name.clone(),
            id => format!("{}/{id}", summary.broker_name),
        };
        let state = match ask(&summary).await {
            Ok((mut broker, state)) => {
                if let Ok(listed) = broker.admin.list_topics(wire::ListTopicsRequest::default()).await {
                    topics.push((broker.label, listed.into_inner().topics));
                }
                registered_with.extend(state.name_servers.iter().cloned());
                if !state.accepts_writes {
                    problems.push(format!("broker {name} takes no messages: {}", state.reason));
                }
                let state = of_wire(state);
                problems.extend(damage(&name, &state));
                Some(state)
            }
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        brokers.push(BrokerStatus {
            name,
            cluster: summary.cluster_name,
            clients_at: clients_at.join(","),
            state,
        });
    }
    brokers.sort_by(|a, b| (&a.cluster, &a.name).cmp(&(&b.cluster, &b.name)));
    Status {
        name_server: NameServer { address: control.server.clone(), version, warm, registered_with },
        brokers,
        topics: merge(topics),
        problems,
        now: Timestamp::now(),
    }
}

/// What is damaged in a broker's log, in a few lines.
fn damage(name: &str, state: &State) -> Option<String> {
    let &State { damaged_places, damaged_bytes, ref damaged, .. } = state;
    if damaged_places == 0 {
        return None;
    }
    let places = units::counted(damaged_places, "damaged place");
    let mut text = format!("the log of broker {name} has {places}, {}:", units::bytes(damaged_bytes));
    for DamagedPlace { log_offset, bytes, reason, found_at_ms: _ } in damaged {
        text.push_str(&format!("\n  {log_offset}   {}   {reason}", units::bytes(*bytes)));
    }
    if let more @ 1.. = damaged_places.saturating_sub(damaged.len() as u64) {
        text.push_str(&format!("\n  … and {more} more"));
    }
    text.push_str("\nmessages there are skipped, all others are served; what to do: docs/damaged-logs.md");
    Some(text)
}

async fn ask(summary: &wire::BrokerSummary) -> Result<(Broker, wire::GetStateResponse), String> {
    let mut broker = reach(summary).await.map_err(|failure| failure.what().to_owned())?;
    match broker.admin.get_state(wire::GetStateRequest {}).await {
        Ok(state) => Ok((broker, state.into_inner())),
        Err(status) => Err(format!("broker {} does not tell its state: {}", broker.label, status.message())),
    }
}

fn of_wire(state: wire::GetStateResponse) -> State {
    let wire::GetStateResponse {
        cluster_name: _,
        broker_name: _,
        broker_id: _,
        epoch,
        version,
        started_at_ms,
        accepts_writes,
        reason,
        log_min_offset,
        log_end_offset,
        log_flushed_offset,
        disk_total_bytes,
        disk_free_bytes,
        topics,
        groups,
        connections,
        parked_polls,
        name_servers: _,
        damaged_places,
        damaged_bytes,
        damaged,
        scrubbed_at_ms,
        certificate: _,
    } = state;
    let damaged = damaged.into_iter().map(|place| {
        let wire::DamagedPlace { log_offset, bytes, reason, found_at_ms } = place;
        DamagedPlace { log_offset, bytes, reason, found_at_ms }
    });
    State {
        version,
        epoch,
        started_at_ms,
        accepts_writes,
        reason,
        log_min_offset,
        log_end_offset,
        log_flushed_offset,
        disk_total_bytes,
        disk_free_bytes,
        topics,
        groups,
        connections,
        parked_polls,
        damaged_places,
        damaged_bytes,
        damaged: damaged.collect(),
        scrubbed_at_ms,
    }
}

#[cfg(test)]
mod tests {
    use insta::{assert_json_snapshot, assert_snapshot};

    use super::*;
    use crate::output::{Format, render};

    fn fixed() -> Status {
        let state = wire::GetStateResponse {
            epoch: 1,
            version: "0.1.0".to_owned(),
            started_at_ms: 1_000,
            accepts_writes: true,
            log_min_offset: 1 << 30,
            log_end_offset: (1 << 30) + 1_300_000_000,
            log_flushed_offset: (1 << 30) + 1_299_000_000,
            disk_total_bytes: 100 << 30,
            disk_free_bytes: 60 << 30,
            topics: 1,
            groups: 2,
            connections: 12,
            parked_polls: 3,
            ..Default::default()
        };
        let full = wire::GetStateResponse {
            accepts_writes: false,
            reason: "the disk is full: make room in /data".to_owned(),
            ..state.clone()
        };
        let broker = |name: &str, state: Option<wire::GetStateResponse>| BrokerStatus {
            name: name.to_owned(),
            cluster: "DefaultCluster".to_owned(),
            clients_at: "127.0.0.1:8081".to_owned(),
            state: state.map(of_wire),
        };
        let topic = wire::TopicConfig {
            name: "orders".to_owned(),
            read_queues: 8,
            write_queues: 8,
            readable: true,
            writable: true,
            message_type: wire::MessageType::Normal.into(),
            owner: String::new(),
        };
        Status {
            name_server: NameServer {
                address: "127.0.0.1:9878".to_owned(),
                version: "0.1.0".to_owned(),
                warm: true,
                registered_with: ["10.0.0.1:9878", "10.0.0.2:9878"].map(str::to_owned).into(),
            },
            brokers: vec![
                broker("broker-a", Some(state)),
                broker("broker-b", Some(full)),
                broker("broker-c", None),
            ],
            topics: merge(vec![("broker-a".to_owned(), vec![topic])]),
            problems: vec![
                "broker broker-b takes no messages: the disk is full: make room in /data".to_owned(),
            ],
            now: Timestamp::from_millisecond(61_000).unwrap(),
        }
    }

    #[test]
    fn a_cluster_fits_on_one_screen() {
        assert_snapshot!(render(&fixed(), Format::Table, Paint(false)).unwrap());
    }

    #[test]
    fn programs_get_numbers_and_not_words() {
        let mut fixed = fixed();
        fixed.brokers.drain(1..);
        assert_json_snapshot!(fixed);
    }

    #[test]
    fn damaged_places_of_a_log_are_listed_with_the_next_step() {
        let place = |log_offset, reason: &str| wire::DamagedPlace {
            log_offset,
            bytes: 2048,
            reason: reason.to_owned(),
            found_at_ms: 1,
        };
        let damaged = vec![
            place(1070, "the checksum of its bytes does not match"),
            place(1 << 30, "zeros where a record should be"),
        ];
        let state = |damaged_places| {
            let damaged = damaged.clone();
            of_wire(wire::GetStateResponse {
                damaged_places,
                damaged_bytes: 6144,
                damaged,
                ..Default::default()
            })
        };
        assert_snapshot!(damage("broker-a", &state(3)).unwrap());
        assert_eq!(damage("broker-a", &state(0)), None);
    }

    #[test]
    fn many_topics_are_counted() {
        let mut fixed = fixed();
        let topic = fixed.topics.topics[0].clone();
        fixed.topics.topics = vec![topic; TOPICS_SHOWN + 5];
        let text = render(&fixed, Format::Table, Paint(false)).unwrap();
        assert_eq!(text.matches("orders").count(), TOPICS_SHOWN);
        assert!(text.contains("… and 5 more: gantry topic list"), "{text}");
    }
}
