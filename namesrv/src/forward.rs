//! Calls that clients make at their access point, or at any broker, and that one broker must answer: passed on to it.

use std::collections::HashMap;

use access::Refusal;
use access::client::ClientIdentity;
use access::hop::{self, Door};
use parking_lot::Mutex;
use proto::v2::Code;
use proto::v2::messaging_service_client::MessagingServiceClient;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response};

use crate::cluster::Cluster;

/// Brokers to which a connection is kept; beyond it all are made anew.
const MOST_CHANNELS: usize = 1024;

/// Connections to the control planes of brokers, which take what clients ask as well.
#[derive(Debug, Default)]
pub(crate) struct Brokers(Mutex<HashMap<String, Channel>>);

impl Brokers {
    /// Lets the primary of this name answer a client's call.
    pub(crate) async fn ask<Q, A>(
        &self,
        cluster: &Cluster,
        broker: &str,
        metadata: &MetadataMap,
        question: Q,
        call: impl AsyncFnOnce(MessagingServiceClient<Channel>, Request<Q>) -> Result<Response<A>, tonic::Status>,
    ) -> Result<A, Refusal> {
        let unreachable = |why: &str| {
            let sentence = format!("the broker {broker}, which has to do this, {why}: try again");
            Refusal::new(Code::InternalServerError, sentence)
        };
        if hop::came_over(metadata) == Some(Door::NameServer) {
            return Err(unreachable("is not where the call came from"));
        }
        let address = cluster
            .ask(|table| table.control_address(broker))
            .ok_or_else(|| unreachable("is not registered"))?;
        let channel =
            self.channel(address).ok_or_else(|| unreachable("registered an address that is none"))?;
        let question =
            hop::request(Door::NameServer, None, &ClientIdentity::of(metadata), metadata, question);
        call(MessagingServiceClient::new(channel), question).await.map(Response::into_inner).map_err(
            |error| {
                tracing::warn!(broker, %error, "a call could not be passed on");
                unreachable("does not answer")
            },
        )
    }

    fn channel(&self, address: String) -> Option<Channel> {
        let mut channels = self.0.lock();
        if let Some(channel) = channels.get(&address) {
            return Some(channel.clone());
        }
        if channels.len() >= MOST_CHANNELS {
            channels.clear();
        }
        let channel = Endpoint::from_shared(format!("http://{address}")).ok()?.connect_lazy();
        channels.insert(address, channel.clone());
        Some(channel)
    }
}
