//! Against a name server whose acknowledgements the test gives by hand.

use access::{TopicName, route};
use proto::control::broker_report::Report;
use proto::control::registry_server::{Registry, RegistryServer};
use proto::control::{
    BrokerReport, DescribeClusterRequest, DescribeClusterResponse, RegistryAck, SetLogLevelsRequest,
    SetLogLevelsResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

use super::*;
use crate::meta::Meta;
use crate::topics::TopicConfig;

const PATIENCE: Duration = Duration::from_secs(20);

/// One registration, seen from the name server.
struct Stream {
    reports: Streaming<BrokerReport>,
    acks: mpsc::Sender<Result<RegistryAck, Status>>,
}

impl Stream {
    /// The next report that is not a heartbeat.
    async fn report(&mut self) -> (u64, Report) {
        loop {
            let report =
                tokio::time::timeout(PATIENCE, self.reports.message()).await.unwrap().unwrap().unwrap();
            match report.report.unwrap() {
                Report::Heartbeat(_) => {}
                said => return (report.sequence, said),
            }
        }
    }

    async fn full(&mut self) -> (u64, control::FullReport) {
        match self.report().await {
            (sequence, Report::Full(full)) => (sequence, full),
            other => panic!("{other:?}"),
        }
    }

    async fn change(&mut self) -> (u64, control::ChangeReport) {
        match self.report().await {
            (sequence, Report::Change(change)) => (sequence, change),
            other => panic!("{other:?}"),
        }
    }

    async fn ack(&self, sequence: u64) {
        self.acks.send(Ok(RegistryAck { sequence })).await.unwrap();
    }
}

struct Door(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl Registry for Door {
    type RegisterStream = ReceiverStream<Result<RegistryAck, Status>>;

    async fn register(
        &self,
        request: Request<Streaming<BrokerReport>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        let (acks, answers) = mpsc::channel(16);
        self.0.send(Stream { reports: request.into_inner(), acks }).await.unwrap();
        Ok(Response::new(ReceiverStream::new(answers)))
    }
    async fn describe_cluster(
        &self,
        _: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
    async fn set_log_levels(
        &self,
        _: Request<SetLogLevelsRequest>,
    ) -> Result<Response<SetLogLevelsResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

struct Bench {
    streams: mpsc::Receiver<Stream>,
    addr: SocketAddr,
    topics: Arc<topics::Registry>,
    registration: Registration,
    addresses: watch::Sender<Addresses>,
    tasks: vital::Tasks,
    _folder: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (door, streams) = mpsc::channel(4);
        let tasks = vital::Tasks::default();
        let server = tonic::transport::Server::builder().add_service(RegistryServer::new(Door(door)));
        let stop = tasks.stop_token();
        tasks.tracker().spawn(async move {
            stop.run_until_cancelled(server.serve_with_incoming(TcpListenerStream::new(listener))).await;
        });
        let folder = tempfile::tempdir().unwrap();
        let topics = Arc::new(
            topics::Registry::open(Arc::new(Meta::open(folder.path(), Arc::default()).unwrap()), 17).unwrap(),
        );
        let identity = Identity {
            cluster_name: "c".to_owned(),
            broker_name: "a".to_owned(),
            broker_id: 0,
            epoch: 7,
            clients: route::endpoints("10.0.0.1", 8081),
            control: control::Address { host: "10.0.0.1".to_owned(), port: 9878 },
        };
        let addresses = watch::Sender::new(Addresses::new());
        let names = vec![addr.to_string()];
        let registration =
            Registration::start(identity, addresses.subscribe(), names, topics.clone(), &tasks);
        Self { streams, addr, topics, registration, addresses, tasks, _folder: folder }
    }

    async fn stream(&mut self) -> Stream {
        tokio::time::timeout(PATIENCE, self.streams.recv()).await.unwrap().unwrap()
    }

    fn upsert(&self, name: &str) -> u64 {
        let topic = TopicConfig::new(TopicName::parse(name).unwrap(), 2);
        self.topics.upsert_topic(topic, false).unwrap().version
    }

    async fn until_listed(&self, expected: &[SocketAddr]) {
        let mut shown_by = self.registration.shown_by.subscribe();
        let listed = shown_by.wait_for(|shown_by| shown_by.keys().eq(expected));
        tokio::time::timeout(PATIENCE, listed).await.unwrap().unwrap();
    }

    async fn stop(self) {
        assert!(self.tasks.stop(PATIENCE).await);
    }
}

#[tokio::test]
async fn a_broker_is_registered_when_it_is_acknowledged() {
    let mut bench = Bench::new().await;
    bench.upsert("before");
    let mut stream = bench.stream().await;
    let (sequence, full) = stream.full().await;
    assert_eq!((full.broker_name.as_str(), full.epoch, full.heartbeat_interval_ms), ("a", 7, 2000));
    assert_eq!(full.clients, Some(route::endpoints("10.0.0.1", 8081)));
    assert!(!bench.registration.is_registered());
    stream.ack(sequence).await;
    bench.registration.registered().await;
    assert_eq!(bench.registration.name_servers(), [bench.addr]);
    assert_eq!(bench.registration.channels().len(), 1);
    bench.stop().await;
}

#[tokio::test]
async fn a_change_is_shown_everywhere_when_every_name_server_has_acknowledged_it() {
    let mut bench = Bench::new().await;
    assert!(bench.registration.shown_everywhere(99, Duration::ZERO).await, "nobody is connected");
    let mut stream = bench.stream().await;
    let (sequence, _) = stream.full().await;
    stream.ack(sequence).await;
    bench.registration.registered().await;

    let version = bench.upsert("orders");
    let (sequence, change) = stream.change().await;
    assert_eq!(change.topics[0].name, "orders");
    assert!(!bench.registration.shown_everywhere(version, Duration::from_millis(1)).await);
    stream.ack(sequence).await;
    assert!(bench.registration.shown_everywhere(version, PATIENCE).await);

    bench.topics.delete_topic(&TopicName::parse("orders").unwrap(), "").unwrap();
    assert_eq!(stream.change().await.1.removed_topics, ["orders"]);
    bench.stop().await;
}

#[tokio::test]
async fn changes_that_come_faster_than_acknowledgements_are_told_together() {
    let mut bench = Bench::new().await;
    let mut stream = bench.stream().await;
    let (sequence, full) = stream.full().await;
    assert!(full.topics.is_empty());
    let mut version = 0;
    for number in 0..100 {
        version = bench.upsert(&format!("topic-{number}"));
        tokio::task::yield_now().await;
    }
    stream.ack(sequence).await;
    let (mut reports, mut told) = (0, std::collections::BTreeSet::new());
    while told.len() < 100 {
        let (sequence, change) = stream.change().await;
        told.extend(change.topics.into_iter().map(|topic| topic.name));
        reports += 1;
        stream.ack(sequence).await;
    }
    assert!(reports <= 10, "{reports} reports for 100 changes");
    assert!(bench.registration.shown_everywhere(version, PATIENCE).await);
    bench.stop().await;
}

#[tokio::test]
async fn a_broken_link_is_news_at_once_and_begins_again_with_everything() {
    let mut bench = Bench::new().await;
    let mut stream = bench.stream().await;
    let (sequence, _) = stream.full().await;
    stream.ack(sequence).await;
    bench.registration.registered().await;

    stream.acks.send(Err(Status::aborted("registered anew elsewhere"))).await.unwrap();
    bench.until_listed(&[]).await;
    bench.upsert("orders");
    let mut stream = bench.stream().await;
    let (sequence, full) = stream.full().await;
    assert_eq!(full.topics[0].name, "orders");
    stream.ack(sequence).await;
    bench.until_listed(&[bench.addr]).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_stop_ends_the_stream() {
    let mut bench = Bench::new().await;
    let mut stream = bench.stream().await;
    let (sequence, _) = stream.full().await;
    stream.ack(sequence).await;
    bench.registration.registered().await;
    let registration = bench.registration.clone();
    bench.stop().await;
    assert!(!registration.is_registered());
}

#[tokio::test]
async fn new_addresses_of_listeners_are_told_with_everything_else() {
    let mut bench = Bench::new().await;
    bench.upsert("orders");
    let mut stream = bench.stream().await;
    let (sequence, full) = stream.full().await;
    assert_eq!(full.listeners, []);
    stream.ack(sequence).await;
    let external = ListenerName::parse("external").unwrap();
    let at = route::endpoints("192.0.2.1", 30_081);
    bench.addresses.send_replace(Addresses::from([(external.clone(), at.clone())]));
    let (sequence, full) = stream.full().await;
    let expected = control::ListenerEndpoints { name: external.to_string(), clients: Some(at.clone()) };
    assert_eq!((full.listeners, full.topics.len()), (vec![expected], 1));
    assert_eq!(bench.registration.address_at(&external), Some(at));
    // Changes go on from there.
    stream.ack(sequence).await;
    bench.upsert("more");
    assert_eq!(stream.change().await.1.topics.len(), 1);
    bench.stop().await;
}
