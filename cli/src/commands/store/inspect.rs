//! `gantry store inspect`.

use std::path::Path;

use serde::Serialize;
use store::offline::{Look, Odd, ViewsKept};
use store::{LogOffset, QueueId, QueueOffset};

use super::failed;
use super::progress::Meter;
use crate::args::InspectArgs;
use crate::failure::Failure;
use crate::message::Message;
use crate::output::{Cell, Paint, Printer, Table, View};
use crate::row;
use crate::units;

/// A store at a glance.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// The directory.
    pub directory: String,
    /// `closed`, `notClosed` or `inUse`.
    pub state: State,
    /// First byte of the log that is there.
    pub min: u64,
    /// Behind the last record.
    pub end: u64,
    /// Files of the log.
    pub segments: u64,
    /// Bytes of those files.
    pub log_bytes: u64,
    /// How far the log was flushed, by the store's own note.
    pub flushed: Option<u64>,
    /// What is kept of the views.
    pub views: Views,
    /// Up to where the views are complete, or claim to be.
    pub views_complete_to: Option<u64>,
    /// Bytes of the files of the views.
    pub views_bytes: u64,
    /// Topics that were deleted while messages of theirs are in the log.
    pub deleted_topics: Vec<String>,
    /// What Apache RocketMQ keeps beside the log.
    pub rocketmq: Rocketmq,
    /// Why a broker would not open it, or what else is odd.
    pub problems: Vec<String>,
}

/// How a store was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Closed properly, or never opened.
    Closed,
    /// Its broker was killed.
    NotClosed,
    /// A broker has it open.
    InUse,
}

/// What is kept of the views.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Views {
    /// A snapshot to go on from.
    Kept,
    /// None: opening builds them from the log.
    None,
    /// Damaged: opening rebuilds them from the log.
    Damaged,
    /// They reach beyond the log, whose last files are missing.
    BeyondTheLog,
}

/// What Apache RocketMQ keeps beside the log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rocketmq {
    /// Store time of the last flushed record of the log, Unix milliseconds.
    pub checkpoint_ms: Option<i64>,
    /// Files of its key index.
    pub index_files: usize,
    /// Its configuration files.
    pub config: Vec<String>,
}

impl Overview {
    pub(super) fn of(look: &Look) -> Result<Self, Failure> {
        let listing = look.listing().map_err(failed)?;
        let end = look.end().map_err(failed)?;
        let mut problems: Vec<_> = listing.obstacle().into_iter().collect();
        problems.extend(listing.strangers.iter().map(|name| {
            format!("commitlog/{name} is no file of the log; Apache RocketMQ would refuse to start over it")
        }));
        let (views, views_complete_to) = match listing.views {
            ViewsKept::CompleteTo(to) => (Views::Kept, Some(to.0)),
            ViewsKept::Nothing => (Views::None, None),
            ViewsKept::Damaged => (Views::Damaged, None),
            ViewsKept::BeyondTheLog(to) => (Views::BeyondTheLog, Some(to.0)),
        };
        Ok(Self {
            directory: look.root().display().to_string(),
            state: match (look.in_use(), listing.clean) {
                (true, _) => State::InUse,
                (false, true) => State::Closed,
                (false, false) => State::NotClosed,
            },
            min: look.min().0,
            end: end.0,
            segments: listing.segments.len() as u64,
            log_bytes: listing.log_bytes(),
            flushed: listing.flushed.map(|flushed| flushed.0),
            views,
            views_complete_to,
            views_bytes: listing.views_bytes,
            deleted_topics: listing.deleted_topics.into_iter().map(|(topic, _)| topic).collect(),
            rocketmq: Rocketmq {
                checkpoint_ms: listing.rocketmq.checkpoint.map(|checkpoint| checkpoint.log_ms),
                index_files: listing.rocketmq.index_files,
                config: listing.rocketmq.config,
            },
            problems,
        })
    }
}

impl View for Overview {
    fn text(&self, paint: Paint) -> String {
        let line = |name: &str, value: String| format!("{}{value}", paint.heading(&format!("{name:<10}")));
        let state = match self.state {
            State::Closed => paint.good("closed properly"),
            State::NotClosed => {
                "not closed properly (abort is there): opening walks the end of the log".to_owned()
            }
            State::InUse => paint.bad("in use by a broker: what is shown may change"),
        };
        let flushed = self.flushed.map_or("by no note".to_owned(), |flushed| format!("up to {flushed}"));
        let to = self.views_complete_to.unwrap_or_default();
        let views = match self.views {
            Views::Kept => format!("complete to {to}, {}", units::bytes(self.views_bytes)),
            Views::None => "none: opening builds them from the log".to_owned(),
            Views::Damaged => paint.bad("damaged: opening rebuilds them from the log"),
            Views::BeyondTheLog => {
                paint.bad(&format!("complete to {to}, which is beyond the log: files of it are missing"))
            }
        };
        let files = units::counted(self.segments, "file");
        let mut lines = vec![
            line("store", self.directory.clone()),
            line("state", state),
            line("log", format!("{} to {}, {files}, {}", self.min, self.end, units::bytes(self.log_bytes))),
            line("flushed", flushed),
            line("views", views),
        ];
        if !self.deleted_topics.is_empty() {
            lines.push(line("deleted", self.deleted_topics.join(", ")));
        }
        let Rocketmq { checkpoint_ms, index_files, config } = &self.rocketmq;
        if let Some(at_ms) = checkpoint_ms {
            let index = units::counted(*index_files as u64, "index file");
            lines.push(line("rocketmq", format!("checkpoint of {}, {index}", units::instant(*at_ms))));
        }
        if !config.is_empty() {
            lines.push(line("config", config.join(", ")));
        }
        lines.extend(self.problems.iter().map(|problem| line("problem", paint.bad(problem))));
        lines.join("\n")
    }
}

