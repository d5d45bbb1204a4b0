//! A name server that can be asked and does nothing, but that it heeds what it is told to log.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use futures::stream::Empty;
use operator::identity::CONTROL_PORT;
use proto::control::{
    BrokerReport, DescribeClusterRequest, DescribeClusterResponse, RegistryAck, SetLogLevelsRequest,
    SetLogLevelsResponse,
    registry_server::{Registry, RegistryServer},
};
use tokio::task::JoinSet;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::declared::own_address;

/// Levels by target, beside that of all others.
type Levels = Arc<Mutex<BTreeMap<String, String>>>;

/// The name server.
pub(crate) struct NameServer {
    pub(super) ip: Ipv4Addr,
    levels: Levels,
    _task: JoinSet<()>,
}

impl NameServer {
    pub(super) fn start() -> Self {
        let (ip, levels) = (own_address(), Levels::default());
        let door = Door(Arc::clone(&levels));
        let address = SocketAddr::from((ip, u16::try_from(CONTROL_PORT).unwrap()));
        let mut task = JoinSet::new();
        task.spawn(async move {
            Server::builder().add_service(RegistryServer::new(door)).serve(address).await.unwrap();
        });
        Self { ip, levels, _task: task }
    }

    /// What is logged otherwise than by default.
    pub(super) fn levels(&self) -> BTreeMap<String, String> {
        let mut levels = self.levels.lock().unwrap().clone();
        levels.retain(|_, level| level != "info");
        levels
    }

    pub(super) fn forget(&self) {
        self.levels.lock().unwrap().clear();
    }
}

struct Door(Levels);

#[tonic::async_trait]
impl Registry for Door {
    type RegisterStream = Empty<Result<RegistryAck, Status>>;

    async fn register(
        &self,
        _: Request<Streaming<BrokerReport>>,
    ) -> Result<Response<Self::RegisterStream>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn describe_cluster(
        &self,
        _: Request<DescribeClusterRequest>,
    ) -> Result<Response<DescribeClusterResponse>, Status> {
        Ok(Response::new(DescribeClusterResponse { warm: true, ..DescribeClusterResponse::default() }))
    }

    async fn set_log_levels(
        &self,
        request: Request<SetLogLevelsRequest>,
    ) -> Result<Response<SetLogLevelsResponse>, Status> {
        self.0.lock().unwrap().extend(request.into_inner().levels);
        Ok(Response::new(SetLogLevelsResponse {}))
    }
}
