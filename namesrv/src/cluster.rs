//! The route table in use: shared by the two front doors, with its clock, its streams and its warm-up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use proto::control::{self, ChangeReport, FullReport};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::ExpectedGroup;
use crate::metrics::Metrics;
use crate::table::{Invalid, Refused, Registration, Stays, StreamId, Table};

/// How often silence is looked for; far below any heartbeat.
const LOOK_FOR_SILENCE: Duration = Duration::from_millis(250);

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// What this name server knows, and whether it knows enough.
#[derive(Debug)]
pub(crate) struct Cluster {
    table: RwLock<Table>,
    /// Cut when the table drops a stream that is still open.
    open_streams: Mutex<HashMap<StreamId, CancellationToken>>,
    last_stream: AtomicU64,
    expected: Vec<ExpectedGroup>,
    warm_up_ends: Instant,
    /// Turns true once. An outage later is no reason to stop answering with what is there.
    warm: watch::Sender<bool>,
    stopping: CancellationToken,
    metrics: Metrics,
}

impl Cluster {
    pub(crate) fn new(
        expected: Vec<ExpectedGroup>,
        warm_up: Duration,
        stopping: CancellationToken,
        metrics: Metrics,
    ) -> Self {
        let warm = watch::Sender::new(expected.is_empty());
        Self {
            table: RwLock::default(),
            open_streams: Mutex::default(),
            last_stream: AtomicU64::new(0),
            expected,
            warm_up_ends: Instant::now() + warm_up,
            warm,
            stopping,
            metrics,
        }
    }

    /// Asks the table.
    pub(crate) fn ask<T>(&self, question: impl FnOnce(&Table) -> T) -> T {
        question(&self.table.read())
    }

    /// A new stream: its number, and the token that is cancelled when the table drops it.
    pub(crate) fn open_stream(&self) -> (StreamId, CancellationToken) {
        let stream = StreamId(self.last_stream.fetch_add(1, Ordering::Relaxed) + 1);
        let cut = CancellationToken::new();
        self.open_streams.lock().insert(stream, cut.clone());
        (stream, cut)
    }

    pub(crate) fn register(&self, stream: StreamId, report: FullReport) -> Result<(), Error> {
        let registration = Registration::parse(report)?;
        let (member, epoch) = (registration.member.clone(), registration.epoch);
        let displaced = self.table.write().register(Instant::now().into_std(), stream, registration)?;
        tracing::info!(%member, epoch, "broker registered");
        if let Some(displaced) = displaced.filter(|displaced| *displaced != stream) {
            tracing::info!(%member, epoch, "an older registration of this broker is displaced");
            self.cut(displaced);
        }
        self.count();
        self.warm_up();
        Ok(())
    }

    pub(crate) fn change(&self, stream: StreamId, change: ChangeReport) -> Result<(), Error> {
        Registration::check_change(&change)?;
        self.table.write().change(Instant::now().into_std(), stream, change)?;
        self.count();
        Ok(())
    }

    pub(crate) fn heartbeat(&self, stream: StreamId) -> Result<(), Error> {
        Ok(self.table.write().heartbeat(Instant::now().into_std(), stream)?)
    }

    /// The stream is over. While this name server stops it goes on answering with what it knew.
    pub(crate) fn close_stream(&self, stream: StreamId) {
        self.open_streams.lock().remove(&stream);
        if self.stopping.is_cancelled() {
            return;
        }
        match self.table.write().end(Instant::now().into_std(), stream) {
            Some((member, Stays::No)) => tracing::info!(%member, "broker left: its stream ended"),
            Some((member, Stays::UntilAnotherReigns)) => {
                tracing::info!(%member, "the stream of a primary ended: it stays on the routes until another reigns");
            }
            None => {}
        }
        self.count();
    }

    /// Takes silent brokers off, until the stop.
    pub(crate) async fn watch_for_silence(&self) {
        let mut look = tokio::time::interval(LOOK_FOR_SILENCE);
        while self.stopping.run_until_cancelled(look.tick()).await.is_some() {
            let gone = self.table.write().expire(Instant::now().into_std());
            for (stream, member) in &gone {
                tracing::warn!(%member, "broker taken off the routes: it was silent for three heartbeats");
                if let Some(stream) = stream {
                    self.cut(*stream);
                }
            }
            if !gone.is_empty() {
                self.count();
            }
            self.warm_up();
        }
    }

    fn cut(&self, stream: StreamId) {
        if let Some(cut) = self.open_streams.lock().get(&stream) {
            cut.cancel();
        }
    }

    fn count(&self) {
        let (members, topics) = self.ask(|table| (table.member_count(), table.topic_count()));
        self.metrics.show_table(members, topics);
    }

    /// The expected groups without a primary now.
    pub(crate) fn missing(&self) -> Vec<&ExpectedGroup> {
        let table = self.table.read();
        self.expected.iter().filter(|group| !table.has_primary(&group.cluster, &group.broker_name)).collect()
    }

    fn warm_up(&self) {
        if *self.warm.borrow() {
            return;
        }
        let missing = self.missing();
        if missing.is_empty() {
            tracing::info!("every expected broker group is registered");
        } else if Instant::now() >= self.warm_up_ends {
            let missing: Vec<String> = missing.into_iter().map(ExpectedGroup::to_string).collect();
            tracing::warn!(?missing, "the warm-up time is over: serving without these broker groups");
        } else {
            return;
        }
        self.warm.send_replace(true);
    }

    pub(crate) fn is_warm(&self) -> bool {
        *self.warm.borrow()
    }

    /// Waits until this name server knows enough to be asked.
    pub(crate) async fn warm(&self) {
        // The sender lives as long as `self`.
        self.warm.subscribe().wait_for(|warm| *warm).await.ok();
    }

    /// Why not to ask this name server; nothing when all is well.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        if self.stopping.is_cancelled() {
            return vec!["stopping".to_owned()];
        }
        if self.is_warm() {
            return Vec::new();
        }
        self.missing()
            .into_iter()
            .map(|group| format!("waiting for broker group {group} to register"))
            .collect()
    }

    pub(crate) fn describe(
        &self,
        certificate: Option<control::CertificateState>,
    ) -> control::DescribeClusterResponse {
        control::DescribeClusterResponse {
            brokers: self.ask(Table::describe),
            warm: self.is_warm(),
            missing_groups: self.missing().into_iter().map(ExpectedGroup::to_string).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            certificate,
        }
    }
}
