//! Which clients there are: what they said of themselves, when they were last heard, how to reach them.
//!
//! The end of a Telemetry stream is not the end of its client: C++ renews it hourly, C# never opens it again. A
//! client is gone when it says so, or when nothing was heard of it for two minutes. Time is a parameter.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::client::{ClientIdentity, Language, Version};
use access::telemetry::Commands;
use access::{GroupName, LiteTopic, TopicName, status};
use parking_lot::Mutex;
use proto::v2::telemetry_command::Command;
use proto::v2::{NotifyUnsubscribeLiteCommand, TelemetryCommand};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::producers::Producers;
use super::questions::{Consumer, Questions, Unanswered};
pub(crate) use super::subscriptions::Said;
use super::subscriptions::{Change, Subscriptions};
use crate::metrics::SubscriptionConflicts;

/// Without a sign of life for so long, a client is gone. Heartbeats come every 10 s, from Rust every 30 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);
/// Commands on their way to one client; more are not sent.
const COMMANDS: usize = 16;
/// Topics of one client whose filters are remembered.
const MOST_TOPICS: usize = 64;
/// All filters together. What is beyond is used and not remembered.
const MOST_FILTER_BYTES: usize = 16 << 20;

/// A client that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Its name.
    pub(crate) client: String,
    /// Its consumer group, if it is a consumer.
    pub(crate) group: Option<GroupName>,
}

/// A topic that the consumers of a group filter differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) topic: TopicName,
    /// Each filter, and who has it.
    pub(crate) filters: Vec<(Arc<str>, Vec<String>)>,
}

/// Brings commands to a client.
pub(super) type ToClient = mpsc::Sender<Box<TelemetryCommand>>;

#[derive(Debug)]
struct Client {
    said: Said,
    last_heard: Instant,
    /// Who wrote it, as it said with its newest stream.
    language: Language,
    version: Version,
    /// To the newest stream; older ones go on answering settings.
    commands: Option<ToClient>,
    /// Its streams end when it says goodbye: Java waits for their end, also for one that it has lost sight of when
    /// it connected anew.
    streams: CancellationToken,
}

#[derive(Debug)]
struct Known {
    clients: HashMap<String, Client>,
    subscriptions: Subscriptions,
    producers: Producers,
}

/// The clients of this broker. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    known: Arc<Mutex<Known>>,
    most: usize,
    conflicts: SubscriptionConflicts,
    pub(super) questions: Questions,
}

impl Client {
    fn consumer(&self, id: &str) -> Consumer {
        Consumer {
            id: id.to_owned(),
            language: self.language,
            version: self.version,
            connected: self.commands.as_ref().is_some_and(|commands| !commands.is_closed()),
        }
    }
}

