//! A member from its start to its stop: hears the rules' orders and carries them out.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use access::vital;
use anyhow::Context as _;
use prometheus_client::registry::Registry;
use proto::control;
use proto::control::replication_client::ReplicationClient;
use replication::{
    Doubt, Epoch, Found, Member, MemberId, Order, Ordinal, Role, Seen, Settings, StoreId, SwapOutcome, Why,
};
use store::LogOffset;
use store::disk::{Disk, RealDisk};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Endpoint;

use super::coordinator::Coordinator;
use super::door::ReplicationDoor;
use super::follow::{Following, Reshape};
use super::late::Late;
use super::open::Open;
use super::passing::{Passing, Target};
use super::reign::Reign;
use super::reigns::Reigns;
use super::wipe::wipe;
use crate::config::{Config, Replication};
use crate::local::Local;
use crate::serve::{self, Ports, Process};

/// How long a stop waits until another has taken over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);
/// kube-proxy follows a changed Service once a second.
const SERVICE_FOLLOWS_WITHIN: Duration = Duration::from_millis(1500);

/// What a member is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it is; `None` while its log is opened.
    pub role: Option<Role>,
    /// Whether it does what its role asks: as the primary it serves clients, as a replica it copies.
    pub works: bool,
    /// Its clients' port, as the primary.
    pub clients: Option<SocketAddr>,
}

/// A running member.
pub struct Group {
    /// Where the other members reach it.
    pub control_addr: SocketAddr,
    tasks: vital::Tasks,
    asked_to_stop: CancellationToken,
    living: JoinHandle<anyhow::Result<()>>,
    failed: watch::Receiver<Option<String>>,
    standing: watch::Receiver<Standing>,
    door: ReplicationDoor,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("control_addr", &self.control_addr).finish_non_exhaustive()
    }
}

impl Group {
    /// Starts a member at this place, of a group that agrees over this Lease; `name` is its process, as the holder of it.
    pub async fn join(
        config: Config,
        ordinal: Ordinal,
        name: String,
        coordinator: Arc<dyn Coordinator>,
    ) -> anyhow::Result<Self> {
        let process = Process::new(config, None);
        Self::start(process, ordinal, name, coordinator, Arc::new(RealDisk::default())).await
    }

    /// The same for a process that has begun.
    pub(crate) async fn start(
        process: Process,
        ordinal: Ordinal,
        name: String,
        coordinator: Arc<dyn Coordinator>,
        disk: Arc<dyn Disk>,
    ) -> anyhow::Result<Self> {
        let settings = process.config.replication.clone().context("no replication is configured")?;
        let tasks = vital::Tasks::default();
        let listener = Ports::bind_control_plane(&process.config)?;
        let control_addr = listener.local_addr();
        process.show_pages(&tasks).await?;

        let late = Late::default();
        let door = ReplicationDoor::new(tasks.stop_token());
        let routes = late.beside(Routes::new(serve::replication_service(door.clone())));
        let incoming = listener.accept(tasks.tracker(), tasks.stop_token());
        let until = tasks.stop_token().cancelled_owned();
        let serving = serve::server().add_routes(routes).serve_with_incoming_shutdown(incoming, until);
        tasks.spawn("the control plane", serving);

        let asked_to_stop = CancellationToken::new();
        let (fails, failed) = watch::channel(None);
        let (stands, standing) = watch::channel(Standing { role: None, works: false, clients: None });
        let life = Life {
            process,
            settings,
            ordinal,
            name,
            coordinator,
            disk,
            door: door.clone(),
            late,
            control_addr,
            asked_to_stop: asked_to_stop.clone(),
            tasks: tasks.tracker().clone(),
            stands,
            primary: watch::Sender::new(None),
        };
        let living = tasks.tracker().spawn(async move {
            let outcome = life.run().await;
            if let Err(error) = &outcome {
                fails.send_replace(Some(format!("{error:#}")));
            }
            outcome
        });
        Ok(Self { control_addr, tasks, asked_to_stop, living, failed, standing, door })
    }

    /// What it is, as that changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits until it cannot go on, and says why.
    pub async fn failed(&self) -> anyhow::Error {
        let mut failed = self.failed.clone();
        tokio::select! {
            reason = failed.wait_for(Option::is_some) => match reason {
                Ok(reason) => anyhow::anyhow!(reason.clone().unwrap_or_default()),
                Err(_) => anyhow::anyhow!("the member ended"),
            },
            reason = self.tasks.failed() => anyhow::anyhow!(reason),
        }
    }

    /// Hands over, if it is the primary, and stops.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.asked_to_stop.cancel();
        let outcome = self.living.await.context("the member died")?;
        self.tasks.stop(Duration::from_secs(2)).await;
        tracing::info!("member stopped");
        outcome
    }

    /// Is gone all at once for the others and for clients, as if the process were killed; only the files are closed well.
    pub async fn vanish(self) {
        self.living.abort();
        // It was asked to end.
        let _ = self.living.await;
        self.tasks.stop(Duration::ZERO).await;
        self.door.end_streams();
        if let Some(open) = self.door.take() {
            let closing = tokio::task::spawn_blocking(move || {
                open.meta().close();
                open.store().close()
            });
            if let Ok(Err(error)) = closing.await {
                tracing::error!(%error, "the log did not close well");
            }
        }
    }
}

