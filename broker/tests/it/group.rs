//! Several brokers that keep one log: elections, hand-overs, members that come back.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::ListenerName;
use access::ports::Port;
use broker::config::{Lease as LeaseConfig, Replication};
use broker::{Config, Coordinator, Group, Unreadable};
use parking_lot::Mutex;
use proto::control;
use proto::control::admin_client::AdminClient;
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::*;
use replication::{Epoch, InSync, Lease, Mode, Ordinal, Role, Seen, SwapOutcome, Version};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;

use crate::listeners::until_told;
use crate::rig::*;

const LIMIT: Duration = Duration::from_secs(60);

/// The Lease, in memory.
struct InMemory {
    now: watch::Sender<Seen>,
    /// Nobody gets an answer.
    away: Mutex<bool>,
    /// How often it was read.
    reads: watch::Sender<u64>,
    /// Swaps are answered so much later than they are done.
    late: Mutex<Duration>,
}

impl InMemory {
    fn new() -> Arc<Self> {
        let lease = Lease { in_sync: "0".parse().unwrap(), ..Lease::default() };
        Arc::new(Self {
            now: watch::Sender::new(Seen { lease, version: 1 }),
            away: Mutex::new(false),
            reads: watch::Sender::new(0),
            late: Mutex::default(),
        })
    }

    /// What the operator writes.
    fn change(&self, change: impl FnOnce(&mut Lease)) {
        self.now.send_modify(|now| {
            change(&mut now.lease);
            now.version += 1;
        });
    }

    /// Until it was read so often from now on.
    async fn read_times(&self, times: u64) {
        let mut reads = self.reads.subscribe();
        let until = *reads.borrow_and_update() + times;
        let read = reads.wait_for(|reads| *reads >= until);
        tokio::time::timeout(LIMIT, read).await.expect("it is read").unwrap();
    }

    fn lease(&self) -> Lease {
        self.now.borrow().lease.clone()
    }

    async fn until(&self, what: impl Fn(&Lease) -> bool) -> Lease {
        let mut now = self.now.subscribe();
        let found = tokio::time::timeout(LIMIT, now.wait_for(|seen| what(&seen.lease))).await;
        match found {
            Ok(found) => found.unwrap().lease.clone(),
            Err(_) => panic!("the Lease stays {:?}", self.lease()),
        }
    }

    async fn in_sync(&self, members: usize) -> Lease {
        self.until(|lease| lease.holder.is_some() && lease.in_sync.len() == members).await
    }
}

#[tonic::async_trait]
impl Coordinator for InMemory {
    async fn read(&self) -> Result<Seen, Unreadable> {
        if *self.away.lock() {
            return Err(Unreadable("away".to_owned()));
        }
        self.reads.send_modify(|reads| *reads += 1);
        Ok(self.now.borrow().clone())
    }

    async fn swap(&self, lease: &Lease, version: Version) -> SwapOutcome {
        if *self.away.lock() {
            return SwapOutcome::Unknown;
        }
        let mut outcome = SwapOutcome::Conflict;
        self.now.send_if_modified(|now| {
            let same = now.version == version;
            if same {
                *now = Seen { lease: lease.clone(), version: version + 1 };
                outcome = SwapOutcome::Done(version + 1);
            }
            same
        });
        let late = *self.late.lock();
        tokio::time::sleep(late).await;
        outcome
    }

    async fn watch(&self, changes: mpsc::Sender<Seen>) {
        let mut now = self.now.subscribe();
        loop {
            let seen = now.borrow_and_update().clone();
            if !*self.away.lock() && changes.send(seen).await.is_err() {
                return;
            }
            if now.changed().await.is_err() {
                return;
            }
        }
    }

    async fn announce(&self) -> Result<(), Unreadable> {
        Ok(())
    }
}

/// Places for members, and those that run.
struct Cluster {
    folders: Vec<TempDir>,
    lease: Arc<InMemory>,
    port: u16,
    mode: Mode,
    starts: u32,
    /// The port of the health pages.
    pages: Option<u16>,
    /// The listener `external` at this port of each member.
    external: Option<u16>,
}

impl Cluster {
    fn new(members: usize) -> Self {
        let port = free_port();
        Self {
            folders: (0..members).map(|_| tempfile::tempdir().unwrap()).collect(),
            lease: InMemory::new(),
            port,
            mode: Mode::Sync,
            starts: 0,
            pages: None,
            external: None,
        }
    }

