//! Against name servers that answer QueryRoute as the test says, and note what they were asked.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use proto::v2::{MessageQueue, Permission, Resource};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Response;
use tonic::body::Body;
use tonic::transport::{Endpoint, Server};

use super::*;
use crate::meta::Meta;
use crate::topics::{GroupConfig, TopicConfig};

/// A name server of one call.
#[derive(Clone, Default)]
struct NameServer {
    answer: QueryRouteResponse,
    asked: Arc<Mutex<Vec<MetadataMap>>>,
}

impl tonic::server::NamedService for NameServer {
    const NAME: &'static str = "apache.rocketmq.v2.MessagingService";
}

impl tower::Service<http::Request<Body>> for NameServer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: http::Request<Body>) -> Self::Future {
        let server = self.clone();
        let answer = move |request: Request<QueryRouteRequest>| {
            server.asked.lock().push(request.metadata().clone());
            std::future::ready(Ok(Response::new(server.answer.clone())))
        };
        Box::pin(async move {
            let codec = proto::codec::SmallBuffers::<QueryRouteResponse, QueryRouteRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(tower::service_fn(answer), call).await)
        })
    }
}

impl NameServer {
    fn that_answers(code: Code, broker: &str) -> Self {
        let status = Some(access::status::of(code, "as the test says"));
        let broker = Some(v2::Broker { name: broker.to_owned(), ..v2::Broker::default() });
        let queue = MessageQueue { broker, ..MessageQueue::default() };
        Self { answer: QueryRouteResponse { status, message_queues: vec![queue] }, asked: Arc::default() }
    }

    async fn serve(&self, tasks: &access::vital::Tasks) -> Channel {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let channel = channel_to(listener.local_addr().unwrap());
        let serve =
            Server::builder().add_service(self.clone()).serve_with_incoming(TcpListenerStream::new(listener));
        let stop = tasks.stop_token();
        tasks.tracker().spawn(async move { stop.run_until_cancelled(serve).await });
        channel
    }
}

fn channel_to(addr: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{addr}")).unwrap().connect_lazy()
}

/// A channel to where nobody listens any more.
async fn nobody() -> Channel {
    channel_to(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap())
}

