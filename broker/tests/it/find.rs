//! Messages found by key, by unique id and by place.

use proto::control::find_messages_request::Wanted;
use proto::control::{self, FindMessagesRequest, FindMessagesResponse, GetMessageRequest, StoredMessage};
use proto::v2::{Message, ReceiveMessageRequest};
use tonic::Code;

use crate::rig::*;

fn keyed(id: &str, keys: &[&str]) -> Message {
    let mut message = message("orders", id);
    message.system_properties.as_mut().unwrap().keys = keys.iter().map(|key| (*key).to_owned()).collect();
    message
}

fn by(wanted: Wanted) -> FindMessagesRequest {
    FindMessagesRequest {
        topic: "orders".to_owned(),
        wanted: Some(wanted),
        stored_since_ms: None,
        stored_until_ms: None,
        limit: 32,
    }
}

fn key(key: &str) -> FindMessagesRequest {
    by(Wanted::Key(key.to_owned()))
}

fn place(queue_id: u32, queue_offset: u64) -> GetMessageRequest {
    GetMessageRequest { topic: "orders".to_owned(), queue_id, queue_offset, with_body: true }
}

impl Rig {
    async fn find(&mut self, request: FindMessagesRequest) -> FindMessagesResponse {
        self.admin.find_messages(request).await.unwrap().into_inner()
    }

    async fn get(&mut self, request: GetMessageRequest) -> Result<StoredMessage, tonic::Status> {
        self.admin.get_message(request).await.map(|response| response.into_inner().message.unwrap())
    }
}

fn offsets(found: &FindMessagesResponse) -> Vec<u64> {
    found.messages.iter().map(|message| message.queue_offset).collect()
}

#[tokio::test]
async fn messages_are_found_as_soon_as_they_are_acknowledged_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![keyed("id-0", &["k", "a"])]).await;
    rig.send_ok(vec![keyed("id-1", &["b"])]).await;
    rig.send_ok(vec![keyed("id-2", &["a", "k"])]).await;
    assert_eq!(offsets(&rig.find(key("k")).await), [2, 0], "the newest first");
    rig.running.stop().await.unwrap();

    let mut rig = Rig::start(folder.path()).await;
    let all = rig.find(key("k")).await;
    assert_eq!((offsets(&all), all.more, all.unsearched_bytes), (vec![2, 0], false, 0));
    assert_eq!(offsets(&rig.find(key("id-1")).await), [1], "a unique id is a key, as in RocketMQ");
    assert_eq!(offsets(&rig.find(by(Wanted::Id("id-1".to_owned()))).await), [1]);
    assert!(rig.find(by(Wanted::Id("b".to_owned()))).await.messages.is_empty(), "a key is no id");
    let newest = rig.find(FindMessagesRequest { limit: 1, ..key("k") }).await;
    assert_eq!((offsets(&newest), newest.more), (vec![2], true));
    let newest = &newest.messages[0];
    assert_eq!((newest.body_bytes, newest.body.is_none()), (12, true));
    let at = newest.stored_at_ms;
    let before = FindMessagesRequest { stored_until_ms: Some(all.messages[1].stored_at_ms), ..key("k") };
    assert!(rig.find(before).await.messages.is_empty(), "the end is excluded");
    let since = FindMessagesRequest { stored_since_ms: Some(at), stored_until_ms: Some(at + 1), ..key("k") };
    assert!(offsets(&rig.find(since).await).contains(&2));

    let got = rig.get(place(0, 2)).await.unwrap();
    assert_eq!(got.body.as_deref(), Some(&b"body of id-2"[..]));
    assert_eq!((&got.properties, got.log_offset), (&newest.properties, newest.log_offset));
    let head = rig.get(GetMessageRequest { with_body: false, ..place(0, 2) }).await.unwrap();
    assert_eq!(&head, newest);
}

