//! What a primary sends to one follower: its log from where the follower's ends, and its state.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::control;
use proto::control::follow_response::Response as Tells;
use replication::Epoch;
use store::{LogOffset, Store, Stretch};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::open::{Open, Reigning};
use super::wire;
use crate::meta::journal::{Change, Forgotten};

/// Bytes of log in one message, at the most, unless a record is larger.
const STRETCH_BYTES: usize = 256 << 10;
/// Bytes of log that are sent and not acknowledged.
const WINDOW_BYTES: u64 = 16 << 20;
/// Who follows needs what is confirmed for its views, and no producer waits for that: it is not told of each message.
const TELL_CONFIRMED_EVERY: Duration = Duration::from_millis(5);
/// Bytes of state in one message.
const STATE_BYTES: usize = 256 << 10;
/// Old log is read at this pace, so that those who write and read what is new do not feel it.
const COLD_BYTES_PER_SECOND: f64 = 128.0 * 1024.0 * 1024.0;

pub(super) type Sink = mpsc::Sender<Result<control::FollowResponse, tonic::Status>>;

/// What one follower is sent.
pub(super) struct Sender {
    pub(super) open: Arc<Open>,
    pub(super) reign: Reigning,
    pub(super) sink: Sink,
    /// Up to where the follower has it.
    pub(super) acknowledged: watch::Receiver<LogOffset>,
    /// Up to where it was sent.
    pub(super) sent: LogOffset,
    pub(super) deletions: Deletions,
}

/// Which topics were deleted at which ends of the log, as it was last looked up.
#[derive(Default)]
pub(super) struct Deletions {
    as_of: Option<u64>,
    by_place: BTreeMap<LogOffset, Vec<String>>,
}

impl Deletions {
    /// Asks the store only if something changed: there may be as many as there were topics.
    fn refresh(&mut self, store: &Store) {
        let now = store.deletions();
        if self.as_of == Some(now) {
            return;
        }
        self.as_of = Some(now);
        self.by_place.clear();
        for (topic, place) in store.deleted_topics() {
            self.by_place.entry(place).or_default().push(topic);
        }
    }

    /// The first place behind this one.
    fn behind(&self, at: LogOffset) -> Option<LogOffset> {
        self.by_place.range((Bound::Excluded(at), Bound::Unbounded)).next().map(|(place, _)| *place)
    }
}

