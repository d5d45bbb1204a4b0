//! Topics and consumer groups: what there is, kept in `config/meta.redb`.
//!
//! Readers take a snapshot without a lock. A change is on the disk before anybody sees it, has a
//! version of its own, and is told to whoever watches (the registration with name servers).
//! Nothing here knows the wire.

mod group;
mod kept;
mod topic;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use access::{GroupName, TopicName};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use group::{Backoff, DEFAULT_MAX_ATTEMPTS, GroupConfig};
pub use topic::{MAX_QUEUES, MessageType, Topic, TopicConfig, stable_hash};

use crate::meta::{self, Meta};

/// How many past changes are remembered one by one; a watcher that is further behind gets everything.
const REMEMBERED_CHANGES: usize = 4096;

/// The most groups that come into being by being used; more must be made on purpose.
const MOST_GROUPS_BY_USE: usize = 100_000;

/// Everything there is, at one version.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows with every change.
    pub version: u64,
    /// By name.
    pub topics: HashMap<TopicName, Arc<Topic>, foldhash::fast::RandomState>,
    /// By name.
    pub groups: HashMap<GroupName, Arc<GroupConfig>, foldhash::fast::RandomState>,
}

/// What changed between two versions: the state now of everything that was touched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// The version that these changes lead to.
    pub version: u64,
    /// Created or changed.
    pub topics: Vec<TopicConfig>,
    /// Gone.
    pub removed_topics: Vec<TopicName>,
    /// Created or changed.
    pub groups: Vec<GroupConfig>,
    /// Gone.
    pub removed_groups: Vec<GroupName>,
}

/// Why a change was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The wish itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else manages the topic.
    #[error("topic {topic} is managed by {owner}: change it there, or remove it there first")]
    Owned {
        /// Which topic.
        topic: TopicName,
        /// By whom.
        owner: String,
    },
    /// The cap on groups that come into being by being used.
    #[error(
        "there are {0} consumer groups already: delete some that are not used, or create this one with the admin tools"
    )]
    TooMany(usize),
    /// The disk refused.
    #[error("cannot write topics and groups: {0}")]
    Kept(#[from] meta::Error),
}

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whether anything is different now.
    pub changed: bool,
    /// The version at which it is so.
    pub version: u64,
}

#[derive(Clone, Debug)]
enum Touched {
    Topic(TopicName),
    Group(GroupName),
}

/// The topics and groups of this broker.
#[derive(Debug)]
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    /// Held while a change is written; what was touched at which version, oldest first.
    history: Mutex<VecDeque<(u64, Touched)>>,
    version: watch::Sender<u64>,
    meta: Arc<Meta>,
    default_max_attempts: u32,
}