impl Clients {
    /// Remembers at most `most` clients; those beyond are served and not remembered.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        let subscriptions = Subscriptions::new(MOST_FILTER_BYTES);
        let known = Known { clients: HashMap::new(), subscriptions, producers: Producers::default() };
        let (conflicts, questions) = (SubscriptionConflicts::default(), Questions::default());
        Self { known: Arc::new(Mutex::new(known)), most, conflicts, questions }
    }

    /// A sign of life, with what was said before kept.
    pub(crate) fn heard(&self, now: Instant, identity: &ClientIdentity) {
        self.with(now, identity, |_, _| Vec::new());
    }

    /// A consumer's sign of life: it names its group also when its settings were never heard.
    pub(crate) fn heard_of_group(&self, now: Instant, identity: &ClientIdentity, group: GroupName) {
        self.with(now, identity, |client, _| {
            client.said.group.get_or_insert(group);
            Vec::new()
        });
    }

    /// A poll: a sign of life that says the client's group and what it filters the topic by.
    pub(crate) fn polled(
        &self,
        now: Instant,
        identity: &ClientIdentity,
        group: &GroupName,
        topic: &TopicName,
        filter: &str,
    ) {
        self.with(now, identity, |client, subscriptions| {
            let Said { group: said, filters } = &mut client.said;
            if said.get_or_insert_with(|| group.clone()) != group {
                return Vec::new();
            }
            let known = filters.get(topic);
            if known.is_some_and(|known| **known == *filter)
                || (known.is_none() && filters.len() >= MOST_TOPICS)
            {
                return Vec::new();
            }
            let old = filters.clone();
            filters.insert(topic.clone(), filter.into());
            subscriptions.replace(group, &old, filters)
        });
    }

    /// What a client said in its settings replaces what it said before.
    pub(crate) fn said(&self, now: Instant, identity: &ClientIdentity, mut said: Said) {
        while said.filters.len() > MOST_TOPICS {
            said.filters.pop_last();
        }
        self.with(now, identity, |client, subscriptions| {
            let old = std::mem::replace(&mut client.said, said);
            subscriptions.settle(&old, &mut client.said)
        });
    }

    /// A producer says for which topics it produces; what it said before counts no more.
    pub(crate) fn publishes_only(&self, identity: &ClientIdentity, topics: BTreeSet<TopicName>) {
        let mut known = self.known.lock();
        if known.clients.contains_key(&identity.id) {
            known.producers.replace(&identity.id, topics);
        }
    }

    /// The client produces for this topic too, whatever it said.
    pub(crate) fn publishes(&self, now: Instant, identity: &ClientIdentity, topic: TopicName) {
        self.heard(now, identity);
        let mut known = self.known.lock();
        if known.clients.contains_key(&identity.id) {
            known.producers.add(&identity.id, topic);
        }
    }

    /// Gives a command to one of the producers of a topic, each in its turn. False: none can be reached now.
    pub(crate) fn tell_a_producer(&self, topic: &TopicName, command: &TelemetryCommand) -> bool {
        let mut known = self.known.lock();
        let Known { clients, producers, .. } = &mut *known;
        let mut streams = producers.in_turn(topic).filter_map(|id| clients.get(id)?.commands.as_ref());
        streams.any(|commands| commands.try_send(Box::new(command.clone())).is_ok())
    }

    /// Whether one of the producers of a topic has a stream.
    pub(crate) fn can_tell_a_producer(&self, topic: &TopicName) -> bool {
        let known = self.known.lock();
        let mut streams = known.producers.of(topic).filter_map(|id| known.clients.get(id)?.commands.as_ref());
        streams.any(|commands| !commands.is_closed())
    }

    /// Tells a client that a lite topic that it holds is no more.
    pub(crate) fn unsubscribed(&self, client: &str, lite: &LiteTopic) {
        let known = self.known.lock();
        let Some(commands) = known.clients.get(client).and_then(|client| client.commands.as_ref()) else {
            return;
        };
        let command = NotifyUnsubscribeLiteCommand { lite_topic: lite.to_string() };
        let command = TelemetryCommand {
            status: Some(status::ok()),
            command: Some(Command::NotifyUnsubscribeLiteCommand(command)),
        };
        if commands.try_send(Box::new(command)).is_err() {
            tracing::debug!(client, %lite, "a client cannot be told now that a lite topic is no more");
        }
    }

    /// A new Telemetry stream, where commands go from now on.
    /// It ends with the token.
    pub(crate) fn attach(&self, now: Instant, identity: &ClientIdentity) -> (Commands, CancellationToken) {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let mut end = CancellationToken::new();
        self.with(now, identity, |client, _| {
            client.commands = Some(commands);
            (client.language, client.version) = (identity.language, identity.version);
            end = client.streams.clone();
            Vec::new()
        });
        (receiver, end)
    }

    fn with(
        &self,
        now: Instant,
        identity: &ClientIdentity,
        change: impl FnOnce(&mut Client, &mut Subscriptions) -> Vec<Change>,
    ) {
        if identity.id.is_empty() {
            return;
        }
        let mut known = self.known.lock();
        let Known { clients, subscriptions, .. } = &mut *known;
        let changes = if let Some(client) = clients.get_mut(&identity.id) {
            client.last_heard = now;
            change(client, subscriptions)
        } else if clients.len() >= self.most {
            tracing::debug!(client = identity.id, limit = self.most, "too many clients to remember this one");
            return;
        } else {
            let mut client = Client {
                said: Said::default(),
                last_heard: now,
                language: identity.language,
                version: identity.version,
                commands: None,
                streams: CancellationToken::new(),
            };
            let changes = change(&mut client, subscriptions);
            clients.insert(identity.id.clone(), client);
            changes
        };
        self.count(&known.subscriptions, &changes);
        drop(known);
        changes.iter().for_each(tell);
    }

    /// The client says goodbye.
    pub(crate) fn leave(&self, client: &str) -> Option<Gone> {
        self.remove(|clients| clients.remove_entry(client).into_iter().collect()).pop()
    }

    /// Forgets whoever was silent for too long.
    pub(crate) fn expire(&self, now: Instant) -> Vec<Gone> {
        let silent = |client: &Client| now.saturating_duration_since(client.last_heard) > SILENCE;
        self.remove(|clients| clients.extract_if(|_, client| silent(client)).collect())
    }

    fn remove(&self, take: impl FnOnce(&mut HashMap<String, Client>) -> Vec<(String, Client)>) -> Vec<Gone> {
        let mut known = self.known.lock();
        let Known { clients, subscriptions, producers } = &mut *known;
        let (mut gone, mut changes) = (Vec::new(), Vec::new());
        for (client, Client { said, streams, .. }) in take(clients) {
            streams.cancel();
            changes.extend(subscriptions.settle(&said, &mut Said::default()));
            producers.forget(&client);
            gone.push(Gone { client, group: said.group });
        }
        self.count(&known.subscriptions, &changes);
        drop(known);
        changes.iter().for_each(tell);
        gone
    }

    fn count(&self, subscriptions: &Subscriptions, changes: &[Change]) {
        for Change { group, .. } in changes {
            self.conflicts.set(group, subscriptions.conflicts(group).len());
        }
    }

    /// How many topics the consumers of each group filter differently.
    pub(crate) fn subscription_conflicts(&self) -> SubscriptionConflicts {
        self.conflicts.clone()
    }

    /// The topics that the consumers of `group` filter differently.
    #[must_use]
    pub(crate) fn conflicts_of(&self, group: &GroupName) -> Vec<Conflict> {
        let known = self.known.lock();
        let mut conflicts = Vec::new();
        for (topic, filters) in known.subscriptions.conflicts(group) {
            let mut filters: Vec<_> = filters.into_iter().map(|filter| (filter, Vec::new())).collect();
            for (id, Client { said, .. }) in &known.clients {
                let filter = said.filters.get(topic).filter(|_| said.group.as_ref() == Some(group));
                let same = filters.iter_mut().find(|(known, _)| Some(known) == filter);
                if let Some((_, clients)) = same {
                    clients.push(id.clone());
                }
            }
            filters.iter_mut().for_each(|(_, clients)| clients.sort_unstable());
            conflicts.push(Conflict { topic: topic.clone(), filters });
        }
        conflicts
    }

    /// Whether the client has been heard lately.
    #[must_use]
    pub(crate) fn is_online(&self, client: &str) -> bool {
        self.known.lock().clients.contains_key(client)
    }

    /// The clients that consume for `group`, sorted by their ids.
    #[must_use]
    pub(crate) fn consumers_of(&self, group: &GroupName) -> Vec<Consumer> {
        let known = self.known.lock();
        let members = known.clients.iter().filter(|(_, client)| client.said.group.as_ref() == Some(group));
        let mut consumers: Vec<_> = members.map(|(id, client)| client.consumer(id)).collect();
        drop(known);
        consumers.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        consumers
    }

    /// A consumer of `group`, and the way to it.
    pub(super) fn reach(&self, group: &GroupName, id: &str) -> Result<(Consumer, ToClient), Unanswered> {
        let known = self.known.lock();
        let client = known.clients.get(id).filter(|client| client.said.group.as_ref() == Some(group));
        let Some(client) = client else {
            return Err(Unanswered::NotHere { group: group.clone(), client: id.to_owned() });
        };
        let consumer = client.consumer(id);
        match client.commands.clone().filter(|_| consumer.connected) {
            Some(commands) => Ok((consumer, commands)),
            None => Err(Unanswered::NotConnected(consumer)),
        }
    }
}

