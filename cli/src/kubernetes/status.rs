//! `gantry status` in Kubernetes mode: every resource of the namespace and its condition.

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde::Serialize;

use super::topic_view::{TopicRow, TopicRows, age};
use super::{Kubernetes, Readiness, failure};
use crate::failure::Failure;
use crate::output::{Cell, Paint, Table, View};

/// More Topics than this are counted, not shown; those that are not Ready come first.
const TOPICS_SHOWN: usize = 20;

/// The resources of a namespace.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The namespace.
    pub namespace: String,
    /// Its NameServerSets.
    pub name_server_sets: Vec<NameServerSetRow>,
    /// Its BrokerGroups.
    pub broker_groups: Vec<BrokerGroupRow>,
    /// Its Topics.
    pub topics: TopicRows,
}

/// A NameServerSet in one line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NameServerSetRow {
    name: String,
    replicas: i32,
    ready_replicas: i32,
    registered_groups: i32,
    address: String,
    #[serde(flatten)]
    state: State,
}

/// A BrokerGroup in one line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerGroupRow {
    name: String,
    cluster: String,
    broker_name: String,
    primary: String,
    replicas: i32,
    ready_replicas: i32,
    storage: String,
    #[serde(flatten)]
    state: State,
}

/// What the conditions say, and the age.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct State {
    ready: bool,
    reason: String,
    message: String,
    #[serde(skip)]
    age: String,
}

impl State {
    fn new(readiness: Readiness, age: String) -> Self {
        let Readiness { ready, reason, message } = readiness;
        Self { ready, reason, message, age }
    }
}

impl Kubernetes {
    /// Reads all resources of the namespace.
    pub async fn status(&self) -> Result<Status, Failure> {
        let all = ListParams::default();
        let (sets, groups) = (self.api::<crds::NameServerSet>(), self.api::<crds::BrokerGroup>());
        let sets = sets.list(&all).await.map_err(|error| failure("list NameServerSets", &error))?;
        let groups = groups.list(&all).await.map_err(|error| failure("list BrokerGroups", &error))?;
        let topics = self.all_topics().await?;
        Ok(Status::of(&self.namespace, &sets.items, &groups.items, &topics, Timestamp::now()))
    }
}

impl Status {
    fn of(
        namespace: &str,
        sets: &[crds::NameServerSet],
        groups: &[crds::BrokerGroup],
        topics: &[crds::Topic],
        now: Timestamp,
    ) -> Self {
        let mut topics: Vec<TopicRow> = topics.iter().map(|topic| TopicRow::of(topic, now)).collect();
        topics.sort_by(|a, b| (a.ready, &a.resource).cmp(&(b.ready, &b.resource)));
        Self {
            namespace: namespace.to_owned(),
            name_server_sets: sets.iter().map(|set| NameServerSetRow::of(set, now)).collect(),
            broker_groups: groups.iter().map(|group| BrokerGroupRow::of(group, now)).collect(),
            topics: TopicRows { topics },
        }
    }

    /// How many resources are not Ready.
    pub fn problems(&self) -> usize {
        self.unready().len()
    }

    /// Each resource that is not Ready, with what it says.
    fn unready(&self) -> Vec<(String, &str, &str)> {
        let sets = self.name_server_sets.iter().map(|set| ("NameServerSet", &set.name, &set.state));
        let groups = self.broker_groups.iter().map(|group| ("BrokerGroup", &group.name, &group.state));
        let topics = self.topics.topics.iter().filter(|topic| !topic.ready);
        sets.chain(groups)
            .filter(|(_, _, state)| !state.ready)
            .map(|(kind, name, state)| {
                (format!("{kind} {name}"), state.reason.as_str(), state.message.as_str())
            })
            .chain(topics.map(|topic| {
                (format!("Topic {}", topic.resource), topic.reason.as_str(), topic.message.as_str())
            }))
            .collect()
    }
}

impl NameServerSetRow {
    fn of(set: &crds::NameServerSet, now: Timestamp) -> Self {
        let status = set.status.clone().unwrap_or_default();
        let readiness =
            Readiness::of(set.metadata.generation, status.observed_generation, &status.conditions);
        Self {
            name: set.name_any(),
            replicas: set.spec.replicas,
            ready_replicas: status.ready_replicas,
            registered_groups: status.registered_groups,
            address: status.address.unwrap_or_default(),
            state: State::new(readiness, age(set, now)),
        }
    }
}

