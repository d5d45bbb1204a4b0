//! A Topic with everything settled. After this nobody looks at the spec. Pure.

use crds::{MessageType, Topic};
use kube::ResourceExt as _;
use proto::control;

use super::{observe::Observed, topic_name};
use crate::conditions::Reason;

/// What brokers shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name that clients use.
    pub name: String,
    /// The namespace of the resource.
    pub namespace: String,
    /// Queues in each group.
    pub queues: u32,
    /// Whether clients may receive.
    pub readable: bool,
    /// Whether clients may send.
    pub writable: bool,
    /// What producers may send.
    pub message_type: control::MessageType,
    /// What is stamped on the topic: `namespace/name/uid`.
    pub owner: String,
}

/// Why a Topic cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It refers into another namespace.
    #[error(
        "nameServerRef.namespace is {named}, this Topic is in {own}: make it in {named}, since a NameServerSet cannot yet consent to others"
    )]
    OtherNamespace {
        /// What it refers to.
        named: String,
        /// Where it is.
        own: String,
    },
    /// An older one has the name.
    #[error(
        "Topic {older} has the topicName {name} already: delete this one, or make it anew with another topicName"
    )]
    NameTaken {
        /// The older one.
        older: String,
        /// The name.
        name: String,
    },
    /// There is no such NameServerSet.
    #[error(
        "there is no NameServerSet {name} in this namespace: create it, or make this Topic anew with another nameServerRef"
    )]
    NoNameServers {
        /// What it refers to.
        name: String,
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
        }
    }

    /// Whether it stays so until somebody changes this resource or its rival. What is still to come does not stall.
    pub fn stalls(&self) -> bool {
        match self {
            Self::OtherNamespace { .. } | Self::NameTaken { .. } => true,
            Self::NoNameServers { .. } | Self::NoBrokers { .. } => false,
        }
    }
}

/// Settles what the spec leaves open.
pub fn validate(topic: &Topic, observed: &Observed) -> Result<Wanted, Invalid> {
    let spec = &topic.spec;
    let own = topic.namespace().unwrap_or_default();
    let set = &spec.name_server_ref;
    if let Some(named) = set.namespace.clone().filter(|named| *named != own) {
        return Err(Invalid::OtherNamespace { named, own });
    }
    if let Some(older) = observed.rival.clone() {
        return Err(Invalid::NameTaken { older, name: topic_name(topic) });
    }
    if observed.groups.is_empty() {
        let name = set.name.clone();
        let exists = observed.has_name_servers;
        return Err(if exists { Invalid::NoBrokers { name } } else { Invalid::NoNameServers { name } });
    }
    Ok(Wanted {
        name: topic_name(topic),
        owner: owner(topic),
        namespace: own,
        queues: u32::try_from(spec.queues).unwrap_or(1),
        readable: spec.permission.readable(),
        writable: spec.permission.writable(),
        message_type: message_type(spec.message_type),
    })
}

/// What is stamped on the topic.
pub fn owner(topic: &Topic) -> String {
    format!(
        "{}/{}/{}",
        topic.namespace().unwrap_or_default(),
        topic.name_any(),
        topic.uid().unwrap_or_default()
    )
}

fn message_type(type_: MessageType) -> control::MessageType {
    match type_ {
        MessageType::Normal => control::MessageType::Normal,
        MessageType::Fifo => control::MessageType::Fifo,
        MessageType::Delay => control::MessageType::Delay,
        MessageType::Transaction => control::MessageType::Transaction,
        MessageType::Priority => control::MessageType::Priority,
        MessageType::Lite => control::MessageType::Lite,
        MessageType::Mixed => control::MessageType::Mixed,
    }
}
