//! The route table: registrations in, routes out. Pure: time is a parameter, streams are numbers.
//!
//! What it promises:
//!
//! - What a broker reported is shown from the moment the call returns, and no longer once its stream is broken
//!   or has been silent for three heartbeats. A primary of several whose stream is broken is shown so long too, or until
//!   another reigns: its members pass clients on to whoever does.
//! - At most one registration a member (cluster, broker name, broker id): a higher epoch displaces a lower one, an
//!   equal one is the same broker on a newer stream, a lower one is refused.
//! - Who asks by a listener gets the addresses that brokers have there, and no broker that has none.
//! - The order in which brokers registered is not visible: routes are sorted by member.
//!
//! A topic costs about 200 bytes of memory, whoever asks for one finds it without looking at others, and a full report
//! of 100,000 topics holds up who asks for some tens of milliseconds.
//!
//! The table is advice: that an old primary cannot acknowledge is for the brokers to keep. So the highest
//! epoch of a member that left is forgotten after a minute, and a broker group that is made anew
//! under its old name can register.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use access::{ListenerName, route};
use proto::control::{self, GroupConfig, TopicConfig};
use proto::v2;

mod registration;
mod topics;

pub use registration::{Invalid, Registration};
pub use topics::Topics;

/// Members at the same time; a bound, far above any sensible cluster.
const MAX_MEMBERS: usize = 4096;
/// How long the highest epoch of a member that left is remembered.
const EPOCH_MEMORY: Duration = Duration::from_secs(60);
/// Heartbeats that may be missed.
const SILENT_HEARTBEATS: u32 = 3;

/// A registration stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// A member of a broker group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Member {
    /// The cluster.
    pub cluster: String,
    /// The broker group, RocketMQ's brokerName.
    pub broker_name: String,
    /// 0: the primary.
    pub broker_id: u32,
}

impl std::fmt::Display for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.broker_name, self.broker_id)
    }
}

/// Why a report was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A newer reign is known.
    #[error(
        "{member} reports epoch {offered}, and epoch {known} is known: this broker is not the primary any more"
    )]
    LowerEpoch {
        /// Who reported.
        member: Member,
        /// With which epoch.
        offered: u64,
        /// And which is known.
        known: u64,
    },
    /// The stream has not registered, or has been displaced.
    #[error("this stream is not registered: begin with a full report")]
    NotRegistered,
    /// The bound is reached.
    #[error("{MAX_MEMBERS} brokers are registered: no more are taken")]
    TooManyMembers,
}

/// Whether a member stays on the routes whose stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stays {
    /// It is gone.
    No,
    /// Or until it has been silent for too long.
    UntilAnotherReigns,
}

#[derive(Debug)]
struct Entry {
    /// `None`: it is over.
    stream: Option<StreamId>,
    registration: Registration,
    topics: Topics,
    groups: HashMap<String, GroupConfig>,
    last_heard: Instant,
}

/// Everything that brokers have reported.
#[derive(Debug, Default)]
pub struct Table {
    members: BTreeMap<Member, Entry>,
    streams: HashMap<StreamId, Member>,
    /// In how many members there is a topic of this name.
    topics: HashMap<String, u32>,
    /// Highest epoch of members that left, and when they did.
    left: HashMap<Member, (u64, Instant)>,
}

impl Table {
    /// Takes a full report. Returns the stream that it displaces, if any.
    pub fn register(
        &mut self,
        now: Instant,
        stream: StreamId,
        mut registration: Registration,
    ) -> Result<Option<StreamId>, Refused> {
        let member = registration.member.clone();
        let current = self.members.get(&member).map(|entry| entry.registration.epoch);
        let remembered = self.left.get(&member).map(|(epoch, _)| *epoch);
        if let Some(known) = current.max(remembered).filter(|known| *known > registration.epoch) {
            return Err(Refused::LowerEpoch { member, offered: registration.epoch, known });
        }
        if current.is_none() && self.members.len() >= MAX_MEMBERS {
            return Err(Refused::TooManyMembers);
        }
        // A stream speaks for one member; its earlier report is replaced, whoever that was about.
        if let Some(before) = self.streams.get(&stream).cloned() {
            self.take_off(&before);
        }
        let displaced = self.take_off(&member).and_then(|entry| entry.stream);
        let topics = std::mem::take(&mut registration.topics);
        topics.names().for_each(|name| count_up(&mut self.topics, name));
        let groups = std::mem::take(&mut registration.groups);
        let groups = groups.into_iter().map(known).collect();
        let entry = Entry { stream: Some(stream), registration, topics, groups, last_heard: now };
        self.left.remove(&member);
        self.streams.insert(stream, member.clone());
        self.members.insert(member, entry);
        Ok(displaced)
    }

