//! Names of topics and consumer groups, parsed once at the door.
//!
//! A name is 1–127 (topic) or 1–120 (group) characters of `%|a-zA-Z0-9_-`, its namespace included: a
//! resource of namespace `ns` is kept as `ns%name`. Retry and dead letter topics of a group with a
//! long name may be longer, and are made here only. So are the names under which lite topics are kept: they hold a `$`,
//! which no other name can.

use std::fmt;
use std::sync::Arc;

use proto::v2::{Code, Resource};

use crate::client::ClientIdentity;
use crate::status::Refusal;

const LONGEST_TOPIC: usize = 127;
const LONGEST_GROUP: usize = 120;
const LONGEST_INTERNAL_TOPIC: usize = 255;
const RETRY_PREFIX: &str = "%RETRY%";
const DEAD_LETTER_PREFIX: &str = "%DLQ%";
/// The most characters of a lite topic.
pub const LONGEST_LITE_TOPIC: usize = 64;

/// Topics of RocketMQ's own machinery, which clients may not name.
const SYSTEM_TOPICS: [&str; 10] = [
    "TBW102",
    "SCHEDULE_TOPIC_XXXX",
    "BenchmarkTest",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRACE_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "CHECKPOINT_TOPIC",
];
const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";

/// The name of a topic, its namespace in front where it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Box<str>);

impl TopicName {
    /// How the names begin under which lite topics are kept; the parent and the lite topic follow, with a `$` between them
    /// (RocketMQ's `LiteUtil`).
    pub const LITE_PREFIX: &str = "%LMQ%$";