    /// What the operator writes for `minInSync`; without it two must be in sync.
    fn needs(&self, least: usize) {
        self.lease.change(|lease| lease.min_in_sync = Some(least));
    }

    fn config(&self, ordinal: u32, folder: &Path) -> Config {
        let replication = Replication {
            mode: self.mode,
            max_lag: Duration::from_secs(10),
            members: self.folders.len() as u32,
            member_address: format!("127.0.{{ordinal}}.1:{}", self.port),
            lease: LeaseConfig {
                namespace: "test".to_owned(),
                name: "test".to_owned(),
                duration: Duration::from_secs(4),
                renew_deadline: Duration::from_secs(2),
                retry: Duration::from_secs(1),
            },
            advertised: Vec::new(),
            endpoint_slices: Vec::new(),
        };
        let external = self.external.map(|port| Port {
            name: ListenerName::parse("external").unwrap(),
            listen: format!("127.0.{ordinal}.1:{port}").parse().unwrap(),
            tls: None,
        });
        let addresses = folder.join("listeners.yaml");
        if let Some(port) = self.external {
            let all = (0..self.folders.len()).map(|ordinal| format!("127.0.{ordinal}.1:{port}"));
            std::fs::write(&addresses, format!("external: {:?}", all.collect::<Vec<_>>())).unwrap();
        }
        Config {
            listener_addresses: self.external.map(|_| addresses),
            listeners: external.into_iter().collect(),
            control_listen: format!("127.0.{ordinal}.1:{}", self.port).parse().unwrap(),
            client_listen: format!("127.0.{ordinal}.1:0").parse().unwrap(),
            http_listen: self.pages.map(|port| ([127, 0, 0, 1], port).into()),
            replication: Some(replication),
            segment_bytes: 1 << 20,
            ..config(folder)
        }
    }

    async fn start(&mut self, ordinal: u32) -> Group {
        self.starts += 1;
        let config = self.config(ordinal, self.folders[ordinal as usize].path());
        let name = format!("m-{ordinal}/{}", self.starts);
        let lease = Arc::clone(&self.lease) as Arc<dyn Coordinator>;
        Group::join(config, Ordinal(ordinal), name, lease).await.unwrap()
    }

    async fn start_all(&mut self) -> Vec<Group> {
        let mut groups = Vec::new();
        for ordinal in 0..self.folders.len() as u32 {
            groups.push(self.start(ordinal).await);
        }
        groups
    }

    /// All in sync, the first the primary, with the topic `orders`.
    async fn start_serving(&mut self) -> (Vec<Group>, Primary) {
        let groups = self.start_all().await;
        let mut first = primary(&groups[0]).await;
        self.lease.in_sync(groups.len()).await;
        first.topic("orders").await;
        (groups, first)
    }
}

/// A client of whoever is the primary.
struct Primary {
    client: MessagingServiceClient<Channel>,
    admin: AdminClient<Channel>,
}

/// Waits until this member serves clients.
async fn primary(group: &Group) -> Primary {
    let mut standing = group.standing();
    let served = standing.wait_for(|standing| standing.clients.is_some());
    let served =
        tokio::time::timeout(LIMIT, served).await.expect("it becomes the primary").map(|now| now.clients);
    let Ok(Some(clients)) = served else { panic!("{:#}", group.failed().await) };
    let connect =
        async |addr| Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    Primary {
        client: MessagingServiceClient::new(connect(clients).await),
        admin: AdminClient::new(connect(group.control_addr).await),
    }
}

async fn follows(group: &Group) {
    let mut standing = group.standing();
    let follows =
        standing.wait_for(|standing| matches!(standing.role, Some(Role::Replica(_))) && standing.works);
    tokio::time::timeout(LIMIT, follows).await.expect("it follows").unwrap();
}

/// How far this member's log goes.
async fn log_end(group: &Group) -> u64 {
    let address = format!("http://{}", group.control_addr);
    let mut member = control::replication_client::ReplicationClient::connect(address).await.unwrap();
    member.introduce(control::IntroduceRequest::default()).await.unwrap().into_inner().log_end
}

