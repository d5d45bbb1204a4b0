//! `gantry topic delete`.

use std::pin::pin;

use futures::StreamExt as _;
use proto::control as wire;
use serde::Serialize;

use super::many::{Outcome, Refused};
use super::{find, missing};
use crate::args::TopicDeleteArgs;
use crate::commands::refuse_owned;
use crate::control::{Broker, Control};
use crate::failure::{Exit, Failure};
use crate::output::{Paint, Printer, View};
use crate::place::Place;
use crate::progress::Teller;
use crate::units;

/// Topics under way at the same time.
const AT_ONCE: usize = 128;

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
    let names = args.names.all()?;
    if args.names.is_single() {
        let deleted = match place {
            Place::Kubernetes(kubernetes) => kubernetes.delete_topic(&names[0], args.if_drained).await?,
            Place::Direct(server) => {
                delete(&mut Control::connect(&server).await?.primaries().await?, &names[0], args.if_drained)
                    .await?
            }
        };
        return out.print(&deleted);
    }
    let outcome = match place {
        Place::Kubernetes(kubernetes) => kubernetes.delete_topics(names, args.if_drained).await?,
        Place::Direct(server) => {
            delete_many(&Control::connect(&server).await?, names, args.if_drained).await?
        }
    };
    out.print(&outcome)?;
    outcome.judge()
}

async fn delete(brokers: &mut [Broker], topic: &str, if_drained: bool) -> Result<Deleted, Failure> {
    let mut deleted = Deleted { topic: topic.to_owned(), on: Vec::new() };
    for broker in brokers {
        let Some(found) = find(broker, topic).await?.and_then(|found| found.topic) else {
            continue;
        };
        refuse_owned("topic", &found.name, &found.owner, "Topic")?;
        let request = wire::DeleteTopicRequest {
            name: topic.to_owned(),
            owner: String::new(),
            only_if_drained: if_drained,
        };
        let doing = format!("delete topic {topic} on {}", broker.label);
        let answer = broker.admin.delete_topic(request).await;
        if answer.map_err(|status| Failure::from_status(&doing, &status))?.into_inner().existed {
            deleted.on.push(broker.label.clone());
        }
    }
    if deleted.on.is_empty() { Err(missing(topic)) } else { Ok(deleted) }
}

/// Deletes many at a time: brokers write down together what comes together.
async fn delete_many(control: &Control, names: Vec<String>, if_drained: bool) -> Result<Outcome, Failure> {
    let brokers = control.primaries().await?;
    let on = brokers.iter().map(|broker| broker.label.clone()).collect();
    let mut outcome = Outcome { done: "deleted", on, ..Outcome::default() };
    let (mut teller, total) = (Teller::new(), names.len());
    let mut deleting = pin!(
        futures::stream::iter(names)
            .map(|name| {
                let mut brokers = brokers.clone();
                async move { delete(&mut brokers, &name, if_drained).await.map_err(|failure| (name, failure)) }
            })
            .buffer_unordered(AT_ONCE)
    );
    let mut done = 0;
    while let Some(deleted) = deleting.next().await {
        match deleted {
            Ok(_) => outcome.changed += 1,
            Err((_, failure)) if failure.exit() == Exit::Unreachable => return Err(failure),
            Err((topic, failure)) => {
                outcome.refused.push(Refused { topic, why: failure.what().to_owned() });
            }
        }
        done += 1;
        teller.tell(|elapsed| format!("{done} of {total} topics after {}", units::duration(elapsed)));
    }
    Ok(outcome)
}