#[tokio::test]
async fn what_cannot_be_asked_or_is_not_there_is_told_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![keyed("id-0", &["k"])]).await;
    let nowhere = FindMessagesRequest { topic: "nowhere".to_owned(), ..key("k") };
    for (request, code, says) in [
        (nowhere, Code::NotFound, "no topic nowhere"),
        (FindMessagesRequest { limit: 0, ..key("k") }, Code::InvalidArgument, "1 to 1000"),
        (FindMessagesRequest { limit: 1001, ..key("k") }, Code::InvalidArgument, "1 to 1000"),
        (key(""), Code::InvalidArgument, "empty"),
        (key("two keys"), Code::InvalidArgument, "one of them"),
        (FindMessagesRequest { wanted: None, ..key("k") }, Code::InvalidArgument, "neither key nor id"),
    ] {
        let refused = rig.admin.find_messages(request).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(says), "{refused}");
    }
    for (request, says) in [
        (place(0, 1), "queue 0 of topic orders has no message at offset 1: it reaches from 0 to 1"),
        (place(7, 0), "queue 7"),
        (GetMessageRequest { topic: "nowhere".to_owned(), ..place(0, 0) }, "no topic nowhere"),
    ] {
        let refused = rig.get(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound, "{refused}");
        assert!(refused.message().contains(says), "{refused}");
    }
}

#[tokio::test]
async fn a_broker_without_the_index_says_which_knob_turns_it_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut off = config(folder.path());
    off.limits.message_index_enable = false;
    let mut rig = Rig::start_with(off).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![keyed("id-0", &["k"])]).await;
    let refused = rig.admin.find_messages(key("k")).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("config.messageIndexEnable"), "{refused}");
    assert_eq!(rig.get(place(0, 0)).await.unwrap().body_bytes, 12, "a place needs no index");
    rig.running.stop().await.unwrap();

    let mut rig = Rig::start(folder.path()).await;
    assert_eq!(offsets(&rig.find(key("k")).await), [0], "it makes up for what it missed");
}

#[tokio::test]
async fn an_answer_fits_a_message_of_grpc_however_long_the_properties_are() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    for batch in 0..10 {
        let long = |n: usize| {
            let mut message = keyed(&format!("id-{batch}-{n}"), &["k"]);
            message.user_properties.insert("long".to_owned(), "x".repeat(12 << 10));
            message
        };
        rig.send_ok((0..40).map(long).collect()).await;
    }
    let found = rig.find(FindMessagesRequest { limit: 1000, ..key("k") }).await;
    assert!(found.more && (200..400).contains(&found.messages.len()), "{}", found.messages.len());
    assert_eq!(found.messages[0].queue_offset, 399);
    let topic = control::DeleteTopicRequest { name: "orders".to_owned(), ..Default::default() };
    rig.admin.delete_topic(topic).await.unwrap();
    rig.topic("orders", 1).await;
    assert!(rig.find(key("k")).await.messages.is_empty(), "they went with their topic");
}

#[tokio::test]
async fn a_message_is_followed_through_the_groups() {
    use control::group_trace::State;

    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.group("ordered", true, 17).await;
    for id in ["first", "second"] {
        rig.send_ok(vec![in_group("orders", id, "lane")]).await;
    }
    let one = |group: &str| ReceiveMessageRequest { batch_size: 1, ..ask(group, "orders") };
    let done = rig.poll(one("done")).await.messages;
    assert_eq!(rig.ack_code("done", "orders", handle(&done[0])).await, proto::v2::Code::Ok as i32);
    rig.poll(one("ordered")).await;
    assert_eq!(rig.poll(one("ordered")).await.messages, [], "the second waits for the first");
    let push = ReceiveMessageRequest { auto_renew: true, invisible_duration: None, ..one("pushed") };
    rig.poll(push).await;

    let mut trace = async |queue_offset| {
        let request = control::TraceMessageRequest { topic: "orders".to_owned(), queue_id: 0, queue_offset };
        rig.admin.trace_message(request).await.unwrap().into_inner().groups
    };
    let states = |groups: &[control::GroupTrace]| -> Vec<(String, State, u32)> {
        groups.iter().map(|group| (group.group.clone(), group.state(), group.attempt)).collect()
    };
    let first = trace(0).await;
    let expected =
        [("done", State::Done, 0), ("ordered", State::InFlight, 1), ("pushed", State::InFlight, 1)];
    assert_eq!(states(&first), expected.map(|(group, state, attempt)| (group.to_owned(), state, attempt)));
    assert_eq!(first[2].client_id, "test@1@0@abc");
    assert!(first[1].visible_at_ms > 0 && first[1].client_id.is_empty());
    let second = trace(1).await;
    let expected = [("done", State::NotYet, 0), ("ordered", State::Blocked, 0), ("pushed", State::NotYet, 0)];
    assert_eq!(states(&second), expected.map(|(group, state, attempt)| (group.to_owned(), state, attempt)));
}
