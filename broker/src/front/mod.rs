//! The clients' door, `apache.rocketmq.v2.MessagingService`: who calls, what it wants, what the domain says.
//!
//! One file a family of calls. `convert` and `status` are the two that know both the wire and the domain.
//! Errors travel as a status inside of a normal response, so nothing here fails as gRPC but Telemetry.

mod ack;
mod bodies;
pub(crate) mod connections;
mod convert;
mod lite;
mod offset;
mod producers;
pub(crate) mod questions;
mod recall;
mod receive;
pub(crate) mod route;
mod send;
mod status;
mod subscriptions;
pub(crate) mod telemetry;
mod transactions;

use std::sync::Arc;
use std::time::Duration;

use access::client::ClientIdentity;
use access::filter::Filters;
use futures::stream;
use proto::v2::messaging_service_server::MessagingService;
use proto::v2::*;
use tonic::{Request, Response, Streaming};

use crate::delivery::Delivery;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::schedule::Timers;
use crate::topics::Registry;
use crate::transactions::Transactions;

type Answer<T> = Result<Response<T>, tonic::Status>;

/// The service, and the rooms that it leads to.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) topics: Arc<Registry>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) log: Arc<Log>,
    pub(crate) filters: Filters,
    pub(crate) timers: Arc<Timers>,
    pub(crate) broker_name: String,
    pub(crate) metrics: Metrics,
    pub(crate) routes: route::Routes,
    pub(crate) telemetry: telemetry::Telemetry,
    pub(crate) max_body_bytes: usize,
    /// How far ahead a message may be told to be delivered.
    pub(crate) longest_delay: Duration,
}

/// A primary that is one no more ends its connections at once, unless it hangs.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

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

#[tonic::async_trait]
impl MessagingService for Front {
    type ReceiveMessageStream = receive::Receiving;
    type PullMessageStream = stream::Iter<std::vec::IntoIter<Result<PullMessageResponse, tonic::Status>>>;
    type TelemetryStream = telemetry::Stream;

    async fn query_route(&self, request: Request<QueryRouteRequest>) -> Answer<QueryRouteResponse> {
        Ok(Response::new(self.routes.query_route(request).await))
    }

    async fn heartbeat(&self, request: Request<HeartbeatRequest>) -> Answer<HeartbeatResponse> {
        Ok(Response::new(self.telemetry.heartbeat(&request)))
    }

    async fn send_message(&self, request: Request<SendMessageRequest>) -> Answer<SendMessageResponse> {
        let client = client_of!(request, |status| SendMessageResponse { status, entries: Vec::new() });
        let peer = request.remote_addr();
        let (metadata, _, request) = request.into_parts();
        let answer = self.send(&client, &metadata, peer, request).await;
        let failed = answer.status.as_ref().is_none_or(|status| status.code != Code::Ok as i32);
        if failed && self.log.is_deposed() {
            // An answer would count for the client; this makes it try again, over another connection: once this one is told goodbye.
            // Before, all its tries would end here.
            let goodbye = self.telemetry.stop.cancelled();
            let _: Result<(), _> = tokio::time::timeout(GOODBYE_WITHIN, goodbye).await;
            return Err(tonic::Status::unavailable(
                "another member of this broker group is the primary now: connect again",
            ));
        }
        Ok(Response::new(answer))
    }

    async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> Answer<QueryAssignmentResponse> {
        Ok(Response::new(self.routes.query_assignment(request).await))
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
        let client = client_of!(request, |status| EndTransactionResponse { status });
        let (metadata, _, request) = request.into_parts();
        Ok(Response::new(self.end_transaction_at(&client, &metadata, &request).await))
    }

    async fn telemetry(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Answer<Self::TelemetryStream> {
        self.telemetry.open(request).map(Response::new)
    }

    async fn notify_client_termination(
        &self,
        request: Request<NotifyClientTerminationRequest>,
    ) -> Answer<NotifyClientTerminationResponse> {
        let (response, gone) = self.telemetry.terminate(&request);
        if let Some(connections::Gone { client, group }) = gone {
            self.delivery.lite_client_gone(&client);
            if let Some(group) = group {
                self.delivery.client_gone(group.as_str(), &client);
            }
        }
        Ok(Response::new(response))
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
        let client =
            client_of!(request, |status| RecallMessageResponse { status, message_id: String::new() });
        let (metadata, _, request) = request.into_parts();
        Ok(Response::new(self.recall(&client, &metadata, request).await))
    }

    async fn sync_lite_subscription(
        &self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Answer<SyncLiteSubscriptionResponse> {
        let client = client_of!(request, |status| SyncLiteSubscriptionResponse { status });
        let status = match self.hold_lite(&client, request.into_inner()).await {
            Ok(()) => status::ok(),
            Err(refusal) => refusal.status(&client),
        };
        Ok(Response::new(SyncLiteSubscriptionResponse { status: Some(status) }))
    }
}
