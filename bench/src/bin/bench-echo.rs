//! `bench-echo`: the ruler. A bare tonic server with the real proto that acknowledges every send, and
//! has nothing behind it but the calls with which clients find it. It prints the address that it listens on.

#![forbid(unsafe_code)]

use std::pin::Pin;

use futures::{Stream, TryStreamExt as _};
use proto::v2::messaging_service_server::{MessagingService, MessagingServiceServer};
use proto::v2::*;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Prints the address on stdout, then serves until it is killed or terminated.
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("{}", listener.local_addr()?);
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tonic::transport::Server::builder()
        .add_service(MessagingServiceServer::new(Echo))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), async move {
            terminate.recv().await;
        })
        .await?;
    Ok(())
}

struct Echo;

fn ok() -> proto::v2::Status {
    proto::v2::Status { code: Code::Ok.into(), message: "OK".to_owned() }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service: sends are acknowledged, the calls named here are made by nobody.
macro_rules! echo {
    ($(unused $name:ident: $request:ty => $response:ty;)*) => {
        #[tonic::async_trait]
        impl MessagingService for Echo {
            type ReceiveMessageStream = Answers<ReceiveMessageResponse>;
            type PullMessageStream = Answers<PullMessageResponse>;
            type TelemetryStream = Answers<TelemetryCommand>;

            async fn query_route(
                &self,
                request: Request<QueryRouteRequest>,
            ) -> Result<Response<QueryRouteResponse>, Status> {
                Ok(Response::new(route(request.into_inner())))
            }

            async fn telemetry(
                &self,
                request: Request<tonic::Streaming<TelemetryCommand>>,
            ) -> Result<Response<Self::TelemetryStream>, Status> {
                // Settings come back as they were sent.
                let answers = request.into_inner().map_ok(|command| TelemetryCommand { status: Some(ok()), ..command });
                Ok(Response::new(Box::pin(answers)))
            }

            async fn heartbeat(&self, _: Request<HeartbeatRequest>) -> Result<Response<HeartbeatResponse>, Status> {
                Ok(Response::new(HeartbeatResponse { status: Some(ok()) }))
            }

            async fn notify_client_termination(
                &self,
                _: Request<NotifyClientTerminationRequest>,
            ) -> Result<Response<NotifyClientTerminationResponse>, Status> {
                Ok(Response::new(NotifyClientTerminationResponse { status: Some(ok()) }))
            }

            async fn send_message(
                &self,
                request: Request<SendMessageRequest>,
            ) -> Result<Response<SendMessageResponse>, Status> {
                let entries = request.into_inner().messages.into_iter().map(stored).collect();
                Ok(Response::new(SendMessageResponse { entries, status: Some(ok()) }))
            }

            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("the echo only takes sends"))
            })*
        }
    };
}

echo! {
    unused query_assignment: QueryAssignmentRequest => QueryAssignmentResponse;
    unused receive_message: ReceiveMessageRequest => Self::ReceiveMessageStream;
    unused ack_message: AckMessageRequest => AckMessageResponse;
    unused forward_message_to_dead_letter_queue:
        ForwardMessageToDeadLetterQueueRequest => ForwardMessageToDeadLetterQueueResponse;
    unused pull_message: PullMessageRequest => Self::PullMessageStream;
    unused update_offset: UpdateOffsetRequest => UpdateOffsetResponse;
    unused get_offset: GetOffsetRequest => GetOffsetResponse;
    unused query_offset: QueryOffsetRequest => QueryOffsetResponse;
    unused end_transaction: EndTransactionRequest => EndTransactionResponse;
    unused change_invisible_duration: ChangeInvisibleDurationRequest => ChangeInvisibleDurationResponse;
    unused recall_message: RecallMessageRequest => RecallMessageResponse;
    unused sync_lite_subscription: SyncLiteSubscriptionRequest => SyncLiteSubscriptionResponse;
}

/// Every topic has eight queues, where the client found this server.
fn route(request: QueryRouteRequest) -> QueryRouteResponse {
    let broker = Broker { name: "echo".to_owned(), id: 0, endpoints: request.endpoints };
    let queue = |id| MessageQueue {
        topic: request.topic.clone(),
        id,
        permission: Permission::ReadWrite.into(),
        broker: Some(broker.clone()),
        accept_message_types: vec![MessageType::Normal.into()],
    };
    QueryRouteResponse { status: Some(ok()), message_queues: (0..8).map(queue).collect() }
}

fn stored(message: Message) -> SendResultEntry {
    let message_id = message.system_properties.map(|system| system.message_id).unwrap_or_default();
    let transaction_id = message_id.clone();
    SendResultEntry {
        status: Some(ok()),
        message_id,
        transaction_id,
        offset: 0,
        recall_handle: String::new(),
    }
}
