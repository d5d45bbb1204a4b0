//! What somebody wishes of topics and groups, and whether it is granted. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use access::{GroupName, TopicName};

use super::names::{Named, Names};
use super::{Backoff, Error, GroupConfig, MAX_QUEUES, Topic, TopicConfig};

/// Bytes of an owner's stamp.
const LONGEST_OWNER: usize = 512;

/// A change that is asked for.
#[derive(Clone, Debug)]
pub enum Wish {
    /// This topic, just so.
    Topic {
        /// How.
        config: TopicConfig,
        /// Not if another owner is stamped on it.
        only_if_unowned: bool,
        /// Not if it is there and differs.
        only_new: bool,
    },
    /// No topic of this name.
    NoTopic {
        /// Which.
        name: TopicName,
        /// Where not empty, it must be the owner stamped.
        owner: String,
    },
    /// This group, just so.
    Group {
        /// How.
        config: GroupConfig,
        /// Not if another owner is stamped on it.
        only_if_unowned: bool,
    },
    /// A group of this name: this one, unless there is one already, however it is.
    SomeGroup {
        /// How, if there is none.
        config: GroupConfig,
    },
    /// No group of this name.
    NoGroup {
        /// Which.
        name: GroupName,
        /// Where not empty, it must be the owner stamped.
        owner: String,
    },
}

impl Named for Topic {
    fn name(&self) -> &str {
        self.config.name.as_str()
    }
}

impl Named for GroupConfig {
    fn name(&self) -> &str {
        self.name.as_str()
    }
}

/// Names, and what shall be there; `None`: nothing.
type Planned<K, T> = HashMap<K, Option<Arc<T>>>;
/// The same, settled.
pub(super) type Settled<K, T> = Vec<(K, Option<Arc<T>>)>;

/// What is to change, wish by wish. A later wish sees what an earlier one changes.
pub(super) struct Plan<'a> {
    topics: &'a Names<Topic>,
    groups: &'a Names<GroupConfig>,
    changed_topics: Planned<TopicName, Topic>,
    changed_groups: Planned<GroupName, GroupConfig>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(topics: &'a Names<Topic>, groups: &'a Names<GroupConfig>) -> Self {
        Self { topics, groups, changed_topics: HashMap::new(), changed_groups: HashMap::new() }
    }

    /// What is to change.
    pub(super) fn changes(self) -> (Settled<TopicName, Topic>, Settled<GroupName, GroupConfig>) {
        (self.changed_topics.into_iter().collect(), self.changed_groups.into_iter().collect())
    }

    fn topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        match self.changed_topics.get(name) {
            Some(planned) => planned.clone(),
            None => self.topics.get(name.as_str()),
        }
    }

    fn group(&self, name: &GroupName) -> Option<Arc<GroupConfig>> {
        match self.changed_groups.get(name) {
            Some(planned) => planned.clone(),
            None => self.groups.get(name.as_str()),
        }
    }

    /// Whether the wish changes anything, or why it is refused.
    pub(super) fn decide(&mut self, wish: &Wish) -> Result<bool, Error> {
        match wish {
            Wish::Topic { config, only_if_unowned, only_new } => {
                validate_topic(config)?;
                if let Some(topic) = self.topic(&config.name) {
                    let found = &topic.config;
                    if *only_new && !found.same_but_owner(config) {
                        return Err(Error::Differs { topic: found.name.clone(), found: found.in_words() });
                    }
                    if *only_if_unowned
                        && !*only_new
                        && !found.owner.is_empty()
                        && found.owner != config.owner
                    {
                        return Err(owned(found));
                    }
                    if found == config || *only_new {
                        return Ok(false);
                    }
                }
                self.changed_topics.insert(config.name.clone(), Some(Arc::new(Topic::new(config.clone()))));
            }
            Wish::NoTopic { name, owner } => {
                let Some(topic) = self.topic(name) else { return Ok(false) };
                if !owner.is_empty() && topic.config.owner != *owner {
                    return Err(owned(&topic.config));
                }
                self.changed_topics.insert(name.clone(), None);
            }
            Wish::Group { config, only_if_unowned } => {
                validate_group(config)?;
                if let Some(found) = self.group(&config.name) {
                    if *only_if_unowned && !found.owner.is_empty() && found.owner != config.owner {
                        return Err(owned_group(&found));
                    }
                    if *found == *config {
                        return Ok(false);
                    }
                }
                self.changed_groups.insert(config.name.clone(), Some(Arc::new(config.clone())));
            }
            Wish::SomeGroup { config } => {
                validate_group(config)?;
                if self.group(&config.name).is_some() {
                    return Ok(false);
                }
                self.changed_groups.insert(config.name.clone(), Some(Arc::new(config.clone())));
            }
            Wish::NoGroup { name, owner } => {
                let Some(found) = self.group(name) else { return Ok(false) };
                if !owner.is_empty() && found.owner != *owner {
                    return Err(owned_group(&found));
                }
                self.changed_groups.insert(name.clone(), None);
            }
        }
        Ok(true)
    }
}

fn owned(found: &TopicConfig) -> Error {
    Error::Owned { what: format!("topic {}", found.name), owner: found.owner.clone() }
}

fn owned_group(found: &GroupConfig) -> Error {
    Error::Owned { what: format!("consumer group {}", found.name), owner: found.owner.clone() }
}

fn validate_owner(what: &str, owner: &str) -> Result<(), Error> {
    if owner.len() <= LONGEST_OWNER {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "the owner of {what} is longer than {LONGEST_OWNER} bytes: use a shorter one"
    )))
}

fn validate_topic(config: &TopicConfig) -> Result<(), Error> {
    let TopicConfig { name, read_queues, write_queues, readable: _, writable: _, message_type: _, owner } =
        config;
    for (what, queues) in [("read_queues", *read_queues), ("write_queues", *write_queues)] {
        if !(1..=MAX_QUEUES).contains(&queues) {
            return Err(Error::Invalid(format!(
                "topic {name} asks for {queues} {what}: choose between 1 and {MAX_QUEUES}"
            )));
        }
    }
    validate_owner(&format!("topic {name}"), owner)
}

fn validate_group(config: &GroupConfig) -> Result<(), Error> {
    let GroupConfig { name, consume_enabled: _, ordered: _, max_attempts, backoff, owner } = config;
    validate_owner(&format!("group {name}"), owner)?;
    if *max_attempts == 0 {
        return Err(Error::Invalid(format!("group {name} asks for 0 attempts: a message needs at least 1")));
    }
    match backoff {
        Backoff::Custom { delays_ms } if delays_ms.is_empty() => {
            Err(Error::Invalid(format!("the backoff of group {name} has no delays: give at least one")))
        }
        Backoff::Exponential { multiplier, .. } if !(1.0..=100.0).contains(multiplier) => {
            Err(Error::Invalid(format!(
                "the backoff of group {name} multiplies by {multiplier}: choose between 1 and 100"
            )))
        }
        Backoff::Custom { .. } | Backoff::Exponential { .. } => Ok(()),
    }
}
