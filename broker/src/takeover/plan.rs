//! What of a RocketMQ broker's metadata becomes ours, and what is left; only computes.

use std::collections::{BTreeMap, BTreeSet};

use access::{GroupName, TopicName};

use super::files::{JavaConfig, JavaGroup, JavaRetryKind, JavaRetryPolicy, JavaTopic, TopicAndGroup};
use crate::topics::{Backoff, GroupConfig, MessageType, TopicConfig};

/// RocketMQ's own topics, by name (`TopicValidator`) …
const SYSTEM_TOPICS: [&str; 12] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "RMQ_SYS_ROCKSDB_TRANS_HALF_TOPIC",
    "RMQ_SYS_ROCKSDB_TRANS_OP_HALF_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];
/// … and by how they begin.
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
/// Its own groups (`MixAll`, `SubscriptionGroupManager`).
const SYSTEM_GROUPS: [&str; 7] = [
    "TOOLS_CONSUMER",
    "FILTERSRV_CONSUMER",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PERMISSION",
    "CID_ONSAPI_OWNER",
    "CID_ONSAPI_PULL",
];
const SYSTEM_GROUP_PREFIXES: [&str; 2] = ["CID_RMQ_SYS_", "CID_SYS_RMQ_"];
/// Topics whose names hold the names of cluster and broker, which have topics of their own.
const OF_CLUSTER: &str = "rmq_sys_REVIVE_LOG_";
const OF_BROKER: &str = "rmq_sys_SYNC_BROKER_MEMBER_";
pub(super) const RETRY: &str = "%RETRY%";
const LITE_QUEUE: &str = "%LMQ%";
const DEAD_LETTERS: &str = "%DLQ%";

/// What is there already; empty the first time.
#[derive(Debug, Default)]
pub(super) struct Ours {
    pub(super) topics: Vec<TopicConfig>,
    pub(super) groups: Vec<GroupConfig>,
}

/// What to write, and what to tell.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// New, or with more queues than before.
    pub(super) topics: Vec<TopicConfig>,
    /// New ones.
    pub(super) groups: Vec<GroupConfig>,
    /// Where groups stand, by group, topic and queue.
    pub(super) cursors: BTreeMap<(String, String, u32), u64>,
    /// What a person may look for in vain, and why it is not there.
    pub(super) left: Vec<(String, &'static str)>,
    /// RocketMQ's own, of no use here.
    pub(super) system: usize,
}

/// Decides. Whatever is ours already stays as it is, but a topic gets the queues that hold messages.
pub(super) fn plan(java: &JavaConfig, ours: &Ours, max_attempts: u32) -> Plan {
    let mut plan = Plan::default();
    let system = System::of(java);
    let known: BTreeMap<&str, &TopicConfig> =
        ours.topics.iter().map(|topic| (topic.name.as_str(), topic)).collect();
    let mut topics: BTreeSet<&str> = known.keys().copied().collect();
    for (name, topic) in &java.topics {
        if system.has_topic(name) || name.starts_with(RETRY) {
            plan.system += 1;
            continue;
        }
        match taken_topic(name, topic) {
            Ok(taken) => {
                topics.insert(name);
                match known.get(name.as_str()) {
                    None => plan.topics.push(taken),
                    Some(ours) => plan.topics.extend(grown(ours, &taken)),
                }
            }
            Err(why) => plan.left.push((format!("topic {name}"), why)),
        }
        if topic.attributes.get("cleanup.policy").is_some_and(|policy| policy == "COMPACTION") {
            plan.left.push((
                format!("compaction of topic {name}"),
                "its messages are kept by time, as others are",
            ));
        }
    }

    let mut groups: BTreeSet<&str> = ours.groups.iter().map(|group| group.name.as_str()).collect();
    let by_offset = java.offsets.keys().map(|key| (key.group.as_str(), None));
    let wanted = java.groups.iter().map(|(name, group)| (name.as_str(), Some(group))).chain(by_offset);
    for (name, group) in wanted {
        if groups.contains(name) {
            continue;
        }
        if is_system_group(name) {
            plan.system += usize::from(group.is_some());
            continue;
        }
        match GroupName::parse(name) {
            Ok(parsed) => {
                groups.insert(name);
                let default = GroupConfig::new(parsed, max_attempts);
                plan.groups.push(group.map_or(default.clone(), |group| taken_group(group, default)));
            }
            Err(_) if group.is_some() => {
                plan.left.push((format!("group {name}"), "its name cannot be used here"))
            }
            Err(_) => {}
        }
    }

    for (TopicAndGroup { topic, group }, queues) in &java.offsets {
        if !groups.contains(group.as_str()) || system.has_topic(topic) || topic.starts_with(RETRY) {
            continue;
        }
        if !topics.contains(topic.as_str()) {
            plan.left.push((format!("offsets of group {group} in topic {topic}"), "there is no such topic"));
            continue;
        }
        for (queue, offset) in queues {
            plan.cursors.insert((group.clone(), topic.clone(), *queue), *offset);
        }
    }
    plan
}