/// Asks this primary to hand over.
async fn hand_over(primary: &Group, to: u32) {
    let address = format!("http://{}", primary.control_addr);
    let mut member = control::replication_client::ReplicationClient::connect(address).await.unwrap();
    // The primary may not have heard yet that its own change was made.
    while let Err(status) = member.hand_over(control::HandOverRequest { to: Some(to) }).await {
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    }
}

impl Primary {
    async fn topic(&mut self, name: &str) {
        let topic = control::TopicConfig {
            name: name.to_owned(),
            read_queues: 1,
            write_queues: 1,
            readable: true,
            writable: true,
            message_type: control::MessageType::Mixed as i32,
            owner: String::new(),
        };
        let request = control::UpsertTopicRequest { topic: Some(topic), only_if_unowned: false };
        self.admin.upsert_topic(request).await.unwrap();
    }

    async fn send(&mut self, topic: &str, range: std::ops::Range<u32>) -> Status {
        let messages = range.map(|n| message(topic, &format!("m{n}"))).collect();
        self.client
            .send_message(call(SendMessageRequest { messages }))
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    /// As clients do: while too few members follow, the same is sent again.
    async fn send_ok(&mut self, topic: &str, range: std::ops::Range<u32>) {
        let sent = async {
            loop {
                let status = self.send(topic, range.clone()).await;
                if status.code != Code::HaNotAvailable as i32 {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        let status = tokio::time::timeout(LIMIT, sent).await.expect("enough members come");
        assert_eq!(status.code, Code::Ok as i32, "{}", status.message);
    }

    /// Sends until it is answered so.
    async fn until(&mut self, topic: &str, code: Code) -> Status {
        let answered = async {
            loop {
                let status = self.send(topic, 1..2).await;
                if status.code == code as i32 {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, answered).await.unwrap_or_else(|_| panic!("nothing is answered {code:?}"))
    }

    async fn receive(&mut self, group: &str, topic: &str) -> Vec<String> {
        ids(&poll(&mut self.client, ask(group, topic)).await.messages)
            .into_iter()
            .map(str::to_owned)
            .collect()
    }
}

fn names(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("m{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_on_the_others_and_outlives_the_primary() {
    let mut cluster = Cluster::new(3);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..10).await;
    groups.remove(0).vanish().await;

    // Its address refuses: nobody waits until the Lease expires.
    let lease = cluster.lease.until(|lease| lease.epoch > Epoch(1)).await;
    let heir = lease.primary.unwrap();
    assert_ne!(heir, Ordinal(0));
    let mut second = primary(&groups[heir.0 as usize - 1]).await;
    second.send_ok("orders", 10..20).await;
    assert_eq!(second.receive("g", "orders").await, names(0..20));

    // The fallen one comes back, follows, and can take over.
    groups.insert(0, cluster.start(0).await);
    follows(&groups[0]).await;
    cluster.lease.in_sync(3).await;
    hand_over(&groups[heir.0 as usize], 0).await;
    let mut third = primary(&groups[0]).await;
    third.send_ok("orders", 20..30).await;
    assert_eq!(third.receive("other", "orders").await, names(0..30));
    for group in groups {
        group.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_to_a_member_by_a_listener_is_told_the_primary_there() {
    let mut cluster = Cluster::new(2);
    cluster.needs(1);
    let port = free_port();
    cluster.external = Some(port);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..1).await;
    let [zero, one] = [0, 1].map(|ordinal| format!("127.0.{ordinal}.1:{port}"));
    // The replica passes on what comes to this port to this port of the primary.
    until_told(one.parse().unwrap(), "orders", Some(&zero)).await;
    until_told(zero.parse().unwrap(), "orders", Some(&zero)).await;

    groups.remove(0).stop().await.unwrap();
    let mut second = primary(&groups[0]).await;
    until_told(one.parse().unwrap(), "orders", Some(&one)).await;
    groups.insert(0, cluster.start(0).await);
    follows(&groups[0]).await;
    until_told(zero.parse().unwrap(), "orders", Some(&one)).await;
    assert_eq!(second.receive("g", "orders").await, names(0..1));
    for group in groups {
        group.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_refused_while_members_change_roles() {
    let mut cluster = Cluster::new(2);
    cluster.needs(1);
    let port = free_port();
    cluster.external = Some(port);
    let (groups, mut first) = cluster.start_serving().await;
    // Clients outside come to a member's own address, also while it is not the primary, or not yet.
    let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
    let coming = [0, 1].map(|ordinal| {
        let (address, over) = (format!("127.0.{ordinal}.1:{port}"), over.clone());
        tasks.spawn(async move {
            let mut answered = 0;
            while !over.is_cancelled() {
                let mut client = TcpStream::connect(&address).await.expect("the port is open");
                client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
                // Its answer may be cut off where the primary changes in between.
                answered += usize::from(matches!(client.read(&mut [0]).await, Ok(1)));
            }
            answered
        })
    });
    let sending = tasks.spawn(send_until(over.clone(), format!("http://127.0.0.1:{port}")));
    for to in [1, 0, 1, 0] {
        let lease = cluster.lease.in_sync(2).await;
        hand_over(&groups[1 - to as usize], to).await;
        cluster.lease.until(|now| now.epoch > lease.epoch && now.primary == Some(Ordinal(to))).await;
        first = primary(&groups[to as usize]).await;
    }
    over.cancel();
    let sent = sending.await.unwrap();
    let mut received = BTreeSet::new();
    while received.len() < sent as usize {
        received.extend(first.receive("g", "orders").await);
    }
    assert_eq!(received, names(0..sent).into_iter().collect());
    for coming in coming {
        assert!(coming.await.unwrap() > 0, "clients are served");
    }
    for group in groups {
        group.stop().await.unwrap();
    }
}

/// Sends one after the other with the three tries of official clients, and returns how many.
async fn send_until(over: CancellationToken, address: String) -> u32 {
    let channel = Channel::from_shared(address).unwrap().connect_lazy();
    let mut client = MessagingServiceClient::new(channel);
    let mut sent = 0;
    while !over.is_cancelled() {
        let mut failures = Vec::new();
        loop {
            let messages = vec![message("orders", &format!("m{sent}"))];
            match client.send_message(call(SendMessageRequest { messages })).await {
                Ok(answer) => {
                    let status = answer.into_inner().status.unwrap();
                    assert_eq!(status.code, Code::Ok as i32, "{}", status.message);
                    break;
                }
                Err(error) => failures.push(error),
            }
            assert!(failures.len() < 3, "message {sent}: {failures:?}");
        }
        sent += 1;
    }
    sent
}

/// What `/readyz` answers.
async fn readiness(port: u16) -> String {
    page(port, "readyz").await
}

async fn page(port: u16, name: &str) -> String {
    let mut page = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET /{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    page.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    page.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_serves_is_ready_and_stays_so() {
    let mut cluster = Cluster::new(1);
    let port = free_port();
    cluster.pages = Some(port);
    let group = cluster.start(0).await;
    let _serves = primary(&group).await;
    // Every look at its standing says the same, whoever looked last.
    let until = tokio::time::Instant::now() + Duration::from_secs(1);
    while tokio::time::Instant::now() < until {
        let answer = readiness(port).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    group.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_member_keeps_what_is_sent_and_takes_nobodys_place() {
    let mut cluster = Cluster::new(3);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..10).await;
    cluster.lease.change(|lease| lease.fenced = [Ordinal(1)].into());
    // It would be the first to stand.
    groups.remove(0).vanish().await;
    let lease = cluster.lease.until(|lease| lease.epoch > Epoch(1)).await;
    assert_eq!((lease.primary, lease.failovers), (Some(Ordinal(2)), 1));
    assert_eq!(lease.fenced, [Ordinal(1)].into(), "who takes the Lease leaves that as it is");
    let mut second = primary(&groups[1]).await;
    second.send_ok("orders", 10..20).await;
    assert!(cluster.lease.lease().in_sync.len() == 2, "the fenced one acknowledges");

    let address = format!("http://{}", groups[1].control_addr);
    let mut asked = control::replication_client::ReplicationClient::connect(address).await.unwrap();
    let refused = asked.hand_over(control::HandOverRequest { to: Some(1) }).await.unwrap_err();
    assert!(refused.message().contains("not fenced"), "{refused}");
    cluster.lease.change(|lease| lease.fenced.clear());
    hand_over(&groups[1], 1).await;
    let mut third = primary(&groups[0]).await;
    assert_eq!(third.receive("g", "orders").await, names(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stops_before_it_hears_that_another_is_in_sync_hands_over_to_it() {
    let mut cluster = Cluster::new(2);
    cluster.needs(1);
    let first = cluster.start(0).await;
    primary(&first).await;
    // Nobody takes a Lease that is not released.
    cluster.lease.change(|lease| lease.held = true);
    *cluster.lease.late.lock() = Duration::from_millis(300);
    let second = cluster.start(1).await;
    cluster.lease.in_sync(2).await;
    first.stop().await.unwrap();
    primary(&second).await;
    second.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_failover_waits_for_a_person_and_a_planned_hand_over_does_not() {
    let mut cluster = Cluster::new(2);
    cluster.needs(1);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..10).await;
    cluster.lease.change(|lease| lease.held = true);
    groups.remove(0).vanish().await;
    let mut standing = groups[0].standing();
    let alone = standing.wait_for(|standing| !standing.works);
    tokio::time::timeout(LIMIT, alone).await.expect("the stream is gone").unwrap();
    // The address refuses, which it would take for the primary's end at once; and it goes on reading the Lease.
    cluster.lease.read_times(5).await;
    assert_eq!(cluster.lease.lease().primary, Some(Ordinal(0)));
    cluster.lease.change(|lease| lease.wished = Some(Ordinal(1)));
    let mut second = primary(&groups[0]).await;
    second.send_ok("orders", 10..20).await;

    groups.insert(0, cluster.start(0).await);
    follows(&groups[0]).await;
    let lease = cluster.lease.in_sync(2).await;
    assert!(lease.held, "it still is");
    groups.pop().unwrap().stop().await.unwrap();
    let mut third = primary(&groups[0]).await;
    assert_eq!(third.receive("g", "orders").await, names(0..20));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_goes_on_where_it_was() {
    let mut cluster = Cluster::new(2);
    cluster.needs(1);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..4).await;
    let polled = poll(&mut first.client, ask("g", "orders")).await;
    assert_eq!(polled.messages.len(), 4);
    // A stop hands over, with everything.
    groups.remove(0).stop().await.unwrap();
    let mut second = primary(&groups[0]).await;
    assert_eq!(second.receive("g", "orders").await, [""; 0], "they are in flight");
    let handles: Vec<&str> = polled.messages.iter().map(handle).collect();
    let entries = handles.iter().map(|handle| AckMessageEntry {
        message_id: "id".to_owned(),
        receipt_handle: (*handle).to_owned(),
        lite_topic: None,
    });
    let request =
        AckMessageRequest { group: resource("g"), topic: resource("orders"), entries: entries.collect() };
    let acked = second.client.ack_message(call(request)).await.unwrap().into_inner();
    assert_eq!(acked.status.unwrap().code, Code::Ok as i32, "handles count on any member");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_too_few_members_sends_are_refused_and_come_back() {
    let mut cluster = Cluster::new(2);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..1).await;
    groups.pop().unwrap().vanish().await;
    let status = first.until("orders", Code::HaNotAvailable).await;
    assert!(status.message.contains("1 of the 2 members"), "{}", status.message);
    assert_eq!(cluster.lease.lease().in_sync.len(), 2, "the set stays: either may be elected");
    let back = cluster.start(1).await;
    follows(&back).await;
    first.until("orders", Code::Ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_many_must_be_in_sync_changes_while_members_run() {
    let mut cluster = Cluster::new(3);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..1).await;
    for _ in 0..2 {
        groups.pop().unwrap().vanish().await;
    }
    first.until("orders", Code::HaNotAvailable).await;
    cluster.needs(1);
    first.until("orders", Code::Ok).await;
    // More than there are: nothing is taken until another is there.
    cluster.needs(3);
    first.until("orders", Code::HaNotAvailable).await;
    cluster.needs(2);
    let back = cluster.start(1).await;
    follows(&back).await;
    first.until("orders", Code::Ok).await;
    assert_eq!(cluster.lease.in_sync(2).await.epoch, Epoch(1), "nobody began again for it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stops_is_out_of_the_set_before_it_goes() {
    let mut cluster = Cluster::new(3);
    let (mut groups, mut first) = cluster.start_serving().await;
    groups.pop().unwrap().stop().await.unwrap();
    assert_eq!(cluster.lease.lease().in_sync.len(), 2, "nobody waits for it");
    assert_eq!(first.send("orders", 0..10).await.code, Code::Ok as i32);

    // Two are needed: the last of the others does not wait to be let go.
    groups.pop().unwrap().stop().await.unwrap();
    assert_eq!(cluster.lease.lease().in_sync.len(), 2);
    groups.push(cluster.start(1).await);
    groups.push(cluster.start(2).await);
    cluster.lease.in_sync(3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_async_mode_nobody_is_waited_for_and_the_heir_goes_on_with_what_it_has() {
    let mut cluster = Cluster::new(2);
    cluster.mode = Mode::Async;
    cluster.needs(1);
    let (mut groups, mut first) = cluster.start_serving().await;
    first.send_ok("orders", 0..10).await;
    groups.pop().unwrap().vanish().await;
    assert_eq!(first.send("orders", 10..20).await.code, Code::Ok as i32, "the replica is not waited for");
    groups.push(cluster.start(1).await);
    follows(&groups[1]).await;
    let level = async {
        while log_end(&groups[1]).await < log_end(&groups[0]).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, level).await.expect("the replica copies what it missed");
    cluster.lease.in_sync(2).await;
    groups.remove(0).vanish().await;

    let lease = cluster.lease.until(|lease| lease.epoch > Epoch(1)).await;
    assert_eq!(lease.primary, Some(Ordinal(1)));
    let mut second = primary(&groups[0]).await;
    second.send_ok("orders", 20..30).await;
    assert_eq!(second.receive("g", "orders").await, names(0..30));
    groups.insert(0, cluster.start(0).await);
    follows(&groups[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_volume_copies_everything() {
    let mut cluster = Cluster::new(2);
    cluster.needs(1);
    let (mut groups, mut first) = cluster.start_serving().await;
    for n in 0..50 {
        first.send_ok("orders", n * 10..(n + 1) * 10).await;
    }
    groups.pop().unwrap().vanish().await;
    cluster.lease.in_sync(1).await;
    cluster.folders[1] = tempfile::tempdir().unwrap();
    groups.push(cluster.start(1).await);
    follows(&groups[1]).await;
    let lease = cluster.lease.in_sync(2).await;
    assert_eq!(lease.in_sync.members().count(), 2);
    groups.remove(0).vanish().await;
    let mut second = primary(&groups[0]).await;
    let mut all = Vec::new();
    while all.len() < 500 {
        all.extend(second.receive("g", "orders").await);
    }
    assert_eq!(all, names(0..500));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_lease_is_away_the_group_goes_on() {
    let mut cluster = Cluster::new(3);
    let (_groups, mut first) = cluster.start_serving().await;
    *cluster.lease.away.lock() = true;
    let until = tokio::time::Instant::now() + Duration::from_secs(6);
    let mut sent = 0;
    while tokio::time::Instant::now() < until {
        first.send_ok("orders", sent..sent + 1).await;
        sent += 1;
    }
    assert_eq!(cluster.lease.lease().epoch, Epoch(1), "longer than the Lease holds");
    *cluster.lease.away.lock() = false;
    first.send_ok("orders", sent..sent + 1).await;
    assert_eq!(InSync::len(&cluster.lease.lease().in_sync), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_somebody_names_ends_no_reign() {
    let mut cluster = Cluster::new(2);
    let (groups, mut first) = cluster.start_serving().await;
    for group in &groups {
        let address = format!("http://{}", group.control_addr);
        let mut member = control::replication_client::ReplicationClient::connect(address).await.unwrap();
        let lie = control::IntroduceRequest { group: String::new(), epoch: u64::MAX };
        let answer = member.introduce(lie).await.unwrap().into_inner();
        assert_eq!(answer.epoch, 1, "it is not passed on");
        let member = Some(control::Member { ordinal: 1, store: 7 });
        let hello = control::Hello {
            member,
            epoch: u64::MAX,
            history: Some(control::LogHistory::default()),
            segment_bytes: 1 << 20,
            ..control::Hello::default()
        };
        let hello = control::FollowRequest { request: Some(control::follow_request::Request::Hello(hello)) };
        let address = format!("http://{}", group.control_addr);
        let mut member = control::replication_client::ReplicationClient::connect(address).await.unwrap();
        assert!(member.follow(tokio_stream::iter([hello])).await.is_err(), "it follows nobody");
    }
    first.send_ok("orders", 0..10).await;
    assert_eq!(first.receive("g", "orders").await, names(0..10));
    let lease = cluster.lease.in_sync(2).await;
    assert_eq!((lease.epoch, lease.primary), (Epoch(1), Some(Ordinal(0))));
    assert!(matches!(groups[0].standing().borrow().role, Some(Role::Primary(Epoch(1)))));
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until the page of metrics has this line.
async fn shows(port: u16, line: &str) {
    let shown = async {
        while !page(port, "metrics").await.lines().any(|shown| shown == line) {
            tokio::task::yield_now().await;
        }
    };
    let shown = tokio::time::timeout(LIMIT, shown).await;
    assert!(shown.is_ok(), "{line} is not in\n{}", page(port, "metrics").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_shows_how_it_stands_and_can_be_told_what_to_log() {
    let mut cluster = Cluster::new(2);
    let ports = [free_port(), free_port()];
    let mut groups = Vec::new();
    for (ordinal, port) in ports.into_iter().enumerate() {
        cluster.pages = Some(port);
        groups.push(cluster.start(ordinal as u32).await);
    }
    let mut first = primary(&groups[0]).await;
    cluster.lease.in_sync(2).await;
    first.topic("orders").await;
    first.send_ok("orders", 0..10).await;
    let [of_primary, of_replica] = ports;
    for line in [
        "gantry_replication_role{role=\"primary\"} 1",
        "gantry_replication_epoch 1",
        "gantry_replication_in_sync 2",
        "gantry_replication_reigns_total 1",
        "gantry_replication_follower_connected{member=\"1\"} 1",
        "gantry_replication_follower_lag_bytes{member=\"1\"} 0",
        "gantry_replication_follower_lag_seconds{member=\"1\"} 0.0",
    ] {
        shows(of_primary, line).await;
    }
    for line in [
        "gantry_replication_role{role=\"primary\"} 0",
        "gantry_replication_role{role=\"replica\"} 1",
        "gantry_replication_epoch 1",
        "gantry_replication_in_sync 2",
        "gantry_replication_reigns_total 0",
        "gantry_replication_lag_bytes 0",
        "gantry_replication_lag_seconds 0.0",
    ] {
        shows(of_replica, line).await;
    }
    let value = async |port, name: &str| {
        let text = page(port, "metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        line.unwrap_or_else(|| panic!("{name} is not shown")).parse::<u64>().unwrap()
    };
    let end = value(of_primary, "gantry_replication_log_end_offset").await;
    shows(of_replica, &format!("gantry_replication_log_end_offset {end}")).await;
    shows(of_replica, &format!("gantry_replication_confirmed_offset {end}")).await;
    assert_eq!(value(of_primary, "gantry_replication_sent_bytes_total").await, end);
    assert_eq!(value(of_replica, "gantry_replication_received_bytes_total").await, end);

    // Not "ask the primary": this process only has not set up logging itself.
    let address = format!("http://{}", groups[1].control_addr);
    let mut replica = AdminClient::connect(address).await.unwrap();
    let refused = replica.set_log_levels(control::SetLogLevelsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused}");

    groups.remove(0).stop().await.unwrap();
    shows(of_replica, "gantry_replication_role{role=\"primary\"} 1").await;
    shows(of_replica, "gantry_replication_reigns_total 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_deleted_topic_had_is_gone_on_the_next_primary_too() {
    let mut cluster = Cluster::new(2);
    cluster.needs(1);
    let mut groups = cluster.start_all().await;
    let mut first = primary(&groups[0]).await;
    cluster.lease.in_sync(2).await;
    for round in 0..20 {
        first.topic("orders").await;
        first.send_ok("orders", round * 10..(round + 1) * 10).await;
        let request = control::DeleteTopicRequest { name: "orders".to_owned(), ..Default::default() };
        assert!(first.admin.delete_topic(request).await.unwrap().into_inner().existed);
    }
    first.topic("orders").await;
    first.send_ok("orders", 200..210).await;
    groups.remove(0).stop().await.unwrap();
    let mut second = primary(&groups[0]).await;
    assert_eq!(second.receive("g", "orders").await, names(200..210));
}
