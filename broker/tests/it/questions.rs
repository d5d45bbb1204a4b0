//! What consumers are asked over their Telemetry streams, and what becomes of their answers.

use std::time::Duration;

use proto::control;
use proto::v2::settings::PubSub;
use proto::v2::telemetry_command::Command;
use proto::v2::*;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::{Response, Streaming};

use crate::rig::*;

const JAVA: &str = "java@1@0@a";

/// A consumer of group `g` with a Telemetry stream, once its settings are answered.
struct Consumer {
    says: mpsc::Sender<TelemetryCommand>,
    hears: Streaming<TelemetryCommand>,
}

impl Consumer {
    async fn of(rig: &mut Rig, id: &str) -> Self {
        let (says, said) = mpsc::channel(4);
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        let hears = rig.client.telemetry(call_as(id, said)).await.unwrap().into_inner();
        let mut consumer = Self { says, hears };
        consumer.is_heard().await;
        consumer
    }

    /// Settings are answered once all is heard that was said before them.
    async fn is_heard(&mut self) {
        let subscription = Subscription { group: resource("g"), ..Subscription::default() };
        let settings = Settings { pub_sub: Some(PubSub::Subscription(subscription)), ..Settings::default() };
        self.says(Code::Ok, Command::Settings(settings)).await;
        assert!(matches!(self.told().await, Command::Settings(_)));
    }

    async fn told(&mut self) -> Command {
        self.hears.message().await.unwrap().unwrap().command.unwrap()
    }

    /// The nonce of the next question, which is for its stack.
    async fn asked_for_stack(&mut self) -> String {
        match self.told().await {
            Command::PrintThreadStackTraceCommand(command) => command.nonce,
            other => panic!("{other:?} asks for no stack"),
        }
    }

    /// The next question, which is to verify a message.
    async fn asked_to_verify(&mut self) -> (String, Message) {
        match self.told().await {
            Command::VerifyMessageCommand(command) => (command.nonce, command.message.unwrap()),
            other => panic!("{other:?} is to verify nothing"),
        }
    }

    async fn says(&self, code: Code, command: Command) {
        let status = Some(Status { code: code as i32, message: String::new() });
        self.says.send(TelemetryCommand { status, command: Some(command) }).await.unwrap();
    }

    async fn says_stack(&self, nonce: &str, stack: &str) {
        self.says(Code::Ok, stack_trace(nonce, stack)).await;
    }
}

fn stack_trace(nonce: &str, stack: &str) -> Command {
    Command::ThreadStackTrace(ThreadStackTrace {
        nonce: nonce.to_owned(),
        thread_stack_trace: Some(stack.to_owned()),
    })
}

fn verified(nonce: String) -> Command {
    Command::VerifyMessageResult(VerifyMessageResult { nonce })
}

type Answers<T> = JoinSet<Result<Response<T>, tonic::Status>>;

async fn answer<T: 'static>(mut answers: Answers<T>) -> Result<T, tonic::Status> {
    let answered = tokio::time::timeout(Duration::from_secs(4), answers.join_next()).await;
    answered.expect("before a silent client is given up").unwrap().unwrap().map(Response::into_inner)
}

fn stack_of(rig: &Rig, client: &str) -> Answers<control::PrintThreadStackTraceResponse> {
    let mut admin = rig.admin.clone();
    let request =
        control::PrintThreadStackTraceRequest { group: "g".to_owned(), client_id: client.to_owned() };
    let mut answers = JoinSet::new();
    answers.spawn(async move { admin.print_thread_stack_trace(request).await });
    answers
}

fn verify(rig: &Rig, message_id: &str) -> Answers<control::VerifyMessageResponse> {
    let mut admin = rig.admin.clone();
    let request = control::VerifyMessageRequest {
        group: "g".to_owned(),
        client_id: JAVA.to_owned(),
        topic: "orders".to_owned(),
        message_id: message_id.to_owned(),
    };
    let mut answers = JoinSet::new();
    answers.spawn(async move { admin.verify_message(request).await });
    answers
}

#[tokio::test]
async fn a_consumer_gives_its_stack_and_only_its_answer_to_this_question_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let mut consumer = Consumer::of(&mut rig, JAVA).await;
    let mut other = Consumer::of(&mut rig, "java@2@0@b").await;
    let asked = stack_of(&rig, JAVA);
    let nonce = consumer.asked_for_stack().await;
    consumer.says_stack("", "of no question").await;
    consumer.says_stack("0-1", "of a question of long ago").await;
    other.says_stack(&nonce, "of another client").await;
    other.is_heard().await;
    consumer.says_stack(&nonce, "main: waits").await;
    let told = answer(asked).await.unwrap();
    assert_eq!((&*told.stack_trace, told.cut), ("main: waits", false));

    consumer.says_stack(&nonce, "again").await;
    let asked = stack_of(&rig, JAVA);
    let next = consumer.asked_for_stack().await;
    assert_ne!(next, nonce);
    let long = "ä".repeat(2 << 20);
    consumer.says_stack(&next, &long).await;
    let told = answer(asked).await.unwrap();
    assert!(told.cut && long.starts_with(&told.stack_trace) && told.stack_trace.len() == 3 << 20);
}

