//! `gantry status` in Kubernetes mode: every resource of the namespace and its condition.

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde::Serialize;

use super::declared::Standing;
use super::group_view::{GroupRow, GroupRows};
use super::topic_view::{TopicRow, TopicRows};
use super::{Kubernetes, Readiness, age, failure};
use crate::failure::Failure;
use crate::output::{Cell, Paint, Table, View};

/// More Topics and ConsumerGroups than this are counted, not shown; those that are not Ready come first.
const MOST_SHOWN: usize = 20;

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
    /// The brokers of those that have several.
    pub members: Vec<MemberRow>,
    /// Its Topics.
    pub topics: TopicRows,
    /// Its ConsumerGroups.
    pub consumer_groups: GroupRows,
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
    epoch: Option<i64>,
    replicas: i32,
    ready_replicas: i32,
    in_sync_replicas: Option<i32>,
    storage: String,
    /// How pods that are to be replaced come on; nothing where all are new.
    rollout: Option<String>,
    #[serde(flatten)]
    state: State,
}

/// A broker of several in one line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MemberRow {
    pod: String,
    role: String,
    state: String,
    in_sync: bool,
    version: String,
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
        let (topics, consumer_groups) = (self.all().await?, self.all().await?);
        let now = Timestamp::now();
        Ok(Status::of(&self.namespace, &sets.items, &groups.items, &topics, &consumer_groups, now))
    }
}

