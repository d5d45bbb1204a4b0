//! `gantry group …`: consumer groups as the brokers know them.

pub mod describe;
pub mod list;
pub mod reset;
pub mod update;

use proto::control as wire;

use crate::control::Broker;
use crate::failure::Failure;

/// The group as one broker has it, or nothing.
pub(crate) async fn find(
    broker: &mut Broker,
    group: &str,
) -> Result<Option<wire::DescribeGroupResponse>, Failure> {
    match broker.admin.describe_group(wire::DescribeGroupRequest { name: group.to_owned() }).await {
        Ok(found) => Ok(Some(found.into_inner())),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => {
            Err(Failure::from_status(&format!("describe group {group} on {}", broker.label), &status))
        }
    }
}

/// Nobody knows the group.
pub(crate) fn missing(group: &str) -> Failure {
    Failure::not_found(format!("no broker knows the group {group}"))
        .next("gantry group list shows all; a group is made when its first consumer comes, or by gantry group update")
}

/// How a group backs off, in a few words.
pub(crate) fn backoff_text(backoff: Option<&wire::Backoff>) -> String {
    let seconds = |ms: u64| crate::units::duration(std::time::Duration::from_millis(ms));
    match backoff.and_then(|backoff| backoff.kind.as_ref()) {
        None => "default".to_owned(),
        Some(wire::backoff::Kind::Exponential(e)) => {
            format!("{} × {} up to {}", seconds(e.initial_ms), e.multiplier, seconds(e.max_ms))
        }
        Some(wire::backoff::Kind::Custom(custom)) => match custom.delays_ms.as_slice() {
            [] => "none".to_owned(),
            [only] => seconds(*only),
            [first, .., last] => {
                format!("{} … {} in {} steps", seconds(*first), seconds(*last), custom.delays_ms.len())
            }
        },
    }
}
