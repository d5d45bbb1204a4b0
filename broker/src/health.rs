//! How the broker stands: whether it is ready, and why not.

use std::sync::Arc;

use access::listener;
use parking_lot::Mutex;
use store::Progress;

use crate::front::connections::Clients;
use crate::log::Log;
use crate::registration::Registration;

/// Asked by the health pages from the first moment on.
#[derive(Default)]
pub(crate) struct Standing {
    /// How far opening the log is.
    pub(crate) opening: Progress,
    now: Mutex<Now>,
}

/// What a broker does now.
#[derive(Default)]
enum Now {
    /// It opens its log.
    #[default]
    Opening,
    /// It is a replica or looks for a primary; why it is not ready, if it is not.
    Member(Option<String>),
    /// It serves clients.
    Serving(Arc<Health>),
}

impl Standing {
    /// Why the broker is not ready; nothing when it is.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        match &*self.now.lock() {
            Now::Opening => vec![format!("the log is being opened: {}", self.opening)],
            Now::Member(reason) => reason.iter().cloned().collect(),
            Now::Serving(health) => health.not_ready(),
        }
    }

    /// From now on clients are served.
    pub(crate) fn serves(&self, health: Arc<Health>) {
        *self.now.lock() = Now::Serving(health);
    }

    /// From now on this is a replica, or looks for a primary; it is not ready for this reason, if there is one.
    pub(crate) fn is_member(&self, not_ready: Option<String>) {
        *self.now.lock() = Now::Member(not_ready);
    }

    /// From now on the log is being opened.
    pub(crate) fn opens(&self) {
        *self.now.lock() = Now::Opening;
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
