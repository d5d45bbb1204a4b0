//! The service of the members of a group to each other.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use futures::Stream;
use parking_lot::Mutex;
use proto::control;
use proto::control::follow_request::Request as Asks;
use proto::control::replication_server::Replication;
use replication::{Epoch, Has, Ordinal, Role, Way};
use store::LogOffset;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::open::{Open, Reigning};
use super::sender::{Deletions, Sender, welcome};
use super::wire;

/// Messages to a follower that wait to be sent.
const WAITING_MESSAGES: usize = 8;

/// The service; it goes on while what is open changes.
#[derive(Clone)]
pub(crate) struct ReplicationDoor {
    inner: Arc<Inner>,
}

struct Inner {
    open: ArcSwapOption<Open>,
    /// The stream of each follower, so that a newer one ends the older.
    streams: Mutex<HashMap<Ordinal, (u64, CancellationToken)>>,
    count: AtomicU64,
    stop: CancellationToken,
}

impl ReplicationDoor {
    pub(super) fn new(stop: CancellationToken) -> Self {
        let inner =
            Inner { open: ArcSwapOption::empty(), streams: Mutex::default(), count: AtomicU64::new(0), stop };
        Self { inner: Arc::new(inner) }
    }

    /// From now on this is what is open; nothing: calls are to come again.
    pub(super) fn set(&self, open: Option<Arc<Open>>) {
        self.inner.open.store(open);
    }

    /// What was open; calls are to come again.
    pub(super) fn take(&self) -> Option<Arc<Open>> {
        self.inner.open.swap(None)
    }

    /// What is open.
    pub(super) fn opened(&self) -> Option<Arc<Open>> {
        self.inner.open.load_full()
    }

    /// Ends the streams of all followers.
    pub(super) fn end_streams(&self) {
        for (_, (_, stream)) in self.inner.streams.lock().drain() {
            stream.cancel();
        }
    }

    fn open(&self, group: &str) -> Result<Arc<Open>, Status> {
        let open = self.inner.open.load_full();
        let open = open.ok_or_else(|| Status::unavailable("the log is being opened: try again"))?;
        if !group.is_empty() && group != open.config.broker_name {
            let own = &open.config.broker_name;
            return Err(Status::invalid_argument(format!(
                "this is a member of {own}, not of {group}: check memberAddress"
            )));
        }
        Ok(open)
    }
}

/// To a follower that looks for the primary of this epoch.
fn not_reigning(open: &Open, epoch: Epoch) -> Status {
    if open.ask(|member| member.may_yet_reign(epoch)) {
        return Status::unavailable("this member does not reign yet: try again");
    }
    no_primary()
}

fn no_primary() -> Status {
    Status::failed_precondition("this member is not the primary")
}