/// The files of a log.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Segments {
    /// From the oldest on.
    pub segments: Vec<Segment>,
}

/// A file of a log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// Log offset of its first byte, which is its name.
    pub base: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// When its first record was stored, Unix milliseconds; nothing if there is no valid one.
    pub first_stored_at_ms: Option<i64>,
    /// What does not fit the other files.
    pub problem: Option<String>,
}

impl Segments {
    pub(super) fn of(look: &Look) -> Result<Self, Failure> {
        let listing = look.listing().map_err(failed)?;
        let segments = listing.segments.iter().enumerate().map(|(index, file)| Segment {
            base: file.base.0,
            bytes: file.bytes,
            first_stored_at_ms: look.stored_at(index),
            problem: file.odd.map(|odd| match odd {
                Odd::Overlaps => "reaches into the next file".to_owned(),
                Odd::GapBehind(bytes) => format!("{bytes} bytes are missing behind it"),
                Odd::OtherSize => "another size than the others".to_owned(),
                Odd::Empty => "empty; opening removes it".to_owned(),
            }),
        });
        Ok(Self { segments: segments.collect() })
    }
}

impl View for Segments {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["FILE", "SIZE", "FIRST RECORD STORED", "PROBLEM"]);
        for Segment { base, bytes, first_stored_at_ms, problem } in &self.segments {
            let [file, size, stored] = row![
                format!("{base:020}"),
                units::bytes(*bytes),
                first_stored_at_ms.map_or("-".to_owned(), units::instant)
            ];
            let problem = Cell::judged(problem.is_none(), problem.as_deref().unwrap_or_default());
            table.row([file, size, stored, problem]);
        }
        table.text(paint)
    }
}

/// The queues of a store.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Queues {
    /// By topic and id.
    pub queues: Vec<Queue>,
}

/// A queue of a store.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The topic.
    pub topic: String,
    /// The queue of the topic.
    pub queue_id: u32,
    /// First message that is left.
    pub min: u64,
    /// Behind the last.
    pub next: u64,
}

impl View for Queues {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["TOPIC", "QUEUE", "FIRST", "NEXT", "MESSAGES"]);
        for Queue { topic, queue_id, min, next } in &self.queues {
            table.row(row![topic, queue_id, min, next, next - min]);
        }
        table.text(paint)
    }
}

/// Runs the command.
pub fn run(args: &InspectArgs, out: Printer) -> Result<(), Failure> {
    let InspectArgs { dir, queues, segments, record, topic, queue, offset } = args;
    let look = look(dir)?;
    if *queues {
        let mut meter = Meter::new("read");
        let (queues, _) = look.queues(&mut |progress| meter.tell(progress)).map_err(failed)?;
        drop(meter);
        let queues = queues.into_iter().map(|queue| Queue {
            topic: queue.topic,
            queue_id: queue.id.0,
            min: queue.min.0,
            next: queue.next.0,
        });
        return out.print(&Queues { queues: queues.collect() });
    }
    if *segments {
        return out.print(&Segments::of(&look)?);
    }
    if let Some(at) = record {
        let record = look.record(LogOffset(*at)).map_err(failed)?;
        return out.print(&Message::of(&record));
    }
    if let (Some(topic), Some(queue), Some(offset)) = (topic, queue, offset) {
        let mut meter = Meter::new("read");
        let (id, at) = (QueueId(*queue), QueueOffset(*offset));
        let found = look.message(topic, id, at, &mut |progress| meter.tell(progress)).map_err(failed)?;
        drop(meter);
        let record = found.ok_or_else(|| {
            Failure::not_found(format!("queue {queue} of topic {topic} has no message at offset {offset}"))
                .next(format!("gantry store inspect {} --queues shows what there is", dir.display()))
        })?;
        return out.print(&Message::of(&record));
    }
    out.print(&Overview::of(&look)?)
}

/// Inspecting may go on beside a broker, with a word about it.
fn look(dir: &Path) -> Result<Look, Failure> {
    let look = Look::open_even_in_use(dir).map_err(failed)?;
    if look.in_use() {
        eprintln!("{} is in use by a broker: what is shown may change meanwhile", dir.display());
    }
    Ok(look)
}