fn routes(channels: Vec<Channel>) -> (Routes, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let topics = Arc::new(
        topics::Registry::open(Arc::new(Meta::open(folder.path(), Arc::default()).unwrap()), 17).unwrap(),
    );
    topics.upsert_topic(TopicConfig::new(TopicName::parse("orders").unwrap(), 2), false).unwrap();
    let in_order = GroupName::parse("in-order").unwrap();
    topics.upsert_group(GroupConfig { ordered: true, ..GroupConfig::new(in_order, 3) }, false).unwrap();
    let own = v2::Broker { name: "own".to_owned(), ..v2::Broker::default() };
    (Routes::new(Registration::shown_by(channels), topics, own), folder)
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn query(topic: &str) -> Request<QueryRouteRequest> {
    let mut request = Request::new(QueryRouteRequest { topic: resource(topic), endpoints: None });
    request.metadata_mut().insert("x-mq-client-id", "client".parse().unwrap());
    request.metadata_mut().insert("x-mq-language", "RUST".parse().unwrap());
    request.metadata_mut().insert("authorization", "secret".parse().unwrap());
    request
}

fn broker_of(answer: &QueryRouteResponse) -> &str {
    &answer.message_queues[0].broker.as_ref().unwrap().name
}

fn code(status: Option<Status>) -> Code {
    status.expect("every answer has a status").code()
}

#[tokio::test]
async fn a_route_is_asked_of_a_name_server_with_what_the_client_says_of_itself() {
    let tasks = access::vital::Tasks::default();
    let server = NameServer::that_answers(Code::Ok, "elsewhere");
    let (routes, _folder) = routes(vec![server.serve(&tasks).await]);
    let answer = routes.query_route(query("orders")).await;
    assert_eq!(broker_of(&answer), "elsewhere");
    let asked = server.asked.lock().pop().unwrap();
    assert_eq!(asked.get("x-mq-client-id").unwrap(), "client");
    assert_eq!(asked.get("x-mq-language").unwrap(), "RUST");
    assert!(asked.contains_key(hop::FORWARDED) && asked.contains_key("grpc-timeout"));
    assert!(!asked.contains_key("authorization"), "the hop speaks for itself");
}

#[tokio::test]
async fn a_call_that_was_forwarded_goes_no_further() {
    let tasks = access::vital::Tasks::default();
    let server = NameServer::that_answers(Code::Ok, "elsewhere");
    let (routes, _folder) = routes(vec![server.serve(&tasks).await]);
    let mut forwarded = query("orders");
    forwarded.metadata_mut().insert(hop::FORWARDED, "broker".parse().unwrap());
    assert_eq!(broker_of(&routes.query_route(forwarded).await), "own");
    assert!(server.asked.lock().is_empty());
}

#[tokio::test]
async fn another_name_server_is_asked_when_one_is_gone() {
    let tasks = access::vital::Tasks::default();
    let server = NameServer::that_answers(Code::Ok, "elsewhere");
    let (routes, _folder) = routes(vec![nobody().await, server.serve(&tasks).await]);
    for _ in 0..4 {
        assert_eq!(broker_of(&routes.query_route(query("orders")).await), "elsewhere");
    }
}

#[tokio::test]
async fn without_name_servers_a_broker_answers_with_what_it_has() {
    let (routes, _folder) = routes(vec![nobody().await]);
    let answer = routes.query_route(query("orders")).await;
    assert_eq!((broker_of(&answer), answer.message_queues.len()), ("own", 2));
    assert_eq!(answer.message_queues[0].permission(), Permission::ReadWrite);
    assert_eq!(code(routes.query_route(query("nothing")).await.status), Code::TopicNotFound);

    let assigned = async |topic: &str, group: &str| {
        let message =
            QueryAssignmentRequest { topic: resource(topic), group: resource(group), endpoints: None };
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-mq-client-id", "client".parse().unwrap());
        routes.query_assignment(request).await
    };
    assert_eq!(assigned("orders", "billing").await.assignments.len(), 1);
    assert_eq!(assigned("orders", "in-order").await.assignments.len(), 2);
    assert_eq!(code(assigned("nothing", "billing").await.status), Code::TopicNotFound);
}

#[tokio::test]
async fn who_comes_by_a_listener_is_answered_for_it_here_and_there() {
    let tasks = access::vital::Tasks::default();
    let external = ListenerName::parse("external").unwrap();
    let server = NameServer::that_answers(Code::Ok, "elsewhere");
    let (routes_there, _folder) = routes(vec![server.serve(&tasks).await]);
    routes_there.query_route(query("orders")).await;
    let outside = routes_there.seen_from(external.clone());
    outside.query_route(query("orders")).await;
    let came_by: Vec<_> = server.asked.lock().iter().map(hop::came_by).collect();
    assert_eq!(came_by, [None, Some(external.clone())]);

    // Alone, and with no address there, this broker is none to be named.
    let (routes, _folder) = routes(vec![nobody().await]);
    let outside = routes.seen_from(external);
    let status = outside.query_route(query("orders")).await.status.unwrap();
    assert_eq!(status.code(), Code::TopicNotFound);
    assert!(status.message.contains("no address at the listener external"), "{}", status.message);
    let status = outside.query_route(query("nothing")).await.status.unwrap();
    assert!(status.message.contains("no broker offers the topic nothing"), "{}", status.message);
}

#[tokio::test]
async fn a_topic_that_a_name_server_does_not_know_yet_is_answered_here() {
    let tasks = access::vital::Tasks::default();
    let server = NameServer::that_answers(Code::TopicNotFound, "elsewhere");
    let (routes, _folder) = routes(vec![server.serve(&tasks).await]);
    assert_eq!(broker_of(&routes.query_route(query("orders")).await), "own");
    assert_eq!(code(routes.query_route(query("nothing")).await.status), Code::TopicNotFound);
}

#[tokio::test]
async fn a_wrong_call_is_refused_without_asking_anybody() {
    let tasks = access::vital::Tasks::default();
    let server = NameServer::that_answers(Code::Ok, "elsewhere");
    let (routes, _folder) = routes(vec![server.serve(&tasks).await]);
    assert_eq!(code(routes.query_route(query("a b")).await.status), Code::IllegalTopic);
    let nameless = Request::new(QueryRouteRequest { topic: resource("orders"), endpoints: None });
    assert_eq!(code(routes.query_route(nameless).await.status), Code::ClientIdRequired);
    assert!(server.asked.lock().is_empty());
}
