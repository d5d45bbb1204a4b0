//! What the broker says of itself, and what its keepers do.

use std::sync::Arc;
use std::time::Duration;

use broker::Config;
use proto::control;
use proto::v2::*;
use store::disk::MemoryDisk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::*;

pub(crate) async fn page(rig: &Rig, path: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(rig.running.http_addr.unwrap()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: broker\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_broker_without_name_servers_is_ready_and_counts() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a"), message("orders", "b")]).await;
    rig.poll(ask("g", "orders")).await;
    assert!(page(&rig, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(page(&rig, "/readyz").await.starts_with("HTTP/1.1 200"));
    let metrics = page(&rig, "/metrics").await;
    for line in [
        "rocketmq_messages_in_total 2",
        "rocketmq_messages_out_total 2",
        "gantry_connections",
        "gantry_parked_polls 0",
        "gantry_log_refuses 0",
    ] {
        assert!(metrics.contains(line), "{line} not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_damaged_record_is_told_with_its_place_and_the_others_are_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(["first", "rotten-body", "last"].map(|body| message("orders", body)).into()).await;
    rig.running.stop().await.unwrap();
    let segment = folder.path().join("commitlog/00000000000000000000");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(11).position(|bytes| bytes == b"rotten-body").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    // Nobody but who reads it tells.
    let mut config = config(folder.path());
    config.limits.scrub_interval = None;
    let mut rig = Rig::start_with(config).await;
    let mut bodies = Vec::new();
    while bodies.len() < 2 {
        let polled = rig.poll(ask("g", "orders")).await;
        bodies.extend(polled.messages.into_iter().map(|message| message.body));
    }
    assert_eq!(bodies, [b"body of first".as_slice(), b"body of last"]);
    let state = rig.admin.get_state(control::GetStateRequest {}).await.unwrap().into_inner();
    let [place] = &state.damaged[..] else { panic!("one place is damaged: {:?}", state.damaged) };
    assert_eq!((state.damaged_places, state.damaged_bytes), (1, place.bytes));
    let range = place.log_offset..place.log_offset + place.bytes;
    assert!(range.contains(&(at as u64)) && place.found_at_ms > 0, "{place:?}");
    assert!(place.reason.contains("checksum"), "{place:?}");
    assert!(state.accepts_writes, "it goes on");
    let metrics = page(&rig, "/metrics").await;
    for line in [
        "gantry_log_damaged_places 1".to_owned(),
        format!("gantry_log_damaged_bytes {}", place.bytes),
        "gantry_log_damaged_found 1".to_owned(),
        "gantry_scrub_read_bytes 0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "{line} not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_broker_that_no_name_server_knows_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.name_servers = vec!["127.0.0.1:1".to_owned()];
    let running = broker::start(config).await.unwrap();
    let connect =
        |addr| tonic::transport::Channel::from_shared(format!("http://{addr}")).unwrap().connect_lazy();
    let rig = Rig {
        client: messaging_service_client::MessagingServiceClient::new(connect(running.client_addr)),
        admin: control::admin_client::AdminClient::new(connect(running.control_addr)),
        running,
    };
    let ready = page(&rig, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("nameServers"), "{ready}");
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn the_state_is_told_and_topics_and_groups_are_described() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 2).await;
    rig.send_ok((0..3).map(|n| message("orders", &format!("m{n}"))).collect()).await;
    rig.poll(ReceiveMessageRequest { batch_size: 1, ..ask("g", "orders") }).await;

    let state = rig.admin.get_state(control::GetStateRequest {}).await.unwrap().into_inner();
    assert!(state.accepts_writes && state.reason.is_empty());
    assert_eq!((state.topics, state.groups), (1, 1));
    assert!(state.log_end_offset > 0 && state.disk_total_bytes > 0 && state.connections > 0);

    let asked = control::DescribeTopicRequest { name: "orders".to_owned() };
    let topic = rig.admin.describe_topic(asked).await.unwrap().into_inner();
    let ends: Vec<u64> = topic.queues.iter().map(|queue| queue.max_offset).collect();
    assert_eq!(ends.iter().sum::<u64>(), 3);
    assert!(topic.queues.iter().all(|queue| (queue.last_stored_at_ms > 0) == (queue.max_offset > 0)));

    let asked = control::DescribeGroupRequest { name: "g".to_owned() };
    let group = rig.admin.describe_group(asked).await.unwrap().into_inner();
    assert_eq!(group.client_ids, ["test@1@0@abc"]);
    assert_eq!(group.queues.iter().map(|queue| queue.in_flight).sum::<u64>(), 1);
    assert_eq!(group.queues.iter().map(|queue| queue.cursor).sum::<u64>(), 1);

    let listed = rig.admin.list_groups(control::ListGroupsRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.groups.len(), 1);
}

#[tokio::test]
async fn a_topic_goes_with_what_groups_did_with_it_and_not_before_they_are_done_if_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let polled = rig.poll(ask("g", "orders")).await;
    let gently = control::DeleteTopicRequest {
        name: "orders".to_owned(),
        owner: String::new(),
        only_if_drained: true,
    };
    let refused = rig.admin.delete_topic(gently.clone()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("consumer group g"), "{refused}");
    rig.ack("g", "orders", &[handle(&polled.messages[0])]).await;
    assert!(rig.admin.delete_topic(gently.clone()).await.unwrap().into_inner().existed);
    assert!(!rig.admin.delete_topic(gently).await.unwrap().into_inner().existed);
    assert_eq!(rig.poll(ask("g", "orders")).await.status.code, Code::TopicNotFound as i32);

    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "new")]).await;
    assert_eq!(ids(&rig.poll(ask("g", "orders")).await.messages), ["new"], "it begins anew");
}

#[tokio::test]
async fn too_many_waiting_polls_and_too_many_messages_in_flight_are_told_apart_from_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.limits.max_parked_polls = 1;
    config.limits.max_in_flight_per_queue = 2;
    let mut rig = Rig::start_with(config).await;
    rig.topic("orders", 1).await;
    let parked = rig.park(ask("g", "orders")).await;
    let one_more = rig.poll(waiting(ask("g", "orders"), Duration::from_secs(20))).await;
    assert_eq!(one_more.status.code, Code::TooManyRequests as i32);
    assert!(one_more.status.message.contains("maxParkedPolls"), "{}", one_more.status.message);

    rig.send_ok((0..3).map(|n| message("orders", &format!("m{n}"))).collect()).await;
    let first = brought(parked).await;
    assert_eq!(first.messages.len(), 2);
    let full = rig.poll(ask("g", "orders")).await;
    assert_eq!(full.status.code, Code::TooManyRequests as i32);
    assert!(full.status.message.contains("maxInFlightPerQueue"), "{}", full.status.message);
    rig.ack("g", "orders", &[handle(&first.messages[0])]).await;
    assert_eq!(ids(&rig.poll(ask("g", "orders")).await.messages), ["m2"]);
}