impl Registry {
    /// Reads what is kept.
    pub fn open(meta: Arc<Meta>, default_max_attempts: u32) -> Result<Self, meta::Error> {
        let mut snapshot = Snapshot::default();
        for topic in kept::topics(&meta)? {
            snapshot.topics.insert(topic.name.clone(), Arc::new(Topic::new(topic)));
        }
        for group in kept::groups(&meta)? {
            snapshot.groups.insert(group.name.clone(), Arc::new(group));
        }
        Ok(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            history: Mutex::default(),
            version: watch::Sender::new(0),
            meta,
            default_max_attempts,
        })
    }

    /// Everything, as of now.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.snapshot.load().topics.get(name).cloned()
    }

    /// A group by its name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Arc<GroupConfig>> {
        self.snapshot.load().groups.get(name).cloned()
    }

    /// What a group of this name has, or would get at its first use.
    #[must_use]
    pub fn group_or_default(&self, name: &GroupName) -> Arc<GroupConfig> {
        self.group(name.as_str())
            .unwrap_or_else(|| Arc::new(GroupConfig::new(name.clone(), self.default_max_attempts)))
    }

    /// Tells of new versions.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// What was touched after `version`; `None` if that is too long ago: take the snapshot then.
    #[must_use]
    pub fn changes_since(&self, version: u64) -> Option<Changes> {
        let history = self.history.lock();
        let snapshot = self.snapshot.load();
        let mut changes = Changes { version: snapshot.version, ..Changes::default() };
        if version >= snapshot.version {
            return Some(changes);
        }
        if history.front().is_none_or(|(oldest, _)| *oldest > version + 1) {
            return None;
        }
        let mut topics: Vec<&TopicName> = Vec::new();
        let mut groups: Vec<&GroupName> = Vec::new();
        for (_, touched) in history.iter().filter(|(at, _)| *at > version) {
            match touched {
                Touched::Topic(name) => topics.push(name),
                Touched::Group(name) => groups.push(name),
            }
        }
        topics.sort_unstable();
        topics.dedup();
        groups.sort_unstable();
        groups.dedup();
        for name in topics {
            match snapshot.topics.get(name) {
                Some(topic) => changes.topics.push(topic.config.clone()),
                None => changes.removed_topics.push(name.clone()),
            }
        }
        for name in groups {
            match snapshot.groups.get(name) {
                Some(group) => changes.groups.push(GroupConfig::clone(group)),
                None => changes.removed_groups.push(name.clone()),
            }
        }
        Some(changes)
    }

    /// Makes the topic so. Blocks on the disk.
    pub fn upsert_topic(&self, config: TopicConfig, only_if_unowned: bool) -> Result<Changed, Error> {
        validate_topic(&config)?;
        let mut history = self.history.lock();
        let before = self.snapshot.load();
        if let Some(topic) = before.topics.get(&config.name) {
            let owner = &topic.config.owner;
            if only_if_unowned && !owner.is_empty() && *owner != config.owner {
                return Err(Error::Owned { topic: config.name, owner: owner.clone() });
            }
            if topic.config == config {
                return Ok(Changed { changed: false, version: before.version });
            }
        }
        kept::put_topic(&self.meta, &config)?;
        let name = config.name.clone();
        let version = self.publish(&mut history, Touched::Topic(name.clone()), |snapshot| {
            snapshot.topics.insert(name, Arc::new(Topic::new(config)));
        });
        Ok(Changed { changed: true, version })
    }

    /// Removes the topic; `owner`, where not empty, must be the one stamped. Blocks on the disk.
    pub fn delete_topic(&self, name: &TopicName, owner: &str) -> Result<Changed, Error> {
        let mut history = self.history.lock();
        let before = self.snapshot.load();
        let Some(topic) = before.topics.get(name) else {
            return Ok(Changed { changed: false, version: before.version });
        };
        if !owner.is_empty() && topic.config.owner != owner {
            return Err(Error::Owned { topic: name.clone(), owner: topic.config.owner.clone() });
        }
        kept::remove_topic(&self.meta, name)?;
        let version = self.publish(&mut history, Touched::Topic(name.clone()), |snapshot| {
            snapshot.topics.remove(name);
        });
        Ok(Changed { changed: true, version })
    }

    /// Makes the group so. Blocks on the disk.
    pub fn upsert_group(&self, config: GroupConfig) -> Result<Changed, Error> {
        validate_group(&config)?;
        let mut history = self.history.lock();
        let before = self.snapshot.load();
        if before.groups.get(&config.name).is_some_and(|group| **group == config) {
            return Ok(Changed { changed: false, version: before.version });
        }
        kept::put_group(&self.meta, &config)?;
        let name = config.name.clone();
        let version = self.publish(&mut history, Touched::Group(name.clone()), |snapshot| {
            snapshot.groups.insert(name, Arc::new(config));
        });
        Ok(Changed { changed: true, version })
    }

    /// Creates the group with defaults if there is none. Blocks on the disk if it must.
    pub fn ensure_group(&self, name: &GroupName) -> Result<Arc<GroupConfig>, Error> {
        if let Some(group) = self.group(name.as_str()) {
            return Ok(group);
        }
        if self.snapshot.load().groups.len() >= MOST_GROUPS_BY_USE {
            return Err(Error::TooMany(MOST_GROUPS_BY_USE));
        }
        self.upsert_group(GroupConfig::new(name.clone(), self.default_max_attempts))?;
        Ok(self.group_or_default(name))
    }

    /// Removes the group. Blocks on the disk.
    pub fn delete_group(&self, name: &GroupName) -> Result<Changed, Error> {
        let mut history = self.history.lock();
        let before = self.snapshot.load();
        if !before.groups.contains_key(name) {
            return Ok(Changed { changed: false, version: before.version });
        }
        kept::remove_group(&self.meta, name)?;
        let version = self.publish(&mut history, Touched::Group(name.clone()), |snapshot| {
            snapshot.groups.remove(name);
        });
        Ok(Changed { changed: true, version })
    }

    /// Shows a change that is on the disk. The history is locked, so nobody publishes in between.
    fn publish(
        &self,
        history: &mut VecDeque<(u64, Touched)>,
        touched: Touched,
        change: impl FnOnce(&mut Snapshot),
    ) -> u64 {
        let mut snapshot = Snapshot::clone(&self.snapshot.load());
        snapshot.version += 1;
        change(&mut snapshot);
        let version = snapshot.version;
        if history.len() == REMEMBERED_CHANGES {
            history.pop_front();
        }
        history.push_back((version, touched));
        self.snapshot.store(Arc::new(snapshot));
        self.version.send_replace(version);
        version
    }
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
    if owner.len() > 512 {
        return Err(Error::Invalid(format!(
            "the owner of topic {name} is longer than 512 bytes: use a shorter one"
        )));
    }
    Ok(())
}

