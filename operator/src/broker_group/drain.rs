//! A broker group that is to be taken away: its Topics leave it, and its status tells when nothing is on it.
//!
//! Whoever wants it gone sets the annotation; it asks as long as it stands. Topics then take the group for one that their
//! placement does not choose: each is made elsewhere first, takes no more messages here, and goes when it is consumed.

use crds::BrokerGroup;
use kube::ResourceExt as _;
use tonic::Status;

use crate::{
    conditions::{Finding, Reason, Type},
    control::{ControlPlane, explain},
    topic::plan,
};

/// The annotation that asks for it: any value that is not empty.
pub const DRAIN: &str = "mq.gantry.dev/drain";

/// With so many left no more are looked into.
const ENOUGH: usize = 100;
/// Names in a message.
const MOST_NAMED: usize = 3;
/// Dead letters and retries.
const OF_GROUPS: [&str; 2] = ["%DLQ%", "%RETRY%"];

/// Whether the group is to be emptied.
pub fn is_asked(group: &BrokerGroup) -> bool {
    group.annotations().get(DRAIN).is_some_and(|id| !id.is_empty())
}

/// What is still on it, or why that is not known.
pub async fn left(control: &ControlPlane, address: Result<String, String>) -> Result<Vec<String>, String> {
    look(control, &address?).await.map_err(|status| explain(&status))
}

async fn look(control: &ControlPlane, address: &str) -> Result<Vec<String>, Status> {
    let topics = control.topics(address).await?;
    let of_group = |name: &String| OF_GROUPS.iter().any(|prefix| name.starts_with(prefix));
    let (of_groups, mut left): (Vec<String>, Vec<String>) =
        topics.into_iter().map(|topic| topic.name).partition(of_group);
    if !left.is_empty() {
        return Ok(left);
    }
    // Consumer groups make these themselves. They count while somebody may still want what is in them.
    let groups = control.groups(address).await?;
    for name in of_groups {
        let queues = control.describe_topic(address, &name).await?.unwrap_or_default().queues;
        left.extend((plan::left(&name, 0, &queues, &groups) > 0).then_some(name));
        if left.len() >= ENOUGH {
            break;
        }
    }
    Ok(left)
}

/// What the conditions say of it: whether it is drained, and whether that is under way.
pub fn findings(left: &Result<Vec<String>, String>) -> [Finding; 2] {
    let under_way = |message: &str| {
        [
            Finding::no(Type::Drained, Reason::Draining, message),
            Finding::yes(Type::Reconciling, Reason::Draining, message),
        ]
    };
    match left {
        Err(why) => under_way(&format!("what is still on it is not known: {why}")),
        Ok(left) if left.is_empty() => {
            let message =
                "nothing is on it any more: delete the BrokerGroup, or remove the annotation to use it again";
            [Finding::yes(Type::Drained, Reason::Drained, message), Finding::up_to_date()]
        }
        Ok(left) => {
            let named = left.iter().take(MOST_NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = left.len().saturating_sub(MOST_NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            under_way(&format!(
                "still on it: {named}{more}. A topic leaves when its messages are consumed, as its Topic tells; one without a Topic stays until somebody deletes it, and dead letters (%DLQ%) until they are consumed or older than the retention"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_named_and_counted() {
        let told = |left: &[&str]| {
            let [drained, reconciling] = findings(&Ok(left.iter().map(|name| (*name).to_owned()).collect()));
            assert_eq!(drained.holds, !reconciling.holds, "one or the other");
            (drained.holds, drained.message)
        };
        assert!(told(&[]).0);
        let (holds, message) = told(&["a", "b", "c", "d", "e"]);
        assert!(!holds && message.starts_with("still on it: a, b, c and 2 more. "), "{message}");
        assert!(told(&["a"]).1.starts_with("still on it: a. "));
        let [drained, _] = findings(&Err("no answer".to_owned()));
        assert!(!drained.holds && drained.message.ends_with("no answer"));
    }
}
