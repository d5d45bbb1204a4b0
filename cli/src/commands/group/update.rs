//! `gantry group update`.

use std::time::Duration;

use proto::control as wire;
use serde::Serialize;
use wire::backoff::Kind;

use super::find;
use crate::args::{Backoff, GroupUpdateArgs};
use crate::commands::refuse_owned;
use crate::control::Control;
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::place::Place;

/// Deliveries of a group that is made here, as the reference has it: sixteen retries.
const DEFAULT_MAX_ATTEMPTS: u32 = 17;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Updated {
    /// The group.
    pub group: String,
    /// False if it was so already.
    pub changed: bool,
    /// Names of the brokers.
    pub on: Vec<String>,
}

impl View for Updated {
    fn text(&self, _: Paint) -> String {
        let Self { group, changed, on } = self;
        let outcome = if *changed { "updated" } else { "unchanged" };
        format!("group {group} {outcome} on {}", on.join(", "))
    }
}

/// Runs the command. In Kubernetes mode the resource is changed, if there is one: its brokers follow it.
pub async fn run(place: Place, args: GroupUpdateArgs, out: Printer) -> Result<(), Failure> {
    if let Place::Kubernetes(kubernetes) = &place
        && let Some(updated) = kubernetes.update_group(&args).await?
    {
        return out.print(&updated);
    }
    out.print(&update(&place.control().await?, &args).await?)
}

async fn update(control: &Control, args: &GroupUpdateArgs) -> Result<Updated, Failure> {
    let mut brokers = Vec::new();
    for mut broker in control.primaries().await? {
        let found = find(&mut broker, &args.group).await?.and_then(|found| found.group);
        if let Some(found) = &found {
            refuse_owned("group", &found.name, &found.owner, "ConsumerGroup")?;
        }
        brokers.push((broker, found));
    }
    let mut updated = Updated { group: args.group.clone(), changed: false, on: Vec::new() };
    for (mut broker, found) in brokers {
        let request = wire::UpsertGroupRequest { group: Some(change(found, args)), only_if_unowned: true };
        let doing = format!("update group {} on {}", args.group, broker.label);
        let answer = broker.admin.upsert_group(request).await;
        updated.changed |=
            answer.map_err(|status| Failure::from_status(&doing, &status))?.into_inner().changed;
        updated.on.push(broker.label);
    }
    Ok(updated)
}

/// The group with what the arguments say; the rest stays, or is the default of a new group.
fn change(found: Option<wire::GroupConfig>, args: &GroupUpdateArgs) -> wire::GroupConfig {
    let found = found.unwrap_or_else(|| wire::GroupConfig {
        name: args.group.clone(),
        consume_enabled: true,
        ordered: false,
        max_attempts: DEFAULT_MAX_ATTEMPTS,
        backoff: None,
        owner: String::new(),
    });
    wire::GroupConfig {
        consume_enabled: args.consume.unwrap_or(found.consume_enabled),
        ordered: args.ordered.unwrap_or(found.ordered),
        max_attempts: args.max_attempts.unwrap_or(found.max_attempts),
        backoff: args.backoff.as_ref().map(backoff).or(found.backoff),
        ..found
    }
}

fn backoff(wanted: &Backoff) -> wire::Backoff {
    let ms = |time: &Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let kind = match wanted {
        Backoff::Steps(steps) => {
            Kind::Custom(wire::backoff::Custom { delays_ms: steps.iter().map(ms).collect() })
        }
        Backoff::Exponential { first, longest, factor } => Kind::Exponential(wire::backoff::Exponential {
            initial_ms: ms(first),
            max_ms: ms(longest),
            multiplier: *factor,
        }),
    };
    wire::Backoff { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_stays() {
        let args = GroupUpdateArgs {
            group: "g".to_owned(),
            consume: None,
            ordered: Some(true),
            max_attempts: None,
            backoff: None,
        };
        let new = change(None, &args);
        assert_eq!((new.consume_enabled, new.ordered, new.max_attempts), (true, true, 17));
        let found = wire::GroupConfig { consume_enabled: false, max_attempts: 3, ..new };
        let changed = change(Some(found.clone()), &args);
        assert_eq!(changed, found);
    }
}
