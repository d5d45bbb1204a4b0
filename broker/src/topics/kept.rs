//! How topics and groups lie in `meta.redb`: name → JSON, with a format version.

use access::{GroupName, TopicName};
use serde::{Deserialize, Serialize};

use super::{Backoff, GroupConfig, MessageType, TopicConfig};
use crate::meta::{Definition, Error, Meta, Transaction};

const TOPICS: Definition = Definition::new("topics");
const GROUPS: Definition = Definition::new("groups");

/// Written into each value; a reader refuses what is newer.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptTopic {
    format: u32,
    read_queues: u32,
    write_queues: u32,
    readable: bool,
    writable: bool,
    message_type: MessageType,
    owner: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeptGroup {
    format: u32,
    consume_enabled: bool,
    ordered: bool,
    max_attempts: u32,
    backoff: Backoff,
    /// Not in stores of earlier versions, which skip it in ours.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    owner: String,
}

pub(crate) fn topics(meta: &Meta) -> Result<Vec<TopicConfig>, Error> {
    meta.read_all(TOPICS, |name, value| {
        let kept: KeptTopic = decode(name, value)?;
        let KeptTopic { format, read_queues, write_queues, readable, writable, message_type, owner } = kept;
        check_format(name, format)?;
        let name = TopicName::internal(name).map_err(|refusal| Error::Damaged(refusal.to_string()))?;
        Ok(TopicConfig { name, read_queues, write_queues, readable, writable, message_type, owner })
    })
}

pub(crate) fn groups(meta: &Meta) -> Result<Vec<GroupConfig>, Error> {
    meta.read_all(GROUPS, |name, value| {
        let kept: KeptGroup = decode(name, value)?;
        let KeptGroup { format, consume_enabled, ordered, max_attempts, backoff, owner } = kept;
        check_format(name, format)?;
        let name = GroupName::parse(name).map_err(|refusal| Error::Damaged(refusal.to_string()))?;
        Ok(GroupConfig { name, consume_enabled, ordered, max_attempts, backoff, owner })
    })
}

/// What is to be there, or not any more.
pub(crate) enum Change<'a> {
    Topic(&'a TopicName, Option<&'a TopicConfig>),
    Group(&'a GroupName, Option<&'a GroupConfig>),
}

/// Writes the changes together: all of them or none.
pub(super) fn write(meta: &Meta, changes: &[Change<'_>]) -> Result<(), Error> {
    meta.write(|transaction| write_within(transaction, changes))?;
    meta.settled()
}

/// Writes the changes within a transaction of the caller.
pub(crate) fn write_within(transaction: &Transaction, changes: &[Change<'_>]) -> Result<(), redb::Error> {
    let mut topics = transaction.open_table(TOPICS)?;
    let mut groups = transaction.open_table(GROUPS)?;
    for change in changes {
        match change {
            Change::Topic(name, Some(topic)) => {
                topics.insert(name.as_str(), topic_value(topic).as_slice())?;
            }
            Change::Topic(name, None) => topics.remove(name.as_str())?,
            Change::Group(name, Some(group)) => {
                groups.insert(name.as_str(), group_value(group).as_slice())?;
            }
            Change::Group(name, None) => groups.remove(name.as_str())?,
        }
    }
    Ok(())
}

fn topic_value(topic: &TopicConfig) -> Vec<u8> {
    let TopicConfig { name: _, read_queues, write_queues, readable, writable, message_type, owner } = topic;
    encode(&KeptTopic {
        format: FORMAT,
        read_queues: *read_queues,
        write_queues: *write_queues,
        readable: *readable,
        writable: *writable,
        message_type: *message_type,
        owner: owner.clone(),
    })
}

fn group_value(group: &GroupConfig) -> Vec<u8> {
    let GroupConfig { name: _, consume_enabled, ordered, max_attempts, backoff, owner } = group;
    encode(&KeptGroup {
        format: FORMAT,
        consume_enabled: *consume_enabled,
        ordered: *ordered,
        max_attempts: *max_attempts,
        backoff: backoff.clone(),
        owner: owner.clone(),
    })
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structs with text keys are JSON")
}

fn decode<'a, T: Deserialize<'a>>(name: &str, value: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(value).map_err(|error| Error::Damaged(format!("{name}: {error}")))
}

fn check_format(name: &str, format: u32) -> Result<(), Error> {
    if format > FORMAT {
        return Err(Error::Damaged(format!("{name} was written by a newer version: start that one")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_was_kept_before_owners_is_read_and_one_without_an_owner_is_kept_as_then() {
        let text = r#"{"format":1,"consumeEnabled":true,"ordered":false,"maxAttempts":17,"backoff":{"custom":{"delaysMs":[1000]}}}"#;
        let kept: KeptGroup = decode("g", text.as_bytes()).unwrap();
        assert_eq!(kept.owner, "");
        assert_eq!(String::from_utf8(encode(&kept)).unwrap(), text);
    }
}
