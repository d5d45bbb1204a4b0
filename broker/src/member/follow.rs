//! Being a replica: the primary's log and state, copied as they come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use proto::control;
use proto::control::follow_request::Request as Asks;
use proto::control::follow_response::Response as Tells;
use proto::control::replication_client::ReplicationClient;
use replication::{Doubt, Epoch, Has, Ordinal, Stream};
use store::{FlushFailed, LogOffset};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Code, Streaming};

use super::open::Open;
use super::wire;

/// Messages of the primary that wait to be written.
const WAITING_MESSAGES: usize = 64;
/// From one attempt to connect to the next.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const LARGEST_MESSAGE_BYTES: usize = 160 << 20;

/// What the primary says of this member's log that needs it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reshape {
    /// It must end here.
    CutTo(LogOffset),
    /// It must begin here, empty.
    BeginAt(LogOffset),
}

/// A replica at work.
pub(super) struct Following {
    stop: CancellationToken,
    leaving: CancellationToken,
    running: JoinHandle<()>,
    reshape: oneshot::Receiver<Reshape>,
}

impl Following {
    /// Follows this member until told otherwise.
    pub(super) fn start(open: &Arc<Open>, primary: Ordinal) -> Self {
        let (stop, leaving) = (CancellationToken::new(), CancellationToken::new());
        let (tell, reshape) = oneshot::channel();
        let follower =
            Follower { open: Arc::clone(open), primary, stop: stop.clone(), leaving: leaving.clone() };
        Self { stop, leaving, running: open.tasks.spawn(follower.run(tell)), reshape }
    }

    /// Says goodbye: the primary is to take this member out of the set before it stops.
    pub(super) fn leave(&self) {
        self.leaving.cancel();
    }

    /// Takes nothing of the primary any more. When it returns nothing is under way.
    pub(super) async fn freeze(mut self) {
        self.stop.cancel();
        if let Err(error) = (&mut self.running).await {
            tracing::error!(%error, "following died");
        }
    }

