//! `gantry store verify`.

use std::time::Instant;

use serde::Serialize;
use store::offline::{Damage, Verified, What};

use super::progress::Meter;
use super::{failed, look};
use crate::args::VerifyArgs;
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::units;

/// Places shown to people; programs get all that are listed.
const MOST_SHOWN: usize = 50;

/// What a whole reading of a store found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Nothing is damaged and the queues are right.
    pub good: bool,
    /// Where the log starts.
    pub min: u64,
    /// Where it ends.
    pub end: u64,
    /// Valid records.
    pub records: u64,
    /// Damaged stretches of the log; at most a thousand are listed.
    pub damaged: Vec<Place>,
    /// How many there are.
    pub damaged_places: u64,
    /// Their bytes.
    pub damaged_bytes: u64,
    /// What a crash left behind the end.
    pub torn: Option<Place>,
    /// The queues against the log.
    pub queues: Queues,
    /// Obstacles to opening it.
    pub problem: Option<String>,
}

/// A stretch of the log and what is wrong with it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Log offset of the first byte.
    pub from: u64,
    /// Log offset behind the last.
    pub to: u64,
    /// `damaged`, `unreadable`, `missing`, `torn` or `body`.
    pub kind: &'static str,
    /// In words.
    pub reason: String,
}

/// The queues against the log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Queues {
    /// How many the views know.
    pub known: u64,
    /// Up to which log offset they were compared.
    pub complete_to: u64,
    /// Entries that are as they should be.
    pub good_entries: u64,
    /// Entries whose records are damaged in the log.
    pub damaged_entries: u64,
    /// What is wrong; at most a thousand are listed.
    pub wrong: Vec<WrongEntry>,
    /// How many there are.
    pub wrong_entries: u64,
}

/// A place of a queue where the views and the log disagree.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WrongEntry {
    /// The topic.
    pub topic: String,
    /// The queue of the topic.
    pub queue_id: u32,
    /// The place.
    pub queue_offset: u64,
    /// In words.
    pub reason: String,
}

impl Place {
    pub(super) fn of(damage: Damage) -> Self {
        let Damage { from, to, what } = damage;
        let (kind, reason) = match what {
            What::Damaged(reason) => ("damaged", reason),
            What::Unreadable => ("unreadable", "the disk does not give these bytes".to_owned()),
            What::Missing => ("missing", "no file has these bytes".to_owned()),
            What::Torn(reason) => ("torn", reason),
            What::Body => {
                ("body", "the checksum of its body does not match, that of the record does".to_owned())
            }
        };
        Self { from: from.0, to: to.0, kind, reason }
    }
}

impl Report {
    pub(super) fn of(verified: Verified, problem: Option<String>) -> Self {
        let good = verified.is_good() && problem.is_none();
        let Verified {
            min,
            end,
            records,
            record_bytes: _,
            damaged,
            damaged_places,
            damaged_bytes,
            torn,
            views,
        } = verified;
        let wrong = views.wrong.into_iter().map(|wrong| WrongEntry {
            topic: wrong.topic,
            queue_id: wrong.queue_id.0,
            queue_offset: wrong.queue_offset.0,
            reason: wrong.reason,
        });
        Self {
            good,
            min: min.0,
            end: end.0,
            records,
            damaged: damaged.into_iter().map(Place::of).collect(),
            damaged_places,
            damaged_bytes,
            torn: torn.map(Place::of),
            queues: Queues {
                known: views.queues,
                complete_to: views.complete_to.0,
                good_entries: views.good_entries,
                damaged_entries: views.damaged_entries,
                wrong: wrong.collect(),
                wrong_entries: views.wrong_entries,
            },
            problem,
        }
    }

    /// What is wrong, in a few words.
    fn verdict(&self) -> String {
        let mut parts = Vec::new();
        if self.damaged_places > 0 {
            let places = units::counted(self.damaged_places, "damaged place");
            parts.push(format!("{places}, {}", units::bytes(self.damaged_bytes)));
        }
        if self.queues.wrong_entries > 0 {
            parts.push(units::counted(self.queues.wrong_entries, "wrong place") + " in the queues");
        }
        if parts.is_empty() {
            parts.push("a broker would not open it".to_owned());
        }
        parts.join("; ")
    }

