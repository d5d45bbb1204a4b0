//! Messages that are visible once their producer says so: committed, rolled back, asked about, given up.

use std::path::Path;
use std::time::Duration;

use broker::{Config, TransactionSchedule};
use proto::control;
use proto::v2::settings::PubSub;
use proto::v2::telemetry_command::Command;
use proto::v2::*;
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::house::page;
use crate::rig::{Rig, ask, brought, call, config, id, ids, message, resource, system};

/// Producers are asked at once, and often.
fn impatient(folder: &Path) -> Config {
    let mut config = config(folder);
    config.limits.transactions = TransactionSchedule {
        first_check_after: Duration::from_millis(50),
        check_interval: Duration::from_millis(50),
        ..config.limits.transactions
    };
    config
}

fn half(topic: &str, id: &str) -> Message {
    let mut message = message(topic, id);
    message.system_properties.as_mut().unwrap().message_type = MessageType::Transaction as i32;
    message
}

async fn topic(rig: &mut Rig) {
    rig.topic_of("payments", 1, control::MessageType::Transaction).await;
}

async fn begin(rig: &mut Rig, id: &str) -> SendResultEntry {
    rig.send_ok(vec![half("payments", id)]).await.remove(0)
}

async fn end(rig: &mut Rig, transaction_id: &str, how: TransactionResolution) -> Status {
    let request = EndTransactionRequest {
        topic: resource("payments"),
        transaction_id: transaction_id.to_owned(),
        resolution: how as i32,
        ..EndTransactionRequest::default()
    };
    rig.client.end_transaction(call(request)).await.unwrap().into_inner().status.unwrap()
}

/// A producer's Telemetry stream, once its settings are answered.
struct Producer {
    _says: mpsc::Sender<TelemetryCommand>,
    hears: Streaming<TelemetryCommand>,
}

impl Producer {
    async fn of(rig: &mut Rig, topic: &str) -> Self {
        let (says, said) = mpsc::channel(4);
        let publishing =
            Publishing { topics: resource(topic).into_iter().collect(), ..Publishing::default() };
        let settings = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Settings::default() };
        says.send(TelemetryCommand { status: None, command: Some(Command::Settings(settings)) })
            .await
            .unwrap();
        let said = tokio_stream::wrappers::ReceiverStream::new(said);
        let mut hears = rig.client.telemetry(call(said)).await.unwrap().into_inner();
        assert!(matches!(hears.message().await.unwrap().unwrap().command, Some(Command::Settings(_))));
        Self { _says: says, hears }
    }

    /// The next question.
    async fn asked(&mut self) -> RecoverOrphanedTransactionCommand {
        match self.hears.message().await.unwrap().unwrap().command {
            Some(Command::RecoverOrphanedTransactionCommand(command)) => command,
            other => panic!("{other:?} is no question about a transaction"),
        }
    }
}

#[tokio::test]
async fn a_message_is_seen_once_its_transaction_commits_and_never_if_it_is_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    topic(&mut rig).await;
    let polls = rig.park(ask("g", "payments")).await;
    let bad = begin(&mut rig, "bad").await;
    let good = begin(&mut rig, "good").await;
    assert_eq!(good.message_id, "good");
    assert_eq!(
        end(&mut rig, &bad.transaction_id, TransactionResolution::Rollback).await.code,
        Code::Ok as i32
    );
    assert_eq!(
        end(&mut rig, &good.transaction_id, TransactionResolution::Unspecified).await.code,
        Code::Ok as i32
    );
    assert_eq!(rig.poll(ask("other", "payments")).await.messages, []);
    for _ in 0..2 {
        // A client that got no answer says it again.
        assert_eq!(
            end(&mut rig, &good.transaction_id, TransactionResolution::Commit).await.code,
            Code::Ok as i32
        );
    }
    assert_eq!(end(&mut rig, &bad.transaction_id, TransactionResolution::Commit).await.code, Code::Ok as i32);
    let polled = brought(polls).await;
    assert_eq!(ids(&polled.messages), ["good"]);
    let message = &polled.messages[0];
    assert_eq!(system(message).message_type, MessageType::Transaction as i32);
    assert_eq!(message.user_properties["colour"], "blue");
    assert_eq!(message.user_properties["__transactionId__"], "good");
    assert_eq!(&message.body[..], b"body of good");
    assert_eq!(ids(&rig.poll(ask("late", "payments")).await.messages), ["good"], "and only that");
}

#[tokio::test]
async fn a_producer_is_asked_until_it_knows() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start_with(impatient(folder.path())).await;
    topic(&mut rig).await;
    let mut producer = Producer::of(&mut rig, "payments").await;
    let began = begin(&mut rig, "orphan").await;
    for _ in 0..3 {
        let asked = producer.asked().await;
        assert_eq!(asked.transaction_id, began.transaction_id);
        let message = asked.message.unwrap();
        assert_eq!((id(&message), &message.body[..]), ("orphan", &b"body of orphan"[..]));
        assert_eq!(message.topic, resource("payments"));
        assert_eq!(system(&message).message_type, MessageType::Transaction as i32);
        assert_eq!(message.user_properties.len(), 1, "{:?}", message.user_properties);
    }
    end(&mut rig, &began.transaction_id, TransactionResolution::Commit).await;
    assert_eq!(ids(&rig.poll(ask("g", "payments")).await.messages), ["orphan"]);
}

