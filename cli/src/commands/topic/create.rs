//! `gantry topic create`.

use std::collections::HashSet;

use proto::control as wire;
use serde::Serialize;

use super::many::{Outcome, Refused};
use super::{find, permission_text, queues_text, type_text};
use crate::args::TopicCreateArgs;
use crate::control::{Broker, Control, chosen};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::place::Place;
use crate::progress::Teller;
use crate::units;

/// Topics of one call.
const AT_ONCE: usize = 2500;

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Created {
    /// The topic.
    pub topic: String,
    /// False if it was there already, just so.
    pub created: bool,
    /// Where: names of brokers, or the Topic resource.
    pub on: Vec<String>,
}

impl View for Created {
    fn text(&self, _: Paint) -> String {
        let Self { topic, created, on } = self;
        let outcome = if *created { "created" } else { "unchanged" };
        format!("topic {topic} {outcome} on {}", on.join(", "))
    }
}

/// Runs the command.
pub async fn run(place: Place, args: TopicCreateArgs, out: Printer) -> Result<(), Failure> {
    let names = args.names.all()?;
    if args.names.is_single() {
        let created = match place {
            Place::Kubernetes(kubernetes) => kubernetes.create_topic(&names[0], &args).await?,
            Place::Direct(server) => create(&Control::connect(&server).await?, &names[0], &args).await?,
        };
        return out.print(&created);
    }
    let outcome = match place {
        Place::Kubernetes(kubernetes) => kubernetes.create_topics(names, &args).await?,
        Place::Direct(server) => create_many(&Control::connect(&server).await?, names, &args).await?,
    };
    out.print(&outcome)?;
    outcome.judge()
}

async fn create(control: &Control, topic: &str, args: &TopicCreateArgs) -> Result<Created, Failure> {
    let mut brokers = chosen(control.primaries().await?, &args.brokers)?;
    let wanted = config(topic, args);

    // Look at all before touching any, so that a topic that differs somewhere changes nowhere.
    let mut lacking = Vec::new();
    for (index, broker) in brokers.iter_mut().enumerate() {
        match find(broker, topic).await?.and_then(|found| found.topic) {
            None => lacking.push(index),
            Some(found) if same(&found, &wanted) => {}
            Some(found) => return Err(differs(&found, &broker.label)),
        }
    }
    for index in &lacking {
        let broker = &mut brokers[*index];
        let request = wire::UpsertTopicRequest { topic: Some(wanted.clone()), only_if_unowned: true };
        let doing = format!("create topic {topic} on {}", broker.label);
        broker.admin.upsert_topic(request).await.map_err(|status| Failure::from_status(&doing, &status))?;
    }
    Ok(Created {
        topic: topic.to_owned(),
        created: !lacking.is_empty(),
        on: brokers.into_iter().map(|broker| broker.label).collect(),
    })
}

/// Makes topics some thousand at a time. A topic that any broker refuses is made on none.
async fn create_many(
    control: &Control,
    names: Vec<String>,
    args: &TopicCreateArgs,
) -> Result<Outcome, Failure> {
    let mut brokers = chosen(control.primaries().await?, &args.brokers)?;
    let on = brokers.iter().map(|broker| broker.label.clone()).collect();
    let mut outcome = Outcome { done: "created", on, ..Outcome::default() };
    let (mut teller, total) = (Teller::new(), names.len());
    for (index, names) in names.chunks(AT_ONCE).enumerate() {
        let mut wanted: Vec<_> = names.iter().map(|name| config(name, args)).collect();
        if brokers.len() > 1 {
            for broker in &mut brokers {
                let answers = upsert(broker, &wanted, true).await?;
                wanted = without_refused(wanted, &answers, &broker.label, &mut outcome.refused);
            }
        }
        let mut changed = HashSet::new();
        for broker in &mut brokers {
            let answers = upsert(broker, &wanted, false).await?;
            let here = wanted.iter().zip(&answers).filter(|(_, answer)| answer.changed);
            changed.extend(here.map(|(topic, _)| topic.name.clone()));
            // Somebody may have made it otherwise since all were asked.
            wanted = without_refused(wanted, &answers, &broker.label, &mut outcome.refused);
        }
        let new = wanted.iter().filter(|topic| changed.contains(&topic.name)).count();
        outcome.changed += new;
        outcome.unchanged += wanted.len() - new;
        let done = index * AT_ONCE + names.len();
        teller.tell(|elapsed| format!("{done} of {total} topics after {}", units::duration(elapsed)));
    }
    Ok(outcome)
}

