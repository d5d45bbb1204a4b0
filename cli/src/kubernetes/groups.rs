//! ConsumerGroup resources: list, describe, update.

use std::time::Duration;

use crds::{ConsumerGroup, ExponentialBackoff};
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::Kubernetes;
use super::declared::for_name;
use super::group_view::{GroupResource, GroupRows};
use crate::args::{Backoff, GroupUpdateArgs};
use crate::commands::group::list::Groups;
use crate::commands::group::update::Updated;
use crate::failure::Failure;

impl Kubernetes {
    /// The ConsumerGroups of the namespace, and what else `brokers` have.
    pub async fn list_groups(&self, brokers: Groups) -> Result<GroupRows, Failure> {
        let set = match brokers.groups.is_empty() {
            true => None,
            false => Some(self.name_server_set().await?.name_any()),
        };
        let set = set.as_deref().map(|set| (self.namespace.as_str(), set));
        Ok(GroupRows::of(&self.all().await?, brokers, set, Timestamp::now()))
    }

    /// The resource that is for this group of the cluster whose brokers are asked, if there is one.
    pub async fn describe_group(&self, group: &str) -> Result<Option<GroupResource>, Failure> {
        let set = self.name_server_set().await?.name_any();
        let found = find(&self.all().await?, group, Some((&self.namespace, &set)))?;
        Ok(found.map(|found| GroupResource::of(&found, Timestamp::now())))
    }

    /// Changes the spec of the ConsumerGroup and waits until that is Ready; nothing where no resource is for this group.
    pub async fn update_group(&self, args: &GroupUpdateArgs) -> Result<Option<Updated>, Failure> {
        let Some(found) = find(&self.all().await?, &args.group, self.named_set())? else { return Ok(None) };
        let name = found.name_any();
        let mut wanted = found.spec.clone();
        wanted.consume_enabled = args.consume.unwrap_or(wanted.consume_enabled);
        wanted.ordered = args.ordered.unwrap_or(wanted.ordered);
        if let Some(attempts) = args.max_attempts {
            wanted.retry.max_attempts = i32::try_from(attempts).expect("the arguments end at 1000");
        }
        if let Some(wish) = &args.backoff {
            wanted.retry.backoff = Some(backoff(wish)?);
        }
        let changed = wanted != found.spec;
        if changed {
            let patch = serde_json::json!({ "spec": {
                "consumeEnabled": wanted.consume_enabled,
                "ordered": wanted.ordered,
                "retry": wanted.retry,
            }});
            self.change::<ConsumerGroup>(&name, &with_one_backoff(patch)).await?;
        }
        let on = vec![format!("ConsumerGroup {}/{name}", self.namespace)];
        Ok(Some(Updated { group: args.group.clone(), changed, on }))
    }
}

/// By the name that clients use. Brokers know no other, so the name of a resource is none of theirs.
fn find(
    all: &[ConsumerGroup],
    group: &str,
    set: Option<(&str, &str)>,
) -> Result<Option<ConsumerGroup>, Failure> {
    let found = for_name(all, group, set)?;
    if found.is_none()
        && let Some(named) = all.iter().find(|one| one.name_any() == group && one.client_name() != group)
    {
        let name = named.client_name();
        return Err(Failure::usage(format!("ConsumerGroup {group} is for the group {name}"))
            .next(format!("name it as clients do: {name}")));
    }
    Ok(found.cloned())
}

/// A merge patch leaves what it does not name: the other kind of backoff is named, to go.
fn with_one_backoff(mut patch: serde_json::Value) -> serde_json::Value {
    if let Some(backoff) = patch.pointer_mut("/spec/retry/backoff").and_then(|it| it.as_object_mut()) {
        for kind in ["exponential", "custom"] {
            backoff.entry(kind).or_insert(serde_json::Value::Null);
        }
    }
    patch
}

fn backoff(wanted: &Backoff) -> Result<crds::Backoff, Failure> {
    Ok(match wanted {
        Backoff::Steps(steps) => crds::Backoff {
            custom: Some(steps.iter().map(|step| duration(*step)).collect::<Result<_, _>>()?),
            exponential: None,
        },
        Backoff::Exponential { first, longest, factor } => crds::Backoff {
            exponential: Some(ExponentialBackoff {
                initial: duration(*first)?,
                max: duration(*longest)?,
                multiplier: whole(*factor)?,
            }),
            custom: None,
        },
    })
}

#[expect(clippy::cast_possible_truncation, reason = "checked to be a whole number within its bounds")]
fn whole(factor: f64) -> Result<i32, Failure> {
    if factor.fract() == 0.0 && (1.0..=100.0).contains(&factor) {
        return Ok(factor as i32);
    }
    Err(Failure::usage(format!("the factor {factor} is not a whole number from 1 to 100"))
        .next("a ConsumerGroup has whole factors only"))
}

/// As a spec has it.
fn duration(time: Duration) -> Result<String, Failure> {
    let millis = u64::try_from(time.as_millis()).ok().filter(|millis| Duration::from_millis(*millis) == time);
    let text = millis.filter(|millis| *millis > 0).map(crds::duration::text);
    text.filter(|text| text.trim_end_matches(char::is_alphabetic).len() <= 7).ok_or_else(|| {
        Failure::usage(format!("{time:?} is no delay that a ConsumerGroup can have"))
            .next("use whole milliseconds, at least one")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_whole_milliseconds_that_a_spec_can_have() {
        assert_eq!(duration(Duration::from_secs(90)).unwrap(), "90s");
        assert!(duration(Duration::ZERO).is_err());
        assert!(duration(Duration::from_micros(1500)).is_err());
        assert!(duration(Duration::from_millis(10_000_001)).is_err());
    }

    #[test]
    fn a_group_is_named_as_clients_do() {
        let spec = serde_yaml::from_str("{nameServerRef: {name: main}, groupName: Billing_EU}").unwrap();
        let all = [ConsumerGroup::new("billing-eu", spec)];
        assert!(find(&all, "Billing_EU", None).unwrap().is_some());
        assert!(find(&all, "other", None).unwrap().is_none());
        let refused = find(&all, "billing-eu", None).unwrap_err();
        assert_eq!(refused.what(), "ConsumerGroup billing-eu is for the group Billing_EU");
    }

    #[test]
    fn a_new_backoff_takes_the_place_of_one_of_the_other_kind() {
        let steps = backoff(&Backoff::Steps(vec![Duration::from_secs(1), Duration::from_secs(60)])).unwrap();
        let patch = with_one_backoff(serde_json::json!({"spec": {"retry": {"backoff": steps}}}));
        let expected = serde_json::json!({"custom": ["1s", "1m"], "exponential": null});
        assert_eq!(patch["spec"]["retry"]["backoff"], expected);
        assert!(whole(1.5).is_err());
    }
}
