//! The clients' door. A name server owns routes, assignments, settings and heartbeats; messages are
//! with the brokers, and whoever asks for them here is told so.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use access::client::ClientIdentity;
use access::filter::Filters;
use access::names::{GroupName, TopicName};
use access::settings::{self, Facts, GroupFacts};
use access::status::{self, Refusal};
use access::{ListenerName, RecallHandle, TransactionId, hop, route, telemetry};
use futures::{Stream, stream};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::messaging_service_server::MessagingService;
use proto::v2::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Streaming};

use crate::cluster::Cluster;
use crate::forward::Brokers;
use crate::metrics::Metrics;

/// What brokers take unless configured; they check, this is what clients are told beforehand.
const MAX_BODY_BYTES: u32 = 4 << 20;
/// Nothing is sent to clients by a name server but answers; the channel must exist all the same.
const COMMANDS: usize = 1;

type Answer<T> = Result<Response<T>, tonic::Status>;
type AnswerStream<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// The service `apache.rocketmq.v2.MessagingService`.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) brokers: Arc<Brokers>,
    pub(crate) filters: Filters,
    pub(crate) metrics: Metrics,
    pub(crate) via: Via,
    /// Whose turn it is to take messages that another broker does not.
    pub(crate) turn: Arc<AtomicUsize>,
    pub(crate) stop: CancellationToken,
}

/// By which listener calls come to a door.
#[derive(Debug, Clone)]
pub(crate) enum Via {
    /// It is the door of this one; `None`: of `internal`.
    Listener(Option<ListenerName>),
    /// As whoever passes a client's call on says.
    Hop,
}

impl Via {
    fn of(&self, metadata: &MetadataMap) -> Option<ListenerName> {
        match self {
            Self::Listener(listener) => listener.clone(),
            Self::Hop => hop::came_by(metadata),
        }
    }
}

impl Door {
    fn route(
        &self,
        client: &ClientIdentity,
        via: Option<&ListenerName>,
        asked: Option<&Resource>,
    ) -> Result<QueryRouteResponse, Refusal> {
        let topic = TopicName::of(asked, client)?;
        let asked = asked.cloned().unwrap_or_default();
        let (queues, hidden_at) = self
            .cluster
            .ask(|table| (table.queues(&asked, topic.as_str(), via), table.hidden_at(via, topic.as_str())));
        Ok(route::route_answer(client, &topic, queues, hidden_at))
    }

    fn assignment(
        &self,
        client: &ClientIdentity,
        via: Option<&ListenerName>,
        request: &QueryAssignmentRequest,
    ) -> Result<QueryAssignmentResponse, Refusal> {
        let topic = TopicName::of(request.topic.as_ref(), client)?;
        let group = GroupName::of(request.group.as_ref(), client)?;
        let asked = request.topic.clone().unwrap_or_default();
        let (assignments, hidden_at) = self.cluster.ask(|table| {
            let ordered = table.group(group.as_str()).is_some_and(|group| group.ordered);
            let assignments = table.assignments(&asked, topic.as_str(), ordered, via);
            (assignments, table.hidden_at(via, topic.as_str()))
        });
        let exists = assignments.is_some();
        let assignments = assignments.unwrap_or_default();
        Ok(route::assignment_answer(client, &topic, exists, assignments, hidden_at))
    }
}

impl Door {
    /// For a broker that takes no messages of the topic any more: a broker that does takes them.
    async fn send_elsewhere(&self, request: Request<SendMessageRequest>) -> SendMessageResponse {
        let (metadata, _, request) = request.into_parts();
        let count = request.messages.len();
        let refused = |refusal: Refusal| {
            let status = refusal.status(&ClientIdentity::of(&metadata));
            let entry = SendResultEntry { status: Some(status.clone()), ..SendResultEntry::default() };
            SendMessageResponse { status: Some(status), entries: vec![entry; count] }
        };
        let broker = ClientIdentity::named(&metadata).and_then(|client| self.who_takes(&client, &request));
        match broker {
            Ok(broker) => {
                let call =
                    async |mut broker: MessagingServiceClient<Channel>, hop| broker.send_message(hop).await;
                let answer = self.brokers.ask(&self.cluster, &broker, &metadata, request, call).await;
                answer.unwrap_or_else(refused)
            }
            Err(refusal) => refused(refusal),
        }
    }

