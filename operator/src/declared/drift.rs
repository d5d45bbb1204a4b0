//! Following brokers: what somebody else changes there is looked at within moments, without asking for each thing again.
//!
//! A broker is followed from the first time on that something is declared on it. Its stream tells what changed, our own changes too:
//! what is just as declared needs no look.
//!
//! ```text
//!   reconcile ── follow ──► Runner: one stream a broker ── is it strange? ──► queue ──► reconcile
//! ```

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use crds::{BrokerGroup, ConsumerGroup, Topic};
use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use proto::control::{ChangeReport, WatchChangesResponse};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval_at, sleep, timeout},
};
use tonic::Code;

use super::{Declared, observe, places};
use crate::{
    control::{ControlPlane, DEADLINE},
    routes,
    watch::{Queues, Stores},
};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
/// A broker that cannot be followed may be another one later.
const OLD_BROKER: Duration = Duration::from_secs(60);
/// How often everything is looked at though nobody tells of a change.
const LOOK_AT_ALL: Duration = Duration::from_secs(600);
/// Brokers that are asked for and not yet looked at.
const ASKED_FOR: usize = 64;

/// A broker that is followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Followed {
    group: ObjectRef<BrokerGroup>,
    address: String,
}

/// Those that are followed, and whether each has answered once.
type Known = Arc<Mutex<HashMap<Followed, watch::Receiver<bool>>>>;

/// Asks for brokers to be followed.
pub struct Followers {
    known: Known,
    asked: mpsc::Sender<(Followed, watch::Sender<bool>)>,
}

/// Follows them.
pub struct Runner {
    known: Known,
    asked: mpsc::Receiver<(Followed, watch::Sender<bool>)>,
}

/// The two ends.
pub fn channel() -> (Followers, Runner) {
    let (sender, receiver) = mpsc::channel(ASKED_FOR);
    let known = Known::default();
    (Followers { known: Arc::clone(&known), asked: sender }, Runner { known, asked: receiver })
}

impl Followers {
    /// Follows the broker, unless it is already. Returns once its stream has begun, or when that takes too long.
    pub async fn follow(&self, group: &ObjectRef<BrokerGroup>, address: &str) {
        let followed = Followed { group: group.clone(), address: address.to_owned() };
        let (mut begun, new) = {
            let mut known = self.known.lock().expect("no panic while the lock is held");
            match known.get(&followed) {
                Some(begun) => (begun.clone(), None),
                None => {
                    let (tell, begun) = watch::channel(false);
                    known.insert(followed.clone(), begun.clone());
                    (begun, Some(tell))
                }
            }
        };
        if let Some(tell) = new {
            // Fails only when the process ends.
            self.asked.send((followed, tell)).await.ok();
        }
        timeout(DEADLINE, begun.wait_for(|begun| *begun)).await.ok();
    }
}

impl Runner {
    /// Follows whatever is asked for, until all [`Followers`] are gone.
    pub async fn run(mut self, control: &ControlPlane, stores: &Stores, queues: &Queues) {
        let mut following = FuturesUnordered::new();
        let mut look_at_all = interval_at(Instant::now() + LOOK_AT_ALL, LOOK_AT_ALL);
        loop {
            tokio::select! {
                asked = self.asked.recv() => match asked {
                    Some((followed, begun)) => {
                        let known = Arc::clone(&self.known);
                        following.push(async move {
                            let follower = Follower { followed: &followed, control, stores, queues };
                            loop {
                                follower.run(&begun).await;
                                let mut known = known.lock().expect("no panic while the lock is held");
                                // Whoever finds it there relies on it.
                                if !follower.is_there() {
                                    known.remove(&followed);
                                    return;
                                }
                            }
                        }.boxed());
                    }
                    None => return,
                },
                Some(()) = following.next() => {}
                _ = look_at_all.tick() => {
                    for set in stores.name_server_sets.state() {
                        let namespace = set.namespace().unwrap_or_default();
                        queues.add(routes::declared_under(stores, &namespace, &set.name_any()));
                    }
                }
            }
        }
    }
}

struct Follower<'a> {
    followed: &'a Followed,
    control: &'a ControlPlane,
    stores: &'a Stores,
    queues: &'a Queues,
}

impl Follower<'_> {
    /// Follows as long as the broker is where it was.
    async fn run(&self, begun: &watch::Sender<bool>) {
        let mut since = None;
        let mut retry = FIRST_RETRY;
        let mut missed = false;
        while self.is_there() {
            match self.control.watch_changes(&self.followed.address, since).await {
                Ok(mut changes) => {
                    while let Ok(Some(answer)) = changes.message().await {
                        since = Some((answer.life, answer.version));
                        retry = FIRST_RETRY;
                        begun.send_replace(true);
                        self.take(answer, std::mem::take(&mut missed));
                    }
                }
                // An older broker: what it has is looked at from time to time.
                Err(status) if status.code() == Code::Unimplemented => retry = OLD_BROKER,
                Err(status) => {
                    tracing::debug!(address = self.followed.address, %status, "broker not followed");
                }
            }
            // Whoever waits for the stream looks without it, and is asked to look again once it is there.
            missed |= since.is_none();
            begun.send_replace(true);
            sleep(retry).await;
            retry = (retry * 2).clamp(FIRST_RETRY, LONGEST_RETRY);
        }
    }

    fn group(&self) -> Option<Arc<BrokerGroup>> {
        self.stores.broker_groups.get(&self.followed.group)
    }

    fn is_there(&self) -> bool {
        let address = self.group().map(|group| observe::primary(self.stores, &group));
        address == Some(Ok(self.followed.address.clone()))
    }

    fn take(&self, answer: WatchChangesResponse, missed: bool) {
        let Some(group) = self.group() else { return };
        let set = &group.spec.name_server_ref.name;
        let namespace = group.namespace().unwrap_or_default();
        if answer.missed || missed {
            self.queues.add(routes::declared_under(self.stores, &namespace, set));
        }
        let report = answer.changes.unwrap_or_default();
        let key = (namespace.as_str(), set.as_str());
        let name = group.name_any();
        for topic in strange::<Topic>(self.stores, key, &name, &report) {
            self.queues.topics.add(topic);
        }
        for group in strange::<ConsumerGroup>(self.stores, key, &name, &report) {
            self.queues.consumer_groups.add(group);
        }
    }
}

/// The resources whose broker has something else than they declare.
fn strange<K: Declared>(
    stores: &Stores,
    (namespace, set): (&str, &str),
    group: &str,
    report: &ChangeReport,
) -> Vec<ObjectRef<K>> {
    let (changed, gone) = K::changes(report);
    let asking = |name: &str| K::names(stores).asking(namespace, set, name, K::store(stores));
    let changed = changed.iter().flat_map(|live| {
        let all = asking(K::name_of(live)).into_iter();
        all.filter(|resource| resource.is_strange(live, places::known_of(&**resource, group)))
    });
    let gone = gone.iter().flat_map(|name| asking(name));
    changed.chain(gone).map(|resource| ObjectRef::from_obj(&*resource)).collect()
}
