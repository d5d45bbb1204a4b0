//! Topics and consumer groups: what there is, kept in `config/meta.redb`.
//!
//! Readers take no lock. A change is on the disk before anybody sees it, has a version of its own, and is told to whoever
//! watches (the registration with name servers). Changes that come while the disk works are written together, as the
//! log's flushes are. Nothing here knows the wire.
//!
//! ```text
//!   change ─► waiting ─► whoever gets the pen decides for all who wait (wish: pure) ─► one transaction ─► names, history
//! ```

mod group;
mod history;
pub(crate) mod kept;
mod names;
mod topic;
mod wish;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use access::{GroupName, TopicName};
use parking_lot::Mutex;
use tokio::sync::watch;

pub use group::{Backoff, DEFAULT_MAX_ATTEMPTS, GroupConfig};
use history::{History, Touched};
use names::Names;
pub use topic::{MAX_QUEUES, MessageType, Topic, TopicConfig, stable_hash};
pub use wish::Wish;
use wish::{Plan, Settled};

use crate::meta::{self, Meta};

/// The most groups that come into being by being used; more must be made on purpose.
const MOST_GROUPS_BY_USE: usize = 100_000;
/// So many wishes are written together, unless one caller has more.
const MOST_TOGETHER: usize = 16_384;

/// Everything there is. What changed behind `version` may be in here or not.
#[derive(Debug)]
pub struct Listing {
    /// Grows with every change.
    pub version: u64,
    /// In no order.
    pub topics: Vec<Arc<Topic>>,
    /// In no order.
    pub groups: Vec<Arc<GroupConfig>>,
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
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The wish itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else manages the topic or the group.
    #[error("{what} is managed by {owner}: change it there, or remove it there first")]
    Owned {
        /// Which one.
        what: String,
        /// By whom.
        owner: String,
    },
    /// It is there already, and not as asked for.
    #[error("topic {topic} exists, and differs: {found}")]
    Differs {
        /// Which topic.
        topic: TopicName,
        /// What it is like.
        found: String,
    },
    /// The cap on groups that come into being by being used.
    #[error(
        "there are {0} consumer groups already: delete some that are not used, or create this one with the admin tools"
    )]
    TooMany(usize),
    /// The disk refused.
    #[error("cannot write topics and groups: {0}")]
    Kept(Arc<meta::Error>),
}

/// The outcome of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Whether anything is different now.
    pub changed: bool,
    /// The version at which it is so.
    pub version: u64,
}

/// The topics and groups of this broker.
#[derive(Debug)]
pub struct Registry {
    topics: Names<Topic>,
    groups: Names<GroupConfig>,
    /// Who waits to be written.
    waiting: Mutex<Vec<Arc<Asked>>>,
    /// Held by whoever writes, while the disk works.
    pen: Mutex<()>,
    history: Mutex<History>,
    last_version: AtomicU64,
    version: watch::Sender<u64>,
    life: u64,
    meta: Arc<Meta>,
    default_max_attempts: u32,
}

/// What a caller wishes, and what came of each wish.
#[derive(Debug)]
struct Asked {
    wishes: Vec<Wish>,
    answers: Mutex<Option<Vec<Result<Changed, Error>>>>,
}

impl Registry {
    /// Reads what is kept.
    pub fn open(meta: Arc<Meta>, default_max_attempts: u32) -> Result<Self, meta::Error> {
        Ok(Self {
            topics: Names::new(kept::topics(&meta)?.into_iter().map(Topic::new)),
            groups: Names::new(kept::groups(&meta)?),
            waiting: Mutex::default(),
            pen: Mutex::default(),
            history: Mutex::default(),
            last_version: AtomicU64::new(0),
            version: watch::Sender::new(0),
            life: RandomState::new().hash_one(0_u8).max(1),
            meta,
            default_max_attempts,
        })
    }

    /// Everything, as of now.
    #[must_use]
    pub fn listing(&self) -> Listing {
        // The version first: what changes from here on is told again.
        let version = self.version();
        Listing { version, topics: self.topics.all(), groups: self.groups.all() }
    }

