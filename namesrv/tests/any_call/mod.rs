//! Calls made of any bytes: each is answered as the table of the protocol says, and routes are answered afterwards.

use std::cell::RefCell;
use std::collections::BTreeMap;

use access::route;
use fuzz::call::Call;
use fuzz::draw::Draw;
use fuzz::{Given, Kind, Known, Panics, answer, caller};
use namesrv::Running;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use proto::control::FullReport;
use proto::v2::{Code, MessageType};
use tonic::transport::Channel;

use super::stub;
use super::{Broker, ControlAddress, client, full, query, started, topic};

/// Each case is a few calls.
const CASES: u32 = 600;
const SEED: [u8; 32] = [5; 32];
const TOPICS: [(&str, MessageType); 3] =
    [("normal", MessageType::Normal), ("fifo", MessageType::Fifo), ("lite", MessageType::Lite)];

#[test]
fn any_call_is_answered_and_the_next_one_too() {
    let panics = Panics::listen();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let tried = RefCell::new(runtime.block_on(Tried::start()));
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let config =
        Config { cases: CASES, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let outcome =
        TestRunner::new_with_rng(config, rng).run(&prop::collection::vec(any::<u8>(), 0..400), |bytes| {
            let outcome = runtime.block_on(tried.borrow_mut().case(&bytes));
            let panics = panics.heard().concat();
            let outcome = outcome.and(if panics.is_empty() { Ok(()) } else { Err(panics) });
            outcome.map_err(TestCaseError::fail)
        });
    outcome.unwrap();
    runtime.block_on(tried.into_inner().end());
    assert_eq!(panics.heard(), [""; 0]);
}

/// A name server, with a broker that knows nothing but lite topics.
struct Tried {
    server: Running,
    broker: Broker,
    stub: stub::Broker,
    channel: Channel,
    known: Known,
    codes: BTreeMap<&'static str, usize>,
}

impl Tried {
    async fn start() -> Self {
        let server = started(|_| {}).await;
        let stub = stub::Broker::start(Code::Ok).await;
        let mut topics = Vec::new();
        for (name, kind) in TOPICS {
            let mut topic = topic(name);
            topic.message_type = kind as i32;
            topics.push(topic);
        }
        let control = Some(ControlAddress { host: "127.0.0.1".to_owned(), port: u32::from(stub.port) });
        let report = FullReport {
            topics,
            control,
            clients: Some(route::endpoints("127.0.0.1", 18081)),
            ..full("a", &[])
        };
        let broker = Broker::register(&server, report).await;
        let channel = Channel::from_shared(format!("http://{}", server.client_addr)).unwrap();
        let channel = channel.connect().await.unwrap();
        let mut known =
            Known::new(&TOPICS.map(|(name, _)| name), &["g", "in-order"], &["a", "b"], 1_700_000_000);
        let transaction =
            access::TransactionId { broker: "a".to_owned(), offset: 1, message_id: "id".to_owned() };
        let given = |token: String| Given { token, topic: "normal".to_owned(), ..Given::default() };
        known.given(Kind::Transaction, given(transaction.to_text()));
        let recall = access::RecallHandle {
            due_ms: 1,
            id: 2,
            topic: "normal".to_owned(),
            broker: "a".to_owned(),
            message_id: "id".to_owned(),
        };
        known.given(Kind::Recall, given(recall.to_text()));
        Self { server, broker, stub, channel, known, codes: BTreeMap::new() }
    }

    async fn case(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut draw = Draw::new(bytes);
        while !draw.is_over() {
            let call = Call::draw(&mut draw, &self.known);
            let checked = match caller::carry_out(&self.channel, &call).await {
                Ok(outcome) => answer::check(&call, &outcome, &mut self.known),
                Err(hangs) => Err(hangs),
            };
            let checked = checked.map_err(|why| format!("{why}\n{call:?}"))?;
            checked.codes.iter().for_each(|code| *self.codes.entry(code.as_str_name()).or_default() += 1);
        }
        Ok(())
    }

    async fn end(self) {
        let Self { server, broker, stub, codes, .. } = self;
        println!("{codes:?}");
        for wanted in ["OK", "TOPIC_NOT_FOUND", "NOT_IMPLEMENTED", "ILLEGAL_CONSUMER_GROUP"] {
            assert!(
                codes.contains_key(wanted),
                "the calls are worth their name: {wanted} is not in {codes:?}"
            );
        }
        assert!(!stub.heard().is_empty(), "some calls are for brokers");
        let mut client = client(&server).await;
        assert_eq!(query(&mut client, "normal").await.status.unwrap().code(), Code::Ok);
        drop((client, broker));
        server.stop().await.unwrap();
    }
}
