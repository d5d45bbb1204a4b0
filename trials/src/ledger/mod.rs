//! What was attempted, acknowledged and delivered, and what follows: lost, altered, phantom, duplicated, out of order.
//!
//! ```text
//!   clients ── Pen ──► a process of its own (process.rs) ──► a file of notes (note.rs) ──► Ledger::verdict
//! ```
//!
//! Only a refused send is surely not stored. A send whose answer never came may have happened or not, and the ledger allows
//! both. The ledger knows no store and no protocol: it folds notes, wherever they come from.

mod note;
mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};

pub use note::{BodyHash, Note, Place, What, now_ms};
pub use process::{Pen, Recorder, record};

/// All messages of one experiment, by the name that the sender gave them.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    messages: BTreeMap<String, Message>,
    phantoms: Vec<String>,
    /// How many deliveries were noted.
    deliveries: usize,
    attempts: usize,
}

/// One message and all that happened to it.
#[derive(Clone, Debug)]
pub struct Message {
    /// Where it was to go.
    pub topic: String,
    /// What it is in order with.
    pub key: Option<String>,
    /// Of the body that was sent.
    pub hash: BodyHash,
    /// What the sender knows.
    pub outcome: Outcome,
    /// The how manieth attempt of all.
    attempt: usize,
    /// The how manieth delivery of all was its first, and from where.
    delivered: Option<(usize, Place)>,
    redelivered: usize,
    altered: bool,
    duplicated: bool,
}

impl Message {
    /// Did the server say that it has it?
    #[must_use]
    pub fn is_acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged { .. })
    }

    /// Did it come to a consumer?
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.delivered.is_some()
    }
}

/// What the sender knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It may be stored or not.
    Maybe,
    /// It is surely not stored.
    Refused,
    /// It is stored.
    Acknowledged {
        /// When the sender heard so.
        at_ms: u64,
        /// Where, as far as told.
        place: Place,
    },
}

impl Ledger {
    /// Reads a file of notes.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no ledger", path.display()))
    }

    /// Reads the text of a file of notes.
    pub fn parse(text: &str) -> Result<Self> {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut ledger = Self::default();
        for (index, line) in whole.lines().enumerate() {
            let note = line.parse().with_context(|| format!("line {}: {line}", index + 1))?;
            ledger.note(&note);
        }
        Ok(ledger)
    }

    /// The next thing that happened.
    ///
    /// # Panics
    /// If a name is attempted twice, or answered before it was attempted.
    pub fn note(&mut self, note: &Note) {
        let name = &note.name;
        match &note.what {
            What::Attempt { topic, key, hash } => {
                let message = Message {
                    topic: topic.clone(),
                    key: key.clone(),
                    hash: *hash,
                    outcome: Outcome::Maybe,
                    attempt: self.attempts,
                    delivered: None,
                    redelivered: 0,
                    altered: false,
                    duplicated: false,
                };
                self.attempts += 1;
                let before = self.messages.insert(name.clone(), message);
                assert!(before.is_none(), "each message has a name of its own, {name} was used twice");
            }
            What::Acknowledged(place) => {
                self.answered(name, Outcome::Acknowledged { at_ms: note.at_ms, place: *place });
            }
            What::Refused => self.answered(name, Outcome::Refused),
            What::Unknown => self.answered(name, Outcome::Maybe),
            What::Delivered { place, attempt: _, hash } => self.delivered(name, *place, *hash),
            What::Event => {}
        }
    }

    fn answered(&mut self, name: &str, outcome: Outcome) {
        self.messages.get_mut(name).expect("what is answered was attempted").outcome = outcome;
    }

    fn delivered(&mut self, name: &str, place: Place, hash: BodyHash) {
        let number = self.deliveries;
        self.deliveries += 1;
        let Some(message) = self.messages.get_mut(name) else {
            self.phantoms.push(name.to_owned());
            return;
        };
        message.altered |= message.hash != hash;
        if let Outcome::Acknowledged { place: told, .. } = message.outcome {
            message.altered |= !is_same_place(told, place);
        }
        match message.delivered {
            None => message.delivered = Some((number, place)),
            Some((_, first)) if is_same_place(first, place) => message.redelivered += 1,
            Some(_) => message.duplicated = true,
        }
    }

    /// Every message by its name.
    pub fn messages(&self) -> impl Iterator<Item = (&str, &Message)> {
        self.messages.iter().map(|(name, message)| (name.as_str(), message))
    }

    /// A message by its name.
    #[must_use]
    pub fn message(&self, name: &str) -> Option<&Message> {
        self.messages.get(name)
    }

    /// How many are acknowledged and were not delivered yet.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.messages.values().filter(|message| is_lost(message)).count()
    }

    /// How many were acknowledged.
    #[must_use]
    pub fn acknowledged_count(&self) -> usize {
        self.messages.values().filter(|message| message.is_acknowledged()).count()
    }

    /// As if nothing was delivered yet, for another consumer of the same messages.
    pub fn forget_deliveries(&mut self) {
        for message in self.messages.values_mut() {
            message.delivered = None;
            message.redelivered = 0;
            message.altered = false;
            message.duplicated = false;
        }
        self.phantoms.clear();
    }

    /// What it all amounts to.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let names = |wanted: &dyn Fn(&Message) -> bool| {
            let wanted = self.messages.iter().filter(|(_, message)| wanted(message));
            wanted.map(|(name, _)| name.clone()).collect()
        };
        let (out_of_order, late) = self.out_of_order();
        let refused = self.messages.iter().filter(|(_, m)| m.outcome == Outcome::Refused && m.is_delivered());
        Verdict {
            attempted: self.messages.len(),
            acknowledged: self.acknowledged_count(),
            delivered: self.messages.values().filter(|message| message.is_delivered()).count(),
            redelivered: self.messages.values().filter(|message| message.redelivered > 0).count(),
            lost: names(&is_lost),
            altered: names(&|message| message.altered),
            phantom: self.phantoms.iter().chain(refused.map(|(name, _)| name)).cloned().collect(),
            duplicated: names(&|message| message.duplicated),
            late,
            out_of_order,
        }
    }

    /// Those that came before one of the same topic and key that was attempted earlier; and those that nobody acknowledged, and
    /// that came after one that was attempted later: whoever gave one up and sent the next cannot ask for more.
    fn out_of_order(&self) -> (Vec<String>, Vec<String>) {
        let mut came: Vec<_> = self
            .messages
            .iter()
            .filter_map(|(name, message)| Some((message.delivered?.0, name, message)))
            .filter(|(_, _, message)| message.key.is_some())
            .collect();
        came.sort_unstable_by_key(|(number, _, _)| *number);
        // From the last to the first: the earliest attempt that is still to come.
        let mut earliest = BTreeMap::new();
        let (mut wrong, mut late) = (Vec::new(), Vec::new());
        for (_, name, message) in came.iter().rev() {
            let to_come = earliest.entry((&message.topic, &message.key)).or_insert(usize::MAX);
            if message.attempt > *to_come {
                wrong.push((*name).clone());
            }
            if message.is_acknowledged() {
                *to_come = message.attempt.min(*to_come);
            }
        }
        let mut latest = BTreeMap::new();
        for (_, name, message) in came {
            let before = latest.entry((&message.topic, &message.key)).or_insert(message.attempt);
            if message.attempt < *before && !message.is_acknowledged() {
                late.push(name.clone());
            }
            *before = message.attempt.max(*before);
        }
        wrong.reverse();
        (wrong, late)
    }
}

