//! Whether a resource can be, by what there is around it. Pure.

use kube::ResourceExt as _;

use super::{Declared, observe::Observed};
use crate::conditions::Reason;

/// Why a resource cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It refers into another namespace, which does not consent.
    #[error(
        "NameServerSet {named} does not allow references from namespace {own}: add it to that one's spec.allowedNamespaces, or make this resource there"
    )]
    OtherNamespace {
        /// What it refers to.
        named: String,
        /// Where it is.
        own: String,
    },
    /// An older one has the name.
    #[error(
        "{kind} {older} has the {field} {name} already: delete this one, or make it anew with another {field}"
    )]
    NameTaken {
        /// What both are.
        kind: String,
        /// The older one.
        older: String,
        /// The field that names them.
        field: &'static str,
        /// The name.
        name: String,
    },
    /// There is no such NameServerSet.
    #[error(
        "there is no NameServerSet {name} in namespace {namespace}, or the operator does not look there: create it, or make this resource anew with another nameServerRef"
    )]
    NoNameServers {
        /// Where it refers to.
        namespace: String,
        /// What it refers to.
        name: String,
    },
    /// There are brokers, and none is for it.
    #[error(
        "placement chooses none of the broker groups {groups}, or only such that are to be drained: choose others, label some of them, or add a group"
    )]
    NoneChosen {
        /// Those that there are.
        groups: String,
    },
    /// There is no broker.
    #[error("NameServerSet {name} has no BrokerGroup yet: create one")]
    NoBrokers {
        /// What it refers to.
        name: String,
    },
}

impl Invalid {
    /// The reason in the condition.
    pub fn reason(&self) -> Reason {
        match self {
            Self::OtherNamespace { .. } => Reason::NamespaceNotAllowed,
            Self::NameTaken { .. } => Reason::NameConflict,
            Self::NoNameServers { .. } | Self::NoBrokers { .. } => Reason::ClusterNotFound,
            Self::NoneChosen { .. } => Reason::NoGroupChosen,
        }
    }

    /// Whether it stays so until somebody changes this resource or its rival. What is still to come does not stall.
    pub fn stalls(&self) -> bool {
        match self {
            Self::OtherNamespace { .. } | Self::NameTaken { .. } | Self::NoneChosen { .. } => true,
            Self::NoNameServers { .. } | Self::NoBrokers { .. } => false,
        }
    }
}

/// Whether brokers can be told of it.
pub fn check<K: Declared>(resource: &K, observed: &Observed) -> Result<(), Invalid> {
    let own = resource.namespace().unwrap_or_default();
    let set = resource.name_server_ref();
    let no_name_servers =
        || Invalid::NoNameServers { namespace: resource.set_namespace(), name: set.name.clone() };
    if !observed.is_allowed {
        let named = format!("{}/{}", resource.set_namespace(), set.name);
        return Err(match observed.has_name_servers {
            true => Invalid::OtherNamespace { named, own },
            false => no_name_servers(),
        });
    }
    if let Some(older) = observed.rival.clone() {
        let kind = K::kind(&()).into_owned();
        return Err(Invalid::NameTaken { kind, older, field: K::NAME_FIELD, name: resource.client_name() });
    }
    if observed.groups.is_empty() {
        return Err(match observed.has_name_servers {
            true => Invalid::NoBrokers { name: set.name.clone() },
            false => no_name_servers(),
        });
    }
    let none_chosen = observed.groups.iter().all(|group| !group.chosen);
    if none_chosen && resource.missing(&observed.groups).next().is_none() {
        let groups: Vec<&str> = observed.groups.iter().map(|group| group.name.as_str()).collect();
        return Err(Invalid::NoneChosen { groups: groups.join(", ") });
    }
    Ok(())
}