    /// What somebody can do about it.
    fn advice(&self) -> Vec<&'static str> {
        let mut advice = Vec::new();
        let has = |kind| self.damaged.iter().any(|place| place.kind == kind);
        if has("damaged") || has("unreadable") {
            advice.push(
                "A broker serves everything but the damaged records. Copy the volume before anything else, and look \
                 at the disk's own health; a replica or a backup of the same log has the lost bytes at the same offsets.",
            );
        }
        if has("missing") || self.problem.is_some() {
            advice.push("Restore the files from a backup; until then no broker opens the store as it is.");
        }
        if has("body") {
            advice.push("A wrong body was stored as it came; Apache RocketMQ would cut the log there.");
        }
        if self.queues.wrong_entries > 0 {
            advice.push(
                "The queues can be rebuilt: remove the directory views of the stopped store, and the next start builds \
                 them from the log.",
            );
        }
        advice
    }
}

impl View for Report {
    fn text(&self, paint: Paint) -> String {
        let line = |name: &str, value: String| format!("{}{value}", paint.heading(&format!("{name:<10}")));
        let records = units::counted(self.records, "valid record");
        let mut lines = vec![line("log", format!("{} to {}, {records}", self.min, self.end))];
        let Queues { known, complete_to, good_entries, damaged_entries, wrong, wrong_entries } = &self.queues;
        lines.push(line(
            "queues",
            match known {
                0 => "none are kept: opening builds them from the log".to_owned(),
                _ => format!(
                    "{}, complete to {complete_to}, {good_entries} entries as a rebuild would have them",
                    units::counted(*known, "queue"),
                ),
            },
        ));
        if let Some(Place { from, to, kind: _, reason }) = &self.torn {
            let bytes = units::bytes(to - from);
            lines
                .push(line("torn", format!("{from} to {to} ({bytes}): {reason}; opening the store cuts it")));
        }
        if let Some(problem) = &self.problem {
            lines.push(line("problem", paint.bad(problem)));
        }
        for Place { from, to, kind, reason } in self.damaged.iter().take(MOST_SHOWN) {
            lines.push(line("damaged", paint.bad(&format!("{from} to {to} ({kind}): {reason}"))));
        }
        let more = |lines: &mut Vec<String>, count: u64| {
            if let Some(more @ 1..) = count.checked_sub(MOST_SHOWN as u64) {
                lines.push(line("", format!("and {more} more")));
            }
        };
        more(&mut lines, self.damaged_places);
        if *damaged_entries > 0 {
            lines.push(line(
                "lost",
                format!("{} of the queues in damaged places", units::counted(*damaged_entries, "message")),
            ));
        }
        for WrongEntry { topic, queue_id, queue_offset, reason } in wrong.iter().take(MOST_SHOWN) {
            let place = format!("topic {topic}, queue {queue_id}, offset {queue_offset}: {reason}");
            lines.push(line("wrong", paint.bad(&place)));
        }
        more(&mut lines, *wrong_entries);
        lines.push(line(
            "verdict",
            match self.good {
                true => paint.good("good"),
                false => paint.bad(&self.verdict()),
            },
        ));
        lines.join("\n")
    }
}

/// Runs the command.
pub fn run(args: &VerifyArgs, out: Printer) -> Result<(), Failure> {
    let look = look(&args.dir)?;
    let problem = look.listing().map_err(failed)?.obstacle();
    let started = Instant::now();
    let mut meter = Meter::new("verified");
    let verified = look.verify(&mut |progress| meter.tell(progress)).map_err(failed)?;
    drop(meter);
    let (bytes, took) = (verified.end.0 - verified.min.0, started.elapsed());
    let rate = units::bytes((bytes as f64 / took.as_secs_f64().max(1e-6)) as u64);
    eprintln!("verified {} in {}, {rate}/s", units::bytes(bytes), units::duration(took));
    let report = Report::of(verified, problem);
    out.print(&report)?;
    if report.good {
        return Ok(());
    }
    let failure =
        Failure::failed(format!("{} is not as it was written: {}", args.dir.display(), report.verdict()));
    Err(match report.advice() {
        advice if advice.is_empty() => failure,
        advice => failure.next(advice.join("\n        ")),
    })
}