    /// A topic that a client or an operator may name.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        check_characters("topic", name, LONGEST_TOPIC).map_err(illegal_topic)?;
        if SYSTEM_TOPICS.contains(&name) || name.starts_with(SYSTEM_TOPIC_PREFIX) {
            return Err(illegal_topic(format!("the topic {name} belongs to the system: use another name")));
        }
        Ok(Self(name.into()))
    }

    /// The topic that `resource` names, in the namespace of the resource, or else of the call.
    pub fn of(resource: Option<&Resource>, client: &ClientIdentity) -> Result<Self, Refusal> {
        let resource =
            resource.ok_or_else(|| illegal_topic("the request names no topic: set it".to_owned()))?;
        match namespace(resource, client).map_err(illegal_topic)? {
            "" => Self::parse(&resource.name),
            _ if resource.name.is_empty() => Self::parse(""),
            namespace => {
                let of_a_group = |prefix| Some((prefix, resource.name.strip_prefix(prefix)?));
                let of_a_group = [RETRY_PREFIX, DEAD_LETTER_PREFIX].into_iter().find_map(of_a_group);
                // The namespace is the group's: its dead letters are in `%DLQ%ns%group`.
                match of_a_group {
                    Some((prefix, group)) => Self::parse(&format!("{prefix}{namespace}%{group}")),
                    None => Self::parse(&format!("{namespace}%{}", resource.name)),
                }
            }
        }
    }

    /// A topic that brokers tell each other about: also system topics, and longer names.
    pub fn internal(name: &str) -> Result<Self, Refusal> {
        check_characters("topic", name, LONGEST_INTERNAL_TOPIC).map_err(illegal_topic)?;
        Ok(Self(name.into()))
    }

    /// Where messages of `group` wait for their next delivery in RocketMQ's layout.
    pub fn retry_of(group: &GroupName) -> Self {
        Self(format!("{RETRY_PREFIX}{group}").into())
    }

    /// Where messages go that `group` could not consume.
    pub fn dead_letter_of(group: &GroupName) -> Self {
        Self(format!("{DEAD_LETTER_PREFIX}{group}").into())
    }

    /// Where messages of the lite topic lie whose parent this is.
    pub fn of_lite(&self, lite: &LiteTopic) -> Self {
        Self(format!("{}{self}${lite}", Self::LITE_PREFIX).into())
    }

    /// The parent and the lite topic whose messages lie in the topic `name`; `None`: it is of no lite topic.
    pub fn lite_parts(name: &str) -> Option<(&str, &str)> {
        name.strip_prefix(Self::LITE_PREFIX)?.split_once('$')
    }

    /// The name that [`TopicName::of_lite`] made; `None`: it is none.
    pub fn internal_lite(name: &str) -> Option<Self> {
        let (parent, lite) = Self::lite_parts(name)?;
        Some(Self::internal(parent).ok()?.of_lite(&LiteTopic::parse(lite).ok()?))
    }

    /// The topic as users know it: of a lite topic its parent.
    pub fn parent_or_self(&self) -> &str {
        Self::lite_parts(&self.0).map_or(&*self.0, |(parent, _)| parent)
    }

    /// The topic as clients name it: its namespace apart, where it has one.
    pub fn to_resource(&self) -> Resource {
        let (namespace, name) = match self.0.split_once('%') {
            Some((namespace, name)) if !namespace.is_empty() => (namespace, name),
            _ => ("", &*self.0),
        };
        Resource { resource_namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// Whether the topic is made by the broker for a group, not by a user.
    pub fn is_of_a_group(&self) -> bool {
        self.0.starts_with(RETRY_PREFIX) || self.0.starts_with(DEAD_LETTER_PREFIX)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a lite topic, below its parent topic. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LiteTopic(Arc<str>);

impl LiteTopic {
    /// A lite topic that a client names.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        let illegal = |sentence: String| Err(Refusal::new(Code::IllegalLiteTopic, sentence));
        if name.trim().is_empty() {
            return illegal(format!("the lite topic is blank: give it 1 to {LONGEST_LITE_TOPIC} characters"));
        }
        let length = name.chars().count();
        if length > LONGEST_LITE_TOPIC {
            return illegal(format!(
                "the lite topic has {length} characters: use at most {LONGEST_LITE_TOPIC}"
            ));
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        match name.chars().find(|c| !allowed(c)) {
            Some(bad) => illegal(format!(
                "the lite topic {name:?} contains {bad:?}: use letters, digits, '_' and '-' only"
            )),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a consumer group, its namespace in front where it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupName(Box<str>);

impl GroupName {
    /// A group that a client or an operator may name.
    pub fn parse(name: &str) -> Result<Self, Refusal> {
        check_characters("consumer group", name, LONGEST_GROUP).map_err(illegal_group)?;
        if name.starts_with(SYSTEM_GROUP_PREFIX) {
            return Err(illegal_group(format!(
                "the consumer group {name} belongs to the system: use another name"
            )));
        }
        Ok(Self(name.into()))
    }

    /// The group that `resource` names, in the namespace of the resource, or else of the call.
    pub fn of(resource: Option<&Resource>, client: &ClientIdentity) -> Result<Self, Refusal> {
        let resource = resource
            .ok_or_else(|| illegal_group("the request names no consumer group: set it".to_owned()))?;
        match namespace(resource, client).map_err(illegal_group)? {
            "" => Self::parse(&resource.name),
            _ if resource.name.is_empty() => Self::parse(""),
            namespace => Self::parse(&format!("{namespace}%{}", resource.name)),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! name_is_text {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}
name_is_text!(TopicName);
name_is_text!(GroupName);
name_is_text!(LiteTopic);

/// The namespace of a resource. The consumers of the Node client write it in the header only.
fn namespace<'a>(resource: &'a Resource, client: &'a ClientIdentity) -> Result<&'a str, String> {
    match (resource.resource_namespace.as_str(), client.namespace.as_str()) {
        ("", header) => Ok(header),
        (own, "") => Ok(own),
        (own, header) if own == header => Ok(own),
        (own, header) => Err(format!(
            "the resource {} is in namespace {own} and the call in namespace {header}: use one of them",
            resource.name
        )),
    }
}

fn check_characters(what: &str, name: &str, longest: usize) -> Result<(), String> {
    if name.trim().is_empty() {
        return Err(format!("the name of the {what} is empty: give it 1 to {longest} characters"));
    }
    let length = name.chars().count();
    if length > longest {
        return Err(format!("the name of the {what} has {length} characters: use at most {longest}"));
    }
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '_' | '-');
    match name.chars().find(|c| !allowed(c)) {
        Some(bad) => Err(format!(
            "the name of the {what} {name:?} contains {bad:?}: use letters, digits, '_', '-', '%' and '|' only"
        )),
        None => Ok(()),
    }
}

fn illegal_topic(sentence: String) -> Refusal {
    Refusal::new(Code::IllegalTopic, sentence)
}

fn illegal_group(sentence: String) -> Refusal {
    Refusal::new(Code::IllegalConsumerGroup, sentence)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resource(namespace: &str, name: &str) -> Resource {
        Resource { resource_namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn in_namespace(namespace: &str) -> ClientIdentity {
        ClientIdentity { namespace: namespace.to_owned(), ..ClientIdentity::default() }
    }

    #[test]
    fn topics_follow_the_rules_of_the_protocol() {
        let check = |name: &str, part_of_the_sentence: Option<&str>| match (
            TopicName::parse(name),
            part_of_the_sentence,
        ) {
            (Ok(topic), None) => assert_eq!(topic.as_str(), name),
            (Err(refusal), Some(part)) => {
                assert_eq!(refusal.code, Code::IllegalTopic, "{name:?}");
                assert!(refusal.sentence.contains(part), "{name:?}: {refusal}");
            }
            (outcome, _) => panic!("{name:?}: {outcome:?}"),
        };
        check("orders", None);
        check("a", None);
        check("Orders_2-x%y|z", None);
        check("%DLQ%group", None);
        check(&"t".repeat(127), None);
        check(&"t".repeat(128), Some("128 characters"));
        check("", Some("empty"));
        check(" ", Some("empty"));
        check("a b", Some("' '"));
        check("a.b", Some("'.'"));
        check("ä", Some("'ä'"));
        check("a\nb", Some("'\\n'"));
        check("TBW102", Some("system"));
        check("SCHEDULE_TOPIC_XXXX", Some("system"));
        check("RMQ_SYS_TRANS_HALF_TOPIC", Some("system"));
        check("rmq_sys_anything", Some("system"));
        check("RMQ_SYS_of_mine", None);
    }

    #[test]
    fn groups_follow_the_rules_of_the_protocol() {
        let check = |name: &str, part_of_the_sentence: Option<&str>| match (
            GroupName::parse(name),
            part_of_the_sentence,
        ) {
            (Ok(group), None) => assert_eq!(group.as_str(), name),
            (Err(refusal), Some(part)) => {
                assert_eq!(refusal.code, Code::IllegalConsumerGroup, "{name:?}");
                assert!(refusal.sentence.contains(part), "{name:?}: {refusal}");
            }
            (outcome, _) => panic!("{name:?}: {outcome:?}"),
        };
        check("billing", None);
        check(&"g".repeat(120), None);
        check(&"g".repeat(121), Some("121 characters"));
        check("", Some("empty"));
        check("bill/ing", Some("'/'"));
        check("CID_RMQ_SYS_TRANS", Some("system"));
    }

    #[test]
    fn a_namespace_comes_from_the_resource_or_else_from_the_call() {
        let name = |resource_namespace: &str, header: &str| {
            TopicName::of(Some(&resource(resource_namespace, "orders")), &in_namespace(header))
                .map(|topic| topic.to_string())
        };
        assert_eq!(name("", ""), Ok("orders".to_owned()));
        assert_eq!(name("team", ""), Ok("team%orders".to_owned()));
        assert_eq!(name("", "team"), Ok("team%orders".to_owned()));
        assert_eq!(name("team", "team"), Ok("team%orders".to_owned()));
        assert_eq!(name("team", "other").unwrap_err().code, Code::IllegalTopic);
        assert_eq!(TopicName::of(None, &in_namespace("")).unwrap_err().code, Code::IllegalTopic);
        assert!(TopicName::of(Some(&resource("team", "")), &in_namespace("")).is_err());
        let group = GroupName::of(Some(&resource("team", "billing")), &in_namespace("")).unwrap();
        let dead = TopicName::of(Some(&resource("", "%DLQ%billing")), &in_namespace("team")).unwrap();
        assert_eq!(dead, TopicName::dead_letter_of(&group), "a group's own are in its namespace");
        let retry = TopicName::of(Some(&resource("team", "%RETRY%billing")), &in_namespace("")).unwrap();
        assert_eq!(retry, TopicName::retry_of(&group));
        assert!(GroupName::of(Some(&resource("team", "")), &in_namespace("")).is_err());
    }

    #[test]
    fn the_topics_of_a_group_may_be_longer_than_a_user_may_write() {
        let group = GroupName::parse(&"g".repeat(120)).unwrap();
        let retry = TopicName::retry_of(&group);
        assert!(retry.is_of_a_group());
        assert!(TopicName::dead_letter_of(&group).is_of_a_group());
        assert_eq!(TopicName::internal(retry.as_str()), Ok(retry));
        assert!(TopicName::internal(&"t".repeat(256)).is_err());
        assert!(TopicName::internal("rmq_sys_x").is_ok());
    }

    #[test]
    fn lite_topics_follow_the_rules_of_the_protocol() {
        let check = |name: &str, part_of_the_sentence: Option<&str>| match (
            LiteTopic::parse(name),
            part_of_the_sentence,
        ) {
            (Ok(lite), None) => assert_eq!(lite.as_str(), name),
            (Err(refusal), Some(part)) => {
                assert_eq!(refusal.code, Code::IllegalLiteTopic, "{name:?}");
                assert!(refusal.sentence.contains(part), "{name:?}: {refusal}");
            }
            (outcome, _) => panic!("{name:?}: {outcome:?}"),
        };
        check("session-1_A", None);
        check(&"l".repeat(64), None);
        check(&"l".repeat(65), Some("65 characters"));
        check("", Some("blank"));
        check("  ", Some("blank"));
        check("a$b", Some("'$'"));
        check("*", Some("'*'"));
        check("a/b", Some("'/'"));
    }

    #[test]
    fn a_lite_topic_is_kept_under_a_name_that_leads_back_to_it() {
        let parent = TopicName::parse(&format!("ns%{}", "t".repeat(124))).unwrap();
        let lite = LiteTopic::parse(&"l".repeat(64)).unwrap();
        let kept = parent.of_lite(&lite);
        assert_eq!(TopicName::lite_parts(kept.as_str()), Some((parent.as_str(), lite.as_str())));
        assert_eq!(kept.parent_or_self(), parent.as_str());
        assert_eq!(TopicName::internal_lite(kept.as_str()), Some(kept.clone()));
        assert!(kept.as_str().len() <= LONGEST_INTERNAL_TOPIC);
        assert!(TopicName::parse(kept.as_str()).is_err(), "no client can name it");
        assert_eq!(TopicName::lite_parts("%LMQ%orders"), None);
        assert_eq!(parent.parent_or_self(), parent.as_str());
    }

    proptest! {
        #[test]
        fn what_is_parsed_is_within_the_rules(name in "[%|a-zA-Z0-9_. -]{0,140}") {
            if let Ok(topic) = TopicName::parse(&name) {
                prop_assert!((1..=127).contains(&topic.as_str().len()));
                prop_assert!(!topic.as_str().contains(['.', ' ']));
                prop_assert_eq!(topic.as_str(), &name);
            }
        }
    }
}
