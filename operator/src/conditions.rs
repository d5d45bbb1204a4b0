//! Conditions: what a status says, with a reason from an enumeration and a message with the next step. Pure.
//!
//! `Ready` is true when the resource does its job. `Reconciling` and `Stalled` are true when something is under way
//! or in the way, as kstatus reads them: the first of the two in the list that is true decides.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// The resource does its job.
    Ready,
    /// Something is under way.
    Reconciling,
    /// Something is in the way that does not go by itself.
    Stalled,
    /// `spec.config` is in force.
    ConfigApplied,
    /// The volumes have room, and the logs on them are whole.
    StorageHealthy,
    /// All name servers give the same routes.
    RoutesConsistent,
    /// Every broker of the group has what is acknowledged.
    ReplicationHealthy,
    /// A person made a broker primary that may lack acknowledged messages.
    DataLossPossible,
    /// Brokers have it otherwise than it was declared.
    Drifted,
    /// The certificate that clients are shown holds.
    CertificatesValid,
    /// Nothing is on the broker group any more, as somebody asked.
    Drained,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Why a condition is as it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            /// The word in the condition.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// It serves.
    Serving,
    /// Too few pods answer.
    NotEnoughReady,
    /// The name servers wait for the broker groups to register.
    Warming,
    /// Pods are starting.
    Starting,
    /// No broker takes writes.
    NoPrimary,
    /// Fewer brokers are in sync than must be for sends to be taken.
    InsufficientReplicas,
    /// Brokers reach no name server.
    WaitingForNameServer,
    /// Only fenced brokers could be primary.
    Fenced,
    /// There is no room for messages.
    StorageFull,
    /// It sleeps, as the spec says.
    Hibernated,
    /// The operator leaves it alone, as an annotation says.
    Paused,
    /// The resource is being deleted.
    Deleting,
    /// Everything is as the spec says.
    UpToDate,
    /// Pods are being replaced.
    RollingUpdate,
    /// Pods wait for a person, or for a time, to be replaced.
    RolloutPaused,
    /// Pods are being added.
    ScalingUp,
    /// Pods are being removed.
    ScalingDown,
    /// Another broker is being made primary.
    Switchover,
    /// Queues are being emptied.
    Draining,
    /// They are empty, and gone.
    Drained,
    /// Volumes are growing.
    Resizing,
    /// Nothing is in the way.
    Progressing,
    /// The spec cannot work.
    InvalidSpec,
    /// Another resource has the name.
    NameConflict,
    /// A reference into another namespace.
    NamespaceNotAllowed,
    /// The image cannot be pulled.
    ImagePullFailed,
    /// No node takes the pod.
    Unschedulable,
    /// A pod ends again and again.
    CrashLooping,
    /// It takes longer than it should.
    RolloutDeadline,
    /// No broker that has every acknowledged message is there.
    QuorumLost,
    /// Nobody takes the place of a primary that is lost: the spec says so.
    FailoverDisabled,
    /// Nobody takes the place of a primary that is lost: that happened too often.
    FailoverBackoff,
    /// Deletion waits for others.
    DeletionBlocked,
    /// Everything of `spec.config` is in force, or the topic is on every group.
    Applied,
    /// `spec.config` has a key that does not exist.
    UnknownKey,
    /// A value was refused.
    Rejected,
    /// There is room.
    Normal,
    /// There is little room.
    NearFull,
    /// There is no room.
    Full,
    /// Places of a log are damaged.
    Damaged,
    /// The volume is growing.
    ResizePending,
    /// The volume cannot grow.
    ResizeUnsupported,
    /// All name servers agree.
    Consistent,
    /// Name servers differ.
    Differing,
    /// Every broker has what is acknowledged.
    AllInSync,
    /// Some broker has not.
    MemberLost,
    /// Fewer have it than must.
    BelowMinInSync,
    /// A broker was made primary whatever it had.
    UncleanPromotion,
    /// There is no such cluster.
    ClusterNotFound,
    /// No broker group is chosen.
    NoGroupChosen,
    /// The broker has a topic of this name that is someone else's.
    ForeignOwner,
    /// A broker cannot be reached.
    BrokerUnavailable,
    /// Some groups have it, others do not.
    PartiallyApplied,
    /// A broker refused.
    ConfigRejected,
    /// Brokers have it as it is declared.
    AsDeclared,
    /// Somebody else changed it, and it stays so.
    Drifted,
    /// Somebody else changed it, and it was put right.
    Reverted,
    /// The certificate holds, and will for a while.
    Valid,
    /// It holds not much longer.
    ExpiringSoon,
    /// It holds no more.
    Expired,
}

/// One condition to be, without the times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub type_: Type,
    /// Whether it holds.
    pub holds: bool,
    /// Why.
    pub reason: Reason,
    /// What is the matter, and the next step.
    pub message: String,
}

