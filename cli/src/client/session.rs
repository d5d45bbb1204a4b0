//! What producers and consumers share: the route of one topic, and a connection with its
//! telemetry stream to each broker of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use proto::v2;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Dialer, Error, Identity, Stub};
use crate::control::join_host_port;

/// The time that official clients give a call.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A client of one topic.
pub(super) struct Session {
    pub(super) topic: String,
    pub(super) queues: Vec<v2::MessageQueue>,
    links: BTreeMap<String, Link>,
}

/// A connection to one broker, with a telemetry stream.
pub(crate) struct Link {
    /// For the calls to this broker.
    pub(crate) stub: Stub,
    /// What the broker answered to the client's settings.
    pub(crate) settings: Option<v2::Settings>,
    // Both halves stay open as long as the client lives: the server takes the end of the
    // stream for a client that may be gone.
    _commands: mpsc::Sender<v2::TelemetryCommand>,
    _answers: tonic::Streaming<v2::TelemetryCommand>,
}

impl Session {
    /// Asks the access point for the route of `topic`, keeps the queues that are `usable`, and
    /// makes itself known to their brokers with `settings`.
    pub(super) async fn open(
        dialer: &Dialer,
        access_point: &str,
        topic: &str,
        settings: v2::Settings,
        usable: fn(v2::Permission) -> bool,
        wanted: &'static str,
    ) -> Result<Self, Error> {
        let identity = Identity::generate();
        let access = dialer.dial(access_point, &identity).await?;
        let queues = route(access, access_point, topic, usable, wanted).await?;
        let mut links = BTreeMap::new();
        for queue in &queues {
            let address = broker_address(queue);
            if let Entry::Vacant(vacant) = links.entry(address) {
                let link = Link::open(dialer, &identity, vacant.key(), settings.clone()).await?;
                vacant.insert(link);
            }
        }
        Ok(Self { topic: topic.to_owned(), queues, links })
    }

    /// The connection to the broker of a queue of this session.
    pub(super) fn stub(&self, queue: &v2::MessageQueue) -> (String, Stub) {
        let address = broker_address(queue);
        let link = self.links.get(&address).expect("open() connected to the broker of every queue");
        (address, link.stub.clone())
    }

    /// One queue of each broker, for calls that concern a broker as a whole.
    pub(super) fn queue_of_each_broker(&self) -> Vec<v2::MessageQueue> {
        let mut of_address = BTreeMap::new();
        for queue in &self.queues {
            of_address.entry(broker_address(queue)).or_insert_with(|| queue.clone());
        }
        of_address.into_values().collect()
    }

    /// Tells every broker that the client lives. Trouble shows at the next call that matters.
    pub(super) async fn heartbeat(&self, group: Option<&str>, client_type: v2::ClientType) {
        let request = v2::HeartbeatRequest { group: group.map(resource), client_type: client_type.into() };
        for link in self.links.values() {
            let mut request = tonic::Request::new(request.clone());
            request.set_timeout(REQUEST_TIMEOUT);
            let _unheard = link.stub.clone().heartbeat(request).await;
        }
    }

    /// Tells every broker that the client goes; one that does not hear it expires the client.
    pub(super) async fn close(self, group: Option<&str>) {
        for link in self.links.values() {
            let mut request =
                tonic::Request::new(v2::NotifyClientTerminationRequest { group: group.map(resource) });
            request.set_timeout(Duration::from_secs(1));
            let _unheard = link.stub.clone().notify_client_termination(request).await;
        }
    }
}

/// Asks the access point for the queues of `topic` that are `usable`; there is one at least.
pub(crate) async fn route(
    mut access: Stub,
    access_point: &str,
    topic: &str,
    usable: fn(v2::Permission) -> bool,
    wanted: &'static str,
) -> Result<Vec<v2::MessageQueue>, Error> {
    let mut request = tonic::Request::new(v2::QueryRouteRequest {
        topic: Some(resource(topic)),
        endpoints: Some(endpoints_of(access_point)),
    });
    request.set_timeout(REQUEST_TIMEOUT);
    let route = access
        .query_route(request)
        .await
        .map_err(|status| Error::transport(access_point, &status))?
        .into_inner();
    Error::check(access_point, route.status)?;
    // Primaries only, as official clients do.
    let mut queues = route.message_queues;
    queues.retain(|queue| {
        queue.broker.as_ref().is_some_and(|broker| broker.id == 0) && usable(queue.permission())
    });
    match queues.is_empty() {
        true => Err(Error::NoQueue { topic: topic.to_owned(), wanted }),
        false => Ok(queues),
    }
}

