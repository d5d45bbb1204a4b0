//! The clients' door, `apache.rocketmq.v2.MessagingService`: who calls, what it wants, what the domain says.
//!
//! One file a family of calls. `convert` and `status` are the two that know both the wire and the domain.
//! Errors travel as a status inside of a normal response, so nothing here fails as gRPC but Telemetry.

mod ack;
pub(crate) mod connections;
mod convert;
mod offset;
mod receive;
pub(crate) mod route;
mod send;
mod status;
pub(crate) mod telemetry;

use std::pin::Pin;
use std::sync::Arc;

use access::Refusal;
use access::client::ClientIdentity;
use futures::{Stream, stream};
use proto::v2::messaging_service_server::MessagingService;
use proto::v2::*;
use tonic::{Request, Response, Streaming};

use crate::delivery::Delivery;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::topics::Registry;

type Answer<T> = Result<Response<T>, tonic::Status>;
type AnswerStream<T> = Pin<Box<dyn Stream<Item = Result<T, tonic::Status>> + Send>>;

/// The service, and the rooms that it leads to.
pub(crate) struct Front {
    pub(crate) topics: Arc<Registry>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) log: Arc<Log>,
    pub(crate) metrics: Metrics,
    pub(crate) max_body_bytes: usize,
}

/// Who calls; a call that does not say gets the answer that `refused` makes of the refusal.
macro_rules! client_of {
    ($request:expr, |$status:ident| $refused:expr) => {
        match ClientIdentity::named($request.metadata()) {
            Ok(client) => client,
            Err(refusal) => {
                let $status = Some(refusal.status(&ClientIdentity::of($request.metadata())));
                return Ok(Response::new($refused));
            }
        }
    };
}

fn later(request: &tonic::metadata::MetadataMap, what: &str) -> Option<Status> {
    Some(status::not_implemented(what).status(&ClientIdentity::of(request)))
}

#[tonic::async_trait]
impl MessagingService for Front {
    type ReceiveMessageStream = receive::Receiving;
    type PullMessageStream = stream::Iter<std::vec::IntoIter<Result<PullMessageResponse, tonic::Status>>>;
    type TelemetryStream = AnswerStream<TelemetryCommand>;

    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Answer<QueryRouteResponse> {
        let status = later(request.metadata(), "asking a broker for routes");
        Ok(Response::new(QueryRouteResponse { status, message_queues: Vec::new() }))
    }

    async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        Ok(Response::new(HeartbeatResponse { status: Some(status::ok()) }))
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        let client = client_of!(request, |status| SendMessageResponse { status, entries: Vec::new() });
        let peer = request.remote_addr();
        Ok(Response::new(self.send(&client, peer, request.into_inner()).await))
    }

    async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> Answer<QueryAssignmentResponse> {
        let status = later(request.metadata(), "asking a broker for assignments");
        Ok(Response::new(QueryAssignmentResponse { status, assignments: Vec::new() }))
    }

    async fn receive_message(
        &self,
        request: Request<ReceiveMessageRequest>,
    ) -> Answer<Self::ReceiveMessageStream> {
        let receiving = match ClientIdentity::named(request.metadata()) {
            Ok(client) => self.receive(client, request.into_inner()).await,
            Err(refusal) => receive::Receiving::of(refusal.status(&ClientIdentity::of(request.metadata()))),
        };
        Ok(Response::new(receiving))
    }

    async fn ack_message(&self, request: Request<AckMessageRequest>) -> Answer<AckMessageResponse> {
        let client = client_of!(request, |status| AckMessageResponse { status, entries: Vec::new() });
        Ok(Response::new(self.acknowledge(&client, request.into_inner())))
    }

    async fn forward_message_to_dead_letter_queue(
        &self,
        request: Request<ForwardMessageToDeadLetterQueueRequest>,
    ) -> Answer<ForwardMessageToDeadLetterQueueResponse> {
        let client = client_of!(request, |status| ForwardMessageToDeadLetterQueueResponse { status });
        Ok(Response::new(self.forward(&client, request.into_inner()).await))
    }

    async fn pull_message(&self, request: Request<PullMessageRequest>) -> Answer<Self::PullMessageStream> {
        let responses = match ClientIdentity::named(request.metadata()) {
            Ok(client) => self.pull(&client, request.into_inner()).await,
            Err(refusal) => {
                let status = refusal.status(&ClientIdentity::of(request.metadata()));
                vec![PullMessageResponse { content: Some(pull_message_response::Content::Status(status)) }]
            }
        };
        Ok(Response::new(stream::iter(responses.into_iter().map(Ok).collect::<Vec<_>>())))
    }

    async fn update_offset(&self, request: Request<UpdateOffsetRequest>) -> Answer<UpdateOffsetResponse> {
        let client = client_of!(request, |status| UpdateOffsetResponse { status });
        Ok(Response::new(self.update_offset(&client, request.get_ref()).await))
    }

    async fn get_offset(&self, request: Request<GetOffsetRequest>) -> Answer<GetOffsetResponse> {
        let client = client_of!(request, |status| GetOffsetResponse { status, offset: 0 });
        Ok(Response::new(self.get_offset(&client, request.get_ref())))
    }

    async fn query_offset(&self, request: Request<QueryOffsetRequest>) -> Answer<QueryOffsetResponse> {
        let client = client_of!(request, |status| QueryOffsetResponse { status, offset: 0 });
        Ok(Response::new(self.query_offset(&client, request.into_inner()).await))
    }

    async fn end_transaction(
        &self,
        request: Request<EndTransactionRequest>,
    ) -> Answer<EndTransactionResponse> {
        let status = later(request.metadata(), "ending a transaction");
        Ok(Response::new(EndTransactionResponse { status }))
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Answer<Self::TelemetryStream> {
        let refusal: Refusal = status::not_implemented("telemetry");
        let _ = request;
        Err(refusal.on_stream())
    }

    async fn notify_client_termination(
        &self,
        _: Request<NotifyClientTerminationRequest>,
    ) -> Answer<NotifyClientTerminationResponse> {
        Ok(Response::new(NotifyClientTerminationResponse { status: Some(status::ok()) }))
    }

    async fn change_invisible_duration(
        &self,
        request: Request<ChangeInvisibleDurationRequest>,
    ) -> Answer<ChangeInvisibleDurationResponse> {
        let client = client_of!(request, |status| ChangeInvisibleDurationResponse {
            status,
            receipt_handle: request.into_inner().receipt_handle,
        });
        Ok(Response::new(self.change_invisible(&client, request.into_inner())))
    }

    async fn recall_message(&self, request: Request<RecallMessageRequest>) -> Answer<RecallMessageResponse> {
        let status = later(request.metadata(), "recalling a message");
        Ok(Response::new(RecallMessageResponse { status, message_id: String::new() }))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Answer<SyncLiteSubscriptionResponse> {
        let status = later(request.metadata(), "subscribing to lite topics");
        Ok(Response::new(SyncLiteSubscriptionResponse { status }))
    }
}
