//! Lite topics: held by clients, polled through their parent, each with an order of its own.

use std::path::Path;
use std::time::Duration;

use broker::{Config, LiteLimits};
use proto::control;
use proto::v2::LiteSubscriptionAction::{CompleteAdd, CompleteRemove, PartialAdd, PartialRemove};
use proto::v2::offset_option::{OffsetType, Policy};
use proto::v2::telemetry_command::Command;
use proto::v2::*;
use tokio::sync::mpsc;

use crate::rig::*;

const OK: i32 = Code::Ok as i32;
const PARENT: &str = "sessions";

async fn rig(folder: &Path) -> Rig {
    rig_with(config(folder)).await
}

async fn rig_with(config: Config) -> Rig {
    let mut rig = Rig::start_with(config).await;
    rig.topic_of(PARENT, 4, control::MessageType::Lite).await;
    rig
}

fn with_limits(folder: &Path, max_topics: usize, idle: Duration) -> Config {
    let mut config = config(folder);
    config.limits.lite = LiteLimits { max_topics, idle };
    config
}

fn to(lite: &str, id: &str) -> Message {
    let mut message = message(PARENT, id);
    message.system_properties.as_mut().unwrap().lite_topic = Some(lite.to_owned());
    message
}

fn request(action: LiteSubscriptionAction, group: &str, lites: &[&str]) -> SyncLiteSubscriptionRequest {
    SyncLiteSubscriptionRequest {
        action: action as i32,
        topic: resource(PARENT),
        group: resource(group),
        lite_topic_set: lites.iter().map(|lite| (*lite).to_owned()).collect(),
        version: None,
        offset_option: None,
    }
}

async fn sync(rig: &mut Rig, client: &str, request: SyncLiteSubscriptionRequest) -> Status {
    let response = rig.client.sync_lite_subscription(call_as(client, request)).await.unwrap();
    response.into_inner().status.unwrap()
}

/// The client changes what it holds for group `g`, and it works.
async fn hold(rig: &mut Rig, client: &str, action: LiteSubscriptionAction, lites: &[&str]) {
    let status = sync(rig, client, request(action, "g", lites)).await;
    assert_eq!(status.code, OK, "{}", status.message);
}

async fn send(rig: &mut Rig, lite: &str, id: &str) {
    rig.send_ok(vec![to(lite, id)]).await;
}

/// What the client gets now, sorted.
async fn gets(rig: &mut Rig, client: &str) -> Vec<String> {
    let polled = poll_as(&mut rig.client, client, ask("g", PARENT)).await;
    let mut found: Vec<String> = ids(&polled.messages).into_iter().map(str::to_owned).collect();
    found.sort();
    found
}

fn lite(message: &Message) -> &str {
    system(message).lite_topic.as_deref().unwrap()
}

async fn ack_code(rig: &mut Rig, lite: Option<&str>, handle: &str) -> i32 {
    let entry = AckMessageEntry {
        message_id: "id".to_owned(),
        receipt_handle: handle.to_owned(),
        lite_topic: lite.map(str::to_owned),
    };
    let request = AckMessageRequest { group: resource("g"), topic: resource(PARENT), entries: vec![entry] };
    rig.client.ack_message(call(request)).await.unwrap().into_inner().status.unwrap().code
}

async fn change(rig: &mut Rig, message: &Message, away: Duration) -> ChangeInvisibleDurationResponse {
    let request = ChangeInvisibleDurationRequest {
        group: resource("g"),
        topic: resource(PARENT),
        receipt_handle: handle(message).to_owned(),
        invisible_duration: Some(duration(away)),
        message_id: id(message).to_owned(),
        lite_topic: Some(lite(message).to_owned()),
        suspend: None,
    };
    rig.client.change_invisible_duration(call(request)).await.unwrap().into_inner()
}