    /// Messages of a message group go to the same one, so that they stay in order.
    fn who_takes(&self, client: &ClientIdentity, request: &SendMessageRequest) -> Result<String, Refusal> {
        let first = request.messages.first();
        let topic = TopicName::of(first.and_then(|first| first.topic.as_ref()), client)?;
        let brokers = self.cluster.ask(|table| table.brokers_that_take(topic.as_str()));
        let system = first.and_then(|first| first.system_properties.as_ref());
        let turn = match system.and_then(|system| system.message_group.as_ref()) {
            Some(group) => {
                let mut hasher = DefaultHasher::new();
                group.hash(&mut hasher);
                hasher.finish() as usize
            }
            None => self.turn.fetch_add(1, Ordering::Relaxed),
        };
        let which = turn.checked_rem(brokers.len()).and_then(|which| brokers.into_iter().nth(which));
        which.ok_or_else(|| {
            let sentence = format!(
                "no broker takes messages of topic {topic}: make it writable, or send to another one"
            );
            Refusal::new(Code::Forbidden, sentence)
        })
    }

    /// Every broker that has the parent topic must know what the client holds: each may get messages of it. The answer is
    /// the first that is not good; whoever did as asked does so again when the client repeats it.
    async fn hold_lite(&self, request: Request<SyncLiteSubscriptionRequest>) -> Status {
        let (metadata, _, request) = request.into_parts();
        let client = ClientIdentity::of(&metadata);
        let topic = ClientIdentity::named(&metadata)
            .and_then(|client| TopicName::of(request.topic.as_ref(), &client));
        let topic = match topic {
            Ok(topic) => topic,
            Err(refusal) => return refusal.status(&client),
        };
        let brokers = self.cluster.ask(|table| table.brokers_with(topic.as_str()));
        if brokers.is_empty() {
            return route::no_topic(&client, &topic);
        }
        let call =
            async |mut broker: MessagingServiceClient<Channel>, hop| broker.sync_lite_subscription(hop).await;
        let answers = brokers
            .iter()
            .map(|broker| self.brokers.ask(&self.cluster, broker, &metadata, request.clone(), call));
        let answers = futures::future::join_all(answers).await.into_iter().map(|answer| match answer {
            Ok(SyncLiteSubscriptionResponse { status }) => status.unwrap_or_default(),
            Err(refusal) => refusal.status(&client),
        });
        let mut bad = answers.filter(|status| status.code() != Code::Ok);
        bad.next().unwrap_or_else(status::ok)
    }
}

/// Answers settings with what brokers registered of the client's group.
struct Desk {
    cluster: Arc<Cluster>,
    filters: Filters,
}

impl telemetry::Desk for Desk {
    fn settings(&self, client: &ClientIdentity, settings: Settings) -> Result<TelemetryCommand, Refusal> {
        let group = settings::group_of(client, &settings)?;
        let known = group
            .and_then(|group| self.cluster.ask(|table| table.group(group.as_str()).map(GroupFacts::from)));
        let facts = Facts { max_body_bytes: MAX_BODY_BYTES, group: known.unwrap_or_default() };
        Ok(settings::answer(client, settings, &facts, &self.filters)?.command)
    }

    fn reported(&self, client: &ClientIdentity, _: TelemetryCommand) {
        tracing::debug!(client = client.id, "a client reports on a command that was not sent");
    }
}

fn answered(metadata: &MetadataMap, outcome: Result<(), Refusal>) -> Status {
    outcome.map_or_else(|refusal| refusal.status(&ClientIdentity::of(metadata)), |()| status::ok())
}

