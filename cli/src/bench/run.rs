//! A load under way: what its tasks share, who watches them, and when it is over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use proto::v2;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Routes};
use super::ledger::Ledger;
use super::plan::{Plan, Receiving, Sending};
use super::recorder::{Operation, Recorder};
use super::stamp::Stamp;
use super::{cpu, receive, send};
use crate::client::{self, Dialer, Error, MessageIds, random};
use crate::failure::Failure;
use crate::progress::Teller;
use crate::units;

const SECOND: Duration = Duration::from_secs(1);
/// Official clients do so this often.
const HEARTBEAT_EVERY: u64 = 10;
/// What is due and not sent so long after the last was due stays unsent: the server is too slow for the rate.
const LATEST: Duration = Duration::from_secs(10);
/// A load is given up when for so long nothing succeeded and something failed.
const HOPELESS: Duration = Duration::from_secs(30);
/// A backlog is drained when for so long nothing came.
const QUIET: Duration = Duration::from_secs(3);

/// What the tasks of a load share.
pub(crate) struct Run {
    /// What the load is.
    pub(crate) plan: Plan,
    /// Where its topics are.
    pub(crate) routes: Routes,
    /// Its number, random.
    pub(crate) load: u64,
    /// In an open loop: requests that are due and not taken yet.
    pub(crate) gate: Semaphore,
    /// Nothing new is sent any more.
    pub(crate) stop_sending: CancellationToken,
    /// Nothing is waited for any more.
    pub(crate) stop_receiving: CancellationToken,
    started: Instant,
    started_at: SystemTime,
    id_prefix: String,
    next_request: AtomicU64,
    recorder: Mutex<Recorder>,
    ledger: Mutex<Ledger>,
    /// Of this load, or of any if it sends nothing.
    came: Notify,
    fatal: Mutex<Option<Error>>,
    /// CPU time of the server when measuring began and when it ended.
    cpu: Mutex<(Option<Duration>, Option<Duration>)>,
    pub(crate) counts: Counts,
}

/// What is counted without a lock. Times are nanoseconds since the start, 0 for never.
#[derive(Default)]
pub(crate) struct Counts {
    /// Messages that were acknowledged and are measured.
    pub(crate) measured: AtomicU64,
    /// When the last of them was.
    pub(crate) measured_until: AtomicU64,
    /// Messages of this load that came, duplicates not counted.
    pub(crate) own: AtomicU64,
    /// Messages that came before they were due.
    pub(crate) early: AtomicU64,
    /// Bytes of all bodies that came.
    pub(crate) received_bytes: AtomicU64,
    /// When the first message came.
    pub(crate) first_receipt: AtomicU64,
    /// When the last message came.
    pub(crate) last_receipt: AtomicU64,
    last_success: AtomicU64,
    last_failure: AtomicU64,
    interrupted: AtomicBool,
}