/// How a life with one opening of the log ended.
enum Ended {
    /// The log is opened anew, as it is.
    Again,
    /// And shaped before.
    Reshape(Reshape),
    Stopped,
}

struct Life {
    process: Process,
    settings: Replication,
    ordinal: Ordinal,
    name: String,
    coordinator: Arc<dyn Coordinator>,
    disk: Arc<dyn Disk>,
    door: ReplicationDoor,
    late: Late,
    control_addr: SocketAddr,
    asked_to_stop: CancellationToken,
    tasks: TaskTracker,
    stands: watch::Sender<Standing>,
    /// The member that clients are passed on to.
    primary: watch::Sender<Option<Ordinal>>,
}

impl Life {
    async fn run(self) -> anyhow::Result<()> {
        let began = Instant::now();
        let mut reshape = None;
        let mut passing = self.pass_on();
        loop {
            self.process.standing.opens();
            // Those of a reign that ended, and what they hold.
            self.process.shown.set(Registry::default());
            self.stands.send_replace(Standing { role: None, works: false, clients: None });
            let open = self.open(began, reshape.take()).await?;
            self.door.set(Some(Arc::clone(&open)));
            let (ended, next) = self.live(&open, passing).await;
            passing = next;
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
                    passing.end().await;
                    return closed.context("closing the log");
                }
            }
            if let Err(error) = closed {
                tracing::error!(%error, "the log did not close well");
            }
        }
    }

    async fn open(&self, began: Instant, reshape: Option<Reshape>) -> anyhow::Result<Arc<Open>> {
        let (process, settings, disk) = (self.process.clone(), self.settings.clone(), Arc::clone(&self.disk));
        let (ordinal, name, tasks) = (self.ordinal, self.name.clone(), self.tasks.clone());
        let opening = tokio::task::spawn_blocking(move || -> anyhow::Result<Arc<Open>> {
            let config = Arc::clone(&process.config);
            let mut store = config.store();
            match reshape {
                Some(Reshape::CutTo(end)) => {
                    tracing::warn!(
                        log_end = end.0,
                        "the log is cut back to where it parts from the primary's"
                    );
                    store::cut_back(Arc::clone(&disk), &store, end)?;
                }
                Some(Reshape::BeginAt(first)) => {
                    tracing::warn!(first = first.0, "the log begins anew as a copy of the primary's");
                    wipe(&config.data_dir).context("removing what is of no use")?;
                    store.first_offset = Some(first.0);
                }
                None => {}
            }
            let mut local = Local::open(&config, store.clone(), Arc::clone(&disk), &process.standing)?;
            let torn_at = local.recovered.torn_at;
            if let Some(torn_at) = torn_at {
                // What lies behind the hole was never acknowledged, or is on the others: it is copied again.
                tracing::warn!(log_end = torn_at.0, "the log has a hole near its end and is cut there");
                local.meta.close();
                local.store.close()?;
                store::cut_back(Arc::clone(&disk), &store, torn_at)?;
                local = Local::open(&config, store, disk, &process.standing)?;
            }
            let reigns = Reigns::load(Arc::clone(&local.disk), &config.data_dir, local.store.id())?;
            let interrupted =
                (local.store.was_interrupted() && config.flush == store::Flush::Async) || torn_at.is_some();
            let rules = rules(&settings);
            let confirmed = local.store.confirmed();
            let open =
                Open::new(config, settings, local, tasks, ordinal, reigns, began, |me, reigns, has, now| {
                    let found = Found {
                        epoch: reigns.seen(),
                        doubt: if interrupted { Doubt::LostTail } else { Doubt::None },
                        last: reigns.history().up_to(has.end).last(),
                        has,
                        confirmed,
                    };
                    Member::new(me, name, rules, found, now)
                });
            Ok(open)
        });
        opening.await.context("opening the data directory")?
    }

    /// Until the log must be closed.
    async fn live(&self, open: &Arc<Open>, passing: Passing) -> (anyhow::Result<Ended>, Passing) {
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
        let mut work = Work { following: None, reign: None, passing: Some(passing) };
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
                }
            }
            let mut reopen = false;
            while let Some(order) = open.ask(Member::order) {
                match self.obey(open, order, &mut work, &swaps).await {
                    Ok(go_on) => reopen |= !go_on,
                    Err(error) => return (Err(error), self.end(open, work).await),
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
                let followers: Vec<_> = open.ask(|member| member.followers().collect());
                tracing::warn!(has = ?open.has(), ?followers, "the hand-over is given up: the other did not come level");
            }
            handed_over = hands_over;
            self.stand(open, &work);
            if let Some(since) = stopping {
                let primary = matches!(open.ask(|member| member.role()), Role::Primary(_));
                let hopeless = !open.ask(|member| member.is_handing_over());
                if !primary || hopeless || since.elapsed() > HAND_OVER_WITHIN {
                    break Ok(Ended::Stopped);
                }
            }
            if reopen {
                break Ok(Ended::Again);
            }
        };
        let passing = self.end(open, work).await;
        (ended, passing)
    }

    /// Ends what the member is at; clients that come are passed on from the first moment on.
    async fn end(&self, open: &Open, mut work: Work) -> Passing {
        self.primary.send_replace(None);
        let passing = work.passing.take().unwrap_or_else(|| self.pass_on());
        work.end(open).await;
        passing
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
            self.primary.send_if_modified(|now| next.is_some() && std::mem::replace(now, next) != next);
            tokio::time::sleep(SERVICE_FOLLOWS_WITHIN / 10).await;
        }
    }

    /// Connects clients that come here to the primary.
    fn pass_on(&self) -> Passing {
        let target = Target {
            primary: self.primary.subscribe(),
            member_address: self.settings.member_address.clone(),
            port: self.process.config.client_listen.port(),
        };
        Passing::start(self.process.config.client_listen, target)
    }

    fn saw(&self, open: &Arc<Open>, seen: Seen) {
        open.lease.send_replace(Some(seen.lease.clone()));
        open.ask(|member| member.lease_seen(open.now(), seen));
        open.settle();
    }

    /// False: the log must be opened anew.
    async fn obey(
        &self,
        open: &Arc<Open>,
        order: Order,
        work: &mut Work,
        swaps: &mpsc::Sender<SwapOutcome>,
    ) -> anyhow::Result<bool> {
        match order {
            Order::Swap { lease, version } => {
                let (coordinator, swaps) = (Arc::clone(&self.coordinator), swaps.clone());
                self.tasks.spawn(async move {
                    let outcome = coordinator.swap(&lease, version).await;
                    // Nobody waits only if the log is being closed.
                    let _ = swaps.send(outcome).await;
                });
            }
            Order::Freeze => {
                // The port is free for a reign, and refuses whoever another member passes on too early.
                self.primary.send_replace(None);
                if let Some(passing) = work.passing.take() {
                    passing.end().await;
                }
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
                work.passing.get_or_insert_with(|| self.pass_on());
                work.following = Some(Following::start(open, primary));
            }
            Order::Reign(epoch) => {
                let control = (&self.late, self.control_addr);
                let reign = Reign::begin(open, epoch, &self.process, control, &self.coordinator).await?;
                work.reign = Some(reign);
            }
            Order::StepDown(why) => {
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
        if let Role::Replica(primary) = role
            && follows
        {
            self.primary.send_if_modified(|now| now.replace(primary) != Some(primary));
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
    passing: Option<Passing>,
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

/// Hears of the others while there is no primary to follow.
async fn introduce(open: Arc<Open>, ordinal: Ordinal) {
    let mut ticks = tokio::time::interval(open.settings.lease.retry);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if open.ask(|member| member.is_following() || matches!(member.role(), Role::Primary(_))) {
            continue;
        }
        let others = (0..open.settings.members).map(Ordinal).filter(|other| *other != ordinal);
        let answers = others.map(|other| {
            let open = Arc::clone(&open);
            async move {
                match hear(&open, other).await {
                    Ok((member, last, end, epoch)) => open.tell(|rules, now| {
                        rules.heard_epoch(now, epoch);
                        rules.heard(now, member, epoch, last, end);
                    }),
                    Err(error) => {
                        tracing::debug!(member = other.0, %error, "a member does not say how it is")
                    }
                }
            }
        });
        futures::future::join_all(answers).await;
    }
}

async fn hear(open: &Open, other: Ordinal) -> anyhow::Result<(MemberId, Epoch, LogOffset, Epoch)> {
    let limit = open.settings.lease.retry;
    let asked = async {
        let address = format!("http://{}", open.settings.address_of(other.0));
        let channel = Endpoint::from_shared(address)?.connect_timeout(limit).connect().await?;
        let request = control::IntroduceRequest {
            group: open.config.broker_name.clone(),
            epoch: open.ask(|member| member.epoch()).0,
        };
        let answer = ReplicationClient::new(channel).introduce(request).await?.into_inner();
        let member = answer.member.context("it does not say who it is")?;
        let member = MemberId { ordinal: Ordinal(member.ordinal), store: StoreId(member.store) };
        anyhow::ensure!(member.ordinal == other, "another member answers at that address");
        Ok((member, Epoch(answer.last_reign), LogOffset(answer.log_end), Epoch(answer.epoch)))
    };
    tokio::time::timeout(limit, asked).await?
}

fn rules(settings: &Replication) -> Settings {
    let Replication { mode, min_in_sync, max_lag, lease, .. } = settings;
    Settings {
        mode: *mode,
        min_in_sync: *min_in_sync,
        max_lag: *max_lag,
        lease_duration: lease.duration,
        retry: lease.retry,
        ..Settings::default()
    }
}
