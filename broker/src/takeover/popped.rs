//! Messages that a group had popped from a RocketMQ broker and not acknowledged; only computes.
//!
//! Popping moves the group's offset at once. What it owes is in records of JSON (`PopCheckPoint`, `AckMsg`, `BatchAckMsg`),
//! which lie with the timer until their time has come, and then in `rmq_sys_REVIVE_LOG_*`, where RocketMQ goes through them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// One pop of a group from a queue. RocketMQ tells them apart by these, and the names are its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Pop {
    #[serde(rename = "t")]
    topic: String,
    #[serde(rename = "c")]
    group: String,
    #[serde(rename = "q")]
    queue: u32,
    #[serde(rename = "so")]
    start: u64,
    #[serde(rename = "pt")]
    at_ms: i64,
}

#[derive(Clone, Debug, Deserialize)]
struct CheckPoint {
    #[serde(flatten)]
    pop: Pop,
    #[serde(rename = "it")]
    invisible_ms: i64,
    /// Bit n: message n is acknowledged.
    #[serde(rename = "bm", default)]
    done: u32,
    #[serde(rename = "n")]
    count: u8,
    /// Of each message to the start; without them the messages lie one behind the other.
    #[serde(rename = "d", default)]
    distances: Option<Vec<u64>>,
}

#[derive(Debug, Deserialize)]
struct Ack {
    #[serde(flatten)]
    pop: Pop,
    #[serde(rename = "ao", default)]
    offset: u64,
    /// Of a batch.
    #[serde(rename = "aol", default)]
    offsets: Vec<u64>,
}

/// What is owed to a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Owed {
    pub(super) group: String,
    /// Maybe a retry topic of the group.
    pub(super) topic: String,
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) visible_at: i64,
}

/// Goes through the records, in any order.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pops: BTreeMap<Pop, CheckPoint>,
    /// RocketMQ went through these, and put what was owed into a retry topic.
    settled: BTreeSet<Pop>,
    acks: BTreeSet<(Pop, u64)>,
}

impl Accounts {
    /// A record with this tag. `settled`: RocketMQ has gone through it. What is no such record is left out.
    pub(super) fn note(&mut self, tag: &str, body: &[u8], settled: bool) {
        match tag {
            "ck" => {
                let Ok(point) = serde_json::from_slice::<CheckPoint>(body) else { return };
                if settled {
                    self.settled.insert(point.pop.clone());
                }
                self.pops.insert(point.pop.clone(), point);
            }
            "ack" | "bAck" => {
                let Ok(Ack { pop, offset, offsets }) = serde_json::from_slice(body) else { return };
                let offsets = if tag == "ack" { vec![offset] } else { offsets };
                self.acks.extend(offsets.into_iter().map(|offset| (pop.clone(), offset)));
            }
            _ => {}
        }
    }

    /// What is owed when all is noted.
    pub(super) fn owed(self) -> Vec<Owed> {
        let Self { pops, settled, acks } = self;
        let mut owed = Vec::new();
        for (pop, point) in pops.iter().filter(|(pop, _)| !settled.contains(pop)) {
            let visible_at = pop.at_ms.saturating_add(point.invisible_ms);
            for index in 0..u32::from(point.count).min(32) {
                let distances = point.distances.as_deref().unwrap_or_default();
                let distance = if distances.is_empty() {
                    Some(u64::from(index))
                } else {
                    distances.get(index as usize).copied()
                };
                let Some(offset) = distance.and_then(|distance| pop.start.checked_add(distance)) else {
                    continue;
                };
                if point.done & (1 << index) == 0 && !acks.contains(&(pop.clone(), offset)) {
                    let Pop { topic, group, queue, .. } = pop.clone();
                    owed.push(Owed { group, topic, queue, offset, visible_at });
                }
            }
        }
        owed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CK: &[u8] = br#"{"bm":2,"bn":"b","c":"g","d":[0,1,2,5],"it":500,"n":4,"pt":1000,"q":3,"ro":0,"so":10,"t":"orders"}"#;

    fn offsets(accounts: Accounts) -> Vec<u64> {
        accounts.owed().into_iter().map(|owed| owed.offset).collect()
    }

    #[test]
    fn what_was_popped_and_not_acknowledged_is_owed() {
        let mut accounts = Accounts::default();
        accounts.note("ck", CK, false);
        accounts.note("ack", br#"{"ao":12,"bn":"b","c":"g","pt":1000,"q":3,"so":10,"t":"orders"}"#, false);
        // Of another pop, of another kind, and no JSON.
        accounts.note("ack", br#"{"ao":10,"bn":"b","c":"g","pt":1001,"q":3,"so":10,"t":"orders"}"#, false);
        accounts.note("odd", CK, false);
        accounts.note("ck", b"odd", false);
        let owed = accounts.owed();
        assert_eq!(owed.iter().map(|owed| owed.offset).collect::<Vec<_>>(), [10, 15]);
        let first =
            Owed { group: "g".into(), topic: "orders".into(), queue: 3, offset: 10, visible_at: 1500 };
        assert_eq!(owed[0], first);
    }

    #[test]
    fn batches_of_acknowledgements_and_settled_pops_owe_nothing() {
        let mut accounts = Accounts::default();
        accounts.note("bAck", br#"{"aol":[10,12,15],"c":"g","pt":1000,"q":3,"so":10,"t":"orders"}"#, false);
        accounts.note("ck", CK, false);
        assert_eq!(offsets(accounts), [] as [u64; 0]);
        let mut accounts = Accounts::default();
        accounts.note("ck", CK, true);
        accounts.note("ck", CK, false);
        assert_eq!(offsets(accounts), [] as [u64; 0]);
    }

    #[test]
    fn old_brokers_name_no_distances() {
        let mut accounts = Accounts::default();
        accounts.note("ck", br#"{"bm":0,"c":"g","it":1,"n":2,"pt":1,"q":0,"so":7,"t":"t"}"#, false);
        assert_eq!(offsets(accounts), [7, 8]);
    }
}