impl BrokerGroupRow {
    fn of(group: &crds::BrokerGroup, now: Timestamp) -> Self {
        let status = group.status.clone().unwrap_or_default();
        let readiness =
            Readiness::of(group.metadata.generation, status.observed_generation, &status.conditions);
        let storage = &group.spec.storage;
        let volume = storage.commit_log.as_ref().map(|volume| volume.size.clone());
        Self {
            name: group.name_any(),
            cluster: group.spec.cluster_name.clone(),
            broker_name: group.spec.broker_name.clone().unwrap_or_else(|| group.name_any()),
            primary: status.primary.unwrap_or_default(),
            replicas: status.effective.map_or(status.replicas, |effective| effective.replicas),
            ready_replicas: status.ready_replicas,
            storage: volume.unwrap_or_else(|| "ephemeral".to_owned()),
            state: State::new(readiness, age(group, now)),
        }
    }
}

impl View for Status {
    fn text(&self, paint: Paint) -> String {
        if self.name_server_sets.is_empty() && self.broker_groups.is_empty() && self.topics.topics.is_empty()
        {
            return format!("nothing of Gantry in namespace {}", self.namespace);
        }
        let mut sets = Table::new(["NAMESERVERSET", "READY", "GROUPS", "ADDRESS", "STATUS", "AGE"]);
        for set in &self.name_server_sets {
            sets.row([
                Cell::from(&set.name),
                Cell::from(format!("{}/{}", set.ready_replicas, set.replicas)),
                Cell::from(set.registered_groups),
                Cell::from(&set.address),
                Cell::judged(set.state.ready, set.state.reason.as_str()),
                Cell::from(&set.state.age),
            ]);
        }
        let mut groups =
            Table::new(["BROKERGROUP", "CLUSTER", "BROKER", "PRIMARY", "READY", "STORAGE", "STATUS", "AGE"]);
        for group in &self.broker_groups {
            groups.row([
                Cell::from(&group.name),
                Cell::from(&group.cluster),
                Cell::from(&group.broker_name),
                Cell::from(&group.primary),
                Cell::from(format!("{}/{}", group.ready_replicas, group.replicas)),
                Cell::from(&group.storage),
                Cell::judged(group.state.ready, group.state.reason.as_str()),
                Cell::from(&group.state.age),
            ]);
        }
        let shown = self.topics.topics.len().min(TOPICS_SHOWN);
        let topics = TopicRows { topics: self.topics.topics[..shown].to_vec() };
        let mut parts = vec![sets.text(paint), groups.text(paint)];
        if shown > 0 {
            parts.push(topics.text(paint));
        }
        if let Some(more) = self.topics.topics.len().checked_sub(TOPICS_SHOWN + 1) {
            parts.push(paint.faint(&format!("… and {} more Topics: gantry topic list", more + 1)));
        }
        for (resource, reason, message) in self.unready() {
            parts.push(paint.bad(&format!("{resource}: {reason}: {message}")));
        }
        parts.join("\n\n")
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    fn fixed() -> Status {
        let sets = serde_yaml::from_str::<Vec<crds::NameServerSet>>(
            r#"
            - apiVersion: mq.gantry.dev/v1alpha1
              kind: NameServerSet
              metadata: { name: main, generation: 1, creationTimestamp: "2026-11-21T00:00:00Z" }
              spec: { replicas: 3 }
              status:
                observedGeneration: 1
                readyReplicas: 3
                registeredGroups: 1
                address: main-namesrv.shop.svc:8081
                conditions:
                - { type: Ready, status: "True", reason: Serving, message: "", lastTransitionTime: "2026-11-21T00:00:00Z" }
            "#,
        );
        let groups = serde_yaml::from_str::<Vec<crds::BrokerGroup>>(
            r#"
            - apiVersion: mq.gantry.dev/v1alpha1
              kind: BrokerGroup
              metadata: { name: a, generation: 1, creationTimestamp: "2026-11-21T00:00:00Z" }
              spec: { nameServerRef: { name: main }, clusterName: DefaultCluster, storage: { commitLog: { size: 10Gi } } }
              status:
                observedGeneration: 1
                replicas: 1
                readyReplicas: 0
                conditions:
                - { type: Ready, status: "False", reason: Starting, message: "pod a-broker-0 is pulling its image", lastTransitionTime: "2026-11-21T00:00:00Z" }
            "#,
        );
        let now = "2026-11-21T00:05:00Z".parse().unwrap();
        Status::of("shop", &sets.unwrap(), &groups.unwrap(), &[], now)
    }

    #[test]
    fn a_namespace_fits_on_one_screen_and_ends_with_what_is_not_ready() {
        assert_eq!(fixed().problems(), 1);
        assert_snapshot!(render(&fixed(), Format::Table, Paint(false)).unwrap(), @r"
        NAMESERVERSET   READY   GROUPS   ADDRESS                      STATUS    AGE
        main            3/3     1        main-namesrv.shop.svc:8081   Serving   5m

        BROKERGROUP   CLUSTER          BROKER   PRIMARY   READY   STORAGE   STATUS     AGE
        a             DefaultCluster   a                  0/1     10Gi      Starting   5m

        BrokerGroup a: Starting: pod a-broker-0 is pulling its image
        ");
    }
}