#[tokio::test]
async fn a_client_gets_what_lies_in_the_lite_topics_that_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    let longest = "l".repeat(64);
    for (lite, id) in [("a", "a1"), ("b", "b1"), ("a", "a2"), (&longest, "l1")] {
        send(&mut rig, lite, id).await;
    }
    assert!(gets(&mut rig, "x").await.is_empty(), "it holds nothing yet");
    hold(&mut rig, "x", PartialAdd, &["a", &longest, "never-sent-to"]).await;
    let polled = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    let mut found: Vec<(&str, &str)> =
        polled.messages.iter().map(|message| (lite(message), id(message))).collect();
    found.sort();
    assert_eq!(found, [("a", "a1"), ("a", "a2"), (longest.as_str(), "l1")]);
    for message in &polled.messages {
        assert_eq!(message.topic, resource(PARENT), "of which they are a part");
        assert_eq!(system(message).message_type, MessageType::Lite as i32);
        assert_eq!(message.user_properties, [("colour".to_owned(), "blue".to_owned())].into());
    }
    assert!(gets(&mut rig, "x").await.is_empty(), "what is away is not delivered");
    let other = sync(&mut rig, "y", request(PartialAdd, "h", &["a"])).await;
    assert_eq!(other.code, OK);
    let polled = poll_as(&mut rig.client, "y", ask("h", PARENT)).await;
    assert_eq!(ids(&polled.messages), ["a1", "a2"], "another group begins at the start");
}

#[tokio::test]
async fn the_longest_names_fit() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let (parent, lite) = ("p".repeat(127), "l".repeat(64));
    rig.topic_of(&parent, 1, control::MessageType::Lite).await;
    let here = |message: Message| Message { topic: resource(&parent), ..message };
    rig.send_ok(vec![here(to(&lite, "a"))]).await;
    rig.running.stop().await.unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.send_ok(vec![here(to(&lite, "b"))]).await;
    let held = SyncLiteSubscriptionRequest { topic: resource(&parent), ..request(CompleteAdd, "g", &["*"]) };
    assert_eq!(sync(&mut rig, "x", held).await.code, OK);
    let polled = poll_as(&mut rig.client, "x", ask("g", &parent)).await;
    assert_eq!(ids(&polled.messages), ["a", "b"]);
}

#[tokio::test]
async fn a_batch_is_of_several_lite_topics_and_what_does_not_fit_comes_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    let lites: Vec<String> = (0..10).map(|n| format!("l{n}")).collect();
    for lite in &lites {
        for n in 0..3 {
            send(&mut rig, lite, &format!("{lite}-{n}")).await;
        }
    }
    hold(&mut rig, "x", CompleteAdd, &lites.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut found = Vec::new();
    for expected in [7, 7, 7, 7, 2, 0] {
        let polled =
            poll_as(&mut rig.client, "x", ReceiveMessageRequest { batch_size: 7, ..ask("g", PARENT) }).await;
        assert_eq!(polled.messages.len(), expected);
        found.extend(polled.messages.iter().map(|message| id(message).to_owned()));
    }
    found.sort();
    let mut sent: Vec<String> =
        lites.iter().flat_map(|lite| (0..3).map(move |n| format!("{lite}-{n}"))).collect();
    sent.sort();
    assert_eq!(found, sent, "each once");
}

#[tokio::test]
async fn a_parked_poll_is_woken_by_what_its_client_holds_and_by_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    hold(&mut rig, "x", PartialAdd, &["a", "b"]).await;
    let polls = rig.park_as("x", ask("g", PARENT)).await;
    send(&mut rig, "c", "c1").await;
    send(&mut rig, "b", "b1").await;
    assert_eq!(ids(&brought(polls).await.messages), ["b1"]);

    let polls = rig.park_as("x", ask("g", PARENT)).await;
    hold(&mut rig, "x", PartialAdd, &["c"]).await;
    assert_eq!(ids(&brought(polls).await.messages), ["c1"], "it holds something now that has something");

    let polls = rig.park_as("z", ask("g", PARENT)).await;
    hold(&mut rig, "z", CompleteAdd, &["*"]).await;
    send(&mut rig, "d", "d1").await;
    assert_eq!(ids(&brought(polls).await.messages), ["d1"], "and so has who holds all");
}