/// For what a name server cannot do.
fn with_a_broker<T>(request: &Request<T>, call: &str) -> Status {
    let sentence =
        format!("a name server keeps no messages: call {call} at the endpoints of a broker in QueryRoute");
    status::for_client(&ClientIdentity::of(request.metadata()), Code::NotImplemented, &sentence)
}

#[tonic::async_trait]
impl MessagingService for Door {
    type ReceiveMessageStream = AnswerStream<ReceiveMessageResponse>;
    type PullMessageStream = AnswerStream<PullMessageResponse>;
    type TelemetryStream = AnswerStream<TelemetryCommand>;

    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Answer<QueryRouteResponse> {
        let client = ClientIdentity::of(request.metadata());
        let via = self.via.of(request.metadata());
        let answer = ClientIdentity::named(request.metadata())
            .and_then(|client| self.route(&client, via.as_ref(), request.get_ref().topic.as_ref()))
            .unwrap_or_else(|refusal| QueryRouteResponse {
                status: Some(refusal.status(&client)),
                message_queues: Vec::new(),
            });
        self.metrics.count_route(client.language, answer.status.as_ref());
        Ok(Response::new(answer))
    }

    async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> Answer<QueryAssignmentResponse> {
        let client = ClientIdentity::of(request.metadata());
        let via = self.via.of(request.metadata());
        let answer = ClientIdentity::named(request.metadata())
            .and_then(|client| self.assignment(&client, via.as_ref(), request.get_ref()))
            .unwrap_or_else(|refusal| QueryAssignmentResponse {
                status: Some(refusal.status(&client)),
                assignments: Vec::new(),
            });
        self.metrics.count_assignment(client.language, answer.status.as_ref());
        Ok(Response::new(answer))
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Answer<Self::TelemetryStream> {
        let client = ClientIdentity::named(request.metadata()).map_err(|refusal| refusal.on_stream())?;
        let (sender, commands) = mpsc::channel(COMMANDS);
        let desk = Arc::new(Desk { cluster: self.cluster.clone(), filters: self.filters.clone() });
        let counted = (sender, self.metrics.telemetry_opened());
        let inbound = request.into_inner();
        let session = telemetry::session(client, inbound, commands, desk, self.stop.clone(), counted);
        Ok(Response::new(Box::pin(session)))
    }

    /// Nothing here depends on who is alive.
    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        let heard = ClientIdentity::of_heartbeat(request.metadata(), request.get_ref()).map(drop);
        Ok(Response::new(HeartbeatResponse { status: Some(answered(request.metadata(), heard)) }))
    }

    async fn notify_client_termination(
        &self,
        request: Request<NotifyClientTerminationRequest>,
    ) -> Answer<NotifyClientTerminationResponse> {
        let heard = ClientIdentity::named(request.metadata()).map(drop);
        let status = Some(answered(request.metadata(), heard));
        Ok(Response::new(NotifyClientTerminationResponse { status }))
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        if matches!(self.via, Via::Hop) {
            return Ok(Response::new(self.send_elsewhere(request).await));
        }
        let status = Some(with_a_broker(&request, "SendMessage"));
        Ok(Response::new(SendMessageResponse { status, entries: Vec::new() }))
    }

