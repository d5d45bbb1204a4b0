//! A broker's door for clients that answers one call and remembers who made it.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures::stream::Empty;
use proto::v2::messaging_service_server::{MessagingService, MessagingServiceServer};
use proto::v2::*;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Streaming};

type Answering<'a, T> = Pin<Box<dyn Future<Output = Result<Response<T>, tonic::Status>> + Send + 'a>>;
/// Who called, and what for.
type Heard = Arc<Mutex<Vec<(String, SyncLiteSubscriptionRequest)>>>;

/// It stops when it is dropped.
pub(crate) struct Broker {
    pub(crate) port: u16,
    heard: Heard,
    _serving: JoinSet<()>,
}

impl Broker {
    /// Answers with this code.
    pub(crate) async fn start(code: Code) -> Self {
        let heard = Heard::default();
        let door = Door { code, heard: Arc::clone(&heard) };
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let port = incoming.local_addr().unwrap().port();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let server = Server::builder().add_service(MessagingServiceServer::new(door));
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { port, heard, _serving: serving }
    }

    pub(crate) fn heard(&self) -> Vec<(String, SyncLiteSubscriptionRequest)> {
        self.heard.lock().unwrap().clone()
    }
}

struct Door {
    code: Code,
    heard: Heard,
}

macro_rules! not_here {
    ($($call:ident: $request:ty => $answer:ty;)*) => {
        $(fn $call<'a, 'b>(&'a self, _: Request<$request>) -> Answering<'b, $answer>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(tonic::Status::unimplemented("not of this broker")) })
        })*
    };
}

impl MessagingService for Door {
    type ReceiveMessageStream = Empty<Result<ReceiveMessageResponse, tonic::Status>>;
    type PullMessageStream = Empty<Result<PullMessageResponse, tonic::Status>>;
    type TelemetryStream = Empty<Result<TelemetryCommand, tonic::Status>>;

    fn sync_lite_subscription<'a, 'b>(
        &'a self,
        request: Request<SyncLiteSubscriptionRequest>,
    ) -> Answering<'b, SyncLiteSubscriptionResponse>
    where
        'a: 'b,
        Self: 'b,
    {
        let client = request.metadata().get("x-mq-client-id").unwrap().to_str().unwrap().to_owned();
        self.heard.lock().unwrap().push((client, request.into_inner()));
        let status = Some(Status { code: self.code as i32, message: String::new() });
        Box::pin(async move { Ok(Response::new(SyncLiteSubscriptionResponse { status })) })
    }

    not_here! {
        query_route: QueryRouteRequest => QueryRouteResponse;
        heartbeat: HeartbeatRequest => HeartbeatResponse;
        send_message: SendMessageRequest => SendMessageResponse;
        query_assignment: QueryAssignmentRequest => QueryAssignmentResponse;
        receive_message: ReceiveMessageRequest => Self::ReceiveMessageStream;
        ack_message: AckMessageRequest => AckMessageResponse;
        forward_message_to_dead_letter_queue:
            ForwardMessageToDeadLetterQueueRequest => ForwardMessageToDeadLetterQueueResponse;
        pull_message: PullMessageRequest => Self::PullMessageStream;
        update_offset: UpdateOffsetRequest => UpdateOffsetResponse;
        get_offset: GetOffsetRequest => GetOffsetResponse;
        query_offset: QueryOffsetRequest => QueryOffsetResponse;
        end_transaction: EndTransactionRequest => EndTransactionResponse;
        telemetry: Streaming<TelemetryCommand> => Self::TelemetryStream;
        notify_client_termination: NotifyClientTerminationRequest => NotifyClientTerminationResponse;
        change_invisible_duration: ChangeInvisibleDurationRequest => ChangeInvisibleDurationResponse;
        recall_message: RecallMessageRequest => RecallMessageResponse;
    }
}