#[tokio::test]
async fn who_holds_all_gets_all_and_shares_it_within_the_group() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    send(&mut rig, "a", "a1").await;
    hold(&mut rig, "x", CompleteAdd, &["*"]).await;
    hold(&mut rig, "y", CompleteAdd, &["*"]).await;
    hold(&mut rig, "z", CompleteAdd, &["a"]).await;
    send(&mut rig, "b", "b1").await;
    assert_eq!(gets(&mut rig, "y").await, ["a1", "b1"]);
    for client in ["x", "y", "z"] {
        assert!(gets(&mut rig, client).await.is_empty(), "{client}: each message once");
    }
    let polls_of_x = rig.park_as("x", ask("g", PARENT)).await;
    let polls_of_y = rig.park_as("y", ask("g", PARENT)).await;
    send(&mut rig, "c", "c1").await;
    send(&mut rig, "d", "d1").await;
    let (x, y) = (brought(polls_of_x).await, brought(polls_of_y).await);
    let mut found = [ids(&x.messages), ids(&y.messages)].concat();
    found.extend(if found.len() < 2 { vec!["d1"] } else { vec![] });
    found.sort_unstable();
    assert_eq!(found, ["c1", "d1"]);
}

#[tokio::test]
async fn what_is_let_go_is_not_received_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    hold(&mut rig, "x", PartialAdd, &["a", "b", "c", "d"]).await;
    let mut check = async |action, lites: &[&str], n: u32, expected: &[&str]| {
        hold(&mut rig, "x", action, lites).await;
        for lite in ["a", "b", "c", "d"] {
            send(&mut rig, lite, &format!("{lite}{n}")).await;
        }
        assert_eq!(gets(&mut rig, "x").await, expected, "{action:?} {lites:?}");
    };
    check(PartialRemove, &["b", "unknown"], 1, &["a1", "c1", "d1"]).await;
    check(CompleteAdd, &["b", "c"], 2, &["b1", "b2", "c2"]).await;
    check(CompleteRemove, &[], 3, &[]).await;
    check(CompleteAdd, &["*"], 4, &["a2", "a3", "a4", "b3", "b4", "c3", "c4", "d2", "d3", "d4"]).await;
    check(PartialRemove, &["*"], 5, &[]).await;
    check(PartialAdd, &["d"], 6, &["d5", "d6"]).await;
    check(CompleteAdd, &[], 7, &[]).await;
}