#[tokio::test]
async fn another_producer_of_the_topic_is_asked_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start_with(impatient(folder.path())).await;
    topic(&mut rig).await;
    // What is read after the restart begins at the orphan: the end of the other one must be found too.
    let orphan = begin(&mut rig, "orphan").await;
    let done = begin(&mut rig, "done").await;
    end(&mut rig, &done.transaction_id, TransactionResolution::Commit).await;
    rig.running.stop().await.unwrap();
    let mut rig = Rig::start_with(impatient(folder.path())).await;
    let mut producer = Producer::of(&mut rig, "payments").await;
    for _ in 0..3 {
        assert_eq!(producer.asked().await.transaction_id, orphan.transaction_id, "the other one has ended");
    }
    end(&mut rig, &orphan.transaction_id, TransactionResolution::Commit).await;
    assert_eq!(ids(&rig.poll(ask("g", "payments")).await.messages), ["done", "orphan"]);
}

#[tokio::test]
async fn a_transaction_that_nobody_ends_is_given_up_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = impatient(folder.path());
    config.limits.transactions.max_checks = 2;
    let mut rig = Rig::start_with(config).await;
    topic(&mut rig).await;
    let mut producer = Producer::of(&mut rig, "payments").await;
    let stuck = begin(&mut rig, "stuck").await;
    for _ in 0..2 {
        assert_eq!(producer.asked().await.transaction_id, stuck.transaction_id);
    }
    let good = begin(&mut rig, "good").await;
    assert_eq!(producer.asked().await.transaction_id, good.transaction_id, "the stuck one is given up");
    end(&mut rig, &good.transaction_id, TransactionResolution::Commit).await;
    end(&mut rig, &stuck.transaction_id, TransactionResolution::Commit).await;
    assert_eq!(ids(&rig.poll(ask("g", "payments")).await.messages), ["good"]);
}

#[tokio::test]
async fn questions_are_counted_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = impatient(folder.path());
    config.limits.transactions.max_checks = 2;
    config.limits.transactions.check_interval = Duration::from_secs(3600);
    let mut rig = Rig::start_with(config.clone()).await;
    topic(&mut rig).await;
    let mut producer = Producer::of(&mut rig, "payments").await;
    let stuck = begin(&mut rig, "stuck").await;
    assert_eq!(producer.asked().await.transaction_id, stuck.transaction_id);
    drop(producer);
    rig.running.stop().await.unwrap();

    config.limits.transactions.check_interval = Duration::from_millis(50);
    let mut rig = Rig::start_with(config).await;
    let mut producer = Producer::of(&mut rig, "payments").await;
    assert_eq!(
        producer.asked().await.transaction_id,
        stuck.transaction_id,
        "for the second time, and the last"
    );
    let good = begin(&mut rig, "good").await;
    assert_eq!(producer.asked().await.transaction_id, good.transaction_id, "the stuck one is given up");
}

#[tokio::test]
async fn a_topic_takes_its_counts_of_transactions_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    topic(&mut rig).await;
    let done = begin(&mut rig, "done").await;
    end(&mut rig, &done.transaction_id, TransactionResolution::Commit).await;
    let counted = "rocketmq_commit_messages_total{topic=\"payments\"} 1";
    assert!(page(&rig, "/metrics").await.contains(counted));
    let request = control::DeleteTopicRequest { name: "payments".to_owned(), ..Default::default() };
    assert!(rig.admin.delete_topic(request).await.unwrap().into_inner().existed);
    assert!(!page(&rig, "/metrics").await.contains("rocketmq_commit_messages_total{"));
}

#[tokio::test]
async fn a_message_says_how_long_its_producer_may_take() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.limits.transactions.first_check_after = Duration::from_secs(3600);
    let mut rig = Rig::start_with(config).await;
    topic(&mut rig).await;
    let mut producer = Producer::of(&mut rig, "payments").await;
    begin(&mut rig, "patient").await;
    let mut hasty = half("payments", "hasty");
    hasty.system_properties.as_mut().unwrap().orphaned_transaction_recovery_duration =
        Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let hasty = rig.send_ok(vec![hasty]).await.remove(0);
    assert_eq!(producer.asked().await.transaction_id, hasty.transaction_id);
}

#[tokio::test]
async fn no_property_of_a_message_keeps_a_broker_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    topic(&mut rig).await;
    let mut half = half("payments", "odd");
    // RocketMQ's name for the time that its producer may take; a client may write it.
    let seconds = ("CHECK_IMMUNITY_TIME_IN_SECONDS".to_owned(), i64::MAX.to_string());
    half.user_properties = [seconds].into();
    let odd = rig.send_ok(vec![half]).await.remove(0);
    rig.running.stop().await.unwrap();
    let mut rig = Rig::start(folder.path()).await;
    end(&mut rig, &odd.transaction_id, TransactionResolution::Commit).await;
    assert_eq!(ids(&rig.poll(ask("g", "payments")).await.messages), ["odd"]);
}

#[tokio::test]
async fn what_is_no_transaction_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.limits.transactions.max_pending = 1;
    let mut rig = Rig::start_with(config).await;
    topic(&mut rig).await;
    rig.topic("orders", 1).await;
    for bad in ["", "  ", "0123456789ABCDEF"] {
        let status = end(&mut rig, bad, TransactionResolution::Commit).await;
        assert_eq!(status.code, Code::InvalidTransactionId as i32, "{bad:?}: {}", status.message);
    }
    let together = rig.send(vec![half("orders", "a"), message("orders", "b")]).await.status.unwrap();
    assert_eq!(together.code, Code::MessageCorrupted as i32, "{}", together.message);
    let began = begin(&mut rig, "a").await;
    let many = rig.send(vec![half("payments", "b")]).await.status.unwrap();
    assert_eq!(many.code, Code::TooManyRequests as i32, "{}", many.message);
    end(&mut rig, &began.transaction_id, TransactionResolution::Rollback).await;
    begin(&mut rig, "c").await;
}