    /// Takes a change of topics and groups.
    pub fn change(
        &mut self,
        now: Instant,
        stream: StreamId,
        change: control::ChangeReport,
    ) -> Result<(), Refused> {
        let control::ChangeReport { topics, removed_topics, groups, removed_groups } = change;
        let member = self.streams.get(&stream).ok_or(Refused::NotRegistered)?;
        let entry = self.members.get_mut(member).expect("a registered stream has an entry");
        entry.last_heard = now;
        for topic in topics {
            let name = topic.name.clone();
            if entry.topics.put(topic) {
                count_up(&mut self.topics, &name);
            }
        }
        for name in removed_topics {
            if entry.topics.remove(&name) {
                count_down(&mut self.topics, &name);
            }
        }
        entry.groups.extend(groups.into_iter().map(known));
        for name in removed_groups {
            entry.groups.remove(&name);
        }
        Ok(())
    }

    /// Notes a sign of life.
    pub fn heartbeat(&mut self, now: Instant, stream: StreamId) -> Result<(), Refused> {
        let member = self.streams.get(&stream).ok_or(Refused::NotRegistered)?;
        self.members.get_mut(member).expect("a registered stream has an entry").last_heard = now;
        Ok(())
    }

    /// A stream is over. Returns whose it was, if it was still anybody's, and whether that one stays for now.
    pub fn end(&mut self, now: Instant, stream: StreamId) -> Option<(Member, Stays)> {
        let member = self.streams.remove(&stream)?;
        let entry = self.members.get_mut(&member).expect("a registered stream has an entry");
        entry.stream = None;
        if member.broker_id == 0 && entry.registration.epoch > 0 {
            entry.last_heard = now;
            return Some((member, Stays::UntilAnotherReigns));
        }
        self.leave(now, &member);
        Some((member, Stays::No))
    }

    /// Takes off whoever has been silent for too long, and forgets what need not be known any more.
    pub fn expire(&mut self, now: Instant) -> Vec<(Option<StreamId>, Member)> {
        let is_silent = |entry: &&Entry| {
            now.saturating_duration_since(entry.last_heard)
                > entry.registration.heartbeat_interval.saturating_mul(SILENT_HEARTBEATS)
        };
        let silent = self.members.values().filter(is_silent);
        let gone: Vec<_> = silent.map(|entry| (entry.stream, entry.registration.member.clone())).collect();
        for (_, member) in &gone {
            self.leave(now, member);
        }
        self.left.retain(|_, (_, at)| now.saturating_duration_since(*at) < EPOCH_MEMORY);
        gone
    }

    fn leave(&mut self, now: Instant, member: &Member) {
        if let Some(entry) = self.take_off(member) {
            self.left.insert(member.clone(), (entry.registration.epoch, now));
        }
    }

    /// The queues of `topic` in all primaries, broker by broker, as seen from this listener (`None`: `internal`).
    pub fn queues(
        &self,
        asked: &v2::Resource,
        topic: &str,
        via: Option<&ListenerName>,
    ) -> Vec<v2::MessageQueue> {
        self.seen_from(via, topic).flat_map(|(broker, topic)| route::queues(asked, broker, topic)).collect()
    }

    /// What a consumer of `topic` polls, seen likewise. `None`: no primary has the topic there.
    pub fn assignments(
        &self,
        asked: &v2::Resource,
        topic: &str,
        ordered: bool,
        via: Option<&ListenerName>,
    ) -> Option<Vec<v2::Assignment>> {
        let mut brokers = self.seen_from(via, topic).peekable();
        brokers.peek()?;
        Some(brokers.flat_map(|(broker, topic)| route::assignments(asked, broker, topic, ordered)).collect())
    }

