//! One line of a ledger's file, and its format.
//!
//! ```text
//!   MS attempt ID TOPIC KEY HASH                about to be sent; KEY is what it is in order with, or -
//!   MS ack     ID QUEUE OFFSET LOG              the server has it: at this place, as far as it told; - is not told
//!   MS refused ID                               the server said no: it is surely not stored
//!   MS unknown ID                               no answer: it may be stored or not
//!   MS deliver ID QUEUE OFFSET ATTEMPT HASH     it came to a consumer, or an auditor found it
//!   MS event   WORD                             something worth knowing where, such as a snapshot
//! ```
//!
//! Fields are words with one blank between; MS is the writer's clock in Unix milliseconds, HASH has 16 hexadecimal digits.
//! The order of lines is the order in which it happened. A last line without its line feed was cut off and does not count.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Error, Result, bail, ensure};

/// What a body is known by: the same for the same bytes, in every process and version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyHash(pub u64);

impl BodyHash {
    /// FNV-1a over words of eight bytes, then the length. Not the store's own checksum, which could be blind to what it
    /// was made for.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        const PRIME: u64 = 0x0000_0100_0000_01B3;
        let mut hash: u64 = 0xCBF2_9CE4_8422_2325;
        let (words, rest) = body.as_chunks::<8>();
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME).rotate_left(29);
        }
        for &byte in rest {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        Self((hash ^ body.len() as u64).wrapping_mul(PRIME))
    }
}

/// A place of a message, as far as somebody told it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The queue of its topic.
    pub queue: Option<u32>,
    /// Its offset in that queue.
    pub offset: Option<u64>,
    /// Where its record starts in the log.
    pub log: Option<u64>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A message is about to be sent.
    Attempt {
        /// Its topic.
        topic: String,
        /// Messages of one topic and one key come in the order of their attempts; `None`: it has no order.
        key: Option<String>,
        /// Of its body.
        hash: BodyHash,
    },
    /// The server has it.
    Acknowledged(Place),
    /// The server said no.
    Refused,
    /// Nobody knows.
    Unknown,
    /// It came to a consumer.
    Delivered {
        /// From where.
        place: Place,
        /// The how manieth time, by the server's count.
        attempt: u32,
        /// Of the body that came.
        hash: BodyHash,
    },
    /// Worth knowing where; the name of the note is the event.
    Event,
}

impl What {
    /// An attempt without an order.
    #[must_use]
    pub fn attempt(topic: &str, body: &[u8]) -> Self {
        Self::Attempt { topic: topic.to_owned(), key: None, hash: BodyHash::of(body) }
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// When, in Unix milliseconds.
    pub at_ms: u64,
    /// The message's name, or the event's.
    pub name: String,
    /// What.
    pub what: What,
}

impl Note {
    /// It happens now.
    #[must_use]
    pub fn now(name: &str, what: What) -> Self {
        Self { at_ms: now_ms(), name: name.to_owned(), what }
    }
}

/// This machine's clock, Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at_ms, name, what } = self;
        let or = |number: Option<u64>| number.map_or("-".to_owned(), |number| number.to_string());
        match what {
            What::Attempt { topic, key, hash } => {
                let key = key.as_deref().unwrap_or("-");
                write!(f, "{at_ms} attempt {name} {topic} {key} {:016x}", hash.0)
            }
            What::Acknowledged(Place { queue, offset, log }) => {
                write!(f, "{at_ms} ack {name} {} {} {}", or(queue.map(u64::from)), or(*offset), or(*log))
            }
            What::Refused => write!(f, "{at_ms} refused {name}"),
            What::Unknown => write!(f, "{at_ms} unknown {name}"),
            What::Delivered { place: Place { queue, offset, log: _ }, attempt, hash } => {
                let (queue, offset) = (or(queue.map(u64::from)), or(*offset));
                write!(f, "{at_ms} deliver {name} {queue} {offset} {attempt} {:016x}", hash.0)
            }
            What::Event => write!(f, "{at_ms} event {name}"),
        }
    }
}

impl FromStr for Note {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().filter(|word| !word.is_empty()).context("a word is missing");
        let at_ms = word()?.parse().context("the time is no number")?;
        let kind = word()?;
        let name = word()?.to_owned();
        let number = |word: &str| match word {
            "-" => Ok(None),
            word => word.parse::<u64>().map(Some).with_context(|| format!("{word} is no number")),
        };
        let hash = |word: &str| {
            u64::from_str_radix(word, 16).map(BodyHash).with_context(|| format!("{word} is no hash"))
        };
        let queue =
            |number: Option<u64>| number.map(u32::try_from).transpose().context("no queue has this id");
        let what = match kind {
            "attempt" => {
                let topic = word()?.to_owned();
                let key = Some(word()?).filter(|key| *key != "-").map(str::to_owned);
                What::Attempt { topic, key, hash: hash(word()?)? }
            }
            "ack" => What::Acknowledged(Place {
                queue: queue(number(word()?)?)?,
                offset: number(word()?)?,
                log: number(word()?)?,
            }),
            "refused" => What::Refused,
            "unknown" => What::Unknown,
            "deliver" => What::Delivered {
                place: Place { queue: queue(number(word()?)?)?, offset: number(word()?)?, log: None },
                attempt: word()?.parse().context("the attempt is no number")?,
                hash: hash(word()?)?,
            },
            "event" => What::Event,
            other => bail!("{other} is no kind of note"),
        };
        ensure!(words.next().is_none(), "there is more than a {kind} has");
        Ok(Self { at_ms, name, what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_note_comes_back_as_it_was_written() {
        let hash = BodyHash(0x00AB_CDEF_0123_4567);
        let place = Place { queue: Some(3), offset: Some(77), log: None };
        for what in [
            What::Attempt { topic: "t".to_owned(), key: None, hash },
            What::Attempt { topic: "t".to_owned(), key: Some("k".to_owned()), hash },
            What::Acknowledged(Place::default()),
            What::Acknowledged(Place { log: Some(u64::MAX), ..place }),
            What::Refused,
            What::Unknown,
            What::Delivered { place, attempt: 2, hash },
            What::Event,
        ] {
            let note = Note { at_ms: 12, name: "n-1".to_owned(), what };
            assert_eq!(note.to_string().parse::<Note>().unwrap(), note);
        }
    }

    #[test]
    fn what_is_no_note_is_refused() {
        for line in [
            "",
            "1",
            "x ack n 1 2 3",
            "1 ack n 1 2",
            "1 ack n 1 2 3 4",
            "1 refused",
            "1 sent n",
            "1 deliver n 1 2 3 z",
        ] {
            assert!(line.parse::<Note>().is_err(), "{line}");
        }
    }

    #[test]
    fn a_hash_sees_every_byte_and_the_length() {
        let body: Vec<u8> = (0..37).collect();
        for at in 0..body.len() {
            let mut other = body.clone();
            other[at] ^= 1;
            assert_ne!(BodyHash::of(&other), BodyHash::of(&body), "byte {at}");
            assert_ne!(BodyHash::of(&body[..at]), BodyHash::of(&body), "length {at}");
        }
        assert_ne!(BodyHash::of(&[0; 8]), BodyHash::of(&[0; 16]));
    }
}
