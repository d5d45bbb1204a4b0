//! Old messages: they come from the disk, hold up nobody meanwhile, and are missed aloud when retention was quicker.

use std::sync::Arc;
use std::time::Duration;

use broker::Config;
use proto::v2::pull_message_response::Content;
use proto::v2::*;
use store::disk::MemoryDisk;
use tokio::task::JoinSet;

use crate::house::page;
use crate::rig::*;

/// A broker on a disk in memory with these messages in topic `old`, opened anew: nothing of it is hot.
async fn with_backlog(config: &Config, disk: &MemoryDisk, ids: &[&str]) -> Rig {
    let start =
        async || Rig::of(broker::start_on(config.clone(), Arc::new(disk.clone())).await.unwrap()).await;
    let mut rig = start().await;
    rig.topic("old", 1).await;
    rig.topic("new", 1).await;
    for id in ids {
        rig.send_ok(vec![message("old", id)]).await;
    }
    rig.running.stop().await.unwrap();
    start().await
}

async fn wait_for_held_reads(disk: &MemoryDisk, count: usize) {
    let disk = disk.clone();
    tokio::task::spawn_blocking(move || disk.wait_for_held_reads(count)).await.unwrap();
}

pub(crate) fn pull(topic: &str, offset: i64) -> PullMessageRequest {
    PullMessageRequest {
        group: resource("g"),
        message_queue: Some(MessageQueue { topic: resource(topic), ..MessageQueue::default() }),
        offset,
        batch_size: 32,
        filter_expression: None,
        long_polling_timeout: None,
    }
}

pub(crate) async fn pulled(rig: &mut Rig, request: PullMessageRequest) -> (i32, Vec<String>, i64) {
    let mut stream = rig.client.pull_message(call(request)).await.unwrap().into_inner();
    let (mut code, mut ids, mut next) = (0, Vec::new(), -1);
    while let Some(response) = stream.message().await.unwrap() {
        match response.content.unwrap() {
            Content::Status(status) => code = status.code,
            Content::Message(message) => ids.push(id(&message).to_owned()),
            Content::NextOffset(offset) => next = offset,
        }
    }
    (code, ids, next)
}

