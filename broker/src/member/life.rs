//! A member from its start to its stop: hears the rules' orders and carries them out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use replication::{Member, Order, Ordinal, Role, Seen, SwapOutcome, Why};
use store::disk::Disk;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::clients::ClientDoor;
use super::coordinator::Coordinator;
use super::door::ReplicationDoor;
use super::follow::{Following, Reshape};
use super::group::Standing;
use super::introduce::introduce;
use super::late::Late;
use super::metrics::Counts;
use super::open::Open;
use super::opening::Opening;
use super::reign::{self, Reign};
use crate::config::Replication;
use crate::schedule::Foresight;
use crate::serve::Process;

/// How long a stop waits until another has taken over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);
/// How long one that stops waits until it may hand over to somebody who follows: it may be about to hear that this one is in sync.
const HEIR_WITHIN: Duration = Duration::from_secs(1);
/// How long a replica that stops waits until the in-sync set is without it. The API server takes some milliseconds.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);
/// kube-proxy follows a changed Service once a second.
const SERVICE_FOLLOWS_WITHIN: Duration = Duration::from_millis(1500);

/// How a life with one opening of the log ended.
enum Ended {
    /// The log is opened anew, as it is.
    Again,
    /// And shaped before.
    Reshape(Reshape),
    Stopped,
}

/// A member, from its start to its stop.
pub(super) struct Life {
    pub(super) process: Process,
    pub(super) settings: Replication,
    pub(super) ordinal: Ordinal,
    pub(super) name: String,
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) door: ReplicationDoor,
    pub(super) late: Late,
    pub(super) control_addr: SocketAddr,
    pub(super) asked_to_stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) counts: Counts,
    pub(super) stands: watch::Sender<Standing>,
    pub(super) clients: Arc<ClientDoor>,
}

