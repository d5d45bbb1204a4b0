//! A full report, parsed: the table cannot hold a bad one.

use std::collections::BTreeMap;
use std::time::Duration;

use access::{GroupName, ListenerName, TopicName, ports, route};
use proto::control::{self, FullReport, GroupConfig, TopicConfig};
use proto::v2;

use super::{Member, Topics};

/// What a broker may say about its heartbeats; beyond it the nearest is taken.
const HEARTBEATS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(2);

/// A report that is wrong, and what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

/// A broker as it registered.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Who.
    pub member: Member,
    /// Of the primary's reign.
    pub epoch: u64,
    /// How clients see it.
    pub broker: v2::Broker,
    /// How clients see it that come by another listener than `internal`.
    pub elsewhere: BTreeMap<ListenerName, v2::Broker>,
    /// The same endpoints, as reported.
    pub clients: control::Endpoints,
    /// Where its Admin service listens.
    pub control: Option<control::Address>,
    /// Its software.
    pub version: String,
    /// How often it says that it lives.
    pub heartbeat_interval: Duration,
    /// Its topics; moved into the table.
    pub topics: Topics,
    /// Its groups; moved into the table.
    pub groups: Vec<GroupConfig>,
}

impl Registration {
    /// Parses a report.
    pub fn parse(report: FullReport) -> Result<Self, Invalid> {
        let FullReport {
            cluster_name,
            broker_name,
            broker_id,
            epoch,
            clients,
            control,
            topics,
            groups,
            version,
            heartbeat_interval_ms,
            more: _,
            listeners,
        } = report;
        let member = Member { cluster: cluster_name, broker_name, broker_id };
        for (what, name) in [("cluster", &member.cluster), ("broker", &member.broker_name)] {
            if name.is_empty() || name.len() > 255 || name.contains(|c: char| c.is_control() || c == '/') {
                return Err(Invalid(format!(
                    "the name of the {what} is {name:?}: use 1 to 255 characters without '/'"
                )));
            }
        }
        let id = i32::try_from(broker_id)
            .map_err(|_| Invalid(format!("the broker id is {broker_id}: use at most {}", i32::MAX)))?;
        let clients =
            clients.ok_or_else(|| Invalid("the report has no endpoints for clients: add them".to_owned()))?;
        let endpoints = route::endpoints_for_clients(&clients).map_err(Invalid)?;
        topics.iter().try_for_each(check_topic)?;
        groups.iter().try_for_each(check_group)?;
        // Here and not where others wait for the table.
        let topics = topics.into_iter().collect();
        let heartbeat_interval = match heartbeat_interval_ms {
            0 => DEFAULT_HEARTBEAT,
            ms => Duration::from_millis(ms).clamp(*HEARTBEATS.start(), *HEARTBEATS.end()),
        };
        let seen_at =
            |endpoints| v2::Broker { name: member.broker_name.clone(), id, endpoints: Some(endpoints) };
        if listeners.len() > ports::MOST {
            let sentence = format!("there are {} listeners: report at most {}", listeners.len(), ports::MOST);
            return Err(Invalid(sentence));
        }
        let elsewhere = listeners.into_iter().map(|listener| {
            let control::ListenerEndpoints { name, clients } = listener;
            let wrong = |sentence| Invalid(format!("the listener {name:?}: {sentence}"));
            let parsed = ListenerName::parse(&name).map_err(wrong)?;
            let clients = clients.ok_or_else(|| wrong("add its endpoints for clients".to_owned()))?;
            Ok((parsed, seen_at(route::endpoints_for_clients(&clients).map_err(wrong)?)))
        });
        let elsewhere = elsewhere.collect::<Result<_, Invalid>>()?;
        let broker = seen_at(endpoints);
        Ok(Self {
            member,
            epoch,
            broker,
            elsewhere,
            clients,
            control,
            version,
            heartbeat_interval,
            topics,
            groups,
        })
    }

    /// Checks what a change puts into the table.
    pub fn check_change(change: &control::ChangeReport) -> Result<(), Invalid> {
        change.topics.iter().try_for_each(check_topic)?;
        change.groups.iter().try_for_each(check_group)
    }
}

fn check_topic(topic: &TopicConfig) -> Result<(), Invalid> {
    TopicName::internal(&topic.name).map_err(|refusal| Invalid(refusal.sentence))?;
    let most = topic.read_queues.max(topic.write_queues);
    if most > route::MAX_QUEUES {
        let sentence =
            format!("the topic {} has {most} queues: at most {} are shown", topic.name, route::MAX_QUEUES);
        return Err(Invalid(sentence));
    }
    Ok(())
}

fn check_group(group: &GroupConfig) -> Result<(), Invalid> {
    GroupName::parse(&group.name).map(drop).map_err(|refusal| Invalid(refusal.sentence))
}