impl Status {
    fn of(
        namespace: &str,
        sets: &[crds::NameServerSet],
        groups: &[crds::BrokerGroup],
        topics: &[crds::Topic],
        consumer_groups: &[crds::ConsumerGroup],
        now: Timestamp,
    ) -> Self {
        let mut topics: Vec<TopicRow> = topics.iter().map(|topic| TopicRow::of(topic, now)).collect();
        topics.sort_by(|a, b| (a.standing.ready, &a.resource).cmp(&(b.standing.ready, &b.resource)));
        let mut consumer_groups: Vec<GroupRow> =
            consumer_groups.iter().map(|group| GroupRow::of(group, now)).collect();
        let ready = |row: &GroupRow| row.resource.as_ref().is_none_or(|resource| resource.standing.ready);
        consumer_groups.sort_by(|a, b| (ready(a), &a.group).cmp(&(ready(b), &b.group)));
        Self {
            namespace: namespace.to_owned(),
            name_server_sets: sets.iter().map(|set| NameServerSetRow::of(set, now)).collect(),
            broker_groups: groups.iter().map(|group| BrokerGroupRow::of(group, now)).collect(),
            members: groups.iter().flat_map(MemberRow::of).collect(),
            topics: TopicRows { topics },
            consumer_groups: GroupRows { groups: consumer_groups },
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
        let topics = self.topics.topics.iter().map(|topic| ("Topic", &topic.resource, &topic.standing));
        let consumer_groups = self.consumer_groups.groups.iter().filter_map(|group| group.resource.as_ref());
        let consumer_groups = consumer_groups.map(|group| ("ConsumerGroup", &group.name, &group.standing));
        sets.chain(groups)
            .filter(|(_, _, state)| !state.ready)
            .map(|(kind, name, state)| {
                (format!("{kind} {name}"), state.reason.as_str(), state.message.as_str())
            })
            .chain(topics.chain(consumer_groups).filter(|(_, _, standing)| !standing.ready).map(
                |(kind, name, Standing { reason, message, .. })| {
                    (format!("{kind} {name}"), reason.as_str(), message.as_str())
                },
            ))
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

impl MemberRow {
    /// Of a group of several.
    fn of(group: &crds::BrokerGroup) -> Vec<Self> {
        let status = group.status.clone().unwrap_or_default();
        let members = status.members.iter().filter(|member| member.role.is_some());
        let role = |member: &crds::BrokerGroupMember| {
            let role = match member.role {
                Some(crds::MemberRole::Primary) => "primary",
                Some(crds::MemberRole::Replica) => "replica",
                Some(crds::MemberRole::Unknown) | None => "-",
            };
            if member.fenced { format!("{role}, fenced") } else { role.to_owned() }
        };
        let row = |member: &crds::BrokerGroupMember| Self {
            pod: member.pod.clone(),
            role: role(member),
            state: member.state.clone(),
            in_sync: status.in_sync.contains(&member.pod),
            version: member.version.clone().unwrap_or_default(),
        };
        members.map(row).collect()
    }
}

impl BrokerGroupRow {
    fn of(group: &crds::BrokerGroup, now: Timestamp) -> Self {
        let status = group.status.clone().unwrap_or_default();
        let readiness =
            Readiness::of(group.metadata.generation, status.observed_generation, &status.conditions);
        let storage = &group.spec.storage;
        let grown = status.effective.as_ref().and_then(|effective| effective.volume_size.clone());
        let volume = grown.or_else(|| storage.commit_log.as_ref().map(|volume| volume.size.clone()));
        Self {
            name: group.name_any(),
            cluster: group.spec.cluster_name.clone(),
            broker_name: group.spec.broker_name.clone().unwrap_or_else(|| group.name_any()),
            primary: status.primary.unwrap_or_default(),
            epoch: status.epoch,
            in_sync_replicas: status.in_sync_replicas,
            rollout: status.rollout.as_ref().filter(|rollout| rollout.done < rollout.total).map(|rollout| {
                let waits = rollout.waiting_for.as_ref().map(|what| format!("; {what}")).unwrap_or_default();
                format!("{} of {} pods replaced ({}){waits}", rollout.done, rollout.total, rollout.reason)
            }),
            replicas: status.effective.map_or(status.replicas, |effective| effective.replicas),
            ready_replicas: status.ready_replicas,
            storage: volume.unwrap_or_else(|| "ephemeral".to_owned()),
            state: State::new(readiness, age(group, now)),
        }
    }
}

impl View for Status {
    fn text(&self, paint: Paint) -> String {
        let (topics, consumer_groups) = (&self.topics.topics, &self.consumer_groups.groups);
        if self.name_server_sets.is_empty()
            && self.broker_groups.is_empty()
            && topics.is_empty()
            && consumer_groups.is_empty()
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
        let mut groups = Table::new([
            "BROKERGROUP",
            "CLUSTER",
            "BROKER",
            "PRIMARY",
            "EPOCH",
            "READY",
            "INSYNC",
            "STORAGE",
            "STATUS",
            "AGE",
        ]);
        let or_none = |number: Option<String>| number.unwrap_or_else(|| "-".to_owned());
        for group in &self.broker_groups {
            groups.row([
                Cell::from(&group.name),
                Cell::from(&group.cluster),
                Cell::from(&group.broker_name),
                Cell::from(&group.primary),
                Cell::from(or_none(group.epoch.map(|epoch| epoch.to_string()))),
                Cell::from(format!("{}/{}", group.ready_replicas, group.replicas)),
                Cell::from(or_none(group.in_sync_replicas.map(|some| format!("{some}/{}", group.replicas)))),
                Cell::from(&group.storage),
                Cell::judged(group.state.ready, group.state.reason.as_str()),
                Cell::from(&group.state.age),
            ]);
        }
        let mut parts = vec![sets.text(paint), groups.text(paint)];
        if !self.members.is_empty() {
            let mut members = Table::new(["MEMBER", "ROLE", "STATE", "INSYNC", "VERSION"]);
            for member in &self.members {
                members.row([
                    Cell::from(&member.pod),
                    Cell::from(&member.role),
                    Cell::from(&member.state),
                    Cell::judged(member.in_sync, if member.in_sync { "yes" } else { "no" }),
                    Cell::from(&member.version),
                ]);
            }
            parts.push(members.text(paint));
        }
        for group in &self.broker_groups {
            parts.extend(
                group.rollout.as_ref().map(|rollout| format!("BrokerGroup {}: {rollout}", group.name)),
            );
        }
        let more = |all: usize, what: &str| {
            let more = all.checked_sub(MOST_SHOWN).filter(|more| *more > 0);
            more.map(|more| paint.faint(&format!("… and {more} more {what} list")))
        };
        if !topics.is_empty() {
            let shown = topics.iter().take(MOST_SHOWN).cloned().collect();
            parts.push(TopicRows { topics: shown }.text(paint));
            parts.extend(more(topics.len(), "Topics: gantry topic"));
        }
        if !consumer_groups.is_empty() {
            let shown = consumer_groups.iter().take(MOST_SHOWN).cloned().collect();
            parts.push(GroupRows { groups: shown }.text(paint));
            parts.extend(more(consumer_groups.len(), "ConsumerGroups: gantry group"));
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
            - apiVersion: mq.gantry.dev/v1alpha1
              kind: BrokerGroup
              metadata: { name: b, generation: 1, creationTimestamp: "2026-11-21T00:00:00Z" }
              spec: { nameServerRef: { name: main }, clusterName: DefaultCluster, replicas: 2, storage: { commitLog: { size: 10Gi } } }
              status:
                observedGeneration: 1
                replicas: 2
                readyReplicas: 2
                primary: b-broker-1
                epoch: 4
                inSync: [b-broker-1]
                inSyncReplicas: 1
                members:
                - { ordinal: 0, pod: b-broker-0, role: Replica, state: CatchingUp, version: 0.1.0 }
                - { ordinal: 1, pod: b-broker-1, role: Primary, state: Serving, version: 0.1.0 }
                rollout: { revision: r, reason: resources, done: 1, total: 2, waitingFor: broker 0 was replaced and is not in sync yet }
                conditions:
                - { type: Ready, status: "True", reason: Serving, message: "", lastTransitionTime: "2026-11-21T00:00:00Z" }
            "#,
        );
        let consumer_groups = serde_yaml::from_str::<Vec<crds::ConsumerGroup>>(
            r#"
            - apiVersion: mq.gantry.dev/v1alpha1
              kind: ConsumerGroup
              metadata: { name: audit, generation: 1, creationTimestamp: "2026-11-21T00:00:00Z" }
              spec: { nameServerRef: { name: main } }
              status:
                observedGeneration: 1
                appliedGroups: 2/2
                conditions:
                - { type: Ready, status: "True", reason: Applied, message: "", lastTransitionTime: "2026-11-21T00:00:00Z" }
            - apiVersion: mq.gantry.dev/v1alpha1
              kind: ConsumerGroup
              metadata: { name: billing, generation: 1, creationTimestamp: "2026-11-21T00:00:00Z" }
              spec: { nameServerRef: { name: main }, ordered: true }
              status:
                observedGeneration: 1
                appliedGroups: 1/2
                conditions:
                - { type: Ready, status: "False", reason: PartiallyApplied, message: "a: pod a-broker-0 is not ready", lastTransitionTime: "2026-11-21T00:00:00Z" }
            "#,
        );
        let now = "2026-11-21T00:05:00Z".parse().unwrap();
        Status::of("shop", &sets.unwrap(), &groups.unwrap(), &[], &consumer_groups.unwrap(), now)
    }

    #[test]
    fn a_namespace_fits_on_one_screen_and_ends_with_what_is_not_ready() {
        assert_eq!(fixed().problems(), 2);
        assert_snapshot!(render(&fixed(), Format::Table, Paint(false)).unwrap(), @r"
        NAMESERVERSET   READY   GROUPS   ADDRESS                      STATUS    AGE
        main            3/3     1        main-namesrv.shop.svc:8081   Serving   5m

        BROKERGROUP   CLUSTER          BROKER   PRIMARY      EPOCH   READY   INSYNC   STORAGE   STATUS     AGE
        a             DefaultCluster   a                     -       0/1     -        10Gi      Starting   5m
        b             DefaultCluster   b        b-broker-1   4       2/2     1/2      10Gi      Serving    5m

        MEMBER       ROLE      STATE        INSYNC   VERSION
        b-broker-0   replica   CatchingUp   no       0.1.0
        b-broker-1   primary   Serving      yes      0.1.0

        BrokerGroup b: 1 of 2 pods replaced (resources); broker 0 was replaced and is not in sync yet

        GROUP     CONSUMES   ORDERED   ATTEMPTS   RESOURCE   CLUSTER   GROUPS   STATUS             AGE
        billing   yes        yes       17         billing    main      1/2      PartiallyApplied   5m
        audit     yes        no        17         audit      main      2/2      Applied            5m

        BrokerGroup a: Starting: pod a-broker-0 is pulling its image

        ConsumerGroup billing: PartiallyApplied: a: pod a-broker-0 is not ready
        ");
    }
}
