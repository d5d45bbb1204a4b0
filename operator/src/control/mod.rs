//! The control plane as a client: what is asked of brokers and name servers.
//!
//! Every call has a deadline of two seconds. Connections are kept and found by address; those
//! that nobody asked for in a while are dropped. Topics are many: what is asked about them at the same time goes in one
//! call ([`gather`]).

mod gather;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proto::control::{
    self, DeleteTopicRequest, DescribeClusterRequest, DescribeClusterResponse, DescribeGroupRequest,
    DescribeGroupResponse, DescribeTopicRequest, DescribeTopicResponse, GetStateRequest, GetStateResponse,
    GetTopicsRequest, ListGroupsRequest, SetLogLevelsRequest, TopicConfig, TopicOutcome, UpsertTopicsRequest,
    admin_client::AdminClient, registry_client::RegistryClient,
};
use tonic::{
    Code, Status,
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
    topics: Arc<Topics>,
    used: Instant,
}

/// What is asked of a broker about topics.
#[derive(Default)]
struct Topics {
    looked_up: Gather<String, Option<TopicConfig>>,
    /// Those that may be somebody's already.
    made: Gather<TopicConfig, TopicOutcome>,
    /// Those that may not.
    made_if_unowned: Gather<TopicConfig, TopicOutcome>,
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
            let found: HashMap<String, TopicConfig> =
                found.into_iter().map(|topic| (topic.name.clone(), topic)).collect();
            // Two may ask for one name: each is told of it.
            Ok(names.iter().map(|name| found.get(name).cloned()).collect())
        };
        peer.topics.looked_up.ask(name.to_owned(), call).await
    }

    /// Makes the topic so, unless the broker refuses it; with `only_if_unowned` it does where another owner is stamped on it.
    pub async fn upsert_topic(
        &self,
        address: &str,
        topic: TopicConfig,
        only_if_unowned: bool,
    ) -> Result<TopicOutcome, Status> {
        let peer = &self.peer(address)?;
        let call = move |topics| async move {
            let request = UpsertTopicsRequest { topics, only_if_unowned, only_new: false, dry_run: false };
            Ok(self.call("UpsertTopics", admin(peer).upsert_topics(request)).await?.outcomes)
        };
        let topics = &peer.topics;
        let gather = if only_if_unowned { &topics.made_if_unowned } else { &topics.made };
        gather.ask(topic, call).await
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

    /// All consumer groups that the broker knows, with their progress.
    pub async fn groups(&self, address: &str) -> Result<Vec<DescribeGroupResponse>, Status> {
        let mut admin = admin(&self.peer(address)?);
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
        let peer = Peer { channel, topics: Arc::default(), used: now };
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
