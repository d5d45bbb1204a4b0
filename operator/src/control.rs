//! The control plane as a client: what is asked of brokers and name servers.
//!
//! Every call has a deadline of two seconds. Connections are kept and found by address; those
//! that nobody asked for in a while are dropped.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use proto::control::{
    self, DeleteTopicRequest, DescribeClusterRequest, DescribeClusterResponse, DescribeGroupRequest,
    DescribeGroupResponse, DescribeTopicRequest, DescribeTopicResponse, GetStateRequest, GetStateResponse,
    ListGroupsRequest, SetLogLevelsRequest, TopicConfig, UpsertTopicRequest, admin_client::AdminClient,
    registry_client::RegistryClient,
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{identity::Role, metrics::Metrics};

/// No call takes longer.
pub const DEADLINE: Duration = Duration::from_secs(2);
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// Calls brokers and name servers.
pub struct ControlPlane {
    channels: Mutex<HashMap<String, (Channel, Instant)>>,
    metrics: Arc<Metrics>,
}

impl ControlPlane {
    /// Without a connection yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { channels: Mutex::default(), metrics }
    }

    /// The state of a broker.
    pub async fn broker_state(&self, address: &str) -> Result<GetStateResponse, Status> {
        let mut admin = self.admin(address)?;
        self.call("GetState", admin.get_state(GetStateRequest {})).await
    }

    /// The cluster as a name server sees it.
    pub async fn describe_cluster(&self, address: &str) -> Result<DescribeClusterResponse, Status> {
        let mut registry = RegistryClient::new(self.channel(address)?);
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
                let mut admin = self.admin(address)?;
                self.call("SetLogLevels", admin.set_log_levels(request)).await?;
            }
            Role::NameServer => {
                let mut registry = RegistryClient::new(self.channel(address)?);
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
        let mut admin = self.admin(address)?;
        let request = DescribeTopicRequest { name: name.to_owned() };
        match self.call("DescribeTopic", admin.describe_topic(request)).await {
            Ok(topic) => Ok(Some(topic)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Makes the topic so.
    pub async fn upsert_topic(
        &self,
        address: &str,
        topic: TopicConfig,
        only_if_unowned: bool,
    ) -> Result<(), Status> {
        let mut admin = self.admin(address)?;
        let request = UpsertTopicRequest { topic: Some(topic), only_if_unowned };
        self.call("UpsertTopic", admin.upsert_topic(request)).await.map(|_| ())
    }

    /// Deletes the topic that `owner` stamped.
    pub async fn delete_topic(
        &self,
        address: &str,
        name: &str,
        owner: &str,
        only_if_drained: bool,
    ) -> Result<(), Status> {
        let mut admin = self.admin(address)?;
        let request = DeleteTopicRequest { name: name.to_owned(), owner: owner.to_owned(), only_if_drained };
        match self.call("DeleteTopic", admin.delete_topic(request)).await {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(()),
        }
    }

    /// All consumer groups that the broker knows, with their progress.
    pub async fn groups(&self, address: &str) -> Result<Vec<DescribeGroupResponse>, Status> {
        let mut admin = self.admin(address)?;
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

    fn admin(&self, address: &str) -> Result<AdminClient<Channel>, Status> {
        Ok(AdminClient::new(self.channel(address)?).max_decoding_message_size(16 << 20))
    }

    fn channel(&self, address: &str) -> Result<Channel, Status> {
        let now = Instant::now();
        let mut channels = self.channels.lock().expect("no panic while the lock is held");
        channels.retain(|known, (_, used)| known == address || now.duration_since(*used) < FORGET_AFTER);
        if let Some((channel, used)) = channels.get_mut(address) {
            *used = now;
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|error| Status::internal(format!("{address} is no address: {error}")))?;
        let channel = endpoint
            .connect_timeout(DEADLINE)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .connect_lazy();
        channels.insert(address.to_owned(), (channel.clone(), now));
        Ok(channel)
    }
}

/// What went wrong, for a message.
pub fn explain(status: &Status) -> String {
    match status.code() {
        Code::Unavailable if status.message().is_empty() => "it cannot be reached".to_owned(),
        _ => status.message().to_owned(),
    }
}
