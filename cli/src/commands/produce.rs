//! `gantry produce`.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Lines, Read as _, StdinLock};
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;
use tokio::task::block_in_place;

use crate::args::ProduceArgs;
use crate::client::{self, Outgoing, Producer, Sent};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::place::{Caller, PlaceArgs};
use crate::units;

/// A message that was stored.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The topic.
    pub topic: String,
    /// The id that it was sent with.
    pub message_id: String,
    /// The broker's name.
    pub broker: String,
    /// Its offset in its queue.
    pub offset: i64,
}

impl View for Stored {
    fn text(&self, _: Paint) -> String {
        format!("{} {} {}", self.message_id, self.broker, self.offset)
    }
}

/// Runs the command.
pub async fn run(place: &PlaceArgs, caller: Caller, args: ProduceArgs, out: Printer) -> Result<(), Failure> {
    // First what can be wrong on this side.
    let mut bodies = Bodies::open(&args)?;
    let (access_point, dialer) = place.access_point(caller, &args.client).await?;
    let failure = |error| client::failure(&error, &args.topic);
    let mut producer = Producer::open(&dialer, &access_point, &args.topic).await.map_err(failure)?;

    let properties: BTreeMap<String, String> = args.properties.iter().cloned().collect();
    let started = Instant::now();
    let mut sent_count = 0_u64;
    let outcome = loop {
        let number = sent_count + 1;
        let body = match bodies.next(number) {
            Ok(Some(body)) => body,
            Ok(None) => break Ok(()),
            Err(failure) => break Err(failure),
        };
        let message = Outgoing {
            body,
            tag: args.tag.clone(),
            keys: args.keys.iter().map(|key| numbered(key, number)).collect(),
            properties: properties.clone(),
            message_group: args.message_group.as_deref().map(|group| numbered(group, number)),
        };
        match producer.send(message).await {
            Ok(Sent { message_id, broker, offset }) => {
                sent_count += 1;
                if !args.quiet {
                    out.print_next(&Stored { topic: args.topic.clone(), message_id, broker, offset })?;
                }
            }
            Err(error) => break Err(failure(error)),
        }
    };
    producer.close().await;
    eprintln!(
        "sent {} to {} in {}",
        units::counted(sent_count, "message"),
        args.topic,
        units::duration(started.elapsed())
    );
    outcome
}

/// The text with its message's number in the place of `{n}`.
fn numbered(text: &str, number: u64) -> String {
    text.replace("{n}", &number.to_string())
}

/// Where the bodies come from.
enum Bodies {
    /// The same text, its number filled in.
    Text { template: String, count: u64 },
    /// The same bytes.
    Bytes { content: Bytes, count: u64 },
    /// A line of stdin each, up to a count.
    Lines { lines: Lines<StdinLock<'static>>, limit: u64 },
}

impl Bodies {
    fn open(args: &ProduceArgs) -> Result<Self, Failure> {
        let count = args.count.unwrap_or(1);
        match (&args.body, &args.file) {
            (Some(template), _) if template.is_empty() => {
                Err(Failure::usage("a message needs a body of a byte at least"))
            }
            (Some(template), _) => Ok(Self::Text { template: template.clone(), count }),
            (None, Some(path)) => {
                let content = read_whole(path)?;
                if content.is_empty() {
                    return Err(Failure::failed(format!("{} is empty", path.display()))
                        .next("a message needs a body of a byte at least"));
                }
                Ok(Self::Bytes { content, count })
            }
            (None, None) => {
                if std::io::stdin().is_terminal() {
                    eprintln!("a message a line; Ctrl-D ends");
                }
                let lines = std::io::stdin().lines();
                Ok(Self::Lines { lines, limit: args.count.unwrap_or(u64::MAX) })
            }
        }
    }

    /// The body of message `number`, which counts from 1; nothing at the end.
    fn next(&mut self, number: u64) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Text { template, count } => {
                Ok((number <= *count).then(|| numbered(template, number).into()))
            }
            Self::Bytes { content, count } => Ok((number <= *count).then(|| content.clone())),
            Self::Lines { lines, limit } => loop {
                if number > *limit {
                    return Ok(None);
                }
                let line = block_in_place(|| lines.next()).transpose();
                match line.map_err(|error| Failure::failed(format!("cannot read stdin: {error}")))? {
                    // Empty lines separate; a message cannot be empty.
                    Some(line) if line.is_empty() => {}
                    line => return Ok(line.map(Bytes::from)),
                }
            },
        }
    }
}

fn read_whole(path: &Path) -> Result<Bytes, Failure> {
    let content = block_in_place(|| {
        if path == Path::new("-") {
            let mut content = Vec::new();
            std::io::stdin().read_to_end(&mut content).map(|_| content)
        } else {
            std::fs::read(path)
        }
    });
    content
        .map(Bytes::from)
        .map_err(|error| Failure::failed(format!("cannot read {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn a_stored_message_takes_one_line() {
        let stored = Stored {
            topic: "orders".to_owned(),
            message_id: "01ABCDEF".to_owned(),
            broker: "broker-a".to_owned(),
            offset: 42,
        };
        assert_snapshot!(render(&stored, Format::Table, Paint(false)).unwrap(), @"01ABCDEF broker-a 42");
    }

    #[test]
    fn a_text_is_repeated_with_its_number() {
        let mut bodies = Bodies::Text { template: "order {n}".to_owned(), count: 2 };
        assert_eq!(bodies.next(1).unwrap().unwrap(), "order 1");
        assert_eq!(bodies.next(2).unwrap().unwrap(), "order 2");
        assert_eq!(bodies.next(3).unwrap(), None);
    }
}