async fn upsert(
    broker: &mut Broker,
    wanted: &[wire::TopicConfig],
    dry_run: bool,
) -> Result<Vec<wire::Outcome>, Failure> {
    let request =
        wire::UpsertTopicsRequest { topics: wanted.to_vec(), only_if_unowned: true, only_new: true, dry_run };
    let doing = format!("create {} topics on {}", wanted.len(), broker.label);
    let answer = broker.admin.upsert_topics(request).await;
    let outcomes = answer.map_err(|status| Failure::from_status(&doing, &status))?.into_inner().outcomes;
    match outcomes.len() == wanted.len() {
        true => Ok(outcomes),
        false => Err(Failure::failed(format!(
            "{} answers for {} topics: update gantry",
            outcomes.len(),
            wanted.len()
        ))),
    }
}

/// Notes what was refused, and gives the rest back.
fn without_refused(
    wanted: Vec<wire::TopicConfig>,
    answers: &[wire::Outcome],
    broker: &str,
    refused: &mut Vec<Refused>,
) -> Vec<wire::TopicConfig> {
    let mut left = Vec::with_capacity(wanted.len());
    for (topic, answer) in wanted.into_iter().zip(answers) {
        match answer.refused.as_str() {
            "" => left.push(topic),
            why => refused.push(Refused { topic: topic.name, why: format!("{broker}: {why}") }),
        }
    }
    left
}

fn config(topic: &str, args: &TopicCreateArgs) -> wire::TopicConfig {
    let (readable, writable) = args.permission.flags();
    wire::TopicConfig {
        name: topic.to_owned(),
        read_queues: args.queues,
        write_queues: args.queues,
        readable,
        writable,
        message_type: args.message_type.on_wire().into(),
        owner: String::new(),
    }
}

/// Whether two configurations agree in all that the command line can say.
fn same(found: &wire::TopicConfig, wanted: &wire::TopicConfig) -> bool {
    let wire::TopicConfig { name, read_queues, write_queues, readable, writable, message_type, owner: _ } =
        wanted;
    (&found.name, found.read_queues, found.write_queues, found.readable, found.writable, found.message_type)
        == (name, *read_queues, *write_queues, *readable, *writable, *message_type)
}

fn differs(found: &wire::TopicConfig, broker: &str) -> Failure {
    let name = &found.name;
    Failure::failed(format!(
        "topic {name} exists on {broker}, and differs: {}, {} queues, {}",
        type_text(found.message_type()),
        queues_text(found.read_queues, found.write_queues),
        permission_text(found.readable, found.writable),
    ))
    .next(format!("gantry topic update {name} changes queues and permission; the type cannot change"))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn created_says_where() {
        let created =
            Created { topic: "orders".to_owned(), created: true, on: vec!["a".to_owned(), "b".to_owned()] };
        assert_snapshot!(render(&created, Format::Table, Paint(false)).unwrap(), @"topic orders created on a, b");
        let unchanged = Created { created: false, ..created };
        assert_snapshot!(render(&unchanged, Format::Table, Paint(false)).unwrap(), @"topic orders unchanged on a, b");
    }

    #[test]
    fn a_topic_that_differs_is_described_and_not_touched() {
        let found = wire::TopicConfig {
            name: "orders".to_owned(),
            read_queues: 8,
            write_queues: 4,
            readable: true,
            writable: false,
            message_type: wire::MessageType::Fifo.into(),
            owner: String::new(),
        };
        assert_snapshot!(differs(&found, "broker-a"), @r"
        error: topic orders exists on broker-a, and differs: Fifo, 8r/4w queues, ReadOnly
          next: gantry topic update orders changes queues and permission; the type cannot change
        ");
        assert!(same(&found, &wire::TopicConfig { owner: "x".to_owned(), ..found.clone() }));
        assert!(!same(&found, &wire::TopicConfig { write_queues: 8, ..found.clone() }));
    }
}
