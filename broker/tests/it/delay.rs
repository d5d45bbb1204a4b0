//! Messages that wait for their time: delivered then, recalled before, through restarts and kills.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::control;
use proto::v2::*;

use crate::restart::copy;
use crate::rig::*;

fn in_time(ms: u64) -> SystemTime {
    SystemTime::now() + Duration::from_millis(ms)
}

fn delayed(topic: &str, id: &str, at: SystemTime) -> Message {
    let mut message = message(topic, id);
    message.system_properties.as_mut().unwrap().delivery_timestamp = Some(at.into());
    message
}

async fn waiting(rig: &mut Rig, topic: &str) -> u64 {
    let request = control::DescribeTopicRequest { name: topic.to_owned() };
    rig.admin.describe_topic(request).await.unwrap().into_inner().waiting
}

/// Until so many wait.
async fn wait_for_waiting(rig: &mut Rig, topic: &str, count: u64) {
    while waiting(rig, topic).await != count {
        tokio::task::yield_now().await;
    }
}

async fn recall(rig: &mut Rig, topic: &str, handle: &str) -> (i32, String) {
    let request = RecallMessageRequest { topic: resource(topic), recall_handle: handle.to_owned() };
    let response = rig.client.recall_message(call(request)).await.unwrap().into_inner();
    (response.status.unwrap().code, response.message_id)
}

/// Everything that comes until all of these have: ids, sorted.
async fn receive(rig: &mut Rig, topic: &str, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    while found.len() < count {
        let polled = rig.poll(crate::rig::waiting(ask("g", topic), Duration::from_secs(10))).await;
        assert!(!polled.messages.is_empty(), "only {found:?} came: {:?}", polled.status);
        for message in &polled.messages {
            found.push(id(message).to_owned());
            assert_eq!(rig.ack_code("g", topic, handle(message)).await, Code::Ok as i32);
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_message_comes_at_its_time_and_not_before_as_it_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic_of("later", 2, control::MessageType::Delay).await;
    let parked = rig.park(ask("g", "later")).await;
    let due = in_time(400);
    let sent = rig.send_ok(vec![delayed("later", "m", due)]).await;
    assert_eq!((sent[0].message_id.as_str(), sent[0].transaction_id.as_str()), ("m", "m"));
    assert!(!sent[0].recall_handle.is_empty());
    assert!(sent[0].offset >= 0);
    wait_for_waiting(&mut rig, "later", 1).await;
    let polled = brought(parked).await;
    let (now, late) = (SystemTime::now(), SystemTime::now().duration_since(due));
    assert!(late.is_ok_and(|late| late < Duration::from_secs(5)), "due {due:?}, now {now:?}");
    let [message] = &polled.messages[..] else { panic!("{polled:?}") };
    let system = system(message);
    assert_eq!((id(message), &message.body[..]), ("m", &b"body of m"[..]));
    assert_eq!(message.user_properties, [("colour".to_owned(), "blue".to_owned())].into());
    let due_ms = due.duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let shown = system.delivery_timestamp.unwrap();
    assert_eq!(shown.seconds * 1000 + i64::from(shown.nanos) / 1_000_000, due_ms);
    assert_eq!(system.message_type, MessageType::Delay as i32);
    assert_eq!(waiting(&mut rig, "later").await, 0);
    let past = rig.send_ok(vec![delayed("later", "past", UNIX_EPOCH)]).await;
    assert_eq!(past[0].recall_handle, "", "there is nothing left to recall");
}

#[tokio::test]
async fn a_message_that_waits_can_be_recalled_and_whoever_asks_hears_what_came_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic_of("later", 1, control::MessageType::Delay).await;
    rig.topic_of("orders", 1, control::MessageType::Normal).await;
    let far = in_time(3_600_000);
    let sent = rig.send_ok(vec![delayed("later", "a", far), delayed("later", "b", far)]).await;
    let handles: Vec<String> = sent.iter().map(|entry| entry.recall_handle.clone()).collect();
    let ok = (Code::Ok as i32, "a".to_owned());
    assert_eq!(recall(&mut rig, "later", &handles[0]).await, ok);
    assert_eq!(recall(&mut rig, "later", &handles[0]).await, ok, "asked again");
    assert_eq!(waiting(&mut rig, "later").await, 1);

    let broken = recall(&mut rig, "later", "no handle").await;
    assert_eq!(broken, (Code::InternalServerError as i32, String::new()));
    let of_other = recall(&mut rig, "orders", &handles[1]).await.0;
    assert_eq!(of_other, Code::MessagePropertyConflictWithType as i32);
    assert_eq!(recall(&mut rig, "nowhere", &handles[1]).await.0, Code::TopicNotFound as i32);

    let soon = rig.send_ok(vec![delayed("later", "soon", in_time(100))]).await;
    assert_eq!(receive(&mut rig, "later", 1).await, ["soon"]);
    let too_late = recall(&mut rig, "later", &soon[0].recall_handle).await.0;
    assert_eq!(too_late, Code::MessageNotFound as i32);
    rig.running.stop().await.unwrap();

    let mut rig = Rig::start(folder.path()).await;
    assert_eq!(recall(&mut rig, "later", &handles[0]).await, ok);
    assert_eq!(recall(&mut rig, "later", &handles[1]).await, (Code::Ok as i32, "b".to_owned()));
    assert_eq!(waiting(&mut rig, "later").await, 0);
}

#[tokio::test]
async fn what_waits_outlives_stops_and_kills_and_comes_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("later", 4).await;
    let due = in_time(800);
    let messages =
        |from: u32, due| (from..from + 50).map(move |n| delayed("later", &format!("m{n:03}"), due));
    rig.send_ok(messages(0, due).collect()).await;
    rig.running.stop().await.unwrap();

    let mut rig = Rig::start(folder.path()).await;
    rig.send_ok(messages(50, due).collect()).await;
    wait_for_waiting(&mut rig, "later", 100).await;
    let killed = tempfile::tempdir().unwrap();
    copy(folder.path(), killed.path());
    // Killed while all wait, and again when some were delivered.
    let mut again = Rig::start(killed.path()).await;
    wait_for_waiting(&mut again, "later", 0).await;
    let killed_again = tempfile::tempdir().unwrap();
    copy(killed.path(), killed_again.path());
    let mut last = Rig::start(killed_again.path()).await;

    let expected: Vec<String> = (0..100).map(|n| format!("m{n:03}")).collect();
    for rig in [&mut rig, &mut again, &mut last] {
        assert_eq!(receive(rig, "later", 100).await, expected);
        let more = rig.poll(ask("g", "later")).await;
        assert!(more.messages.is_empty(), "{:?} came twice", ids(&more.messages));
        assert_eq!(waiting(rig, "later").await, 0);
    }
    for rig in [rig, again, last] {
        rig.running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn how_far_ahead_is_configured() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.limits.timer_max_delay = Duration::from_secs(60);
    config.flush = store::Flush::Sync;
    let mut rig = Rig::start_with(config).await;
    rig.topic("later", 1).await;
    let far = rig.send(vec![delayed("later", "far", in_time(61_500))]).await.status.unwrap();
    assert_eq!(far.code, Code::IllegalDeliveryTime as i32);
    assert!(far.message.contains("60 s"), "{}", far.message);
    let sent = rig.send_ok(vec![delayed("later", "near", in_time(59_000))]).await;
    let recalled = recall(&mut rig, "later", &sent[0].recall_handle).await;
    assert_eq!(recalled, (Code::Ok as i32, "near".to_owned()));
}