    /// Waits until the log must be reshaped.
    pub(super) async fn reshape(&mut self) -> Reshape {
        match (&mut self.reshape).await {
            Ok(reshape) => reshape,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Follower {
    open: Arc<Open>,
    primary: Ordinal,
    stop: CancellationToken,
    leaving: CancellationToken,
}

/// How one attempt ended.
enum Ended {
    Reshape(Reshape),
    /// The stream is in this state.
    Stream(Stream, anyhow::Error),
}

/// What a connection begins with.
enum Begun {
    Reshape(Reshape),
    Copy(Box<Copying>),
}

/// A stream that brings the primary's log.
struct Copying {
    epoch: Epoch,
    /// Where the primary's reign began.
    began: LogOffset,
    tells: Streaming<control::FollowResponse>,
    acknowledge: mpsc::Sender<control::FollowRequest>,
    silence: Duration,
}

impl Follower {
    async fn run(self, tell: oneshot::Sender<Reshape>) {
        let mut told = String::new();
        loop {
            // Not dropped at a stop: what was received is written first.
            let ended = self.follow().await;
            if self.stop.is_cancelled() {
                return;
            }
            match ended {
                Ended::Reshape(reshape) => {
                    // Whoever waited is gone only if this is to stop.
                    let _ = tell.send(reshape);
                    return;
                }
                Ended::Stream(stream, error) => {
                    let text = format!("{error:#}");
                    if text != told {
                        tracing::info!(primary = self.primary.0, error = text, "not following the primary");
                        told = text;
                    }
                    self.open.tell(|member, now| member.stream(now, stream));
                }
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(AGAIN_AFTER)).await.is_none() {
                return;
            }
        }
    }

    /// One attempt, as long as it lasts.
    async fn follow(&self) -> Ended {
        let lost = |error: anyhow::Error| Ended::Stream(Stream::Lost, error);
        let address = self.open.settings.address_of(self.primary.0);
        let limit = self.open.settings.lease.retry;
        // A plain connection first: it tells a process that is gone from a machine that is silent.
        let silent = |error: anyhow::Error| Ended::Stream(Stream::Silent, error);
        match tokio::time::timeout(limit, TcpStream::connect(&address)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ended::Stream(Stream::Refused, error.into());
            }
            Ok(Err(error)) => return silent(anyhow::Error::from(error).context(address)),
            Err(_) => return silent(anyhow::anyhow!("{address} does not answer")),
        }
        let begun = self.stop.run_until_cancelled(self.begin(&address, limit)).await;
        let outcome = match begun.unwrap_or_else(|| Err(anyhow::anyhow!("asked to stop"))) {
            Ok(Begun::Reshape(reshape)) => return Ended::Reshape(reshape),
            Ok(Begun::Copy(copying)) => self.copy(*copying).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => lost(anyhow::anyhow!("the primary ended the stream")),
            Err(error) => {
                let refused = error.downcast_ref::<tonic::Status>();
                let refused = refused.is_some_and(|status| status.code() == Code::FailedPrecondition);
                Ended::Stream(if refused { Stream::Refused } else { Stream::Lost }, error)
            }
        }
    }

    async fn begin(&self, address: &str, limit: Duration) -> anyhow::Result<Begun> {
        let open = &self.open;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(limit)
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .tcp_nodelay(true);
        let channel = endpoint.connect().await?;
        let mut client = ReplicationClient::new(channel)
            .max_decoding_message_size(LARGEST_MESSAGE_BYTES)
            .max_encoding_message_size(LARGEST_MESSAGE_BYTES);
        let (acknowledge, requests) = mpsc::channel(16);
        let state = open.store().state();
        let end = state.appended;
        let hello = control::Hello {
            group: open.config.broker_name.clone(),
            member: Some(wire::member(open.me)),
            epoch: open.ask(|member| member.epoch()).0,
            history: Some(wire::history(&open.history())),
            log_begin: state.min.0,
            log_end: end.0,
            segment_bytes: open.store().segment_bytes(),
        };
        acknowledge.send(control::FollowRequest { request: Some(Asks::Hello(hello)) }).await?;
        let answer = tokio::time::timeout(limit, client.follow(ReceiverStream::new(requests)));
        let mut tells = answer.await.context("the primary does not answer")??.into_inner();
        // The primary speaks several times in this while, if only to say that it is there.
        let silence = limit * 2;
        let first =
            tokio::time::timeout(silence, tells.message()).await.context("the primary is silent")??;
        let Some(Tells::Welcome(welcome)) = first.and_then(|first| first.response) else {
            anyhow::bail!("the primary does not begin with a welcome")
        };
        let epoch = Epoch(welcome.epoch);
        self.until_known(epoch, limit).await?;
        let history = wire::read_history(welcome.history).context("the primary's history is none")?;
        let at = LogOffset(welcome.log_offset);
        if welcome.anew {
            return Ok(Begun::Reshape(Reshape::BeginAt(at)));
        }
        anyhow::ensure!(at <= end, "the primary wants to go on behind this log's end");
        let confirmed = open.store().confirmed();
        if at < confirmed {
            // Only an unclean promotion leads here in Sync mode.
            tracing::error!(
                primary = self.primary.0,
                epoch = epoch.0,
                log_offset = at.0,
                confirmed = confirmed.0,
                "the primary lacks what was acknowledged, and it is given up here too"
            );
        }
        if at < state.min {
            // Of what both have nothing is left here: the file of the log in which they part is copied whole.
            let bytes = open.store().segment_bytes();
            return Ok(Begun::Reshape(Reshape::BeginAt(LogOffset(at.0 / bytes * bytes))));
        }
        if at < end {
            return Ok(Begun::Reshape(Reshape::CutTo(at)));
        }
        let began = history.starts.last().map_or(LogOffset(0), |start| start.at);
        let adopting = Arc::clone(open);
        let adopt = move || adopting.ask_reigns(|reigns| reigns.adopt(epoch, &history));
        tokio::task::spawn_blocking(adopt).await?.context("the epoch cannot be written down")?;
        open.tell(|member, now| member.stream(now, Stream::Up));
        tracing::info!(primary = self.primary.0, epoch = epoch.0, log_end = end.0, "following the primary");
        Ok(Begun::Copy(Box::new(Copying { epoch, began, tells, acknowledge, silence })))
    }

    /// Waits until the Lease says that there is this reign: anybody may answer at an address.
    async fn until_known(&self, epoch: Epoch, limit: Duration) -> anyhow::Result<()> {
        let open = &self.open;
        let mut lease = open.lease_changes();
        open.tell(|member, now| member.heard_epoch(now, epoch));
        let known = lease.wait_for(|_| open.ask(|member| member.epoch()) >= epoch);
        tokio::time::timeout(limit, known).await.map_err(|_| {
            anyhow::anyhow!("the Lease says nothing of reign {epoch}, of which it is the primary")
        })??;
        anyhow::ensure!(epoch == open.ask(|member| member.epoch()), "it is the primary of an earlier reign");
        Ok(())
    }

    /// Copies until the stream breaks.
    async fn copy(&self, copying: Copying) -> anyhow::Result<()> {
        let Copying { epoch, began, mut tells, acknowledge, silence } = copying;
        let (pass_on, messages) = mpsc::channel(WAITING_MESSAGES);
        let end = self.open.store().durable();
        let (has, had) =
            watch::channel(control::Acknowledgement { epoch: epoch.0, log_end: end.0, ..Default::default() });
        let copier = Copier { open: Arc::clone(&self.open), epoch, began, messages, has, state: 0 };
        let mut writing = tokio::task::spawn_blocking(move || copier.run());
        let received = async {
            loop {
                let message = tokio::time::timeout(silence, tells.message());
                let message = message.await.context("the primary is silent")??;
                let Some(message) = message else { return Ok(()) };
                if pass_on.send(message).await.is_err() {
                    // The writer ended, and says why.
                    return std::future::pending().await;
                }
            }
        };
        let outcome = tokio::select! {
            outcome = received => outcome,
            () = acknowledgements(had, acknowledge, silence / 4, &self.leaving) => Ok(()),
            written = &mut writing => return written.context("copying died")?,
            () = self.stop.cancelled() => Ok(()),
        };
        // What was received is written, and then nothing is under way.
        drop(pass_on);
        writing.await.context("copying died")??;
        outcome
    }
}

/// Tells the primary what this member has, when that changes and from time to time: writing may take longer than the primary
/// waits for a sign of life. Ends with the stream.
async fn acknowledgements(
    mut has: watch::Receiver<control::Acknowledgement>,
    tell: mpsc::Sender<control::FollowRequest>,
    every: Duration,
    leaving: &CancellationToken,
) {
    loop {
        let mut acknowledgement = *has.borrow_and_update();
        acknowledgement.leaving = leaving.is_cancelled();
        let request = control::FollowRequest { request: Some(Asks::Acknowledgement(acknowledgement)) };
        if tell.send(request).await.is_err() {
            return;
        }
        tokio::select! {
            // A timeout: nothing changed, and that is told, too.
            changed = tokio::time::timeout(every, has.changed()) => if let Ok(Err(_)) = changed {
                // The writer ended, and says why.
                return std::future::pending().await;
            },
            () = leaving.cancelled(), if !acknowledgement.leaving => {}
        }
    }
}

/// Writes what comes; blocks on the disk.
struct Copier {
    open: Arc<Open>,
    epoch: Epoch,
    began: LogOffset,
    messages: mpsc::Receiver<control::FollowResponse>,
    has: watch::Sender<control::Acknowledgement>,
    state: u64,
}

impl Copier {
    fn run(mut self) -> anyhow::Result<()> {
        while let Some(message) = self.messages.blocking_recv() {
            self.take(message)?;
            // One acknowledgement for all that is there, but not for all that will ever come.
            for _ in 0..WAITING_MESSAGES {
                let Ok(message) = self.messages.try_recv() else { break };
                self.take(message)?;
            }
            self.durable()?;
            let Has { end, state } = Has { end: self.open.store().durable(), state: self.state };
            self.open.tell_often(|member, now| member.own(now, self.epoch, Has { end, state }));
            let acknowledgement = control::Acknowledgement {
                epoch: self.epoch.0,
                log_end: end.0,
                state,
                ..control::Acknowledgement::default()
            };
            self.has.send_replace(acknowledgement);
        }
        Ok(())
    }

    fn take(&mut self, message: control::FollowResponse) -> anyhow::Result<()> {
        let store = self.open.store();
        match message.response {
            Some(Tells::Stretch(stretch)) => {
                anyhow::ensure!(Epoch(stretch.epoch) == self.epoch, "a stretch of another reign");
                anyhow::ensure!(
                    crc32fast::hash(&stretch.bytes) == stretch.crc32,
                    "a stretch was damaged on its way"
                );
                self.open.counts.received_bytes.inc_by(stretch.bytes.len() as u64);
                store.append_stretch(LogOffset(stretch.log_offset), &stretch.bytes, stretch.damaged)?;
            }
            Some(Tells::Deleted(deleted)) => {
                let end = store.state().appended;
                anyhow::ensure!(
                    end == LogOffset(deleted.log_offset),
                    "topics were deleted elsewhere than here"
                );
                store.delete_topics(deleted.topics.iter().map(String::as_str));
            }
            Some(Tells::State(changes)) => self.take_changes(changes)?,
            Some(Tells::Pulse(pulse)) => {
                anyhow::ensure!(Epoch(pulse.epoch) == self.epoch, "a pulse of another reign");
                let (confirmed, end) = (LogOffset(pulse.confirmed), store.durable());
                self.open.keeper.heard(LogOffset(pulse.min));
                let own = *self.open.appended.borrow();
                self.open.behind.lock().heard(self.open.now(), LogOffset(pulse.log_end), own);
                store.confirm_to(confirmed.min(end));
                self.open.confirmed_to(confirmed.min(end));
                let doubt = self.open.tell_often(|member, _| {
                    member.told(confirmed, self.began, end);
                    member.doubt()
                });
                if doubt == Doubt::None && store.was_interrupted() {
                    store
                        .trust_end()
                        .context("what was lost is here again, and that cannot be written down")?;
                }
            }
            Some(Tells::Welcome(_)) | None => {
                anyhow::bail!("the primary says something that this version does not know")
            }
        }
        Ok(())
    }

    fn take_changes(&mut self, first: control::StateChanges) -> anyhow::Result<()> {
        let read = |changes| {
            wire::read_changes(changes)
                .context("the primary's state has tables that this version does not know")
        };
        if !first.anew {
            anyhow::ensure!(first.number == self.state + 1, "changes of the state are missing");
            self.open.meta().apply(&read(first.changes)?)?;
            self.state = first.number;
            return Ok(());
        }
        let number = first.number;
        let (mut part, mut more) = (Some(first), true);
        let messages = &mut self.messages;
        self.open.meta().replace(|| {
            if !more {
                return None;
            }
            let broken = |what: &str| Some(Err(io::Error::other(format!("the primary's state {what}"))));
            let next = match part.take() {
                Some(part) => part,
                None => match messages.blocking_recv().and_then(|message| message.response) {
                    Some(Tells::State(part)) if part.anew && part.number == number => part,
                    // It says that it is there.
                    Some(Tells::Pulse(_)) => return Some(Ok(Vec::new())),
                    _ => return broken("broke off"),
                },
            };
            more = next.more;
            wire::read_changes(next.changes).map_or_else(
                || broken("has tables that this version does not know"),
                |changes| Some(Ok(changes)),
            )
        })?;
        self.state = number;
        Ok(())
    }

    /// Waits until what was appended is durable as the group's flush mode asks.
    fn durable(&self) -> Result<(), FlushFailed> {
        let store = self.open.store();
        let end = *self.open.appended.borrow();
        if store.durable() >= end {
            return Ok(());
        }
        let (tell, durable) = std::sync::mpsc::channel();
        let then = move |outcome| {
            // Whoever waited is gone only if the process ends.
            let _ = tell.send(outcome);
        };
        store.on_durable(end, Box::new(then));
        durable.recv().unwrap_or_else(|_| Err(FlushFailed("the store was closed".to_owned())))
    }
}