#[tokio::test]
async fn handles_lead_back_to_their_lite_topic_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    rig.group("g", false, 2).await;
    hold(&mut rig, "x", PartialAdd, &["a", "b"]).await;
    send(&mut rig, "a", "a1").await;
    let polled = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    let first = &polled.messages[0];
    let invalid = Code::InvalidReceiptHandle as i32;
    for lite in [None, Some("b"), Some("not a lite topic"), Some("unknown")] {
        assert_eq!(ack_code(&mut rig, lite, handle(first)).await, invalid, "{lite:?}");
    }
    let changed = change(&mut rig, first, Duration::ZERO).await;
    assert_eq!(changed.status.unwrap().code, OK);
    let polled = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    assert_eq!((ids(&polled.messages), attempt(&polled.messages[0])), (vec!["a1"], 2));
    assert_eq!(ack_code(&mut rig, Some("a"), handle(first)).await, invalid, "of an earlier delivery");

    // A parked poll is woken when the delivery is due again; that was its last, so it goes to the dead letters.
    send(&mut rig, "b", "b1").await;
    let other = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    assert_eq!(ids(&other.messages), ["b1"]);
    let away = change(&mut rig, &other.messages[0], Duration::from_millis(50)).await;
    assert_eq!(away.status.unwrap().code, OK);
    let again = brought(rig.park_as("x", ask("g", PARENT)).await).await;
    assert_eq!((ids(&again.messages), attempt(&again.messages[0])), (vec!["b1"], 2));
    assert_eq!(ack_code(&mut rig, Some("b"), handle(&again.messages[0])).await, OK);

    let request = ForwardMessageToDeadLetterQueueRequest {
        group: resource("g"),
        topic: resource(PARENT),
        receipt_handle: handle(&polled.messages[0]).to_owned(),
        message_id: "a1".to_owned(),
        delivery_attempt: 2,
        max_delivery_attempts: 2,
        lite_topic: Some("a".to_owned()),
    };
    let forwarded =
        rig.client.forward_message_to_dead_letter_queue(call(request)).await.unwrap().into_inner();
    assert_eq!(forwarded.status.unwrap().code, OK);
    let dead = rig.poll(waiting(ask("undertaker", "%DLQ%g"), Duration::from_secs(10))).await;
    assert_eq!(ids(&dead.messages), ["a1"]);
    assert_eq!(lite(&dead.messages[0]), "a");
    assert_eq!(system(&dead.messages[0]).dead_letter_queue.as_ref().unwrap().topic, PARENT);
    assert!(gets(&mut rig, "x").await.is_empty());
}

#[tokio::test]
async fn an_ordered_group_gets_each_lite_topic_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    rig.group("g", true, 5).await;
    for (lite, id) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send(&mut rig, lite, id).await;
    }
    hold(&mut rig, "x", PartialAdd, &["a"]).await;
    let one = |attempt: &str| ReceiveMessageRequest {
        batch_size: 1,
        attempt_id: Some(attempt.to_owned()),
        ..ask("g", PARENT)
    };
    let first = poll_as(&mut rig.client, "x", one("p1")).await;
    assert_eq!(ids(&first.messages), ["a1"]);
    assert!(poll_as(&mut rig.client, "x", one("p2")).await.messages.is_empty(), "a2 waits behind a1");
    let again = poll_as(&mut rig.client, "x", one("p1")).await;
    assert_eq!(ids(&again.messages), ["a1"], "the answer was lost");
    assert_eq!(attempt(&again.messages[0]), 1);
    hold(&mut rig, "x", PartialAdd, &["b"]).await;
    assert_eq!(ids(&poll_as(&mut rig.client, "x", one("p3")).await.messages), ["b1"], "it has its own order");
    let polls = rig.park_as("x", one("p4")).await;
    assert_eq!(ack_code(&mut rig, Some("a"), handle(&again.messages[0])).await, OK);
    assert_eq!(ids(&brought(polls).await.messages), ["a2"]);
}

#[tokio::test]
async fn there_are_only_so_many_lite_topics_and_a_client_holds_only_so_many() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig_with(with_limits(folder.path(), 2, Duration::from_secs(3600))).await;
    send(&mut rig, "a", "a1").await;
    send(&mut rig, "b", "b1").await;
    let refused = rig.send(vec![to("c", "c1")]).await.status.unwrap();
    assert_eq!(refused.code, Code::LiteTopicQuotaExceeded as i32);
    assert!(refused.message.contains("maxLiteTopics"), "{}", refused.message);
    send(&mut rig, "a", "a2").await;

    let lites: Vec<String> = (0..1199).map(|n| format!("l{n}")).collect();
    let mut lites: Vec<&str> = lites.iter().map(String::as_str).collect();
    lites.push("a");
    hold(&mut rig, "x", CompleteAdd, &lites).await;
    let refused = sync(&mut rig, "x", request(PartialAdd, "g", &["b"])).await;
    assert_eq!(refused.code, Code::LiteSubscriptionQuotaExceeded as i32);
    hold(&mut rig, "x", PartialAdd, &["a", "l7"]).await;
    lites.push("b");
    let refused = sync(&mut rig, "x", request(CompleteAdd, "g", &lites)).await;
    assert_eq!(refused.code, Code::LiteSubscriptionQuotaExceeded as i32);
    assert_eq!(gets(&mut rig, "x").await, ["a1", "a2"], "what was refused has changed nothing");
}

