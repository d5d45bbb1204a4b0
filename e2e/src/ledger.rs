//! What was attempted, acknowledged and delivered, and what follows: which message is lost, altered or from nowhere.
//!
//! Only a refused send is surely not stored. A send whose answer never came may have happened or not, and the ledger
//! allows both.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// All messages of one experiment, by the name that the sender gave them.
#[derive(Debug, Default)]
pub struct Ledger {
    messages: BTreeMap<String, Entry>,
    strangers: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    body: u64,
    acknowledged: bool,
    deliveries: usize,
    altered: bool,
}

impl Ledger {
    /// A message is about to be sent.
    pub fn attempted(&mut self, name: &str, body: &[u8]) {
        let entry = Entry { body: digest(body), acknowledged: false, deliveries: 0, altered: false };
        let before = self.messages.insert(name.to_owned(), entry);
        assert!(before.is_none(), "each message has a name of its own, {name} was used twice");
    }

    /// The server said that it has it.
    pub fn acknowledged(&mut self, name: &str) {
        let entry = self.messages.get_mut(name).expect("what is acknowledged was attempted");
        entry.acknowledged = true;
    }

    /// A consumer received it.
    pub fn delivered(&mut self, name: &str, body: &[u8]) {
        match self.messages.get_mut(name) {
            Some(entry) => {
                entry.deliveries += 1;
                entry.altered |= entry.body != digest(body);
            }
            None => self.strangers.push(name.to_owned()),
        }
    }

    /// How many are acknowledged and were not delivered yet.
    pub fn missing(&self) -> usize {
        self.messages.values().filter(|entry| entry.acknowledged && entry.deliveries == 0).count()
    }

    /// How many were acknowledged.
    pub fn acknowledged_count(&self) -> usize {
        self.messages.values().filter(|entry| entry.acknowledged).count()
    }

    /// As if nothing was delivered yet, for another consumer of the same messages.
    pub fn forget_deliveries(&mut self) {
        for entry in self.messages.values_mut() {
            entry.deliveries = 0;
            entry.altered = false;
        }
        self.strangers.clear();
    }

    /// What it all amounts to.
    pub fn verdict(&self) -> Verdict {
        let names = |wanted: fn(&Entry) -> bool| {
            self.messages.iter().filter(|(_, entry)| wanted(entry)).map(|(name, _)| name.clone()).collect()
        };
        Verdict {
            attempted: self.messages.len(),
            acknowledged: self.acknowledged_count(),
            delivered: self.messages.values().filter(|entry| entry.deliveries > 0).count(),
            lost: names(|entry| entry.acknowledged && entry.deliveries == 0),
            altered: names(|entry| entry.altered),
            repeated: names(|entry| entry.deliveries > 1),
            strangers: self.strangers.clone(),
        }
    }
}

/// The outcome of an experiment.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Messages that were sent, whatever the answer.
    pub attempted: usize,
    /// Those that the server acknowledged.
    pub acknowledged: usize,
    /// Those that a consumer received.
    pub delivered: usize,
    /// Acknowledged and never delivered.
    pub lost: Vec<String>,
    /// Delivered with another body than was sent.
    pub altered: Vec<String>,
    /// Delivered more than once.
    pub repeated: Vec<String>,
    /// Delivered, but nobody sent them.
    pub strangers: Vec<String>,
}

impl Verdict {
    /// Nothing lost, nothing altered, nothing from nowhere. Repetition is allowed: delivery is at least once.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.altered.is_empty() && self.strangers.is_empty()
    }

    /// Clean, and each message was acknowledged and came exactly once.
    pub fn is_exactly_once(&self) -> bool {
        self.is_clean() && self.repeated.is_empty() && self.delivered == self.attempted
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let some = |names: &[String]| match names {
            [] => String::new(),
            names => format!(" ({}…)", names[..names.len().min(5)].join(", ")),
        };
        write!(f, "{} attempted, {} acknowledged, ", self.attempted, self.acknowledged)?;
        write!(f, "{} delivered, {} of them repeatedly; ", self.delivered, self.repeated.len())?;
        write!(f, "{} lost{}, ", self.lost.len(), some(&self.lost))?;
        write!(f, "{} altered{}, ", self.altered.len(), some(&self.altered))?;
        write!(f, "{} from nowhere{}", self.strangers.len(), some(&self.strangers))
    }
}

fn digest(body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(deliveries: &[(&str, &str)]) -> Verdict {
        let mut ledger = Ledger::default();
        for (name, acknowledged) in [("a", true), ("b", true), ("maybe", false)] {
            ledger.attempted(name, name.as_bytes());
            if acknowledged {
                ledger.acknowledged(name);
            }
        }
        for (name, body) in deliveries {
            ledger.delivered(name, body.as_bytes());
        }
        ledger.verdict()
    }

    #[test]
    fn an_unanswered_send_may_have_happened_or_not() {
        assert!(ledger(&[("a", "a"), ("b", "b")]).is_clean());
        assert!(ledger(&[("a", "a"), ("b", "b"), ("maybe", "maybe")]).is_clean());
    }

    #[test]
    fn what_was_acknowledged_and_never_came_is_lost() {
        let verdict = ledger(&[("a", "a")]);
        assert_eq!(verdict.lost, ["b"]);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn another_body_is_altered_even_when_the_right_one_came_too() {
        let verdict = ledger(&[("a", "a"), ("a", "x"), ("b", "b")]);
        assert_eq!(verdict.altered, ["a"]);
        assert!(!verdict.is_clean());
    }

    #[test]
    fn what_nobody_sent_is_from_nowhere() {
        assert_eq!(ledger(&[("a", "a"), ("b", "b"), ("ghost", "x")]).strangers, ["ghost"]);
    }

    #[test]
    fn a_repetition_is_clean_but_not_exactly_once() {
        let all = [("a", "a"), ("b", "b"), ("maybe", "maybe")];
        assert!(ledger(&all).is_exactly_once());
        let verdict = ledger(&[&all[..], &[("a", "a")]].concat());
        assert!(verdict.is_clean() && !verdict.is_exactly_once());
        assert_eq!(verdict.repeated, ["a"]);
    }
}
