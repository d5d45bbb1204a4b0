//! A broker that stops, or is killed, and comes back on the same directory.

use std::path::Path;
use std::time::Duration;

use proto::control;
use proto::v2::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::*;

/// Copies the directory as it is now: what a broker finds that is started after the first was killed at this moment.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn progress_attempts_and_handles_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 2).await;
    rig.group("g", false, 7).await;
    let sent = (0..6).map(|n| message("orders", &format!("m{n}"))).collect();
    rig.send_ok(sent).await;
    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(polled.messages.len(), 6);
    let handles: Vec<String> = polled.messages.iter().map(|message| handle(message).to_owned()).collect();
    assert_eq!(rig.ack_code("g", "orders", &handles[0]).await, Code::Ok as i32);
    let back = rig.change("g", "orders", &handles[1], Duration::ZERO).await;
    assert_eq!(back.status.unwrap().code, Code::Ok as i32);
    rig.running.stop().await.unwrap();

    let mut rig = Rig::start(folder.path()).await;
    let described = control::DescribeGroupRequest { name: "g".to_owned() };
    let group = rig.admin.describe_group(described).await.unwrap().into_inner();
    assert_eq!(group.group.unwrap().max_attempts, 7);
    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(ids(&polled.messages), ["m1"], "the others are done or away");
    assert_eq!(attempt(&polled.messages[0]), 2);
    let live: Vec<&str> = handles[2..].iter().map(String::as_str).collect();
    let acked = rig.ack("g", "orders", &live).await;
    assert_eq!(acked.status.unwrap().code, Code::Ok as i32);
    assert_eq!(rig.ack_code("g", "orders", &handles[1]).await, Code::InvalidReceiptHandle as i32);
    rig.running.stop().await.unwrap();
}

/// A broker that writes nothing about consumption to `meta.redb` before it stops.
async fn never_persisting(folder: &Path) -> Rig {
    let mut config = config(folder);
    config.limits.persist_interval = Duration::from_secs(3600);
    Rig::start_with(config).await
}