#[tokio::test]
async fn a_parent_says_how_many_lite_topics_it_has_and_how_a_group_stands_in_all_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    for (lite, id) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send(&mut rig, lite, id).await;
    }
    hold(&mut rig, "x", CompleteAdd, &["a", "b"]).await;
    let polled = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    assert_eq!(polled.messages.len(), 3);
    let acked = polled.messages.iter().find(|message| id(message) == "b1").unwrap();
    assert_eq!(ack_code(&mut rig, Some("b"), handle(acked)).await, OK);
    let described = control::DescribeTopicRequest { name: PARENT.to_owned() };
    assert_eq!(rig.admin.describe_topic(described).await.unwrap().into_inner().lite_topics, 2);
    let described = control::DescribeGroupRequest { name: "g".to_owned() };
    let queues = rig.admin.describe_group(described).await.unwrap().into_inner().queues;
    let all: Vec<_> =
        queues.iter().map(|queue| (queue.topic.as_str(), queue.queue_id, queue.in_flight)).collect();
    assert_eq!(all, [(PARENT, 0, 2)]);
    assert_eq!((queues[0].cursor, queues[0].max_offset), (3, 3));
    let listed = rig.admin.list_topics(control::ListTopicsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.topics.len(), 1, "lite topics are not listed");
    let reset = control::ResetOffsetsRequest {
        group: "g".to_owned(),
        topic: PARENT.to_owned(),
        to: Some(control::reset_offsets_request::To::Offset(0)),
        ..control::ResetOffsetsRequest::default()
    };
    let refused = rig.admin.reset_offsets(reset).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test]
async fn progress_lite_topics_and_what_clients_hold_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let limits = || with_limits(folder.path(), 2, Duration::from_secs(3600));
    let mut rig = rig_with(limits()).await;
    hold(&mut rig, "x", CompleteAdd, &["a", "b"]).await;
    hold(&mut rig, "gone", CompleteAdd, &["a"]).await;
    let goodbye = NotifyClientTerminationRequest { group: resource("g") };
    rig.client.notify_client_termination(call_as("gone", goodbye)).await.unwrap();
    for (lite, id) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        send(&mut rig, lite, id).await;
    }
    let polled = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    assert_eq!(polled.messages.len(), 3);
    for message in &polled.messages {
        match id(message) {
            "a1" => assert_eq!(ack_code(&mut rig, Some("a"), handle(message)).await, OK),
            "a2" => assert_eq!(change(&mut rig, message, Duration::ZERO).await.status.unwrap().code, OK),
            _ => {}
        }
    }
    let away = polled.messages.iter().find(|message| id(message) == "b1").unwrap();
    rig.running.stop().await.unwrap();

    let mut rig = Rig::start_with(limits()).await;
    let refused = rig.send(vec![to("c", "c1")]).await.status.unwrap();
    assert_eq!(refused.code, Code::LiteTopicQuotaExceeded as i32, "there are two already");
    assert!(gets(&mut rig, "gone").await.is_empty());
    let again = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    assert_eq!((ids(&again.messages), attempt(&again.messages[0])), (vec!["a2"], 2));
    assert_eq!(ack_code(&mut rig, Some("b"), handle(away)).await, OK, "a handle from before");
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_client_holds_goes_with_it_and_what_it_had_comes_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    hold(&mut rig, "x", CompleteAdd, &["a"]).await;
    send(&mut rig, "a", "a1").await;
    let push = ReceiveMessageRequest { auto_renew: true, invisible_duration: None, ..ask("g", PARENT) };
    let polled = poll_as(&mut rig.client, "x", push).await;
    assert_eq!(ids(&polled.messages), ["a1"]);
    let goodbye = NotifyClientTerminationRequest { group: resource("g") };
    rig.client.notify_client_termination(call_as("x", goodbye)).await.unwrap();
    hold(&mut rig, "y", CompleteAdd, &["a"]).await;
    let again = brought(rig.park_as("y", ask("g", PARENT)).await).await;
    assert_eq!((ids(&again.messages), attempt(&again.messages[0])), (vec!["a1"], 2));
    send(&mut rig, "a", "a2").await;
    assert!(gets(&mut rig, "x").await.is_empty(), "it holds nothing any more");
    assert_eq!(gets(&mut rig, "y").await, ["a2"]);
}

