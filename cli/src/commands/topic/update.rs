//! `gantry topic update`.

use proto::control as wire;
use serde::Serialize;

use super::{find, missing};
use crate::args::TopicUpdateArgs;
use crate::commands::refuse_owned;
use crate::control::Control;
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::place::Place;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Updated {
    /// The topic.
    pub topic: String,
    /// False if it was so already.
    pub changed: bool,
    /// Where: names of brokers, or the Topic resource.
    pub on: Vec<String>,
}

impl View for Updated {
    fn text(&self, _: Paint) -> String {
        let Self { topic, changed, on } = self;
        let outcome = if *changed { "updated" } else { "unchanged" };
        format!("topic {topic} {outcome} on {}", on.join(", "))
    }
}

/// Runs the command.
pub async fn run(place: Place, args: TopicUpdateArgs, out: Printer) -> Result<(), Failure> {
    let updated = match place {
        Place::Kubernetes(kubernetes) => kubernetes.update_topic(&args).await?,
        Place::Direct(server) => update(&Control::connect(&server).await?, &args).await?,
    };
    out.print(&updated)
}

async fn update(control: &Control, args: &TopicUpdateArgs) -> Result<Updated, Failure> {
    let mut updated = Updated { topic: args.topic.clone(), changed: false, on: Vec::new() };
    for mut broker in control.primaries().await? {
        let Some(found) = find(&mut broker, &args.topic).await?.and_then(|found| found.topic) else {
            continue;
        };
        refuse_owned("topic", &found.name, &found.owner, "Topic")?;
        let request = wire::UpsertTopicRequest { topic: Some(change(found, args)), only_if_unowned: true };
        let doing = format!("update topic {} on {}", args.topic, broker.label);
        let answer = broker.admin.upsert_topic(request).await;
        updated.changed |=
            answer.map_err(|status| Failure::from_status(&doing, &status))?.into_inner().changed;
        updated.on.push(broker.label);
    }
    if updated.on.is_empty() { Err(missing(&args.topic)) } else { Ok(updated) }
}

/// The topic with what the arguments say; the rest stays.
fn change(found: wire::TopicConfig, args: &TopicUpdateArgs) -> wire::TopicConfig {
    let (readable, writable) = match args.permission {
        Some(permission) => permission.flags(),
        None => (found.readable, found.writable),
    };
    // Readable queues never go below what was written to: the broker would refuse, and messages
    // in the queues cut off could not be consumed any more.
    let write_queues = args.queues.unwrap_or(found.write_queues);
    let read_queues = args.queues.map_or(found.read_queues, |queues| queues.max(found.read_queues));
    wire::TopicConfig { readable, writable, read_queues, write_queues, ..found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Permission;

    fn found() -> wire::TopicConfig {
        wire::TopicConfig {
            name: "orders".to_owned(),
            read_queues: 8,
            write_queues: 8,
            readable: true,
            writable: true,
            message_type: wire::MessageType::Fifo.into(),
            owner: String::new(),
        }
    }

    fn args(queues: Option<u32>, permission: Option<Permission>) -> TopicUpdateArgs {
        TopicUpdateArgs { topic: "orders".to_owned(), queues, permission }
    }

    #[test]
    fn what_is_not_said_stays() {
        let changed = change(found(), &args(None, Some(Permission::ReadOnly)));
        assert_eq!(changed, wire::TopicConfig { writable: false, ..found() });
        let changed = change(found(), &args(Some(16), None));
        assert_eq!(changed, wire::TopicConfig { read_queues: 16, write_queues: 16, ..found() });
    }

    #[test]
    fn a_topic_that_shrinks_can_still_be_read() {
        let changed = change(found(), &args(Some(2), None));
        assert_eq!((changed.read_queues, changed.write_queues), (8, 2));
    }
}