    fn primaries_with(&self, topic: &str) -> impl Iterator<Item = (&Registration, &TopicConfig)> {
        self.members
            .values()
            .filter(|entry| entry.registration.member.broker_id == 0)
            .filter_map(move |entry| Some((&entry.registration, entry.topics.get(topic)?)))
    }

    fn seen_from(
        &self,
        via: Option<&ListenerName>,
        topic: &str,
    ) -> impl Iterator<Item = (&v2::Broker, &TopicConfig)> {
        self.primaries_with(topic).filter_map(move |(registration, topic)| {
            let broker = match via {
                None => &registration.broker,
                Some(listener) => registration.elsewhere.get(listener)?,
            };
            Some((broker, topic))
        })
    }

    /// The listener, if brokers have the topic and none of them an address there.
    pub fn hidden_at<'a>(&self, via: Option<&'a ListenerName>, topic: &str) -> Option<&'a ListenerName> {
        let is_somewhere = self.primaries_with(topic).next().is_some();
        via.filter(|_| is_somewhere && self.seen_from(via, topic).next().is_none())
    }

    /// The broker groups whose primary has `topic`.
    pub fn brokers_with(&self, topic: &str) -> Vec<String> {
        self.primaries_with(topic).map(|(registration, _)| registration.broker.name.clone()).collect()
    }

    /// The broker groups whose primary takes messages for `topic`, by name.
    pub fn brokers_that_take(&self, topic: &str) -> Vec<String> {
        let takes = |topic: &TopicConfig| topic.writable && topic.write_queues > 0;
        let brokers = self.primaries_with(topic).filter(|(_, topic)| takes(topic));
        let mut names: Vec<String> =
            brokers.map(|(registration, _)| registration.broker.name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// The configuration of a group, of the first primary that has it.
    pub fn group(&self, name: &str) -> Option<&GroupConfig> {
        let mut primaries = self.members.values().filter(|entry| entry.registration.member.broker_id == 0);
        primaries.find_map(|entry| entry.groups.get(name))
    }

    /// Whether a primary of this broker group is registered.
    pub fn has_primary(&self, cluster: &str, broker_name: &str) -> bool {
        self.members.keys().any(|member| {
            member.broker_id == 0 && member.cluster == cluster && member.broker_name == broker_name
        })
    }

    /// Where the control plane of the primary of this broker group is, as `host:port`.
    pub fn control_address(&self, broker_name: &str) -> Option<String> {
        let is_it = |member: &&Member| member.broker_id == 0 && member.broker_name == broker_name;
        let member = self.members.keys().find(is_it)?;
        let address = self.members[member].registration.control.as_ref()?;
        let host = match address.host.contains(':') {
            true => format!("[{}]", address.host),
            false => address.host.clone(),
        };
        Some(format!("{host}:{}", address.port))
    }

    /// All members, sorted.
    pub fn describe(&self) -> Vec<control::BrokerSummary> {
        self.members
            .values()
            .map(|entry| control::BrokerSummary {
                cluster_name: entry.registration.member.cluster.clone(),
                broker_name: entry.registration.member.broker_name.clone(),
                broker_id: entry.registration.member.broker_id,
                epoch: entry.registration.epoch,
                clients: Some(entry.registration.clients.clone()),
                control: entry.registration.control.clone(),
                topics: entry.topics.len().try_into().unwrap_or(u32::MAX),
                groups: entry.groups.len().try_into().unwrap_or(u32::MAX),
                version: entry.registration.version.clone(),
            })
            .collect()
    }

    /// How many members are registered.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    /// How many topics there are, each counted once.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    fn take_off(&mut self, member: &Member) -> Option<Entry> {
        let entry = self.members.remove(member)?;
        if let Some(stream) = entry.stream {
            self.streams.remove(&stream);
        }
        for name in entry.topics.names() {
            count_down(&mut self.topics, name);
        }
        Some(entry)
    }
}

/// What clients' settings need of a group: who manages it is not kept.
fn known(group: GroupConfig) -> (String, GroupConfig) {
    (group.name.clone(), GroupConfig { owner: String::new(), ..group })
}

fn count_up(counts: &mut HashMap<String, u32>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

fn count_down(counts: &mut HashMap<String, u32>, name: &str) {
    let count = counts.get_mut(name).expect("a listed topic is counted");
    *count -= 1;
    if *count == 0 {
        counts.remove(name);
    }
}

#[cfg(test)]
mod tests;