#[tokio::test]
async fn a_kill_forgets_nothing_that_a_client_was_told() {
    let (folder, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut rig = never_persisting(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.topic("steps", 1).await;
    rig.group("f", true, 17).await;
    let sent = (0..4).map(|n| message("orders", &format!("m{n}"))).collect();
    rig.send_ok(sent).await;
    for id in ["a1", "a2", "b1"] {
        rig.send_ok(vec![in_group("steps", id, &id[..1])]).await;
    }
    let first = rig.poll(ask("g", "orders")).await;
    let handles: Vec<String> = first.messages.iter().map(|message| handle(message).to_owned()).collect();
    assert_eq!(rig.ack_code("g", "orders", &handles[0]).await, Code::Ok as i32);
    rig.change("g", "orders", &handles[1], Duration::ZERO).await;
    let second = rig.poll(ask("g", "orders")).await;
    assert_eq!((ids(&second.messages), attempt(&second.messages[0])), (vec!["m1"], 2));
    let renewed = rig.change("g", "orders", &handles[2], Duration::from_secs(60)).await.receipt_handle;
    let lane = rig.poll(ReceiveMessageRequest { batch_size: 1, ..ask("f", "steps") }).await;
    assert_eq!(ids(&lane.messages), ["a1"]);
    copy(folder.path(), copied.path());

    let mut again = Rig::start(copied.path()).await;
    let early = again.poll(ask("g", "orders")).await;
    assert!(
        early.messages.is_empty(),
        "none before its time, none that was acknowledged: {:?}",
        ids(&early.messages)
    );
    let lane = again.poll(ask("f", "steps")).await;
    assert_eq!(ids(&lane.messages), ["b1"], "nothing overtakes a1");
    let invalid = Code::InvalidReceiptHandle as i32;
    assert_eq!(again.ack_code("g", "orders", &handles[1]).await, invalid, "of the first attempt");
    assert_eq!(again.ack_code("g", "orders", &handles[2]).await, invalid, "it was exchanged");
    assert_eq!(again.ack_code("g", "orders", &renewed).await, Code::Ok as i32);
    let back = again.change("g", "orders", handle(&second.messages[0]), Duration::ZERO).await;
    assert_eq!(back.status.unwrap().code, Code::Ok as i32);
    let third = again.poll(ask("g", "orders")).await;
    assert_eq!((ids(&third.messages), attempt(&third.messages[0])), (vec!["m1"], 3), "attempts go on");
    again.running.stop().await.unwrap();
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn after_a_power_cut_nothing_is_lost_and_handles_from_before_still_count() {
    let (folder, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut rig = never_persisting(folder.path()).await;
    rig.topic("orders", 1).await;
    let sent = (0..4).map(|n| message("orders", &format!("m{n}"))).collect();
    rig.send_ok(sent).await;
    let before = rig.poll(ask("g", "orders")).await;
    let handles: Vec<String> = before.messages.iter().map(|message| handle(message).to_owned()).collect();
    assert_eq!(rig.ack_code("g", "orders", &handles[0]).await, Code::Ok as i32);
    copy(folder.path(), copied.path());
    // It was in the page cache alone.
    std::fs::remove_file(copied.path().join("config/delivery.notes")).unwrap();

    let mut again = Rig::start(copied.path()).await;
    for handle in &handles[1..3] {
        assert_eq!(again.ack_code("g", "orders", handle).await, Code::Ok as i32);
    }
    let after = again.poll(ask("g", "orders")).await;
    assert_eq!(
        ids(&after.messages),
        ["m0", "m3"],
        "an acknowledgement that was not written is repeated, never a loss"
    );
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_to_the_producer_is_there_after_a_kill() {
    let (folder, copied) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(folder.path());
    config.flush = store::Flush::Sync;
    let mut rig = Rig::start_with(config).await;
    rig.topic("orders", 4).await;
    for n in 0..20 {
        rig.send_ok(vec![message("orders", &format!("m{n:02}"))]).await;
    }
    copy(folder.path(), copied.path());
    let mut again = Rig::start(copied.path()).await;
    let mut found = again.poll(ask("g", "orders")).await.messages;
    found.sort_by(|a, b| id(a).cmp(id(b)));
    let expected: Vec<String> = (0..20).map(|n| format!("m{n:02}")).collect();
    assert_eq!(ids(&found), expected);
    assert!(found.iter().all(|message| message.body == format!("body of {}", id(message)).as_bytes()));
}

#[tokio::test]
async fn a_stop_ends_polls_at_once_and_with_an_ordinary_answer() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let parked = rig.park(ask("g", "orders")).await;
    rig.running.stop().await.unwrap();
    let polled = brought(parked).await;
    assert_eq!((polled.status.code, polled.order.as_str()), (Code::MessageNotFound as i32, "st"));
}

#[tokio::test]
async fn a_stop_waits_for_no_client_that_is_gone() {
    // The preface of HTTP/2, and empty settings.
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path()).await;
    let mut gone = Vec::new();
    for addr in [rig.running.client_addr, rig.running.control_addr] {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        // The server has heard it: its settings come. No more is read or said.
        stream.read_exact(&mut [0; 9]).await.unwrap();
        gone.push(stream);
    }
    rig.running.stop().await.unwrap();
}

#[tokio::test]
async fn two_brokers_do_not_share_a_directory() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path()).await;
    let refused = broker::start(config(folder.path())).await.unwrap_err();
    assert!(format!("{refused:#}").contains("in use by another process"), "{refused:#}");
    rig.running.stop().await.unwrap();
    Rig::start(folder.path()).await;
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no directory").unwrap();
    let refused = broker::start(config(&file)).await.unwrap_err();
    let told = format!("{refused:#}");
    assert!(told.contains("dataDir") && told.contains("file"), "{told}");
}