/// Once for each change.
fn tell(Change { group, topic, filters }: &Change) {
    if filters.len() < 2 {
        tracing::info!(%group, %topic, ?filters, "the consumers of a group filter a topic alike again");
        return;
    }
    tracing::warn!(
        %group, %topic, ?filters,
        "consumers of one group filter a topic differently: each is served by its own filter, and what one of them skips is gone for the group; give all of them one filter"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: &str) -> ClientIdentity {
        ClientIdentity { id: id.to_owned(), ..ClientIdentity::default() }
    }

    fn group(name: &str) -> GroupName {
        GroupName::parse(name).unwrap()
    }

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name).unwrap()
    }

    fn said(name: &str, filters: &[(&str, &str)]) -> Said {
        let filters = filters.iter().map(|(name, filter)| (topic(name), (*filter).into()));
        Said { group: Some(group(name)), filters: filters.collect() }
    }

    fn ids_of(clients: &Clients, name: &str) -> Vec<String> {
        clients.consumers_of(&group(name)).into_iter().map(|consumer| consumer.id).collect()
    }

    /// The conflicts of group `g`, as `orders: * of a,b; x of c`.
    fn conflicts(clients: &Clients) -> Vec<String> {
        let conflict = |Conflict { topic, filters }: Conflict| {
            let filters =
                filters.iter().map(|(filter, clients)| format!("{filter} of {}", clients.join(",")));
            format!("{topic}: {}", filters.collect::<Vec<_>>().join("; "))
        };
        clients.conflicts_of(&group("g")).into_iter().map(conflict).collect()
    }

    #[test]
    fn consumers_that_filter_a_topic_differently_are_named_until_they_agree_or_go() {
        let (clients, now) = (Clients::new(9), Instant::now());
        let polled = |client: &str, group_name: &str, filter: &str| {
            clients.polled(now, &identity(client), &group(group_name), &topic("orders"), filter);
        };
        clients.said(now, &identity("a"), said("g", &[("orders", "*"), ("bills", "x")]));
        polled("b", "g", "*");
        polled("other", "h", "y");
        assert!(conflicts(&clients).is_empty());
        polled("c", "g", "x");
        assert_eq!(conflicts(&clients), ["orders: * of a,b; x of c"]);
        polled("c", "h", "*");
        assert_eq!(conflicts(&clients), ["orders: * of a,b; x of c"], "the settings' group counts");
        polled("c", "g", "*");
        assert!(conflicts(&clients).is_empty(), "the last poll counts");
        clients.said(now, &identity("a"), said("g", &[("orders", "x")]));
        assert_eq!(conflicts(&clients), ["orders: * of b,c; x of a"]);
        clients.said(now, &identity("a"), said("h", &[("orders", "x")]));
        assert!(conflicts(&clients).is_empty(), "it consumes for another group now");
        clients.said(now, &identity("a"), said("g", &[("orders", "x")]));
        clients.leave("a");
        assert!(conflicts(&clients).is_empty());
        clients.said(now + SILENCE, &identity("d"), said("g", &[("orders", "x")]));
        assert_eq!(conflicts(&clients), ["orders: * of b,c; x of d"]);
        clients.expire(now + SILENCE + Duration::from_millis(1));
        assert!(conflicts(&clients).is_empty(), "the others are silent for too long");
    }

    #[test]
    fn of_one_client_only_so_many_topics_are_remembered() {
        let (clients, now) = (Clients::new(9), Instant::now());
        let names: Vec<String> = (0..=MOST_TOPICS).map(|n| format!("t{n:03}")).collect();
        let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
        clients.said(now, &identity("a"), said("g", &all));
        for name in &names {
            clients.polled(now, &identity("b"), &group("g"), &topic(name), "y");
        }
        assert_eq!(clients.conflicts_of(&group("g")).len(), MOST_TOPICS);
    }

    #[test]
    fn a_client_is_there_until_it_is_silent_for_too_long() {
        let (clients, start) = (Clients::new(9), Instant::now());
        clients.said(start, &identity("a"), said("g", &[]));
        clients.heard(start, &identity("b"));
        assert!(clients.is_online("a") && !clients.is_online("c"));
        clients.heard(start + SILENCE, &identity("b"));
        assert!(clients.expire(start + SILENCE).is_empty());
        let gone = clients.expire(start + SILENCE + Duration::from_millis(1));
        assert_eq!(gone, [Gone { client: "a".to_owned(), group: Some(group("g")) }]);
        assert!(!clients.is_online("a") && clients.is_online("b"));
    }

    #[test]
    fn a_client_that_says_goodbye_is_gone_at_once() {
        let (clients, now) = (Clients::new(9), Instant::now());
        clients.heard_of_group(now, &identity("a"), group("g"));
        assert_eq!(ids_of(&clients, "g"), ["a"]);
        assert_eq!(clients.leave("a").and_then(|gone| gone.group), Some(group("g")));
        assert_eq!(clients.leave("a"), None);
        assert!(ids_of(&clients, "g").is_empty());
    }

    #[test]
    fn a_heartbeat_keeps_what_the_settings_said() {
        let (clients, now) = (Clients::new(9), Instant::now());
        clients.said(now, &identity("a"), said("g", &[]));
        clients.heard_of_group(now, &identity("a"), group("other"));
        clients.heard(now, &identity("a"));
        assert_eq!(ids_of(&clients, "g"), ["a"]);
    }

    #[test]
    fn the_newest_stream_wins_and_the_end_of_a_stream_is_not_the_end_of_its_client() {
        use tokio::sync::mpsc::error::TryRecvError;
        let (clients, now) = (Clients::new(9), Instant::now());
        let (mut old, _) = clients.attach(now, &identity("a"));
        let (mut new, end) = clients.attach(now, &identity("a"));
        assert_eq!(old.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(new.try_recv(), Err(TryRecvError::Empty));
        drop(new);
        assert!(clients.is_online("a") && !end.is_cancelled());
    }

    #[test]
    fn a_command_reaches_a_producer_that_can_be_reached() {
        let (clients, now) = (Clients::new(9), Instant::now());
        let (orders, command) = (topic("orders"), TelemetryCommand::default());
        assert!(!clients.tell_a_producer(&orders, &command), "nobody is there");
        clients.publishes(now, &identity("without-stream"), orders.clone());
        let (mut stream, end) = clients.attach(now, &identity("a"));
        clients.publishes_only(&identity("a"), [orders.clone()].into());
        (0..4).for_each(|_| assert!(clients.tell_a_producer(&orders, &command)));
        assert_eq!(std::iter::from_fn(|| stream.try_recv().ok()).count(), 4);
        assert!(!end.is_cancelled());
        clients.leave("a");
        assert!(!clients.tell_a_producer(&orders, &command));
        assert!(end.is_cancelled(), "its streams end with its goodbye");
    }

    #[test]
    fn there_is_a_bound_and_no_place_for_the_nameless() {
        let (clients, now) = (Clients::new(1), Instant::now());
        clients.heard(now, &identity(""));
        clients.heard(now, &identity("a"));
        clients.heard(now, &identity("b"));
        assert!(clients.is_online("a") && !clients.is_online("b") && !clients.is_online(""));
    }
}