#[tokio::test]
async fn a_lite_topic_that_is_idle_and_drained_goes_and_its_holders_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig_with(with_limits(folder.path(), 2, Duration::from_millis(300))).await;
    let (says, said) = mpsc::channel(4);
    let subscription = Subscription {
        group: resource("g"),
        subscriptions: vec![SubscriptionEntry { topic: resource(PARENT), expression: None }],
        ..Subscription::default()
    };
    let settings = Settings {
        client_type: Some(ClientType::LitePushConsumer as i32),
        pub_sub: Some(settings::PubSub::Subscription(subscription)),
        ..Settings::default()
    };
    says.send(TelemetryCommand { status: None, command: Some(Command::Settings(settings)) }).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(said);
    let mut hears = rig.client.telemetry(call_as("x", stream)).await.unwrap().into_inner();
    assert!(matches!(hears.message().await.unwrap().unwrap().command, Some(Command::Settings(_))));

    send(&mut rig, "kept", "k1").await;
    send(&mut rig, "a", "a1").await;
    hold(&mut rig, "x", CompleteAdd, &["a"]).await;
    let polled = poll_as(&mut rig.client, "x", ask("g", PARENT)).await;
    assert_eq!(ack_code(&mut rig, Some("a"), handle(&polled.messages[0])).await, OK);
    match hears.message().await.unwrap().unwrap().command {
        Some(Command::NotifyUnsubscribeLiteCommand(command)) => assert_eq!(command.lite_topic, "a"),
        other => panic!("{other:?}"),
    }
    // It is sent to again once it is gone; before, it says so.
    while rig.send(vec![to("a", "new")]).await.status.unwrap().code == Code::TooManyRequests as i32 {
        tokio::task::yield_now().await;
    }
    hold(&mut rig, "y", CompleteAdd, &["a", "kept"]).await;
    let polled = poll_as(&mut rig.client, "y", ask("g", PARENT)).await;
    let mut found: Vec<(&str, Option<i64>)> =
        polled.messages.iter().map(|message| (id(message), system(message).queue_offset)).collect();
    found.sort();
    assert_eq!(found, [("k1", Some(0)), ("new", Some(0))], "the one began anew, the other nobody had read");
}

#[tokio::test]
async fn lite_topics_go_with_their_parent() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    hold(&mut rig, "x", CompleteAdd, &["*"]).await;
    send(&mut rig, "a", "a1").await;
    let delete = |only_if_drained| control::DeleteTopicRequest {
        name: PARENT.to_owned(),
        owner: String::new(),
        only_if_drained,
    };
    assert_eq!(gets(&mut rig, "x").await, ["a1"]);
    let refused = rig.admin.delete_topic(delete(true)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "a1 is not acknowledged");
    let polls = rig.park_as("x", ask("g", PARENT)).await;
    assert!(rig.admin.delete_topic(delete(false)).await.unwrap().into_inner().existed);
    assert_eq!(brought(polls).await.status.code, Code::TopicNotFound as i32, "the poll ends with its topic");
    rig.topic_of(PARENT, 4, control::MessageType::Lite).await;
    hold(&mut rig, "x", CompleteAdd, &["*"]).await;
    assert!(gets(&mut rig, "x").await.is_empty());
    send(&mut rig, "a", "new").await;
    assert_eq!(gets(&mut rig, "x").await, ["new"]);
}