impl Run {
    fn new(plan: Plan, routes: Routes) -> Self {
        let mut id_prefix = MessageIds::new().next_id();
        // Version, machine and process; the number of the message takes the place of time and counter.
        id_prefix.truncate(18);
        Self {
            plan,
            routes,
            load: random(),
            gate: Semaphore::new(0),
            stop_sending: CancellationToken::new(),
            stop_receiving: CancellationToken::new(),
            started: Instant::now(),
            started_at: SystemTime::now(),
            id_prefix,
            next_request: AtomicU64::new(0),
            recorder: Mutex::default(),
            ledger: Mutex::default(),
            came: Notify::new(),
            fatal: Mutex::default(),
            cpu: Mutex::default(),
            counts: Counts::default(),
        }
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The time rounded up to a millisecond of the calendar, since the start and as such.
    pub(crate) fn next_millisecond(&self, since_start: Duration) -> (Duration, SystemTime) {
        let start = self.started_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = start + since_start;
        let rounded =
            Duration::from_millis(u64::try_from(at.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX));
        (rounded.saturating_sub(start), UNIX_EPOCH + rounded)
    }

    /// The id of a message: 34 digits, as official clients make them.
    pub(crate) fn message_id(&self, number: u64) -> String {
        format!("{}{number:016X}", self.id_prefix)
    }

    /// The number of the next request.
    pub(crate) fn take_request(&self) -> u64 {
        self.next_request.fetch_add(1, Relaxed)
    }

    /// Something took from then until now.
    pub(crate) fn record(&self, operation: Operation, from: Duration, measured: bool) {
        let took = self.elapsed().saturating_sub(from);
        self.recorder().record(operation, took, measured);
    }

    /// The server acknowledged a message.
    pub(crate) fn acknowledged(&self, number: u64, measured: bool) {
        let now = self.now_ns();
        self.counts.last_success.store(now, Relaxed);
        if measured {
            self.counts.measured.fetch_add(1, Relaxed);
            self.counts.measured_until.fetch_max(now, Relaxed);
        }
        self.ledger().acknowledge(number..number + 1);
    }

    /// A message came.
    pub(crate) fn received(&self, stamp: Option<Stamp>, bytes: usize) {
        let now = self.now_ns();
        let counts = &self.counts;
        counts.last_success.store(now, Relaxed);
        counts.last_receipt.fetch_max(now, Relaxed);
        let _first = counts.first_receipt.compare_exchange(0, now, Relaxed, Relaxed);
        counts.received_bytes.fetch_add(bytes as u64, Relaxed);
        let mut ledger = self.ledger();
        let Some(stamp) = stamp else {
            ledger.foreign += 1;
            return;
        };
        let new = ledger.receive(stamp.load, stamp.lane, stamp.number);
        let distinct = ledger.distinct;
        drop(ledger);
        let own = stamp.load == self.load;
        if new && own {
            counts.own.fetch_add(1, Relaxed);
            let mark = Duration::from_nanos(stamp.mark_ns);
            // The server's clock is read in milliseconds, ours goes on.
            counts
                .early
                .fetch_add(u64::from(Duration::from_nanos(now) + Duration::from_millis(1) < mark), Relaxed);
            let sending = self.plan.sending.as_ref();
            let warm =
                sending.map_or(Duration::ZERO, |sending| sending.schedule.warm_up + sending.kind.delay());
            self.record(Operation::EndToEnd, mark, mark >= warm);
        }
        match &self.plan.sending {
            Some(_) if own => self.came.notify_one(),
            None if self.plan.count.is_some_and(|count| distinct >= count) => self.stop_receiving.cancel(),
            Some(_) | None => {}
        }
    }

    /// A poll that began then came back empty: whether that ends the load.
    pub(crate) fn backlog_is_drained(&self, began: Duration) -> bool {
        let last = Duration::from_nanos(self.counts.last_receipt.load(Relaxed)).max(began);
        self.plan.sending.is_none() && self.elapsed().saturating_sub(last) >= QUIET
    }

    /// A call failed. What would fail again and again ends the load.
    pub(crate) fn failed(&self, error: Error) {
        use v2::Code;
        self.counts.last_failure.store(self.now_ns(), Relaxed);
        self.recorder().fail(&error);
        let hopeless = matches!(
            error,
            Error::Refused {
                code: Code::TopicNotFound
                    | Code::ConsumerGroupNotFound
                    | Code::MessagePropertyConflictWithType
                    | Code::MessageBodyTooLarge
                    | Code::Forbidden
                    | Code::Unauthorized
                    | Code::NotImplemented,
                ..
            }
        );
        if hopeless {
            lock(&self.fatal).get_or_insert(error);
            self.stop_sending.cancel();
            self.stop_receiving.cancel();
        }
    }

    /// What was measured.
    pub(crate) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        lock(&self.recorder)
    }

    /// What was sent and came.
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Messages that were due and never sent.
    pub(crate) fn unsent(&self) -> u64 {
        let Some(sending) = &self.plan.sending else { return 0 };
        let Some(requests) = sending.schedule.requests() else { return 0 };
        requests.saturating_sub(self.next_request.load(Relaxed)) * sending.schedule.batch
    }

