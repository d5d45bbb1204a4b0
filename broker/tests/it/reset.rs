//! Groups that go on elsewhere in a topic, while their consumers run.

use std::time::Duration;

use proto::control::reset_offsets_request::{End, To};
use proto::control::{ResetOffsetsRequest, ResetOffsetsResponse};
use proto::v2::Code;

use crate::rig::*;

fn reset(to: To) -> ResetOffsetsRequest {
    ResetOffsetsRequest {
        group: "g".to_owned(),
        topic: "orders".to_owned(),
        queue_ids: Vec::new(),
        to: Some(to),
        dry_run: false,
    }
}

const EARLIEST: To = To::End(End::Earliest as i32);
const LATEST: To = To::End(End::Latest as i32);

impl Rig {
    async fn reset(&mut self, request: ResetOffsetsRequest) -> ResetOffsetsResponse {
        self.admin.reset_offsets(request).await.unwrap().into_inner()
    }

    /// Polls and acknowledges.
    async fn consume(&mut self, group: &str) -> Vec<String> {
        let messages = self.poll(ask(group, "orders")).await.messages;
        for message in &messages {
            assert_eq!(self.ack_code(group, "orders", handle(message)).await, Code::Ok as i32);
        }
        messages.iter().map(|message| id(message).to_owned()).collect()
    }
}

#[tokio::test]
async fn a_group_goes_on_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    for id in ["a", "b", "c"] {
        rig.send_ok(vec![message("orders", id)]).await;
    }
    assert_eq!(rig.consume("g").await, ["a", "b", "c"]);
    let shown = rig.reset(ResetOffsetsRequest { dry_run: true, ..reset(EARLIEST) }).await.queues;
    assert_eq!((shown[0].before, shown[0].after), (3, 0));
    assert_eq!(rig.consume("g").await, [] as [&str; 0], "nothing was changed");
    rig.reset(reset(EARLIEST)).await;
    assert_eq!(rig.consume("g").await, ["a", "b", "c"]);
    rig.reset(reset(To::Offset(2))).await;
    assert_eq!(rig.consume("g").await, ["c"]);
    rig.reset(reset(To::Offset(1))).await;
    rig.reset(reset(LATEST)).await;
    assert_eq!(rig.consume("g").await, [] as [&str; 0]);
    let beyond = rig.reset(reset(To::Offset(99))).await.queues;
    assert_eq!(beyond[0].after, 3, "beyond the end is the end");
    rig.reset(reset(To::StoredAtMs(0))).await;
    assert_eq!(rig.consume("g").await, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_parked_poll_gets_what_the_group_is_to_consume_again_and_old_handles_count_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let held = rig.poll(ask("g", "orders")).await.messages;
    let polls = rig.park(ask("g", "orders")).await;
    let queues = rig.reset(reset(EARLIEST)).await.queues;
    assert_eq!((queues[0].before, queues[0].after, queues[0].in_flight), (0, 0, 1));
    let again = brought(polls).await.messages;
    assert_eq!((ids(&again), attempt(&again[0])), (vec!["a"], 1));
    assert_eq!(rig.ack_code("g", "orders", handle(&held[0])).await, Code::InvalidReceiptHandle as i32);
    assert_eq!(rig.ack_code("g", "orders", handle(&again[0])).await, Code::Ok as i32);
    let nothing = rig.poll(waiting(ask("g", "orders"), Duration::ZERO)).await;
    assert_eq!(nothing.messages, []);
}

#[tokio::test]
async fn a_new_group_begins_where_it_was_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "old")]).await;
    rig.reset(reset(LATEST)).await;
    rig.running.stop().await.unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.send_ok(vec![message("orders", "new")]).await;
    assert_eq!(rig.consume("g").await, ["new"]);
}

#[tokio::test]
async fn a_place_that_is_none_is_refused_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 2).await;
    let tomorrow = std::time::SystemTime::now() + Duration::from_secs(86_400);
    let tomorrow = tomorrow.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    for (bad, code) in [
        (ResetOffsetsRequest { to: None, ..reset(LATEST) }, tonic::Code::InvalidArgument),
        (ResetOffsetsRequest { queue_ids: vec![2], ..reset(LATEST) }, tonic::Code::InvalidArgument),
        (ResetOffsetsRequest { topic: "bills".to_owned(), ..reset(LATEST) }, tonic::Code::NotFound),
        (ResetOffsetsRequest { group: "no group".to_owned(), ..reset(LATEST) }, tonic::Code::InvalidArgument),
        (reset(To::StoredAtMs(tomorrow)), tonic::Code::InvalidArgument),
    ] {
        let refused = rig.admin.reset_offsets(bad.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{bad:?}: {refused}");
        assert!(refused.message().len() > 15, "{refused}");
    }
}