fn is_lost(message: &Message) -> bool {
    message.is_acknowledged() && !message.is_delivered()
}

/// Do two tellings of a place fit each other? What is not told fits everything.
fn is_same_place(one: Place, other: Place) -> bool {
    fn fits<T: PartialEq>(one: Option<T>, other: Option<T>) -> bool {
        one.is_none() || other.is_none() || one == other
    }
    fits(one.queue, other.queue) && fits(one.offset, other.offset) && fits(one.log, other.log)
}

/// The outcome of an experiment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that were sent, whatever the answer.
    pub attempted: usize,
    /// Those that the server acknowledged.
    pub acknowledged: usize,
    /// Those that a consumer received.
    pub delivered: usize,
    /// Received from the same place more than once, as at-least-once delivery allows.
    pub redelivered: usize,
    /// Acknowledged and never delivered.
    pub lost: Vec<String>,
    /// Delivered with another body, or from another place, than was acknowledged.
    pub altered: Vec<String>,
    /// Delivered, but nobody sent them, or the server had refused them.
    pub phantom: Vec<String>,
    /// Stored twice: delivered from two places.
    pub duplicated: Vec<String>,
    /// Not acknowledged, and delivered after one of the same key that was sent later.
    pub late: Vec<String>,
    /// Delivered before one of the same key that was sent earlier and acknowledged.
    pub out_of_order: Vec<String>,
}

impl Verdict {
    /// None of the five faults. Redelivery is allowed: delivery is at least once. So is what nobody acknowledged and came late.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { attempted: _, acknowledged: _, delivered: _, redelivered: _, late: _, .. } = self;
        [&self.lost, &self.altered, &self.phantom, &self.duplicated, &self.out_of_order]
            .iter()
            .all(|names| names.is_empty())
    }

    /// Clean, and each message came exactly once.
    #[must_use]
    pub fn is_exactly_once(&self) -> bool {
        self.is_clean() && self.redelivered == 0 && self.delivered == self.attempted
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |names: &[String]| match names {
            [] => String::new(),
            names => format!(" ({}…)", names[..names.len().min(5)].join(", ")),
        };
        write!(f, "{} attempted, {} acknowledged, ", self.attempted, self.acknowledged)?;
        write!(f, "{} delivered, {} of them repeatedly; ", self.delivered, self.redelivered)?;
        write!(f, "{} lost{}, ", self.lost.len(), some(&self.lost))?;
        write!(f, "{} altered{}, ", self.altered.len(), some(&self.altered))?;
        write!(f, "{} phantom{}, ", self.phantom.len(), some(&self.phantom))?;
        write!(f, "{} late{}, ", self.late.len(), some(&self.late))?;
        write!(f, "{} duplicated{}, ", self.duplicated.len(), some(&self.duplicated))?;
        write!(f, "{} out of order{}", self.out_of_order.len(), some(&self.out_of_order))
    }
}

#[cfg(test)]
mod tests;
