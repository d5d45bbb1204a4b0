//! How the broker stands: whether it is ready, and why not.

use std::sync::{Arc, OnceLock};

use access::listener;
use store::Progress;

use crate::front::connections::Clients;
use crate::log::Log;
use crate::registration::Registration;

/// Asked by the health pages from the first moment on.
#[derive(Default)]
pub(crate) struct Standing {
    /// How far opening the log is.
    pub(crate) opening: Progress,
    /// Set once everything is open.
    pub(crate) health: OnceLock<Arc<Health>>,
}

impl Standing {
    /// Why the broker is not ready; nothing when it is.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        match self.health.get() {
            Some(health) => health.not_ready(),
            None => vec![format!("the log is being opened: {}", self.opening)],
        }
    }
}

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
