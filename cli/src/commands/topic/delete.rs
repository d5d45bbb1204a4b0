//! `gantry topic delete`.

use proto::control as wire;
use serde::Serialize;

use super::update::refuse_owned;
use super::{find, missing};
use crate::args::TopicDeleteArgs;
use crate::control::Control;
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::place::Place;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    /// The topic.
    pub topic: String,
    /// Where: names of brokers, or the Topic resource.
    pub on: Vec<String>,
}

impl View for Deleted {
    fn text(&self, _: Paint) -> String {
        format!("topic {} deleted on {}", self.topic, self.on.join(", "))
    }
}

/// Runs the command.
pub async fn run(place: Place, args: TopicDeleteArgs, out: Printer) -> Result<(), Failure> {
    let deleted = match place {
        Place::Kubernetes(kubernetes) => kubernetes.delete_topic(&args).await?,
        Place::Direct(server) => delete(&Control::connect(&server).await?, &args).await?,
    };
    out.print(&deleted)
}

async fn delete(control: &Control, args: &TopicDeleteArgs) -> Result<Deleted, Failure> {
    let mut deleted = Deleted { topic: args.topic.clone(), on: Vec::new() };
    for mut broker in control.primaries().await? {
        let Some(found) = find(&mut broker, &args.topic).await?.and_then(|found| found.topic) else {
            continue;
        };
        refuse_owned(&found)?;
        let request = wire::DeleteTopicRequest {
            name: args.topic.clone(),
            owner: String::new(),
            only_if_drained: args.if_drained,
        };
        let doing = format!("delete topic {} on {}", args.topic, broker.label);
        let answer = broker.admin.delete_topic(request).await;
        if answer.map_err(|status| Failure::from_status(&doing, &status))?.into_inner().existed {
            deleted.on.push(broker.label);
        }
    }
    if deleted.on.is_empty() { Err(missing(&args.topic)) } else { Ok(deleted) }
}