    /// The version of the last change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.last_version.load(Ordering::Acquire)
    }

    /// Within which versions can be compared: they begin anew whenever topics and groups are opened. Never 0.
    #[must_use]
    pub fn life(&self) -> u64 {
        self.life
    }

    /// How many topics and groups there are.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.topics.len(), self.groups.len())
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.get(name)
    }

    /// A group by its name.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Arc<GroupConfig>> {
        self.groups.get(name)
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

    /// What was touched after `version`; `None` if that is too long ago: take the listing then.
    #[must_use]
    pub fn changes_since(&self, version: u64) -> Option<Changes> {
        let (version, topics, groups) = self.history.lock().since(version)?;
        let mut changes = Changes { version, ..Changes::default() };
        for name in topics {
            match self.topics.get(name.as_str()) {
                Some(topic) => changes.topics.push(topic.config.clone()),
                None => changes.removed_topics.push(name),
            }
        }
        for name in groups {
            match self.groups.get(name.as_str()) {
                Some(group) => changes.groups.push(GroupConfig::clone(&group)),
                None => changes.removed_groups.push(name),
            }
        }
        Some(changes)
    }

    /// Makes the topic so. Blocks on the disk.
    pub fn upsert_topic(&self, config: TopicConfig, only_if_unowned: bool) -> Result<Changed, Error> {
        self.change_one(Wish::Topic { config, only_if_unowned, only_new: false })
    }

    /// Removes the topic; `owner`, where not empty, must be the one stamped. Blocks on the disk.
    pub fn delete_topic(&self, name: &TopicName, owner: &str) -> Result<Changed, Error> {
        self.change_one(Wish::NoTopic { name: name.clone(), owner: owner.to_owned() })
    }

    /// Makes the group so. Blocks on the disk.
    pub fn upsert_group(&self, config: GroupConfig, only_if_unowned: bool) -> Result<Changed, Error> {
        self.change_one(Wish::Group { config, only_if_unowned })
    }

    /// Creates the group with defaults if there is none. Blocks on the disk if it must.
    pub fn ensure_group(&self, name: &GroupName) -> Result<Arc<GroupConfig>, Error> {
        if let Some(group) = self.group(name.as_str()) {
            return Ok(group);
        }
        if self.groups.len() >= MOST_GROUPS_BY_USE {
            return Err(Error::TooMany(MOST_GROUPS_BY_USE));
        }
        // Others may make it, or declare it with settings of their own, before this is written: theirs stay.
        let config = GroupConfig::new(name.clone(), self.default_max_attempts);
        self.change_one(Wish::SomeGroup { config })?;
        Ok(self.group_or_default(name))
    }

    /// Removes the group; `owner`, where not empty, must be the one stamped. Blocks on the disk.
    pub fn delete_group(&self, name: &GroupName, owner: &str) -> Result<Changed, Error> {
        self.change_one(Wish::NoGroup { name: name.clone(), owner: owner.to_owned() })
    }

    fn change_one(&self, wish: Wish) -> Result<Changed, Error> {
        self.change(vec![wish]).pop().expect("a wish has an answer")
    }

    /// Grants the wishes in their order, each by itself: one that is refused does not keep back the others. What is
    /// granted is on the disk when this returns. Blocks on the disk.
    pub fn change(&self, wishes: Vec<Wish>) -> Vec<Result<Changed, Error>> {
        let asked = Arc::new(Asked { wishes, answers: Mutex::default() });
        self.waiting.lock().push(Arc::clone(&asked));
        let _pen = self.pen.lock();
        loop {
            // Whoever had the pen before may have written this too.
            if let Some(answers) = asked.answers.lock().take() {
                return answers;
            }
            self.write(self.take_waiting());
        }
    }

    /// What would come of the wishes now. Changes nothing.
    #[must_use]
    pub fn would_change(&self, wishes: Vec<Wish>) -> Vec<Result<Changed, Error>> {
        let version = self.version();
        let mut plan = Plan::new(&self.topics, &self.groups);
        let decided = wishes.iter().map(|wish| plan.decide(wish));
        decided.map(|answer| answer.map(|changed| Changed { changed, version })).collect()
    }

    fn take_waiting(&self) -> Vec<Arc<Asked>> {
        let mut waiting = self.waiting.lock();
        let mut count = 0;
        let fits = |asked: &&Arc<Asked>| {
            count += asked.wishes.len();
            count <= MOST_TOGETHER
        };
        let together = waiting.iter().take_while(fits).count().max(1).min(waiting.len());
        waiting.drain(..together).collect()
    }

    /// Decides, writes, shows. Only for the holder of the pen.
    fn write(&self, all: Vec<Arc<Asked>>) {
        let mut plan = Plan::new(&self.topics, &self.groups);
        let mut decided: Vec<Vec<_>> =
            all.iter().map(|asked| asked.wishes.iter().map(|wish| plan.decide(wish)).collect()).collect();
        let (topics, groups) = plan.changes();
        let version = match self.keep(&topics, &groups) {
            Ok(()) => self.show(topics, groups),
            Err(error) => {
                let error = Error::Kept(Arc::new(error));
                // Also where nothing was to change: that may have been so only by a change of this plan.
                decided
                    .iter_mut()
                    .flatten()
                    .filter(|answer| answer.is_ok())
                    .for_each(|answer| *answer = Err(error.clone()));
                self.version()
            }
        };
        for (asked, decided) in all.iter().zip(decided) {
            let answers =
                decided.into_iter().map(|answer| answer.map(|changed| Changed { changed, version }));
            *asked.answers.lock() = Some(answers.collect());
        }
    }

    fn keep(
        &self,
        topics: &[(TopicName, Option<Arc<Topic>>)],
        groups: &[(GroupName, Option<Arc<GroupConfig>>)],
    ) -> Result<(), meta::Error> {
        if topics.is_empty() && groups.is_empty() {
            return Ok(());
        }
        let topics = topics
            .iter()
            .map(|(name, topic)| kept::Change::Topic(name, topic.as_ref().map(|topic| &topic.config)));
        let groups = groups.iter().map(|(name, group)| kept::Change::Group(name, group.as_deref()));
        kept::write(&self.meta, &topics.chain(groups).collect::<Vec<_>>())
    }

    /// Shows changes that are on the disk; the version at which they are seen.
    fn show(&self, topics: Settled<TopicName, Topic>, groups: Settled<GroupName, GroupConfig>) -> u64 {
        if topics.is_empty() && groups.is_empty() {
            return self.version();
        }
        self.topics.change(topics.iter().map(|(name, topic)| (name.as_str(), topic.clone())));
        self.groups.change(groups.iter().map(|(name, group)| (name.as_str(), group.clone())));
        let topics = topics.into_iter().map(|(name, _)| Touched::Topic(name));
        let groups = groups.into_iter().map(|(name, _)| Touched::Group(name));
        let version = self.history.lock().add(topics.chain(groups));
        self.last_version.store(version, Ordering::Release);
        self.version.send_replace(version);
        version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> TopicName {
        TopicName::parse(name).unwrap()
    }

    fn registry(folder: &std::path::Path) -> Registry {
        Registry::open(Arc::new(Meta::open(folder, Arc::default()).unwrap()), 17).unwrap()
    }

    #[test]
    fn what_was_answered_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let group = GroupConfig {
            ordered: true,
            owner: "ns/billing/1".to_owned(),
            backoff: Backoff::Exponential { initial_ms: 1, max_ms: 2, multiplier: 1.5 },
            ..GroupConfig::new(GroupName::parse("billing").unwrap(), 3)
        };
        {
            let topics = registry(folder.path());
            assert!(topics.upsert_topic(TopicConfig::new(name("orders"), 4), false).unwrap().changed);
            assert!(topics.upsert_topic(TopicConfig::new(name("gone"), 1), false).unwrap().changed);
            assert!(topics.delete_topic(&name("gone"), "").unwrap().changed);
            assert!(topics.upsert_group(group.clone(), false).unwrap().changed);
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
        let seen = topics.version();
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
        assert_eq!(changes.version, topics.version());
        assert_eq!(topics.changes_since(changes.version).unwrap().topics, []);
    }

    #[test]
    fn many_wishes_are_granted_each_by_itself_and_seen_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let topics = registry(folder.path());
        let wish = |name_: &str, queues: u32, only_new: bool| Wish::Topic {
            config: TopicConfig::new(name(name_), queues),
            only_if_unowned: false,
            only_new,
        };
        topics.upsert_topic(TopicConfig::new(name("there"), 4), false).unwrap();
        let before = topics.version();
        let answers = topics.change(vec![
            wish("a", 1, true),
            wish("there", 4, true),
            wish("there", 5, true),
            wish("b", 0, true),
            wish("c", 2, true),
            wish("a", 1, true),
            wish("c", 3, false),
        ]);
        let changed: Vec<_> =
            answers.iter().map(|answer| answer.as_ref().ok().map(|done| done.changed)).collect();
        assert_eq!(changed, [Some(true), Some(false), None, None, Some(true), Some(false), Some(true)]);
        let refused = answers[2].as_ref().unwrap_err().to_string();
        assert!(refused.contains("topic there exists") && refused.contains("4 queues"), "{refused}");
        assert!(answers[3].as_ref().unwrap_err().to_string().contains("topic b"));

        assert_eq!(topics.version(), before + 1);
        assert_eq!(topics.changes_since(before).unwrap().topics.len(), 2);
        drop(topics);
        let topics = registry(folder.path());
        assert_eq!(topics.counts(), (3, 0));
        assert_eq!(topics.topic("c").unwrap().config.write_queues, 3);
    }

    #[test]
    fn who_comes_while_the_disk_works_is_written_with_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let topics = registry(folder.path());
        let each = 20;
        std::thread::scope(|scope| {
            let pen = topics.pen.lock();
            for thread in 0..8 {
                let topics = &topics;
                scope.spawn(move || {
                    for n in 0..each {
                        let config = TopicConfig::new(name(&format!("t-{thread}-{n}")), 1);
                        assert!(topics.upsert_topic(config, false).unwrap().changed);
                    }
                });
            }
            while topics.waiting.lock().len() < 8 {
                std::thread::yield_now();
            }
            drop(pen);
        });
        assert_eq!(topics.counts().0, 8 * each);
        assert!(
            topics.version() <= 8 * each as u64 - 7,
            "the first eight were one change: {}",
            topics.version()
        );
        drop(topics);
        assert_eq!(registry(folder.path()).counts().0, 8 * each);
    }

    #[test]
    fn a_group_that_is_declared_while_its_first_poll_makes_it_keeps_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let topics = registry(folder.path());
        let configured = |group: &str, owner: &str| GroupConfig {
            ordered: true,
            owner: owner.to_owned(),
            ..GroupConfig::new(GroupName::parse(group).unwrap(), 3)
        };
        for wanted in [configured("nobody-s", ""), configured("declared", "ns/declared/1")] {
            std::thread::scope(|scope| {
                let pen = topics.pen.lock();
                let until_waiting = |count: usize| {
                    while topics.waiting.lock().len() < count {
                        std::thread::yield_now();
                    }
                };
                let declared = scope.spawn(|| topics.upsert_group(wanted.clone(), true));
                until_waiting(1);
                let polled = scope.spawn(|| topics.ensure_group(&wanted.name));
                until_waiting(2);
                drop(pen);
                assert!(declared.join().unwrap().unwrap().changed);
                assert_eq!(*polled.join().unwrap().unwrap(), wanted);
            });
            assert_eq!(*topics.group(wanted.name.as_str()).unwrap(), wanted);
        }
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
        assert!(matches!(topics.upsert_group(group, false), Err(Error::Invalid(_))));
    }
}