impl Finding {
    /// `type_` holds.
    pub fn yes(type_: Type, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, holds: true, reason, message: message.into() }
    }

    /// `type_` does not hold.
    pub fn no(type_: Type, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, holds: false, reason, message: message.into() }
    }

    /// Nothing is under way.
    pub fn up_to_date() -> Self {
        Self::no(Type::Reconciling, Reason::UpToDate, "everything is as the spec says")
    }

    /// Nothing is in the way.
    pub fn not_stalled() -> Self {
        Self::no(Type::Stalled, Reason::Progressing, "nothing is in the way")
    }
}

impl Type {
    /// The word in the condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::ConfigApplied => "ConfigApplied",
            Self::StorageHealthy => "StorageHealthy",
            Self::RoutesConsistent => "RoutesConsistent",
            Self::ReplicationHealthy => "ReplicationHealthy",
            Self::DataLossPossible => "DataLossPossible",
            Self::Drifted => "Drifted",
            Self::CertificatesValid => "CertificatesValid",
            Self::Drained => "Drained",
        }
    }
}

/// The conditions for a status: Ready, Stalled, Reconciling, and the others in the order of `findings`, with the time of the last
/// change where nothing changed.
pub fn conditions(
    old: &[Condition],
    mut findings: Vec<Finding>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    // Both may hold: pods are being replaced, and the next has no image. What does not go by itself is what a person must hear of.
    findings.sort_by_key(|finding| match finding.type_ {
        Type::Ready => 0,
        Type::Stalled => 1,
        Type::Reconciling => 2,
        _ => 3,
    });
    findings
        .into_iter()
        .map(|finding| {
            let status = if finding.holds { "True" } else { "False" };
            let since = of(old, finding.type_)
                .filter(|old| old.status == status)
                .map_or_else(|| Time(now), |old| old.last_transition_time.clone());
            Condition {
                type_: finding.type_.as_str().to_owned(),
                status: status.to_owned(),
                reason: finding.reason.as_str().to_owned(),
                message: finding.message,
                observed_generation: generation,
                last_transition_time: since,
            }
        })
        .collect()
}

/// The condition of a type.
pub fn of(conditions: &[Condition], type_: Type) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Whether a condition holds.
pub fn holds(conditions: &[Condition], type_: Type) -> bool {
    of(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// The conditions of `new` that an Event should tell of: another status or another reason than before.
pub fn news<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    new.iter()
        .filter(|condition| match old.iter().find(|old| old.type_ == condition.type_) {
            Some(old) => (&old.status, &old.reason) != (&condition.status, &condition.reason),
            // At first sight only trouble is news: what works from the beginning, as most of many Topics do, costs no Event.
            None => is_bad(condition),
        })
        .collect()
}

/// Whether a condition tells of trouble.
pub fn is_bad(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        "Stalled" | "DataLossPossible" | "Drifted" => condition.status == "True",
        "ConfigApplied" | "StorageHealthy" | "RoutesConsistent" | "ReplicationHealthy"
        | "CertificatesValid" => condition.status == "False",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a small number is a time")
    }

    fn ready(reason: Reason, holds: bool) -> Finding {
        Finding { type_: Type::Ready, holds, reason, message: String::new() }
    }

    #[test]
    fn the_time_of_a_condition_changes_only_with_its_status() {
        let first = conditions(&[], vec![ready(Reason::Starting, false)], Some(1), at(1));
        let second = conditions(&first, vec![ready(Reason::WaitingForNameServer, false)], Some(2), at(2));
        assert_eq!(second[0].last_transition_time, Time(at(1)));
        assert_eq!(second[0].observed_generation, Some(2));
        let third = conditions(&second, vec![ready(Reason::Serving, true)], Some(2), at(3));
        assert_eq!(third[0].last_transition_time, Time(at(3)));
    }

    #[test]
    fn an_event_tells_of_changes_and_at_first_of_trouble_only() {
        let first =
            conditions(&[], vec![ready(Reason::Starting, false), Finding::not_stalled()], None, at(1));
        assert!(news(&[], &first).is_empty());
        let stalled = vec![Finding::yes(Type::Stalled, Reason::InvalidSpec, "")];
        assert_eq!(news(&[], &conditions(&[], stalled, None, at(1))).len(), 1);
        assert!(news(&[], &conditions(&[], vec![ready(Reason::Applied, true)], None, at(1))).is_empty());
        let serving =
            conditions(&first, vec![ready(Reason::Serving, true), Finding::not_stalled()], None, at(2));
        assert_eq!(news(&first, &serving).iter().map(|c| c.reason.as_str()).collect::<Vec<_>>(), ["Serving"]);
        assert!(news(&serving, &serving).is_empty());
    }
}