#[tokio::test]
async fn a_lite_topic_that_is_new_to_the_group_begins_where_the_client_says() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    for n in 0..4 {
        send(&mut rig, "a", &format!("a{n}")).await;
    }
    let mut check = async |group: &str, offset_type: OffsetType, expected: &[&str]| {
        let option = Some(OffsetOption { offset_type: Some(offset_type) });
        let request =
            SyncLiteSubscriptionRequest { offset_option: option, ..request(PartialAdd, group, &["a"]) };
        assert_eq!(sync(&mut rig, group, request.clone()).await.code, OK);
        let polled = poll_as(&mut rig.client, group, ask(group, PARENT)).await;
        assert_eq!(ids(&polled.messages), expected, "{offset_type:?}");
        // It is not new any more.
        assert_eq!(sync(&mut rig, group, request).await.code, OK);
        let polled = poll_as(&mut rig.client, group, ask(group, PARENT)).await;
        assert!(polled.messages.is_empty(), "{offset_type:?}");
    };
    let all = ["a0", "a1", "a2", "a3"];
    check("last", OffsetType::Policy(Policy::Last as i32), &all).await;
    check("min", OffsetType::Policy(Policy::Min as i32), &all).await;
    check("max", OffsetType::Policy(Policy::Max as i32), &[]).await;
    check("offset", OffsetType::Offset(1), &all[1..]).await;
    check("tail", OffsetType::TailN(1), &all[3..]).await;
    check("past", OffsetType::Timestamp(0), &all).await;
    check("future", OffsetType::Timestamp(i64::MAX), &[]).await;
}

#[tokio::test]
async fn a_mistake_about_lite_topics_is_answered_with_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = rig(folder.path()).await;
    rig.topic("orders", 1).await;
    let illegal = Code::IllegalLiteTopic as i32;
    let long = "l".repeat(65);
    for name in ["", " ", "a b", "a/b", "a$b", long.as_str()] {
        assert_eq!(rig.send(vec![to(name, "id")]).await.status.unwrap().code, illegal, "{name:?}");
        assert_eq!(
            sync(&mut rig, "x", request(PartialAdd, "g", &["a", name])).await.code,
            illegal,
            "{name:?}"
        );
    }
    assert_eq!(rig.send(vec![to("*", "id")]).await.status.unwrap().code, illegal);
    let conflict = Code::MessagePropertyConflictWithType as i32;
    let plain = rig.send(vec![message(PARENT, "id")]).await.status.unwrap();
    assert_eq!(plain.code, conflict, "a message without a lite topic");
    let good = request(PartialAdd, "g", &["a"]);
    let mut check = async |case: &str, code: Code, change: &dyn Fn(&mut SyncLiteSubscriptionRequest)| {
        let mut request = good.clone();
        change(&mut request);
        let status = sync(&mut rig, "x", request).await;
        assert_eq!(status.code, code as i32, "{case}: {}", status.message);
    };
    check("no such topic", Code::TopicNotFound, &|r| r.topic = resource("nobody")).await;
    check("no topic", Code::IllegalTopic, &|r| r.topic = None).await;
    check("not lite", Code::IllegalTopic, &|r| r.topic = resource("orders")).await;
    check("group", Code::IllegalConsumerGroup, &|r| r.group = resource("a b")).await;
    check("action", Code::BadRequest, &|r| r.action = 77).await;
    check("offset", Code::IllegalOffset, &|r| {
        r.offset_option = Some(OffsetOption { offset_type: Some(OffsetType::Offset(-1)) });
    })
    .await;
    send(&mut rig, "a", "a1").await;
    assert!(gets(&mut rig, "x").await.is_empty(), "nothing was subscribed");
}