impl Sender {
    /// Sends until the follower is gone or the reign over.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let (mut state, mut told) = (self.send_everything().await?, LogOffset(0));
        let mut told_at = Instant::now();
        let mut min = self.open.store().state().min;
        let mut appended = self.open.appended.subscribe();
        let mut confirmed = self.open.confirmed.subscribe();
        let mut journal = self.reign.journal.watch();
        let mut pulse = tokio::time::interval(self.open.settings.lease.retry / 4);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while let Some((number, batch)) = self
                .reign
                .journal
                .after(state)
                .map_err(|Forgotten| anyhow::anyhow!("the follower is too far behind with the state"))?
            {
                let changes = control::StateChanges {
                    number,
                    anew: false,
                    more: false,
                    changes: wire::changes(&batch),
                };
                self.send(Tells::State(changes)).await?;
                state = number;
            }
            let window = self.sent.0.saturating_sub(self.acknowledged.borrow_and_update().0);
            let end = *appended.borrow_and_update();
            if self.sent < end && window < WINDOW_BYTES {
                self.send_stretch(end).await?;
            }
            let now_confirmed = *confirmed.borrow_and_update();
            if now_confirmed > told && told_at.elapsed() >= TELL_CONFIRMED_EVERY {
                (told, told_at) = (now_confirmed, Instant::now());
                self.pulse(told, min).await?;
            }
            let is_behind = self.sent < *appended.borrow();
            let is_full = self.sent.0.saturating_sub(self.acknowledged.borrow().0) >= WINDOW_BYTES;
            if is_behind && !is_full {
                continue;
            }
            let untold = now_confirmed > told;
            tokio::select! {
                changed = appended.changed() => changed?,
                changed = confirmed.changed(), if !untold => changed?,
                () = tokio::time::sleep_until(told_at + TELL_CONFIRMED_EVERY), if untold => {}
                changed = journal.changed() => changed?,
                changed = self.acknowledged.changed(), if is_full => changed.context("the follower is gone")?,
                _ = pulse.tick() => {
                    // Where nothing is appended behind a deletion it would not be told otherwise.
                    if self.sent == *appended.borrow() {
                        self.send_deletions().await?;
                    }
                    // Asking the store asks the system as well: from time to time, and not for each confirmation.
                    min = self.open.store().state().min;
                    (told, told_at) = (*confirmed.borrow_and_update(), Instant::now());
                    self.pulse(told, min).await?;
                }
                () = self.sink.closed() => anyhow::bail!("the follower is gone"),
            }
        }
    }

    async fn send(&self, tells: Tells) -> anyhow::Result<()> {
        let response = control::FollowResponse { response: Some(tells) };
        self.sink.send(Ok(response)).await.map_err(|_| anyhow::anyhow!("the follower is gone"))
    }

    async fn pulse(&self, confirmed: LogOffset, min: LogOffset) -> anyhow::Result<()> {
        let (epoch, confirmed, min) = (self.reign.epoch.0, confirmed.0, min.0);
        let log_end = self.open.appended.borrow().0;
        self.send(Tells::Pulse(control::Pulse { epoch, confirmed, min, log_end })).await
    }

    /// What was deleted where the follower's log ends. Made a second time it changes nothing.
    async fn send_deletions(&mut self) -> anyhow::Result<()> {
        self.deletions.refresh(self.open.store());
        let Some(topics) = self.deletions.by_place.get(&self.sent).cloned() else { return Ok(()) };
        self.send(Tells::Deleted(control::DeletedTopics { log_offset: self.sent.0, topics })).await
    }

    /// The next piece of the log, which ended here before.
    async fn send_stretch(&mut self, end: LogOffset) -> anyhow::Result<()> {
        let store = self.open.store().clone();
        let at = self.sent;
        // Deletions lie between records: the follower makes them where they were made here. The marks of those below `end`
        // are seen, and nothing behind it is read: there may be some by now.
        self.send_deletions().await?;
        let next = self.deletions.behind(at).map_or(end, |next| next.min(end));
        let most = STRETCH_BYTES.min((next.0 - at.0) as usize);
        let cold = at < store.hot_from();
        let stretch = if cold {
            let pause = Duration::from_secs_f64(STRETCH_BYTES as f64 / COLD_BYTES_PER_SECOND);
            let read = tokio::task::spawn_blocking(move || store.stretch(at, most));
            let (stretch, ()) = tokio::join!(read, tokio::time::sleep(pause));
            stretch.context("reading the log")??
        } else {
            store.stretch(at, most)?
        };
        let Stretch { bytes, next, damaged } = stretch;
        if next == at {
            return Ok(());
        }
        let stretch = control::LogStretch {
            epoch: self.reign.epoch.0,
            log_offset: at.0,
            crc32: crc32fast::hash(&bytes),
            bytes,
            damaged,
        };
        self.open.counts.sent_bytes.inc_by(stretch.bytes.len() as u64);
        self.send(Tells::Stretch(stretch)).await?;
        self.sent = next;
        Ok(())
    }

    /// All of the state; the number of the last change in it.
    async fn send_everything(&self) -> anyhow::Result<u64> {
        let meta = Arc::clone(self.open.meta());
        let (number, snapshot) = tokio::task::spawn_blocking(move || meta.snapshot()).await??;
        let (pass_on, mut parts) = mpsc::channel::<Vec<Change>>(2);
        let reading = tokio::task::spawn_blocking(move || {
            snapshot.read(STATE_BYTES, |part| pass_on.blocking_send(part).is_ok())
        });
        while let Some(part) = parts.recv().await {
            let changes =
                control::StateChanges { number, anew: true, more: true, changes: wire::changes(&part) };
            self.send(Tells::State(changes)).await?;
        }
        reading.await??;
        self.send(Tells::State(control::StateChanges {
            number,
            anew: true,
            more: false,
            changes: Vec::new(),
        }))
        .await?;
        Ok(number)
    }
}

/// The first thing that a follower hears.
pub(super) fn welcome(
    epoch: Epoch,
    way: replication::Way,
    history: &replication::History,
) -> control::FollowResponse {
    let (log_offset, anew) = match way {
        replication::Way::From(at) => (at.0, false),
        replication::Way::Anew(at) => (at.0, true),
    };
    let history = Some(wire::history(history));
    let welcome = control::Welcome { epoch: epoch.0, log_offset, anew, history };
    control::FollowResponse { response: Some(Tells::Welcome(welcome)) }
}