    async fn receive_message(
        &self,
        request: Request<ReceiveMessageRequest>,
    ) -> Answer<Self::ReceiveMessageStream> {
        use receive_message_response::Content;
        let status = Content::Status(with_a_broker(&request, "ReceiveMessage"));
        let now = Content::DeliveryTimestamp(std::time::SystemTime::now().into());
        let answers = [status, now].map(|content| Ok(ReceiveMessageResponse { content: Some(content) }));
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    async fn ack_message(&self, request: Request<AckMessageRequest>) -> Answer<AckMessageResponse> {
        let status = with_a_broker(&request, "AckMessage");
        // One entry for each that was sent: Rust looks at the first without asking.
        let entries = request.into_inner().entries.into_iter().map(|entry| AckMessageResultEntry {
            message_id: entry.message_id,
            receipt_handle: entry.receipt_handle,
            status: Some(status.clone()),
        });
        Ok(Response::new(AckMessageResponse { entries: entries.collect(), status: Some(status) }))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<ForwardMessageToDeadLetterQueueResponse> {
        let status = Some(with_a_broker(&request, "ForwardMessageToDeadLetterQueue"));
        Ok(Response::new(ForwardMessageToDeadLetterQueueResponse { status }))
    }

    async fn pull_message(&self, request: Request<PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        let status = pull_message_response::Content::Status(with_a_broker(&request, "PullMessage"));
        let answers = [Ok(PullMessageResponse { content: Some(status) })];
        Ok(Response::new(Box::pin(stream::iter(answers))))
    }

    async fn update_offset(&self, request: Request<UpdateOffsetRequest>) -> Answer<UpdateOffsetResponse> {
        Ok(Response::new(UpdateOffsetResponse { status: Some(with_a_broker(&request, "UpdateOffset")) }))
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Answer<GetOffsetResponse> {
        let status = Some(with_a_broker(&request, "GetOffset"));
        Ok(Response::new(GetOffsetResponse { status, offset: 0 }))
    }

    async fn query_offset(&self, request: Request<QueryOffsetRequest>) -> Answer<QueryOffsetResponse> {
        let status = Some(with_a_broker(&request, "QueryOffset"));
        Ok(Response::new(QueryOffsetResponse { status, offset: 0 }))
    }

    async fn end_transaction(
        &self,
        request: Request<EndTransactionRequest>,
    ) -> Answer<EndTransactionResponse> {
        let (metadata, _, request) = request.into_parts();
        let answer = match TransactionId::parse(&request.transaction_id) {
            None => Err(Refusal::new(
                Code::InvalidTransactionId,
                "no broker made this transaction id: use the one that came with the message",
            )),
            Some(id) => {
                let call = async |mut broker: MessagingServiceClient<Channel>, hop| {
                    broker.end_transaction(hop).await
                };
                self.brokers.ask(&self.cluster, &id.broker, &metadata, request, call).await
            }
        };
        let refused = |refusal: Refusal| EndTransactionResponse {
            status: Some(refusal.status(&ClientIdentity::of(&metadata))),
        };
        Ok(Response::new(answer.unwrap_or_else(refused)))
    }

    async fn change_invisible_duration(
        &self,
        request: Request<ChangeInvisibleDurationRequest>,
    ) -> Answer<ChangeInvisibleDurationResponse> {
        let status = Some(with_a_broker(&request, "ChangeInvisibleDuration"));
        // Clients take the handle before they look at the status: they keep theirs.
        let receipt_handle = request.into_inner().receipt_handle;
        Ok(Response::new(ChangeInvisibleDurationResponse { status, receipt_handle }))
    }

    async fn recall_message(&self, request: Request<RecallMessageRequest>) -> Answer<RecallMessageResponse> {
        let (metadata, _, request) = request.into_parts();
        let answer = match RecallHandle::parse(&request.recall_handle) {
            None => Err(Refusal::new(
                Code::InternalServerError,
                "no broker made this recall handle: use the one that came with the message",
            )),
            Some(handle) => {
                let call =
                    async |mut broker: MessagingServiceClient<Channel>, hop| broker.recall_message(hop).await;
                self.brokers.ask(&self.cluster, &handle.broker, &metadata, request, call).await
            }
        };
        let refused = |refusal: Refusal| RecallMessageResponse {
            status: Some(refusal.status(&ClientIdentity::of(&metadata))),
            message_id: String::new(),
        };
        Ok(Response::new(answer.unwrap_or_else(refused)))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Answer<SyncLiteSubscriptionResponse> {
        let status = self.hold_lite(request).await;
        Ok(Response::new(SyncLiteSubscriptionResponse { status: Some(status) }))
    }
}