    /// Whether somebody stopped it before its time.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.counts.interrupted.load(Relaxed)
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    /// Waits until every acknowledged message of this load came, or nobody waits any longer.
    async fn all_came(&self, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let came = self.came.notified();
            if self.counts.own.load(Relaxed) >= self.ledger().acknowledged_count {
                // A send that failed may have come all the same: then the counts alone do not tell.
                if self.ledger().missing(self.load) == 0 {
                    return;
                }
            }
            tokio::select! {
                () = came => {}
                () = tokio::time::sleep_until(deadline) => return,
                () = self.stop_receiving.cancelled() => return,
            }
        }
    }

    /// CPU time that the server used while it was measured.
    pub(crate) fn server_cpu(&self) -> Option<Duration> {
        let (began, ended) = *lock(&self.cpu);
        Some(ended?.saturating_sub(began?))
    }

    fn cpu_now(&self) -> Option<Duration> {
        self.plan.pid.and_then(cpu::time)
    }

    /// Never returns.
    async fn note_cpu_when_measuring_begins(&self) {
        let warm_up = self.plan.sending.as_ref().map_or(Duration::ZERO, |sending| sending.schedule.warm_up);
        tokio::time::sleep_until((self.started + warm_up).into()).await;
        lock(&self.cpu).0 = self.cpu_now();
        std::future::pending().await
    }

    /// Tells how far it is each second, keeps clients alive and ends what has no hope. Never returns.
    async fn watch(&self, clients: &[Arc<Connection>]) {
        let mut teller = Teller::new();
        let mut seconds = tokio::time::interval_at((self.started + SECOND).into(), SECOND);
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut interrupts = 0;
        for second in 1_u64.. {
            tokio::select! {
                _ = seconds.tick() => {}
                Ok(()) = tokio::signal::ctrl_c() => {
                    // The first stops sending, the second waits for nothing.
                    self.counts.interrupted.store(true, Relaxed);
                    self.stop_sending.cancel();
                    interrupts += 1;
                    if interrupts > 1 || self.plan.sending.is_none() {
                        self.stop_receiving.cancel();
                    }
                    continue;
                }
            }
            let elapsed = self.elapsed();
            self.recorder().end_second(elapsed);
            teller.tell(|_| self.progress());
            if second.is_multiple_of(HEARTBEAT_EVERY) {
                join_all(clients.iter().map(|client| client.heartbeat())).await;
            }
            self.end_what_is_over(elapsed);
        }
    }

    fn end_what_is_over(&self, elapsed: Duration) {
        let (success, failure) = (&self.counts.last_success, &self.counts.last_failure);
        let since_success = elapsed.saturating_sub(Duration::from_nanos(success.load(Relaxed)));
        if failure.load(Relaxed) > success.load(Relaxed) && since_success > HOPELESS {
            self.stop_sending.cancel();
            self.stop_receiving.cancel();
        }
        match &self.plan.sending {
            Some(sending) => {
                let schedule = &sending.schedule;
                let last =
                    schedule.requests().and_then(|requests| schedule.request(requests.saturating_sub(1)));
                if last.and_then(|last| last.due).is_some_and(|last| elapsed > last + LATEST) {
                    self.stop_sending.cancel();
                }
            }
            None if self.plan.count.is_none() && elapsed >= self.plan.duration => {
                self.stop_receiving.cancel()
            }
            None => {}
        }
    }

    fn progress(&self) -> String {
        let recorder = self.recorder();
        let mut line = units::duration(self.elapsed());
        for (operation, track) in &recorder.tracks {
            let Some(second) = track.seconds.last() else { continue };
            let (p50, p99) = (second.p50_us as f64 / 1e3, second.p99_us as f64 / 1e3);
            line += &format!("   {} {}/s p50 {p50:.1} p99 {p99:.1} ms", operation.name(), second.count);
        }
        match recorder.failed() {
            0 => line,
            failed => format!("{line}   {failed} failed"),
        }
    }
}

