//! Several brokers that keep one log: elections, hand-overs, members that come back.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::config::{Lease as LeaseConfig, Replication};
use broker::{Config, Coordinator, Group, Unreadable};
use parking_lot::Mutex;
use proto::control;
use proto::control::admin_client::AdminClient;
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::*;
use replication::{Epoch, InSync, Lease, Mode, Ordinal, Role, Seen, SwapOutcome, Version};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tonic::transport::Channel;

use crate::rig::*;

const LIMIT: Duration = Duration::from_secs(60);

/// The Lease, in memory.
struct InMemory {
    now: watch::Sender<Seen>,
    /// Nobody gets an answer.
    away: Mutex<bool>,
}

impl InMemory {
    fn new() -> Arc<Self> {
        let lease = Lease { in_sync: "0".parse().unwrap(), ..Lease::default() };
        Arc::new(Self { now: watch::Sender::new(Seen { lease, version: 1 }), away: Mutex::new(false) })
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
    min_in_sync: usize,
    starts: u32,
    /// The port of the health pages.
    pages: Option<u16>,
}

impl Cluster {
    fn new(members: usize) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self {
            folders: (0..members).map(|_| tempfile::tempdir().unwrap()).collect(),
            lease: InMemory::new(),
            port,
            mode: Mode::Sync,
            min_in_sync: 2.min(members),
            starts: 0,
            pages: None,
        }
    }

    fn config(&self, ordinal: u32, folder: &Path) -> Config {
        let replication = Replication {
            mode: self.mode,
            min_in_sync: self.min_in_sync,
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
        Config {
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
    let mut groups = cluster.start_all().await;
    let mut first = primary(&groups[0]).await;
    cluster.lease.in_sync(3).await;
    first.topic("orders").await;
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
    let asked = control::HandOverRequest { to: Some(0) };
    let address = format!("http://{}", groups[heir.0 as usize].control_addr);
    let mut member = control::replication_client::ReplicationClient::connect(address).await.unwrap();
    // The primary may not have heard yet that its own change was made.
    while let Err(status) = member.hand_over(asked).await {
        assert_eq!(status.code(), tonic::Code::FailedPrecondition, "{status}");
    }
    let mut third = primary(&groups[0]).await;
    third.send_ok("orders", 20..30).await;
    assert_eq!(third.receive("other", "orders").await, names(0..30));
    for group in groups {
        group.stop().await.unwrap();
    }
}

/// What `/readyz` answers.
async fn readiness(port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut page = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    page.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    page.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_serves_is_ready_and_stays_so() {
    let mut cluster = Cluster::new(1);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
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
async fn progress_goes_on_where_it_was() {
    let mut cluster = Cluster::new(2);
    cluster.min_in_sync = 1;
    let mut groups = cluster.start_all().await;
    let mut first = primary(&groups[0]).await;
    cluster.lease.in_sync(2).await;
    first.topic("orders").await;
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
    let mut groups = cluster.start_all().await;
    let mut first = primary(&groups[0]).await;
    cluster.lease.in_sync(2).await;
    first.topic("orders").await;
    first.send_ok("orders", 0..1).await;
    groups.pop().unwrap().vanish().await;
    let refused = async {
        loop {
            let status = first.send("orders", 1..2).await;
            if status.code == Code::HaNotAvailable as i32 {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(LIMIT, refused).await.expect("it is refused at last");
    assert!(status.message.contains("1 of the 2 members"), "{}", status.message);
    assert_eq!(cluster.lease.lease().in_sync.len(), 2, "the set stays: either may be elected");
    let back = cluster.start(1).await;
    follows(&back).await;
    let sent = async {
        while first.send("orders", 1..2).await.code != Code::Ok as i32 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, sent).await.expect("sends work again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_lost_its_volume_copies_everything() {
    let mut cluster = Cluster::new(2);
    cluster.min_in_sync = 1;
    let mut groups = cluster.start_all().await;
    let mut first = primary(&groups[0]).await;
    cluster.lease.in_sync(2).await;
    first.topic("orders").await;
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
    let groups = cluster.start_all().await;
    let mut first = primary(&groups[0]).await;
    cluster.lease.in_sync(3).await;
    first.topic("orders").await;
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