#[tokio::test]
async fn while_the_disk_stands_still_only_those_wait_who_need_it() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut rig = with_backlog(&config(folder.path()), &disk, &["a", "b", "c"]).await;
    disk.hold_reads();
    let mut client = rig.client.clone();
    let mut gone = JoinSet::new();
    gone.spawn(async move { poll(&mut client, ask("g", "old")).await });
    wait_for_held_reads(&disk, 1).await;

    rig.send_ok(vec![message("new", "n")]).await;
    assert_eq!(ids(&rig.poll(ask("g", "new")).await.messages), ["n"], "what is hot needs no disk");

    // The client goes while the disk works for it: nothing was taken yet, so nothing is missing for 30 s.
    gone.shutdown().await;
    let mut client = rig.client.clone();
    let mut other = JoinSet::new();
    other.spawn(async move { poll(&mut client, ask("g", "old")).await });
    wait_for_held_reads(&disk, 2).await;
    disk.release_reads();
    let polled = brought(other).await;
    assert_eq!(ids(&polled.messages), ["a", "b", "c"]);
    assert!(polled.messages.iter().all(|message| attempt(message) == 1));
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn old_messages_are_polled_pulled_filtered_and_given_up_like_new_ones() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let all: Vec<String> = (0..100).map(|n| format!("m{n}")).collect();
    let mut rig =
        with_backlog(&config(folder.path()), &disk, &all.iter().map(String::as_str).collect::<Vec<_>>())
            .await;
    assert_eq!(pulled(&mut rig, pull("old", 90)).await, (Code::Ok as i32, all[90..].to_vec(), 100));
    rig.group("ordered", true, 16).await;
    for group in ["g", "ordered"] {
        let mut seen = Vec::new();
        loop {
            let polled = rig.poll(ask(group, "old")).await;
            if polled.messages.is_empty() {
                break;
            }
            let handles: Vec<&str> = polled.messages.iter().map(handle).collect();
            rig.ack(group, "old", &handles).await;
            seen.extend(polled.messages.iter().map(|message| id(message).to_owned()));
        }
        assert_eq!(seen, all, "{group}");
    }
    let polled = rig.poll(ReceiveMessageRequest { batch_size: 1, ..ask("h", "old") }).await;
    let give_up = ForwardMessageToDeadLetterQueueRequest {
        group: resource("h"),
        topic: resource("old"),
        receipt_handle: handle(&polled.messages[0]).to_owned(),
        message_id: "m0".to_owned(),
        delivery_attempt: 1,
        max_delivery_attempts: 16,
        lite_topic: None,
    };
    let answer = rig.client.forward_message_to_dead_letter_queue(call(give_up)).await.unwrap().into_inner();
    assert_eq!(answer.status.unwrap().code, Code::Ok as i32);
    assert_eq!(ids(&rig.poll(ask("h2", "%DLQ%h")).await.messages), ["m0"]);
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn too_many_who_wait_for_the_disk_are_told_so_at_once() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut rig = with_backlog(&config(folder.path()), &disk, &["a"]).await;
    disk.hold_reads();
    // Two threads that read, and 256 that wait.
    let mut polls = JoinSet::<()>::new();
    for _ in 0..258 {
        let mut client = rig.client.clone();
        // Of one group, since making 258 takes a while. Whose time is over comes again, however long the last ones need to
        // get there.
        polls.spawn(async move {
            loop {
                poll(&mut client, waiting(ask("g", "old"), Duration::from_secs(20))).await;
            }
        });
    }
    wait_for_held_reads(&disk, 2).await;
    let refused = loop {
        let polled = rig.poll(waiting(ask("more", "old"), Duration::from_secs(1))).await;
        if polled.status.code == Code::TooManyRequests as i32 {
            break polled;
        }
    };
    assert!(refused.status.message.contains("poll again"), "{}", refused.status.message);
    rig.send_ok(vec![message("new", "n")]).await;
    disk.release_reads();
    polls.shutdown().await;
    while rig.poll(ask("last", "old")).await.messages.is_empty() {}
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn what_retention_deleted_is_told_to_consumers() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), MemoryDisk::default());
    let mut config = config(folder.path());
    config.segment_bytes = 64 << 10;
    let mut rig = with_backlog(&config, &disk, &["a", "b", "c"]).await;
    let polled = rig.poll(ReceiveMessageRequest { batch_size: 1, ..ask("g", "old") }).await;
    assert_eq!(ids(&polled.messages), ["a"]);
    let mut large = message("old", "large");
    large.body = vec![0; 50_000].into();
    for _ in 0..4 {
        rig.send_ok(vec![large.clone()]).await;
    }
    rig.running.stop().await.unwrap();
    config.retention.time = Duration::from_millis(1);
    config.retention.delete_at_hour = None;
    let mut rig = Rig::of(broker::start_on(config.clone(), Arc::new(disk.clone())).await.unwrap()).await;
    let queue = Some(MessageQueue { topic: resource("old"), ..MessageQueue::default() });
    let min = loop {
        let beginning = QueryOffsetPolicy::Beginning as i32;
        let query = QueryOffsetRequest {
            message_queue: queue.clone(),
            query_offset_policy: beginning,
            timestamp: None,
        };
        match rig.client.query_offset(call(query)).await.unwrap().into_inner().offset {
            0 => tokio::time::sleep(Duration::from_millis(20)).await,
            min => break min,
        }
    };
    assert!(min >= 3);
    assert_eq!(pulled(&mut rig, pull("old", 0)).await, (Code::IllegalOffset as i32, Vec::new(), min));
    assert_eq!(pulled(&mut rig, pull("old", 99)).await.2, 7, "and the end, beyond it");
    let rest = rig.poll(ask("g", "old")).await.messages.len() as i64;
    assert_eq!(rest, 7 - min);
    let metrics = page(&rig, "/metrics").await;
    let line = format!("gantry_messages_skipped_by_retention_total{{consumer_group=\"g\"}} {min}");
    assert!(metrics.contains(&line), "{line} not in\n{metrics}");
    rig.running.stop().await.unwrap();
}