/// The log of `start_on` lies in memory, the rest in the folder.
async fn on_disk(folder: &std::path::Path, disk: &MemoryDisk, flush: store::Flush) -> Rig {
    let config = Config { segment_bytes: 64 << 10, flush, ..config(folder) };
    Rig::of(broker::start_on(config, Arc::new(disk.clone())).await.unwrap()).await
}

#[tokio::test]
async fn a_full_disk_is_told_to_producers_and_keepers_until_there_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = MemoryDisk::new(1 << 20);
    let mut rig = on_disk(folder.path(), &disk, store::Flush::Async).await;
    rig.topic("orders", 1).await;
    let mut sent = 0;
    let refused = loop {
        let large = Message { body: vec![7; 8 << 10].into(), ..message("orders", &format!("m{sent}")) };
        let status = rig.send(vec![large]).await.status.unwrap();
        if status.code != Code::Ok as i32 {
            break status;
        }
        sent += 1;
        assert!(sent < 1000, "the disk does not fill up");
    };
    assert_eq!(refused.code, Code::InternalServerError as i32, "{}", refused.message);
    assert!(
        refused.message.contains("full") && refused.message.contains("free space"),
        "{}",
        refused.message
    );
    let ready = page(&rig, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("the log takes no messages"), "{ready}");
    let state = rig.admin.get_state(control::GetStateRequest {}).await.unwrap().into_inner();
    assert!(!state.accepts_writes && !state.reason.is_empty());

    let mut received = 0;
    while received < sent {
        let polled = rig.poll(ask("g", "orders")).await;
        assert_eq!(polled.status.code, Code::Ok as i32, "consuming goes on");
        received += polled.messages.len();
    }
    disk.set_capacity(64 << 20);
    let again = waiting_until_stored(&mut rig).await;
    assert_eq!(again.code, Code::Ok as i32);
    // What was stored may have fitted into the old segment; that there is room for another is seen a little later.
    let ready = async {
        while !page(&rig, "/readyz").await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await.expect("it is ready again");
}

/// Sends until it works: the log looks for room again after a while.
async fn waiting_until_stored(rig: &mut Rig) -> Status {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        let status = rig.send(vec![message("orders", "again")]).await.status.unwrap();
        if status.code == Code::Ok as i32 || tokio::time::Instant::now() > deadline {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn after_a_failed_flush_nothing_is_acknowledged_and_the_broker_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let disk = MemoryDisk::new(64 << 20);
    let mut rig = on_disk(folder.path(), &disk, store::Flush::Sync).await;
    rig.topic("orders", 1).await;
    rig.group("g", false, 17).await;
    rig.send_ok(vec![message("orders", "good")]).await;
    disk.fail_flush(0);
    for _ in 0..2 {
        let status = rig.send(vec![message("orders", "bad")]).await.status.unwrap();
        let codes = [Code::MasterPersistenceTimeout as i32, Code::InternalServerError as i32];
        assert!(codes.contains(&status.code), "{}", status.message);
    }
    let ready = page(&rig, "/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("the log takes no messages"), "{ready}");
    assert_eq!(ids(&rig.poll(ask("g", "orders")).await.messages), ["good"]);
    let new = rig.poll(ask("new", "orders")).await.status;
    assert_eq!(new.code, Code::InternalServerError as i32, "a group cannot be kept: {}", new.message);
}

#[tokio::test]
async fn what_a_client_keeps_by_being_online_is_released_by_its_goodbye() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let push = ReceiveMessageRequest { auto_renew: true, invisible_duration: None, ..ask("g", "orders") };
    assert_eq!(ids(&rig.poll(push).await.messages), ["a"]);
    let goodbye = NotifyClientTerminationRequest { group: resource("g") };
    rig.client.notify_client_termination(call(goodbye)).await.unwrap();
    let again = rig.poll(waiting(ask("g", "orders"), Duration::from_secs(20))).await;
    assert_eq!(ids(&again.messages), ["a"]);
    assert_eq!(attempt(&again.messages[0]), 2);
}