/// A panic of another task spoils no counts: the load ends with it anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs a load to its end.
pub(crate) async fn run(plan: Plan, dialer: &Dialer, access_point: &str) -> Result<Arc<Run>, Failure> {
    let routes = Routes::find(dialer, access_point, &plan).await?;
    let topic = routes.topics.first().map_or("", |topic| &topic.name).to_owned();
    let failure = |error: Error| client::failure(&error, &topic);
    let (mut producers, mut consumers) = (Vec::new(), Vec::new());
    for _ in 0..plan.connections {
        if plan.sending.is_some() {
            let producer = Connection::producer(dialer, access_point, &routes).await.map_err(failure)?;
            producers.push(Arc::new(producer));
        }
        if let Some(Receiving { group, .. }) = &plan.receiving {
            let consumer =
                Connection::consumer(dialer, access_point, &routes, group).await.map_err(failure)?;
            consumers.push(Arc::new(consumer));
        }
    }
    check_order(&plan, &consumers)?;

    let run = Arc::new(Run::new(plan, routes));
    let clients: Vec<_> = producers.iter().chain(&consumers).cloned().collect();
    let mut polls = JoinSet::new();
    if let Some(receiving) = run.plan.receiving.clone().map(Arc::new) {
        for number in 0..(consumers.len() * receiving.polls).max(run.routes.places()) {
            let consumer = Arc::clone(&consumers[number % consumers.len()]);
            polls.spawn(receive::poll(Arc::clone(&run), Arc::clone(&receiving), consumer, number));
        }
    }
    let mut lanes = JoinSet::new();
    if let Some(sending) = run.plan.sending.clone().map(Arc::new) {
        start_sending(&run, &sending, &producers, &mut lanes);
    }
    tokio::select! {
        () = work(&run, &mut lanes, &mut polls) => {}
        () = run.watch(&clients) => {}
        () = run.note_cpu_when_measuring_begins() => {}
    }
    lock(&run.cpu).1 = run.cpu_now();
    join_all(clients.iter().map(|client| client.close())).await;
    // The seconds that nobody waited for any more.
    run.recorder().end_second(run.elapsed());
    let fatal = lock(&run.fatal).take();
    match fatal {
        Some(error) => Err(client::failure(&error, &topic)),
        None => Ok(run),
    }
}

fn start_sending(
    run: &Arc<Run>,
    sending: &Arc<Sending>,
    producers: &[Arc<Connection>],
    lanes: &mut JoinSet<()>,
) {
    let count = producers.len() * sending.in_flight;
    for lane in 0..count {
        // In turn, so that a load of few lanes is spread over the connections.
        let producer = Arc::clone(&producers[lane % producers.len()]);
        let number = u32::try_from(lane).unwrap_or(u32::MAX);
        lanes.spawn(send::lane(Arc::clone(run), Arc::clone(sending), producer, number));
    }
    if sending.schedule.rate.is_some() {
        let (run, sending) = (Arc::clone(run), Arc::clone(sending));
        lanes.spawn_blocking(move || send::clock(&run, &sending, count));
    }
}

/// Until all is sent, and all that was acknowledged came.
async fn work(run: &Run, lanes: &mut JoinSet<()>, polls: &mut JoinSet<()>) {
    while let Some(ended) = lanes.join_next().await {
        ended.expect("a sending task does not panic");
    }
    if let Some((sending, receiving)) = run.plan.sending.as_ref().zip(run.plan.receiving.as_ref()) {
        run.all_came(receiving.patience + sending.kind.delay()).await;
        run.stop_receiving.cancel();
    }
    while let Some(ended) = polls.join_next().await {
        ended.expect("a receiving task does not panic");
    }
}

/// Order is a setting of the group: without it a load of FIFO messages would measure something else.
fn check_order(plan: &Plan, consumers: &[Arc<Connection>]) -> Result<(), Failure> {
    let (Some(receiving), "fifo") = (&plan.receiving, plan.scenario) else { return Ok(()) };
    match consumers.iter().all(|consumer| consumer.is_ordered()) {
        true => Ok(()),
        false => Err(Failure::failed(format!("group {} is delivered in no order", receiving.group))
            .next(format!("gantry group update {} --ordered true", receiving.group))),
    }
}
