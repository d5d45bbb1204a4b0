//! How the broker stands: whether it is ready, and why not.

use std::sync::Arc;

use access::listener;

use crate::front::connections::Clients;
use crate::log::Log;
use crate::registration::Registration;

/// Asked by the health pages and the control plane.
pub(crate) struct Health {
    pub(crate) log: Arc<Log>,
    pub(crate) connections: listener::Metrics,
    pub(crate) clients: Clients,
    pub(crate) registration: Registration,
    /// Whether there is any name server to register with.
    pub(crate) must_register: bool,
}

impl Health {
    /// Why the broker is not ready; nothing when it is.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let refusing = self.log.store().state().refusing;
        let mut reasons: Vec<String> =
            refusing.into_iter().map(|reason| format!("the log takes no messages: {reason}")).collect();
        if self.must_register && !self.registration.is_registered() {
            reasons.push("no name server has acknowledged this broker yet: check nameServers".to_owned());
        }
        reasons
    }

    /// Waits until clients can find this broker.
    pub(crate) async fn registered(&self) {
        if self.must_register {
            self.registration.registered().await;
        }
    }

    /// The name servers that this broker is registered with now.
    pub(crate) fn name_servers(&self) -> Vec<String> {
        self.registration.name_servers().iter().map(ToString::to_string).collect()
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.open_connections()
    }
}
