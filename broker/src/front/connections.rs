//! Which clients there are: what they said of themselves, when they were last heard, how to reach them.
//!
//! The end of a Telemetry stream is not the end of its client: C++ renews it hourly, C# never opens it again. A
//! client is gone when it says so, or when nothing was heard of it for two minutes. Time is a parameter.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::GroupName;
use access::client::ClientIdentity;
use parking_lot::Mutex;
use proto::v2::TelemetryCommand;
use tokio::sync::mpsc;

/// Without a sign of life for so long, a client is gone. Heartbeats come every 10 s, from Rust every 30 s.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);
/// Commands on their way to one client; more are not sent.
const COMMANDS: usize = 16;

/// A client that left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    /// Its name.
    pub(crate) client: String,
    /// Its consumer group, if it is a consumer.
    pub(crate) group: Option<GroupName>,
}

/// What a client said in its settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The group that it consumes for.
    pub(crate) group: Option<GroupName>,
}

#[derive(Debug)]
struct Client {
    said: Said,
    last_heard: Instant,
    /// To the newest stream; older ones go on answering settings. Commands come with transactions.
    _commands: Option<mpsc::Sender<TelemetryCommand>>,
}

/// The clients of this broker. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Clients {
    known: Arc<Mutex<HashMap<String, Client>>>,
    most: usize,
}

impl Clients {
    /// Remembers at most `most` clients; those beyond are served and not remembered.
    #[must_use]
    pub(crate) fn new(most: usize) -> Self {
        Self { known: Arc::default(), most }
    }

    /// A sign of life, with what was said before kept.
    pub(crate) fn heard(&self, now: Instant, identity: &ClientIdentity) {
        self.with(now, identity, |_| {});
    }

    /// A consumer's sign of life: it names its group also when its settings were never heard.
    pub(crate) fn heard_of_group(&self, now: Instant, identity: &ClientIdentity, group: GroupName) {
        self.with(now, identity, |client| {
            client.said.group.get_or_insert(group);
        });
    }

    /// What a client said in its settings replaces what it said before.
    pub(crate) fn said(&self, now: Instant, identity: &ClientIdentity, said: Said) {
        self.with(now, identity, |client| client.said = said);
    }

    /// A new Telemetry stream, where commands go from now on.
    pub(crate) fn attach(&self, now: Instant, identity: &ClientIdentity) -> mpsc::Receiver<TelemetryCommand> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        self.with(now, identity, |client| client._commands = Some(commands));
        receiver
    }

    fn with(&self, now: Instant, identity: &ClientIdentity, change: impl FnOnce(&mut Client)) {
        if identity.id.is_empty() {
            return;
        }
        let mut known = self.known.lock();
        if let Some(client) = known.get_mut(&identity.id) {
            client.last_heard = now;
            change(client);
            return;
        }
        if known.len() >= self.most {
            tracing::debug!(client = identity.id, limit = self.most, "too many clients to remember this one");
            return;
        }
        let mut client = Client { said: Said::default(), last_heard: now, _commands: None };
        change(&mut client);
        known.insert(identity.id.clone(), client);
    }

    /// The client says goodbye.
    pub(crate) fn leave(&self, client: &str) -> Option<Gone> {
        let left = self.known.lock().remove(client)?;
        Some(Gone { client: client.to_owned(), group: left.said.group })
    }

    /// Forgets whoever was silent for too long.
    pub(crate) fn expire(&self, now: Instant) -> Vec<Gone> {
        let mut known = self.known.lock();
        let silent = |client: &Client| now.saturating_duration_since(client.last_heard) > SILENCE;
        known
            .extract_if(|_, client| silent(client))
            .map(|(client, left)| Gone { client, group: left.said.group })
            .collect()
    }

    /// Whether the client has been heard lately.
    #[must_use]
    pub(crate) fn is_online(&self, client: &str) -> bool {
        self.known.lock().contains_key(client)
    }

    /// The clients that consume for `group`, sorted.
    #[must_use]
    pub(crate) fn of_group(&self, group: &GroupName) -> Vec<String> {
        let known = self.known.lock();
        let members = known.iter().filter(|(_, client)| client.said.group.as_ref() == Some(group));
        let mut ids: Vec<String> = members.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }
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

    #[test]
    fn a_client_is_there_until_it_is_silent_for_too_long() {
        let (clients, start) = (Clients::new(9), Instant::now());
        clients.said(start, &identity("a"), Said { group: Some(group("g")) });
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
        assert_eq!(clients.of_group(&group("g")), ["a"]);
        assert_eq!(clients.leave("a").and_then(|gone| gone.group), Some(group("g")));
        assert_eq!(clients.leave("a"), None);
        assert!(clients.of_group(&group("g")).is_empty());
    }

    #[test]
    fn a_heartbeat_keeps_what_the_settings_said() {
        let (clients, now) = (Clients::new(9), Instant::now());
        clients.said(now, &identity("a"), Said { group: Some(group("g")) });
        clients.heard_of_group(now, &identity("a"), group("other"));
        clients.heard(now, &identity("a"));
        assert_eq!(clients.of_group(&group("g")), ["a"]);
    }

    #[test]
    fn the_newest_stream_wins_and_the_end_of_a_stream_is_not_the_end_of_its_client() {
        use tokio::sync::mpsc::error::TryRecvError;
        let (clients, now) = (Clients::new(9), Instant::now());
        let mut old = clients.attach(now, &identity("a"));
        let mut new = clients.attach(now, &identity("a"));
        assert_eq!(old.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(new.try_recv(), Err(TryRecvError::Empty));
        drop(new);
        assert!(clients.is_online("a"));
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