impl Link {
    /// Connects, and makes the client known with `settings`.
    pub(crate) async fn open(
        dialer: &Dialer,
        identity: &Identity,
        address: &str,
        settings: v2::Settings,
    ) -> Result<Self, Error> {
        let mut stub = dialer.dial(address, identity).await?;
        let (commands, queued) = mpsc::channel(4);
        let command = v2::telemetry_command::Command::Settings(settings);
        let first = v2::TelemetryCommand { status: None, command: Some(command) };
        commands.try_send(first).expect("a new channel has room");
        // No deadline: the stream lasts as long as the client.
        let transport = |status: tonic::Status| Error::transport(address, &status);
        let mut answers = stub.telemetry(ReceiverStream::new(queued)).await.map_err(transport)?.into_inner();
        let silent =
            || Error::Protocol { address: address.to_owned(), what: "did not answer the client's settings" };
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, answers.message())
            .await
            .map_err(|_| silent())?
            .map_err(transport)?
            .ok_or_else(silent)?;
        Error::check(address, answer.status)?;
        let settings = match answer.command {
            Some(v2::telemetry_command::Command::Settings(settings)) => Some(settings),
            _ => None,
        };
        Ok(Self { stub, settings, _commands: commands, _answers: answers })
    }
}

/// A name without a namespace.
pub(crate) fn resource(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// The settings of a client; the caller adds what it publishes or subscribes to.
pub(crate) fn settings(client_type: v2::ClientType, access_point: &str) -> v2::Settings {
    v2::Settings {
        client_type: Some(client_type.into()),
        access_point: Some(endpoints_of(access_point)),
        request_timeout: Some(proto_duration(REQUEST_TIMEOUT)),
        user_agent: Some(v2::Ua {
            language: v2::Language::Rust.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            platform: std::env::consts::OS.to_owned(),
            hostname: String::new(),
        }),
        ..Default::default()
    }
}

/// A duration of the wire.
pub(crate) fn proto_duration(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: length.subsec_nanos().cast_signed(),
    }
}

/// The first address of a queue's broker: all of them are equivalent.
pub(crate) fn broker_address(queue: &v2::MessageQueue) -> String {
    let endpoints = queue.broker.as_ref().and_then(|broker| broker.endpoints.as_ref());
    let first = endpoints.and_then(|endpoints| endpoints.addresses.first());
    first.map(|at| join_host_port(&at.host, at.port.unsigned_abs())).unwrap_or_default()
}

/// The access point as the client wrote it.
fn endpoints_of(address: &str) -> v2::Endpoints {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let scheme = match host.parse() {
        Ok(std::net::IpAddr::V4(_)) => v2::AddressScheme::IPv4,
        Ok(std::net::IpAddr::V6(_)) => v2::AddressScheme::IPv6,
        Err(_) => v2::AddressScheme::DomainName,
    };
    let address = v2::Address { host: host.to_owned(), port: port.parse().unwrap_or_default() };
    v2::Endpoints { scheme: scheme.into(), addresses: vec![address] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_of_an_access_point_follows_its_host() {
        let check = |address: &str, scheme: v2::AddressScheme, host: &str, port| {
            let endpoints = endpoints_of(address);
            assert_eq!(endpoints.scheme(), scheme);
            assert_eq!(endpoints.addresses, [v2::Address { host: host.to_owned(), port }]);
        };
        check("127.0.0.1:8081", v2::AddressScheme::IPv4, "127.0.0.1", 8081);
        check("[::1]:8081", v2::AddressScheme::IPv6, "::1", 8081);
        check("name.ns.svc:80", v2::AddressScheme::DomainName, "name.ns.svc", 80);
    }
}