#[tokio::test]
async fn a_consumer_is_given_the_message_and_says_whether_it_takes_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a"), message("orders", "b")]).await;
    let mut consumer = Consumer::of(&mut rig, JAVA).await;
    for (code, consumed) in [(Code::Ok, true), (Code::FailedToConsumeMessage, false)] {
        let asked = verify(&rig, "b");
        let (nonce, message) = consumer.asked_to_verify().await;
        assert_eq!((id(&message), &message.body[..]), ("b", &b"body of b"[..]));
        assert_eq!((message.topic.clone(), attempt(&message)), (resource("orders"), 1));
        assert_eq!(message.user_properties["colour"], "blue");
        consumer.says(code, verified(nonce)).await;
        assert_eq!(answer(asked).await.unwrap().consumed, consumed);
    }
    // As Node answers; and as nobody does.
    let wrong: [fn(String) -> Command; 2] = [
        |nonce| Command::VerifyMessageCommand(VerifyMessageCommand { nonce, message: None }),
        |nonce| stack_trace(&nonce, "?"),
    ];
    for wrong in wrong {
        let asked = verify(&rig, "b");
        let (nonce, _) = consumer.asked_to_verify().await;
        consumer.says(Code::NotImplemented, wrong(nonce)).await;
        let refused = answer(asked).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");
        let sentence = "client java@1@0@a (java 5.2.0) cannot do this: it answered NOT_IMPLEMENTED";
        assert_eq!(refused.message(), sentence);
    }
    let nowhere = answer(verify(&rig, "c")).await.unwrap_err();
    assert_eq!(nowhere.code(), tonic::Code::NotFound);
    assert!(nowhere.message().contains("no message with the id c"), "{nowhere}");
    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(ids(&polled.messages), ["a", "b"], "the group is where it was");
    assert_eq!(attempt(&polled.messages[1]), 1);
}

#[tokio::test]
async fn who_is_not_there_or_goes_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.group("g", false, 17).await;
    let unknown = answer(stack_of(&rig, JAVA)).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    assert!(unknown.message().contains("no client java@1@0@a consumes for group g"), "{unknown}");

    let beat = HeartbeatRequest { group: resource("g"), ..HeartbeatRequest::default() };
    rig.client.heartbeat(call_as(JAVA, beat)).await.unwrap();
    let unconnected = answer(stack_of(&rig, JAVA)).await.unwrap_err();
    assert_eq!(unconnected.code(), tonic::Code::NotFound);
    assert!(unconnected.message().contains("has no Telemetry stream"), "{unconnected}");

    let mut consumer = Consumer::of(&mut rig, JAVA).await;
    let asked = stack_of(&rig, JAVA);
    consumer.asked_for_stack().await;
    drop(consumer);
    let gone = answer(asked).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::Unavailable);
    assert!(gone.message().contains("ended before it answered"), "{gone}");

    // A broker that stops does not wait for it either.
    let mut consumer = Consumer::of(&mut rig, JAVA).await;
    let asked = stack_of(&rig, JAVA);
    consumer.asked_for_stack().await;
    let stopping = tokio::time::timeout(Duration::from_secs(4), rig.running.stop());
    stopping.await.expect("before a silent client is given up").unwrap();
    assert_eq!(answer(asked).await.unwrap_err().code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn consumers_are_listed_and_told_to_connect_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.group("g", false, 17).await;
    let mut consumers = [Consumer::of(&mut rig, JAVA).await, Consumer::of(&mut rig, "java@2@0@b").await];
    let beat = HeartbeatRequest { group: resource("g"), ..HeartbeatRequest::default() };
    rig.client.heartbeat(call_as("without-stream", beat)).await.unwrap();
    let described = control::DescribeGroupRequest { name: "g".to_owned() };
    let described = rig.admin.describe_group(described).await.unwrap().into_inner();
    let client = |client_id: &str, connected| control::GroupClient {
        client_id: client_id.to_owned(),
        language: "java".to_owned(),
        version: "5.2.0".to_owned(),
        connected,
    };
    let expected = [client(JAVA, true), client("java@2@0@b", true), client("without-stream", false)];
    assert_eq!(described.clients, expected);
    assert_eq!(described.client_ids, [JAVA, "java@2@0@b", "without-stream"]);

    let mut admin = rig.admin.clone();
    let mut reconnect = async |client: &str| {
        let request =
            control::ReconnectClientsRequest { group: "g".to_owned(), client_id: client.to_owned() };
        admin.reconnect_clients(request).await.map(|told| told.into_inner().client_ids)
    };
    assert_eq!(reconnect("java@2@0@b").await.unwrap(), ["java@2@0@b"]);
    assert_eq!(reconnect("").await.unwrap(), [JAVA, "java@2@0@b"]);
    assert_eq!(reconnect("without-stream").await.unwrap_err().code(), tonic::Code::NotFound);
    let mut nonces = Vec::new();
    for (consumer, times) in consumers.iter_mut().zip([1, 2]) {
        for _ in 0..times {
            match consumer.told().await {
                Command::ReconnectEndpointsCommand(command) => nonces.push(command.nonce),
                other => panic!("{other:?} is something else"),
            }
        }
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 3);
}