/// Taken from the streams when it goes.
struct Registered {
    door: ReplicationDoor,
    open: Arc<Open>,
    ordinal: Ordinal,
    number: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut streams = self.door.inner.streams.lock();
        if streams.get(&self.ordinal).is_some_and(|(number, _)| *number == self.number) {
            streams.remove(&self.ordinal);
            drop(streams);
            tracing::info!(member = self.ordinal.0, "a follower is gone");
            self.open.tell(|member, now| member.follower_gone(now, self.ordinal));
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<control::FollowResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Replication for ReplicationDoor {
    type FollowStream = Answers;

    async fn follow(
        &self,
        request: Request<Streaming<control::FollowRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.and_then(|first| first.request);
        let Some(Asks::Hello(hello)) = first else {
            return Err(Status::invalid_argument("the first message is no hello"));
        };
        let open = self.open(&hello.group)?;
        let (Some(follower), Some(theirs)) =
            (wire::read_member(hello.member), wire::read_history(hello.history))
        else {
            return Err(Status::invalid_argument("the hello lacks its member or its history"));
        };
        let place = follower.ordinal;
        if place == open.me.ordinal || place.0 >= open.settings.members {
            return Err(Status::invalid_argument(format!(
                "no member {place} follows here: this is member {} of {}; check the ordinals and memberAddress",
                open.me.ordinal, open.settings.members
            )));
        }
        if hello.segment_bytes != open.store().segment_bytes() {
            let (own, its) = (open.store().segment_bytes(), hello.segment_bytes);
            return Err(Status::invalid_argument(format!(
                "files of the log have {its} bytes there and {own} here: all members of a group need the same segmentSize"
            )));
        }
        open.tell(|member, now| member.heard_epoch(now, Epoch(hello.epoch)));
        let reign = open.reigning().ok_or_else(|| not_reigning(&open, Epoch(hello.epoch)))?;
        if Epoch(hello.epoch) > reign.epoch {
            // Whoever knows of a later reign acknowledges nothing of this one. Whether there is one, the Lease says.
            return Err(Status::unavailable(format!(
                "this is the primary of reign {}, and the follower knows of reign {}: it reads the Lease, try again",
                reign.epoch, hello.epoch
            )));
        }
        if !matches!(open.ask(|member| member.role()), Role::Primary(epoch) if epoch == reign.epoch) {
            return Err(not_reigning(&open, Epoch(hello.epoch)));
        }
        let state = open.store().state();
        let (history, end) = (open.history(), LogOffset(hello.log_end));
        let way = match hello.log_begin == hello.log_end {
            // It has nothing: it can begin where this log does.
            true if end == state.min => Way::From(end),
            true => Way::Anew(state.min),
            false => history.way(state.min, state.appended, &theirs.up_to(end), end),
        };
        let (sink, answers) = mpsc::channel(WAITING_MESSAGES);
        let greeting = welcome(reign.epoch, way, &open.ask_reigns(|reigns| reigns.history()));
        sink.send(Ok(greeting)).await.map_err(|_| Status::cancelled("the follower is gone"))?;
        if way == Way::From(end) {
            tracing::info!(member = %follower, log_end = end.0, "a follower came");
            let stop = self.inner.stop.child_token();
            let number = self.inner.count.fetch_add(1, Ordering::Relaxed);
            let before = self.inner.streams.lock().insert(follower.ordinal, (number, stop.clone()));
            if let Some((_, before)) = before {
                before.cancel();
            }
            open.tell(|member, now| member.follower_connected(now, follower, Has { end, state: 0 }));
            let registered =
                Registered { door: self.clone(), open: Arc::clone(&open), ordinal: follower.ordinal, number };
            let (acknowledge, acknowledged) = watch::channel(end);
            let sender = Sender {
                open: Arc::clone(&open),
                reign: reign.clone(),
                sink,
                acknowledged,
                sent: end,
                deletions: Deletions::default(),
            };
            let tasks = open.tasks.clone();
            tasks.spawn(async move {
                let _registered = registered;
                tokio::select! {
                    ended = sender.run() => if let Err(error) = ended {
                        tracing::info!(member = follower.ordinal.0, %error, "a follower is not sent to any more");
                    },
                    () = acknowledgements(&open, &reign, follower.ordinal, requests, acknowledge) => {}
                    () = stop.cancelled() => {}
                }
            });
        }
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn introduce(
        &self,
        request: Request<control::IntroduceRequest>,
    ) -> Result<Response<control::IntroduceResponse>, Status> {
        let control::IntroduceRequest { group, epoch } = request.into_inner();
        let open = self.open(&group)?;
        open.tell(|member, now| member.heard_epoch(now, Epoch(epoch)));
        let (epoch, role) = open.ask(|member| (member.epoch(), member.role()));
        let end = open.store().state().appended;
        Ok(Response::new(control::IntroduceResponse {
            member: Some(wire::member(open.me)),
            epoch: epoch.0,
            primary: matches!(role, Role::Primary(_)),
            last_reign: open.history().last().0,
            log_end: end.0,
            confirmed: open.confirmed.borrow().0,
        }))
    }

    async fn hand_over(
        &self,
        request: Request<control::HandOverRequest>,
    ) -> Result<Response<control::HandOverResponse>, Status> {
        let to = request.into_inner().to.map(Ordinal);
        let open = self.open("")?;
        let reign = open.reigning().ok_or_else(no_primary)?;
        let Some(heir) = open.tell(|member, now| member.hand_over(now, to)) else {
            return Err(Status::failed_precondition(
                "no other in-sync member that is not fenced follows now: see its log",
            ));
        };
        // The door outlives the reign.
        let limit = open.settings.lease.duration;
        let mut lease = open.lease_changes();
        let over = lease.wait_for(|lease| {
            lease.as_ref().is_some_and(|lease| lease.epoch > reign.epoch || lease.holder.is_none())
        });
        match tokio::time::timeout(limit, over).await {
            Ok(Ok(_)) => Ok(Response::new(control::HandOverResponse { to: heir.0 })),
            _ => Err(Status::deadline_exceeded(
                "the other did not come level in time: this member goes on as the primary",
            )),
        }
    }
}

/// Hears what the follower has, until it is silent.
async fn acknowledgements(
    open: &Open,
    reign: &Reigning,
    ordinal: Ordinal,
    mut requests: Streaming<control::FollowRequest>,
    acknowledge: watch::Sender<LogOffset>,
) {
    let silence = open.settings.lease.retry * 2;
    loop {
        let acknowledgement = match tokio::time::timeout(silence, requests.next()).await {
            Ok(Some(Ok(control::FollowRequest {
                request: Some(Asks::Acknowledgement(acknowledgement)),
            }))) => acknowledgement,
            Ok(Some(Ok(_)) | None) => return,
            Ok(Some(Err(error))) => {
                tracing::info!(member = ordinal.0, %error, "the stream from a follower broke");
                return;
            }
            Err(_) => {
                tracing::info!(member = ordinal.0, "a follower is silent");
                return;
            }
        };
        let control::Acknowledgement { epoch, log_end, state, leaving } = acknowledgement;
        if Epoch(epoch) != reign.epoch {
            return;
        }
        acknowledge.send_replace(LogOffset(log_end));
        open.tell_often(|member, now| {
            member.follower_has(now, ordinal, Has { end: LogOffset(log_end), state })
        });
        if leaving {
            open.tell(|member, now| member.follower_leaves(now, ordinal));
        }
        open.settle();
    }
}