/// Names that RocketMQ made for itself.
struct System {
    made_of: Vec<String>,
}

impl System {
    fn of(java: &JavaConfig) -> Self {
        let named = |prefix: &str| -> Vec<String> {
            java.topics.keys().filter_map(|name| name.strip_prefix(prefix)).map(str::to_owned).collect()
        };
        let mut made_of = named(OF_CLUSTER);
        made_of.extend(made_of.clone().into_iter().map(|cluster| format!("{cluster}_REPLY_TOPIC")));
        made_of.extend(named(OF_BROKER));
        Self { made_of }
    }

    fn has_topic(&self, name: &str) -> bool {
        SYSTEM_TOPICS.contains(&name)
            || name.starts_with(SYSTEM_TOPIC_PREFIX)
            || self.made_of.iter().any(|made| made == name)
    }
}

fn is_system_group(name: &str) -> bool {
    SYSTEM_GROUPS.contains(&name) || SYSTEM_GROUP_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn taken_topic(name: &str, topic: &JavaTopic) -> Result<TopicConfig, &'static str> {
    if name.starts_with(LITE_QUEUE) {
        return Err("lite queues share records, which is not known here");
    }
    if topic.attributes.get("queue.type").is_some_and(|kind| kind == "BatchCQ") {
        return Err("its records hold whole batches, which are not taken apart here");
    }
    let parsed =
        if name.starts_with(DEAD_LETTERS) { TopicName::internal(name) } else { TopicName::parse(name) };
    let parsed = parsed.map_err(|_| "its name cannot be used here")?;
    let message_type = match topic.attributes.get("message.type").map(String::as_str) {
        Some("FIFO") => MessageType::Fifo,
        Some("DELAY") => MessageType::Delay,
        Some("TRANSACTION") => MessageType::Transaction,
        Some("MIXED") => MessageType::Mixed,
        Some("LITE") => MessageType::Lite,
        Some("PRIORITY") => MessageType::Priority,
        _ => MessageType::Normal,
    };
    Ok(TopicConfig {
        // A queue that only one side may use is still there.
        read_queues: topic.read_queue_nums.max(1),
        write_queues: topic.write_queue_nums.max(1),
        readable: topic.perm & 4 != 0,
        writable: topic.perm & 2 != 0,
        message_type,
        ..TopicConfig::new(parsed, 1)
    })
}

/// Our topic with as many queues as RocketMQ has, if those are more: they may hold messages.
fn grown(ours: &TopicConfig, taken: &TopicConfig) -> Option<TopicConfig> {
    let grown = TopicConfig {
        read_queues: ours.read_queues.max(taken.read_queues),
        write_queues: ours.write_queues.max(taken.write_queues),
        ..ours.clone()
    };
    (grown != *ours).then_some(grown)
}

fn taken_group(group: &JavaGroup, default: GroupConfig) -> GroupConfig {
    GroupConfig {
        consume_enabled: group.consume_enable,
        ordered: group.consume_message_orderly,
        // RocketMQ counts deliveries after the first.
        max_attempts: u32::try_from(group.retry_max_times)
            .map_or(default.max_attempts, |retries| retries + 1),
        backoff: backoff(&group.group_retry_policy).unwrap_or_default(),
        ..default
    }
}

fn backoff(policy: &JavaRetryPolicy) -> Option<Backoff> {
    match policy.kind {
        JavaRetryKind::Exponential => {
            let exponential = policy.exponential_retry_policy.clone()?;
            Some(Backoff::Exponential {
                initial_ms: exponential.initial,
                max_ms: exponential.max,
                multiplier: (exponential.multiplier as f64).clamp(1.0, 100.0),
            })
        }
        JavaRetryKind::Customized => {
            let delays_ms = policy.customized_retry_policy.clone()?.next;
            (!delays_ms.is_empty()).then_some(Backoff::Custom { delays_ms })
        }
    }
}
