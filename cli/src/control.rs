//! The control plane of a running cluster: one name server's Registry, and each broker's Admin.

use std::time::Duration;

use proto::control as wire;
use tonic::transport::{Channel, Endpoint};
use wire::admin_client::AdminClient;
use wire::registry_client::RegistryClient;
use wire::replication_client::ReplicationClient;

use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
// The Admin answers a topic's change within two seconds at the most.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a name server, and the cluster as it knows it.
pub struct Control {
    /// The address asked.
    pub server: String,
    /// What it answered.
    pub cluster: wire::DescribeClusterResponse,
}

/// A connection to the Admin service of one broker. Clones share it.
#[derive(Clone)]
pub struct Broker {
    /// The broker's name.
    pub name: String,
    /// What to call it on the wire of errors: `broker-a`, or `broker-a/1` for a replica.
    pub label: String,
    /// Its service.
    pub admin: AdminClient<Channel>,
    /// What the members of its group say to each other.
    pub members: ReplicationClient<Channel>,
}

impl Control {
    /// Asks the name server at `HOST:PORT` for the cluster.
    pub async fn connect(server: &str) -> Result<Self, Failure> {
        let hint = "is it running? `gantry dev` starts one here; --server HOST:PORT or GANTRY_SERVER names \
                    another; -n NAMESPACE acts on Kubernetes";
        let channel = dial(server)
            .await
            .map_err(|why| Failure::unreachable(format!("no control plane at {server}: {why}")).next(hint))?;
        let answer = RegistryClient::new(channel).describe_cluster(wire::DescribeClusterRequest {}).await;
        match answer {
            Ok(cluster) => Ok(Self { server: server.to_owned(), cluster: cluster.into_inner() }),
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                Err(Failure::failed(format!("{server} is not the control plane of a name server"))
                    .next("give --server the port of the name server's control plane, 9878 by default"))
            }
            Err(status) => Err(Failure::from_status(&format!("ask {server} for its cluster"), &status)),
        }
    }

    /// Connections to the primaries, in order of their names; all of them must answer.
    pub async fn primaries(&self) -> Result<Vec<Broker>, Failure> {
        let mut summaries: Vec<_> = self.cluster.brokers.iter().filter(|b| b.broker_id == 0).collect();
        if summaries.is_empty() {
            return Err(Failure::failed(format!("no broker is registered with {}", self.server))
                .next("look at the broker's own log, and at its nameServers setting"));
        }
        summaries.sort_by(|a, b| (&a.cluster_name, &a.broker_name).cmp(&(&b.cluster_name, &b.broker_name)));
        let mut brokers = Vec::with_capacity(summaries.len());
        for summary in summaries {
            brokers.push(reach(summary).await?);
        }
        Ok(brokers)
    }
}

/// The brokers named, or all if none is.
pub fn chosen(brokers: Vec<Broker>, names: &[String]) -> Result<Vec<Broker>, Failure> {
    if let Some(unknown) = names.iter().find(|name| brokers.iter().all(|broker| broker.name != **name)) {
        let known: Vec<&str> = brokers.iter().map(|broker| broker.name.as_str()).collect();
        return Err(Failure::not_found(format!("there is no broker {unknown}"))
            .next(format!("the brokers are: {}", known.join(", "))));
    }
    Ok(brokers.into_iter().filter(|broker| names.is_empty() || names.contains(&broker.name)).collect())
}

/// Connects to the Admin service of a broker that the name server knows.
pub async fn reach(summary: &wire::BrokerSummary) -> Result<Broker, Failure> {
    let name = &summary.broker_name;
    let label = match summary.broker_id {
        0 => name.clone(),
        id => format!("{name}/{id}"),
    };
    let address = summary.control.as_ref().map(|at| join_host_port(&at.host, at.port)).unwrap_or_default();
    let channel = dial(&address).await.map_err(|why| {
        Failure::unreachable(format!(
            "the control plane of broker {label} at {address} does not answer: {why}"
        ))
        .next("the name server told this address: check that it can be reached from here")
    })?;
    let members = ReplicationClient::new(channel.clone());
    Ok(Broker { name: name.clone(), label, admin: AdminClient::new(channel), members })
}

/// `host:port`, with brackets around an IPv6 address.
pub fn join_host_port(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Opens a connection; the error is a sentence for the user.
async fn dial(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| format!("`{address}` is not HOST:PORT"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT);
    endpoint.connect().await.map_err(|error| root_cause(&error))
}

/// The innermost reason of an error: transport errors wrap the telling one.
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    // The errno is for programs.
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_is_put_in_brackets() {
        assert_eq!(join_host_port("::1", 1), "[::1]:1");
        assert_eq!(join_host_port("a.b", 1), "a.b:1");
    }
}