impl Life {
    /// Ends when it was asked to stop, or cannot go on.
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut reshape = None;
        loop {
            self.process.standing.opens();
            // Those of a reign that ended, and what they hold.
            self.process.shown.set(Registry::default());
            self.stands.send_replace(Standing { role: None, works: false, clients: None });
            let open = self.open(began, reshape.take()).await?;
            self.door.set(Some(Arc::clone(&open)));
            let ended = self.live(&open).await;
            self.door.set(None);
            self.door.end_streams();
            let closing = tokio::task::spawn_blocking(move || {
                open.meta().close();
                open.store().close()
            });
            let closed = closing.await.context("closing the log")?;
            match ended? {
                Ended::Again => {}
                Ended::Reshape(shape) => reshape = Some(shape),
                Ended::Stopped => {
                    self.pass_on_at_last().await;
                    self.clients.close().await;
                    return closed.context("closing the log");
                }
            }
            if let Err(error) = closed {
                tracing::error!(%error, "the log did not close well");
            }
        }
    }

    async fn open(&self, began: Instant, reshape: Option<Reshape>) -> anyhow::Result<Arc<Open>> {
        let opening = Opening {
            process: self.process.clone(),
            settings: self.settings.clone(),
            disk: Arc::clone(&self.disk),
            ordinal: self.ordinal,
            name: self.name.clone(),
            tasks: self.tasks.clone(),
            counts: self.counts.clone(),
            began,
        };
        let opening = tokio::task::spawn_blocking(move || opening.open(reshape));
        opening.await.context("opening the data directory")?
    }

    /// Until the log must be closed.
    async fn live(&self, open: &Arc<Open>) -> anyhow::Result<Ended> {
        let (sees, mut seen) = mpsc::channel(16);
        let coordinator = Arc::clone(&self.coordinator);
        let watching = sees.clone();
        let until = CancellationToken::new();
        let _ends = until.clone().drop_guard();
        let (settling, introducing) = (settle(Arc::clone(open)), introduce(Arc::clone(open), self.ordinal));
        self.tasks
            .spawn(until.clone().run_until_cancelled_owned(async move { coordinator.watch(watching).await }));
        self.tasks.spawn(until.clone().run_until_cancelled_owned(settling));
        self.tasks.spawn(until.run_until_cancelled_owned(introducing));
        let reader = Reader { coordinator: Arc::clone(&self.coordinator), sees, tasks: self.tasks.clone() };
        reader.read();
        let mut read_at = Instant::now();
        let (swaps, mut swapped) = mpsc::channel(4);
        let foresees = Arc::clone(open);
        let foresight = tokio::task::spawn_blocking(move || {
            let Open { config, local, tasks, .. } = &*foresees;
            Foresight::start(local, &config.data_dir, tasks)
        });
        let foresight = match foresight.await.map_err(io::Error::other).and_then(|opened| opened) {
            Ok(foresight) => Some(foresight),
            Err(error) => return Err(error).context("opening the schedule of delayed messages"),
        };
        let mut work = Work { following: None, reign: None, foresight };
        let mut ticks = tokio::time::interval(self.settings.lease.retry / 8);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stopping: Option<Instant> = None;
        let mut handed_over = false;
        let ended = loop {
            tokio::select! {
                _ = ticks.tick() => {
                    open.ask(|member| member.tick(open.now()));
                    // Whoever may have to stand needs to know that the Lease is as it was.
                    let alone = open.ask(|member| !member.is_following() && !matches!(member.role(), Role::Primary(_)));
                    if alone && read_at.elapsed() >= self.settings.lease.retry / 2 {
                        read_at = Instant::now();
                        reader.read();
                    }
                }
                () = open.happened.notified() => {}
                Some(lease) = seen.recv() => self.saw(open, lease),
                Some(outcome) = swapped.recv() => {
                    // What is there now tells what became of it.
                    if !matches!(outcome, SwapOutcome::Done(_)) {
                        reader.read();
                    }
                    open.ask(|member| member.swapped(open.now(), outcome));
                    // A change of its own is seen here first.
                    open.lease.send_replace(open.ask(|member| member.lease().cloned()));
                    open.settle();
                }
                happened = work.happens() => match happened {
                    Ok(reshape) => break Ok(Ended::Reshape(reshape)),
                    Err(error) => break Err(error),
                },
                () = self.asked_to_stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(Instant::now());
                    open.ask(|member| member.hand_over(open.now(), None));
                    if let Some(following) = &work.following {
                        following.leave();
                    }
                }
            }
            let mut reopen = false;
            while let Some(order) = open.ask(Member::order) {
                match self.obey(open, order, &mut work, (&reader, &swaps)).await {
                    Ok(go_on) => reopen |= !go_on,
                    Err(error) => {
                        self.end(open, work).await;
                        return Err(error);
                    }
                }
            }
            if open.ask(|member| member.must_prepare())
                && let Some(reign) = &work.reign
            {
                reign.persist().await;
                open.settle();
                open.tell(Member::prepared);
            }
            let hands_over = open.ask(|member| member.is_handing_over());
            if handed_over && !hands_over && matches!(open.ask(|member| member.role()), Role::Primary(_)) {
                let followers: Vec<_> = open.ask(|member| member.followers(open.now()).collect());
                tracing::warn!(has = ?open.has(), ?followers, "the hand-over is given up: the other did not come level");
            }
            handed_over = hands_over;
            self.stand(open, &work);
            if let Some(since) = stopping {
                let primary = matches!(open.ask(|member| member.role()), Role::Primary(_));
                let over = match primary {
                    true => since.elapsed() > HAND_OVER_WITHIN || !self.has_heir(open, since),
                    false => since.elapsed() > LEAVE_WITHIN || !self.is_waited_for(open, &work),
                };
                if over {
                    break Ok(Ended::Stopped);
                }
            }
            if reopen {
                break Ok(Ended::Again);
            }
        };
        self.end(open, work).await;
        ended
    }

    /// Ends what the member is at. Who is told goodbye comes again at once, and waits for the next primary.
    async fn end(&self, open: &Open, work: Work) {
        self.clients.lead_nowhere();
        work.end(open).await;
        // It may have begun to serve in between.
        self.clients.lead_nowhere();
    }

    /// As a primary that is asked to stop since then: somebody takes over, or may.
    fn has_heir(&self, open: &Open, since: Instant) -> bool {
        open.ask(|member| {
            let followed = member.followers(open.now()).any(|follower| follower.connected);
            member.hand_over(open.now(), None).is_some() || (followed && since.elapsed() < HEIR_WITHIN)
        })
    }

    /// As a replica that says goodbye: the in-sync set is still to be without it, and can be.
    fn is_waited_for(&self, open: &Open, work: &Work) -> bool {
        work.following.is_some()
            && open.ask(|member| {
                let in_set = member.lease().is_some_and(|lease| {
                    lease.in_sync.holds(open.me) && lease.in_sync.len() > member.min_in_sync()
                });
                in_set && member.is_following()
            })
    }

    /// The Service that follows the primary needs a moment to do so: until then clients still come here.
    async fn pass_on_at_last(&self) {
        let until = Instant::now() + SERVICE_FOLLOWS_WITHIN;
        while Instant::now() < until {
            let lease = self.coordinator.read().await.ok().map(|seen| seen.lease);
            let next = lease.filter(|lease| lease.holder.is_some()).and_then(|lease| lease.primary);
            if next == Some(self.ordinal) || self.settings.members == 1 {
                // Nobody else took over.
                return;
            }
            if let Some(next) = next {
                self.clients.lead_to(next);
            }
            tokio::time::sleep(SERVICE_FOLLOWS_WITHIN / 10).await;
        }
    }

    fn saw(&self, open: &Arc<Open>, seen: Seen) {
        let lease = seen.lease.clone();
        open.ask(|member| member.lease_seen(open.now(), seen));
        open.lease.send_replace(Some(lease));
        open.settle();
    }

    /// False: the log must be opened anew.
    async fn obey(
        &self,
        open: &Arc<Open>,
        order: Order,
        work: &mut Work,
        (reader, swaps): (&Reader, &mpsc::Sender<SwapOutcome>),
    ) -> anyhow::Result<bool> {
        match order {
            Order::ReadLease => reader.read(),
            Order::Swap { lease, version } => {
                let (coordinator, swaps) = (Arc::clone(&self.coordinator), swaps.clone());
                self.tasks.spawn(async move {
                    let outcome = coordinator.swap(&lease, version).await;
                    // Nobody waits only if the log is being closed.
                    let _ = swaps.send(outcome).await;
                });
            }
            Order::Freeze => {
                self.clients.lead_nowhere();
                if let Some(following) = work.following.take() {
                    following.freeze().await;
                }
                let last = open.history().last();
                let has = open.has();
                open.ask(|member| member.own(open.now(), last, has));
            }
            Order::Follow(primary) => {
                if let Some(following) = work.following.take() {
                    following.freeze().await;
                }
                tracing::info!(primary = primary.0, "another member is the primary");
                work.following = Some(Following::start(open, primary));
            }
            Order::Reign(epoch) => {
                let foreseen = match work.foresight.take() {
                    Some(foresight) => foresight.end().await,
                    None => None,
                };
                let needs = reign::Needs {
                    open: Arc::clone(open),
                    ordinal: self.ordinal,
                    process: self.process.clone(),
                    late: self.late.clone(),
                    control_addr: self.control_addr,
                    coordinator: Arc::clone(&self.coordinator),
                    clients: Arc::clone(&self.clients),
                    foreseen,
                };
                let reign = Reign::begin(epoch, needs).await?;
                work.reign = Some(reign);
                self.counts.reigns.inc();
            }
            Order::StepDown(why) => {
                self.counts.stepped_down(why);
                match why {
                    Why::HandedOver => tracing::info!("handed over, this member is a replica now"),
                    Why::Deposed => tracing::warn!("another member is the primary now"),
                    Why::Expired => {
                        tracing::warn!("the Lease may have expired: this member is not the primary any more")
                    }
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells the pages and whoever else wants to know.
    fn stand(&self, open: &Arc<Open>, work: &Work) {
        let (role, follows) = open.ask(|member| (member.role(), member.is_following()));
        match role {
            Role::Replica(primary) if follows => self.clients.lead_to(primary),
            Role::Replica(_) => self.clients.cut_off(open.ask(|member| member.is_cut_off(open.now()))),
            Role::Looking | Role::Standing | Role::Primary(_) => {}
        }
        let clients = work.reign.as_ref().and_then(Reign::clients);
        let works = match role {
            Role::Primary(_) => clients.is_some(),
            Role::Replica(_) => follows,
            Role::Looking | Role::Standing => false,
        };
        let standing = Standing { role: Some(role), works, clients };
        self.stands.send_if_modified(|now| std::mem::replace(now, standing) != standing);
        // Said again and again: serving begins in between, and says so itself.
        if let Some(health) = work.reign.as_ref().and_then(Reign::health) {
            self.process.standing.serves(health);
        } else {
            let reason = match role {
                Role::Primary(epoch) => Some(format!(
                    "it is to be the primary of reign {epoch}, once all in-sync members have everything"
                )),
                Role::Replica(_) if follows => None,
                Role::Replica(primary) => {
                    Some(format!("member {primary} is the primary and cannot be followed: see the log"))
                }
                Role::Looking => Some("the broker group has no primary".to_owned()),
                Role::Standing => Some("it asks to be the primary".to_owned()),
            };
            self.process.standing.is_member(reason);
        }
    }
}

/// What a member is at.
struct Work {
    following: Option<Following>,
    reign: Option<Reign>,
    /// Until it reigns.
    foresight: Option<Foresight>,
}

impl Work {
    /// Waits until the log must be reshaped, or, as an error, nothing goes on.
    async fn happens(&mut self) -> anyhow::Result<Reshape> {
        match (&mut self.following, &mut self.reign) {
            (Some(following), _) => Ok(following.reshape().await),
            (None, Some(reign)) => Err(reign.failed().await),
            (None, None) => std::future::pending().await,
        }
    }

    async fn end(self, open: &Open) {
        if let Some(following) = self.following {
            following.freeze().await;
        }
        if let Some(reign) = self.reign {
            reign.end(open).await;
        }
        if let Some(foresight) = self.foresight
            && let Some(foreseen) = foresight.end().await
            && let Err(error) = tokio::task::spawn_blocking(move || foreseen.leave()).await
        {
            tracing::error!(%error, "the schedule of delayed messages is not written");
        }
    }
}

/// Reads the Lease when asked, one time after the other.
#[derive(Clone)]
struct Reader {
    coordinator: Arc<dyn Coordinator>,
    sees: mpsc::Sender<Seen>,
    tasks: TaskTracker,
}

impl Reader {
    fn read(&self) {
        let Self { coordinator, sees, tasks } = self.clone();
        tasks.spawn(async move {
            match coordinator.read().await {
                Ok(seen) => {
                    // Nobody waits only if the log is being closed.
                    let _ = sees.send(seen).await;
                }
                Err(error) => tracing::warn!(%error, "the Lease is not read"),
            }
        });
    }
}

/// Confirms what is appended, as soon as it counts.
async fn settle(open: Arc<Open>) {
    let mut appended = open.appended.subscribe();
    loop {
        let end = *appended.borrow_and_update();
        if open.store().durable() < end {
            let (tell, durable) = tokio::sync::oneshot::channel();
            let then = move |_| {
                let _ = tell.send(());
            };
            open.store().on_durable(end, Box::new(then));
            // An error closes the log, and is told there.
            let _ = durable.await;
        }
        open.settle();
        if appended.changed().await.is_err() {
            return;
        }
    }
}