fn validate_group(config: &GroupConfig) -> Result<(), Error> {
    let GroupConfig { name, consume_enabled: _, ordered: _, max_attempts, backoff } = config;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> TopicName {
        TopicName::parse(name).unwrap()
    }

    fn registry(folder: &std::path::Path) -> Registry {
        Registry::open(Arc::new(Meta::open(folder).unwrap()), 17).unwrap()
    }

    #[test]
    fn what_was_answered_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let group = GroupConfig {
            ordered: true,
            backoff: Backoff::Exponential { initial_ms: 1, max_ms: 2, multiplier: 1.5 },
            ..GroupConfig::new(GroupName::parse("billing").unwrap(), 3)
        };
        {
            let topics = registry(folder.path());
            assert!(topics.upsert_topic(TopicConfig::new(name("orders"), 4), false).unwrap().changed);
            assert!(topics.upsert_topic(TopicConfig::new(name("gone"), 1), false).unwrap().changed);
            assert!(topics.delete_topic(&name("gone"), "").unwrap().changed);
            assert!(topics.upsert_group(group.clone()).unwrap().changed);
        }
        let topics = registry(folder.path());
        assert_eq!(topics.topic("orders").unwrap().config, TopicConfig::new(name("orders"), 4));
        assert!(topics.topic("gone").is_none());
        assert_eq!(*topics.group("billing").unwrap(), group);
    }

    #[test]
    fn a_watcher_gets_what_was_touched_since_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let topics = registry(folder.path());
        let mut versions = topics.watch();
        topics.upsert_topic(TopicConfig::new(name("a"), 1), false).unwrap();
        let seen = topics.snapshot().version;
        assert!(versions.has_changed().unwrap());
        versions.mark_unchanged();

        assert!(!topics.upsert_topic(TopicConfig::new(name("a"), 1), false).unwrap().changed);
        assert!(!versions.has_changed().unwrap(), "nothing is different");

        topics.upsert_topic(TopicConfig::new(name("b"), 1), false).unwrap();
        topics.upsert_topic(TopicConfig::new(name("b"), 2), false).unwrap();
        topics.delete_topic(&name("a"), "").unwrap();
        let changes = topics.changes_since(seen).unwrap();
        assert_eq!(changes.topics, [TopicConfig::new(name("b"), 2)]);
        assert_eq!(changes.removed_topics, [name("a")]);
        assert_eq!(changes.version, topics.snapshot().version);
        assert_eq!(topics.changes_since(changes.version).unwrap().topics, []);
    }

    #[test]
    fn a_watcher_that_is_far_behind_is_told_to_take_everything() {
        let folder = tempfile::tempdir().unwrap();
        let topics = registry(folder.path());
        topics.upsert_topic(TopicConfig::new(name("a"), 1), false).unwrap();
        topics.upsert_topic(TopicConfig::new(name("b"), 1), false).unwrap();
        topics.history.lock().pop_front();
        assert_eq!(topics.changes_since(0), None);
        assert!(topics.changes_since(1).is_some());
    }

    #[test]
    fn the_owner_of_a_topic_is_respected() {
        let folder = tempfile::tempdir().unwrap();
        let topics = registry(folder.path());
        let owned = TopicConfig { owner: "ns/orders/1".to_owned(), ..TopicConfig::new(name("orders"), 1) };
        topics.upsert_topic(owned.clone(), true).unwrap();
        let other = TopicConfig { owner: "ns/other/2".to_owned(), read_queues: 2, ..owned.clone() };
        assert!(matches!(topics.upsert_topic(other, true), Err(Error::Owned { .. })));
        assert!(matches!(topics.delete_topic(&name("orders"), "ns/other/2"), Err(Error::Owned { .. })));
        assert!(topics.upsert_topic(TopicConfig { read_queues: 2, ..owned }, true).unwrap().changed);
        assert!(topics.delete_topic(&name("orders"), "ns/orders/1").unwrap().changed);
    }

    #[test]
    fn contradictory_wishes_are_refused_with_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let topics = registry(folder.path());
        for queues in [0, MAX_QUEUES + 1] {
            let refused = topics.upsert_topic(TopicConfig::new(name("t"), queues), false).unwrap_err();
            assert!(refused.to_string().contains("between 1 and 1024"), "{refused}");
        }
        let group = GroupConfig::new(GroupName::parse("g").unwrap(), 0);
        assert!(matches!(topics.upsert_group(group), Err(Error::Invalid(_))));
    }
}
