//! The control plane as a client: what is asked of brokers and name servers.
//!
//! Every call has a deadline of two seconds. Connections are kept and found by address; those
//! that nobody asked for in a while are dropped. Topics and consumer groups are many: what is asked about them at the same
//! time goes in one call ([`gather`]).

mod gather;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proto::control::{
    self, DeleteGroupRequest, DeleteTopicRequest, DescribeClusterRequest, DescribeClusterResponse,
    DescribeGroupRequest, DescribeGroupResponse, DescribeTopicRequest, DescribeTopicResponse,
    GetGroupsRequest, GetStateRequest, GetStateResponse, GetTopicsRequest, GroupConfig, ListGroupsRequest,
    ListTopicsRequest, Outcome, SetLogLevelsRequest, TopicConfig, UpsertGroupsRequest, UpsertTopicsRequest,
    WatchChangesRequest, WatchChangesResponse, admin_client::AdminClient, registry_client::RegistryClient,
};
use tonic::{
    Code, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{identity::Role, metrics::Metrics};
use gather::Gather;

/// No call takes longer.
pub const DEADLINE: Duration = Duration::from_secs(2);
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Calls brokers and name servers.
pub struct ControlPlane {
    peers: Mutex<HashMap<String, Peer>>,
    metrics: Arc<Metrics>,
}

/// A broker or a name server.
#[derive(Clone)]
struct Peer {
    channel: Channel,
    topics: Arc<Questions<TopicConfig>>,
    groups: Arc<Questions<GroupConfig>>,
    progress: Arc<Gather<(), Progress>>,
    used: Instant,
}

/// All consumer groups of a broker with their progress, for all who asked meanwhile.
type Progress = Arc<[DescribeGroupResponse]>;

/// What is asked of a broker about topics, or about consumer groups.
struct Questions<T> {
    looked_up: Gather<String, Option<T>>,
    /// Those that may be somebody's already.
    made: Gather<T, Outcome>,
    /// Those that may not.
    made_if_unowned: Gather<T, Outcome>,
}

impl<T> Default for Questions<T> {
    fn default() -> Self {
        Self { looked_up: Gather::default(), made: Gather::default(), made_if_unowned: Gather::default() }
    }
}

impl<T> Questions<T> {
    fn made(&self, only_if_unowned: bool) -> &Gather<T, Outcome> {
        if only_if_unowned { &self.made_if_unowned } else { &self.made }
    }
}

/// What was found for each name. Two may ask for one name: each is told of it.
fn in_order<T: Clone>(names: &[String], found: Vec<T>, name: fn(&T) -> &String) -> Vec<Option<T>> {
    let found: HashMap<&String, &T> = found.iter().map(|it| (name(it), it)).collect();
    names.iter().map(|name| found.get(name).map(|it| (*it).clone())).collect()
}

impl ControlPlane {
    /// Without a connection yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { peers: Mutex::default(), metrics }
    }

    /// The state of a broker.
    pub async fn broker_state(&self, address: &str) -> Result<GetStateResponse, Status> {
        let mut admin = admin(&self.peer(address)?);
        self.call("GetState", admin.get_state(GetStateRequest {})).await
    }

    /// The cluster as a name server sees it.
    pub async fn describe_cluster(&self, address: &str) -> Result<DescribeClusterResponse, Status> {
        let mut registry = RegistryClient::new(self.peer(address)?.channel);
        self.call("DescribeCluster", registry.describe_cluster(DescribeClusterRequest {})).await
    }

    /// Changes what is logged from now on.
    pub async fn set_log_levels(
        &self,
        role: Role,
        address: &str,
        levels: BTreeMap<String, String>,
    ) -> Result<(), Status> {
        let request = SetLogLevelsRequest { levels: levels.into_iter().collect() };
        match role {
            Role::Broker => {
                let mut admin = admin(&self.peer(address)?);
                self.call("SetLogLevels", admin.set_log_levels(request)).await?;
            }
            Role::NameServer => {
                let mut registry = RegistryClient::new(self.peer(address)?.channel);
                self.call("SetLogLevels", registry.set_log_levels(request)).await?;
            }
        }
        Ok(())
    }

    /// A topic as the broker has it, or nothing where it has none of that name.
    pub async fn describe_topic(
        &self,
        address: &str,
        name: &str,
    ) -> Result<Option<DescribeTopicResponse>, Status> {
        let mut admin = admin(&self.peer(address)?);
        let request = DescribeTopicRequest { name: name.to_owned() };
        match self.call("DescribeTopic", admin.describe_topic(request)).await {
            Ok(topic) => Ok(Some(topic)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// A topic as the broker has it, without what is in it, or nothing where it has none of that name.
    pub async fn topic(&self, address: &str, name: &str) -> Result<Option<TopicConfig>, Status> {
        let peer = &self.peer(address)?;
        let call = move |names: Vec<String>| async move {
            let request = GetTopicsRequest { names: names.clone() };
            let found = self.call("GetTopics", admin(peer).get_topics(request)).await?.topics;
            Ok(in_order(&names, found, |topic| &topic.name))
        };
        peer.topics.looked_up.ask(name.to_owned(), call).await
    }

    /// All topics that the broker has for users and consumer groups.
    pub async fn topics(&self, address: &str) -> Result<Vec<TopicConfig>, Status> {
        let mut admin = admin(&self.peer(address)?);
        let request = ListTopicsRequest { include_system: true, ..ListTopicsRequest::default() };
        Ok(self.call("ListTopics", admin.list_topics(request)).await?.topics)
    }

    /// Makes the topic so, unless the broker refuses it; with `only_if_unowned` it does where another owner is stamped on it.
    pub async fn upsert_topic(
        &self,
        address: &str,
        topic: TopicConfig,
        only_if_unowned: bool,
    ) -> Result<Outcome, Status> {
        let peer = &self.peer(address)?;
        let call = move |topics| async move {
            let request = UpsertTopicsRequest { topics, only_if_unowned, only_new: false, dry_run: false };
            Ok(self.call("UpsertTopics", admin(peer).upsert_topics(request)).await?.outcomes)
        };
        peer.topics.made(only_if_unowned).ask(topic, call).await
    }

    /// A consumer group as the broker has it, without its progress, or nothing where it has none of that name.
    pub async fn group(&self, address: &str, name: &str) -> Result<Option<GroupConfig>, Status> {
        let peer = &self.peer(address)?;
        let call = move |names: Vec<String>| async move {
            let request = GetGroupsRequest { names: names.clone() };
            let found = self.call("GetGroups", admin(peer).get_groups(request)).await?.groups;
            Ok(in_order(&names, found, |group| &group.name))
        };
        peer.groups.looked_up.ask(name.to_owned(), call).await
    }

    /// Makes the consumer group so, unless the broker refuses it; with `only_if_unowned` it does where another owner is
    /// stamped on it.
    pub async fn upsert_group(
        &self,
        address: &str,
        group: GroupConfig,
        only_if_unowned: bool,
    ) -> Result<Outcome, Status> {
        let peer = &self.peer(address)?;
        let call = move |groups| async move {
            let request = UpsertGroupsRequest { groups, only_if_unowned };
            Ok(self.call("UpsertGroups", admin(peer).upsert_groups(request)).await?.outcomes)
        };
        peer.groups.made(only_if_unowned).ask(group, call).await
    }

    /// Deletes the consumer group that `owner` stamped, and its progress.
    pub async fn delete_group(&self, address: &str, name: &str, owner: &str) -> Result<(), Status> {
        let mut admin = admin(&self.peer(address)?);
        let request = DeleteGroupRequest { name: name.to_owned(), owner: owner.to_owned() };
        match self.call("DeleteGroup", admin.delete_group(request)).await {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(()),
        }
    }

    /// Deletes the topic that `owner` stamped.
    pub async fn delete_topic(
        &self,
        address: &str,
        name: &str,
        owner: &str,
        only_if_drained: bool,
    ) -> Result<(), Status> {
        let mut admin = admin(&self.peer(address)?);
        let request = DeleteTopicRequest { name: name.to_owned(), owner: owner.to_owned(), only_if_drained };
        match self.call("DeleteTopic", admin.delete_topic(request)).await {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(()),
        }
    }

    /// What changes in topics and groups of the broker, from now on or from `since` on. Ends when the broker does.
    pub async fn watch_changes(
        &self,
        address: &str,
        since: Option<(u64, u64)>,
    ) -> Result<Streaming<WatchChangesResponse>, Status> {
        let mut admin = admin(&self.peer(address)?);
        let (life, version) = since.unwrap_or_default();
        self.call("WatchChanges", admin.watch_changes(WatchChangesRequest { life, version })).await
    }

    /// All consumer groups that the broker knows, with their progress. A call for each of them: whoever asks meanwhile is answered
    /// together.
    pub async fn groups(&self, address: &str) -> Result<Arc<[DescribeGroupResponse]>, Status> {
        let peer = &self.peer(address)?;
        let call = move |askers: Vec<()>| async move {
            let all: Progress = self.described_groups(peer).await?.into();
            Ok(vec![all; askers.len()])
        };
        peer.progress.ask((), call).await
    }

    async fn described_groups(&self, peer: &Peer) -> Result<Vec<DescribeGroupResponse>, Status> {
        let mut admin = admin(peer);
        let names = self.call("ListGroups", admin.list_groups(ListGroupsRequest {})).await?.groups;
        let mut groups = Vec::with_capacity(names.len());
        for control::GroupConfig { name, .. } in names {
            match self.call("DescribeGroup", admin.describe_group(DescribeGroupRequest { name })).await {
                Ok(group) => groups.push(group),
                // Deleted between the two calls.
                Err(status) if status.code() == Code::NotFound => {}
                Err(status) => return Err(status),
            }
        }
        Ok(groups)
    }

    async fn call<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, Status> {
        let answer = tokio::time::timeout(DEADLINE, call)
            .await
            .unwrap_or_else(|_| Err(Status::unavailable("no answer within 2 seconds")));
        let answered = !matches!(&answer, Err(status) if status.code() != Code::NotFound);
        self.metrics.called(kind, answered);
        answer.map(tonic::Response::into_inner)
    }

    fn peer(&self, address: &str) -> Result<Peer, Status> {
        let now = Instant::now();
        let mut peers = self.peers.lock().expect("no panic while the lock is held");
        if let Some(peer) = peers.get_mut(address) {
            peer.used = now;
            return Ok(peer.clone());
        }
        peers.retain(|_, peer| now.duration_since(peer.used) < FORGET_AFTER);
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Status::internal(format!("{address} is no address: {error}")))?;
        let channel = endpoint
            .connect_timeout(DEADLINE)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .connect_lazy();
        let peer = Peer {
            channel,
            topics: Arc::default(),
            groups: Arc::default(),
            progress: Arc::default(),
            used: now,
        };
        peers.insert(address.to_owned(), peer.clone());
        Ok(peer)
    }
}

fn admin(peer: &Peer) -> AdminClient<Channel> {
    AdminClient::new(peer.channel.clone()).max_decoding_message_size(16 << 20)
}

/// What went wrong, for a message.
pub fn explain(status: &Status) -> String {
    match status.code() {
        Code::Unavailable if status.message().is_empty() => "it cannot be reached".to_owned(),
        _ => status.message().to_owned(),
    }
}
