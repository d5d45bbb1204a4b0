//! `gantry topic list`.

use std::collections::BTreeMap;

use proto::control as wire;
use serde::Serialize;

use super::{permission_text, queues_text, type_text};
use crate::args::TopicListArgs;
use crate::control::{Broker, Control};
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::place::Place;
use crate::row;

/// Topics of one answer.
const PAGE: u32 = 5000;

/// The topics of a cluster.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Topics {
    /// In order of their names.
    pub topics: Vec<Topic>,
}

/// A topic, and the brokers that have it just so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What it takes.
    #[serde(rename = "type")]
    pub message_type: &'static str,
    /// Queues that can be read, on each broker.
    pub read_queues: u32,
    /// Queues that can be written, on each broker.
    pub write_queues: u32,
    /// What clients may do.
    pub permission: &'static str,
    /// The brokers' names.
    pub brokers: Vec<String>,
    /// Who manages it; empty: nobody.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
}

impl View for Topics {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["TOPIC", "TYPE", "QUEUES", "PERMISSION", "BROKERS"]);
        for topic in &self.topics {
            table.row(row![
                &topic.name,
                topic.message_type,
                queues_text(topic.read_queues, topic.write_queues),
                topic.permission,
                topic.brokers.join(","),
            ]);
        }
        table.text(paint)
    }
}

/// Runs the command.
pub async fn run(place: Place, args: TopicListArgs, out: Printer) -> Result<(), Failure> {
    match place {
        Place::Kubernetes(kubernetes) => out.print(&kubernetes.list_topics().await?),
        Place::Direct(server) => {
            let control = Control::connect(&server).await?;
            let mut of_brokers = Vec::new();
            for mut broker in control.primaries().await? {
                let topics = list(&mut broker, args.system).await?;
                of_brokers.push((broker.label, topics));
            }
            let topics = merge(of_brokers);
            if topics.topics.is_empty() {
                eprintln!("no topics yet; gantry topic create NAME makes one");
            }
            out.print(&topics)
        }
    }
}

/// All topics of a broker, page by page: an answer has a limit.
async fn list(broker: &mut Broker, include_system: bool) -> Result<Vec<wire::TopicConfig>, Failure> {
    let mut topics: Vec<wire::TopicConfig> = Vec::new();
    loop {
        let after = topics.last().map(|topic| topic.name.clone()).unwrap_or_default();
        let request = wire::ListTopicsRequest { include_system, after, limit: PAGE };
        let doing = format!("list the topics of {}", broker.label);
        let page = broker.admin.list_topics(request).await;
        let page = page.map_err(|status| Failure::from_status(&doing, &status))?.into_inner().topics;
        let last = page.len() != PAGE as usize;
        topics.extend(page);
        if last {
            return Ok(topics);
        }
    }
}

/// One line a topic, more where brokers disagree about it.
pub(crate) fn merge(of_brokers: Vec<(String, Vec<wire::TopicConfig>)>) -> Topics {
    let mut by_name: BTreeMap<String, Vec<Topic>> = BTreeMap::new();
    for (broker, configs) in of_brokers {
        for config in configs {
            let alike = by_name.entry(config.name.clone()).or_default();
            let mut topic = of_config(config);
            match alike.iter_mut().find(|known| Topic { brokers: Vec::new(), ..(*known).clone() } == topic) {
                Some(known) => known.brokers.push(broker.clone()),
                None => {
                    topic.brokers.push(broker.clone());
                    alike.push(topic);
                }
            }
        }
    }
    Topics { topics: by_name.into_values().flatten().collect() }
}

/// A topic of no broker yet.
pub(super) fn of_config(config: wire::TopicConfig) -> Topic {
    let message_type = type_text(config.message_type());
    let wire::TopicConfig { name, read_queues, write_queues, readable, writable, message_type: _, owner } =
        config;
    let permission = permission_text(readable, writable);
    Topic { name, message_type, read_queues, write_queues, permission, brokers: Vec::new(), owner }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    fn config(name: &str, queues: u32) -> wire::TopicConfig {
        wire::TopicConfig {
            name: name.to_owned(),
            read_queues: queues,
            write_queues: queues,
            readable: true,
            writable: true,
            message_type: wire::MessageType::Normal.into(),
            owner: String::new(),
        }
    }

    fn fixed() -> Topics {
        let fifo = wire::TopicConfig {
            message_type: wire::MessageType::Fifo.into(),
            write_queues: 2,
            owner: "shop/payments/uid".to_owned(),
            ..config("payments", 4)
        };
        merge(vec![
            ("broker-a".to_owned(), vec![fifo, config("orders", 8)]),
            ("broker-b".to_owned(), vec![config("orders", 8), config("stock", 1)]),
            ("broker-c".to_owned(), vec![config("stock", 2)]),
        ])
    }

    #[test]
    fn a_topic_takes_one_line_unless_brokers_disagree() {
        assert_snapshot!(render(&fixed(), Format::Table, Paint(false)).unwrap(), @r"
        TOPIC      TYPE     QUEUES   PERMISSION   BROKERS
        orders     Normal   8        ReadWrite    broker-a,broker-b
        payments   Fifo     4r/2w    ReadWrite    broker-a
        stock      Normal   1        ReadWrite    broker-b
        stock      Normal   2        ReadWrite    broker-c
        ");
    }

    #[test]
    fn programs_get_names_in_camel_case() {
        assert_snapshot!(render(&Topics { topics: fixed().topics[1..2].to_vec() }, Format::Yaml, Paint(false)).unwrap(), @r"
        - name: payments
          type: Fifo
          readQueues: 4
          writeQueues: 2
          permission: ReadWrite
          brokers:
          - broker-a
          owner: shop/payments/uid
        ");
    }
}
