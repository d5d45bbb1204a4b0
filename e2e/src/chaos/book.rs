//! What the clients of a run attempted, heard and received: the ledger, and when which client was acknowledged.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use trials::ledger::{BodyHash, Ledger, Message, Note, Place, Verdict, What};

use super::stop::Stop;

/// A kind of client that sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// Ours, many sends at a time: what the group itself can do.
    Raw,
    /// The official Java client, one send after the other.
    Java,
    /// The official Go client, one send after the other.
    Go,
}

/// All of them.
pub(super) const SENDERS: [Sender; 3] = [Sender::Raw, Sender::Java, Sender::Go];

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Java => "Java",
            Self::Go => "Go",
        })
    }
}

/// How sends of one kind of client went since some moment.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sends {
    /// The longest time without an acknowledgement.
    pub(super) gap: Duration,
    /// Those that failed, for the client and for good.
    pub(super) failed: usize,
    /// Those that succeeded.
    pub(super) acknowledged: usize,
}

/// The book of one run.
pub(super) struct Book {
    inner: Mutex<Inner>,
    news: Condvar,
}

struct Inner {
    ledger: Ledger,
    /// A delivery may be told before its attempt: they come through different pipes.
    early: HashMap<String, Vec<Note>>,
    /// Acknowledged and not delivered yet.
    missing: BTreeSet<String>,
    /// Those of them that were waited for in vain, and told.
    overdue: BTreeSet<String>,
    answers: Vec<(Sender, Instant, bool)>,
    file: File,
    broken: Option<String>,
}

impl Book {
    /// A book whose notes also go to a file.
    pub(super) fn new(file: &Path) -> Result<Self> {
        let file = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        let inner = Inner {
            ledger: Ledger::default(),
            early: HashMap::new(),
            missing: BTreeSet::new(),
            overdue: BTreeSet::new(),
            answers: Vec::new(),
            file,
            broken: None,
        };
        Ok(Self { inner: Mutex::new(inner), news: Condvar::new() })
    }

    /// A message is about to be sent.
    pub(super) fn attempt(&self, name: &str, topic: &str, key: Option<&str>, body: &[u8]) {
        let what =
            What::Attempt { topic: topic.to_owned(), key: key.map(str::to_owned), hash: BodyHash::of(body) };
        let mut inner = self.lock();
        inner.note(&Note::now(name, what));
        for early in inner.early.remove(name).unwrap_or_default() {
            inner.note(&early);
        }
    }

    /// A send was acknowledged.
    pub(super) fn acknowledged(&self, sender: Sender, name: &str) {
        let mut inner = self.lock();
        inner.note(&Note::now(name, What::Acknowledged(Place::default())));
        if inner.ledger.message(name).is_some_and(|message| !message.is_delivered()) {
            inner.missing.insert(name.to_owned());
        }
        inner.answers.push((sender, Instant::now(), true));
        drop(inner);
        self.news.notify_all();
    }

    /// A send failed.
    pub(super) fn failed(&self, sender: Sender, name: &str, what: What) {
        let mut inner = self.lock();
        inner.note(&Note::now(name, what));
        inner.answers.push((sender, Instant::now(), false));
    }

    /// A message came.
    pub(super) fn delivered(&self, name: &str, attempt: u32, body: &[u8]) {
        let note =
            Note::now(name, What::Delivered { place: Place::default(), attempt, hash: BodyHash::of(body) });
        let mut inner = self.lock();
        if inner.ledger.message(name).is_some() {
            inner.note(&note);
            inner.missing.remove(name);
        } else {
            inner.early.entry(name.to_owned()).or_default().push(note);
        }
        drop(inner);
        self.news.notify_all();
    }

    /// Something worth knowing when.
    pub(super) fn event(&self, word: &str) {
        self.lock().note(&Note::now(&word.replace(' ', "_"), What::Event));
    }

    /// How the sends of a kind of client went since then.
    pub(super) fn sends_since(&self, sender: Sender, since: Instant) -> Sends {
        let now = Instant::now();
        let inner = self.lock();
        let mut sends = Sends::default();
        let mut last = since;
        for (_, at, acknowledged) in inner.answers.iter().filter(|(of, ..)| *of == sender) {
            if *at <= since {
                continue;
            }
            if *acknowledged {
                sends.acknowledged += 1;
                sends.gap = sends.gap.max(at.duration_since(last));
                last = *at;
            } else {
                sends.failed += 1;
            }
        }
        sends.gap = sends.gap.max(now.duration_since(last));
        sends
    }

    /// When an acknowledgement came is of no use any more.
    pub(super) fn forget_answers(&self) {
        self.lock().answers.clear();
    }

    /// Waits until our own client was acknowledged so often from now on.
    pub(super) fn acknowledged_again(&self, times: usize, limit: Duration, stop: &Stop) -> Result<()> {
        let since = Instant::now();
        self.until(&format!("{times} acknowledgements"), limit, stop, |inner| {
            let new = inner.answers.iter().rev().take_while(|(_, at, _)| *at > since);
            new.filter(|(of, _, acknowledged)| *of == Sender::Raw && *acknowledged).count() >= times
        })
    }

    /// Waits until each of these was acknowledged.
    pub(super) fn acknowledged_each(&self, names: &[String], limit: Duration, stop: &Stop) -> Result<()> {
        self.until("an acknowledgement for each client", limit, stop, |inner| {
            let mut messages = names.iter().map(|name| inner.ledger.message(name));
            messages.all(|message| message.is_some_and(Message::is_acknowledged))
        })
    }

    /// Waits until all that is acknowledged by now was delivered, but for what was waited for in vain before; how much that is.
    pub(super) fn delivered_all(&self, limit: Duration, stop: &Stop) -> Result<()> {
        let due: BTreeSet<_> = {
            let inner = self.lock();
            inner.missing.difference(&inner.overdue).cloned().collect()
        };
        let waited = self.until("the delivery of what was acknowledged", limit, stop, |inner| {
            inner.missing.is_disjoint(&due)
        });
        let mut inner = self.lock();
        inner.overdue = inner.missing.intersection(&due).chain(&inner.overdue).cloned().collect();
        waited
    }

    /// What was waited for in vain counts again.
    pub(super) fn forgive_nothing(&self) {
        self.lock().overdue.clear();
    }

    fn until(&self, what: &str, limit: Duration, stop: &Stop, is: impl Fn(&Inner) -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        let mut inner = self.lock();
        while !is(&inner) {
            stop.check()?;
            let left = end.checked_duration_since(Instant::now());
            let left = left.with_context(|| {
                format!("{what} did not come within {limit:?}; {} are missing", inner.missing.len())
            })?;
            // Not longer, so that a stop is noticed.
            let wait = left.min(Duration::from_millis(200));
            inner = self.news.wait_timeout(inner, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// From now on deliveries are those of another consumer.
    pub(super) fn audit(&self, file: &Path) -> Result<()> {
        let mut inner = self.lock();
        inner.ledger.forget_deliveries();
        inner.early.clear();
        inner.overdue.clear();
        let all: Vec<_> = inner.ledger.messages().filter(|(_, message)| message.is_acknowledged()).collect();
        inner.missing = all.iter().map(|(name, _)| (*name).to_owned()).collect();
        inner.file = File::create(file).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(())
    }

    /// What it amounts to.
    pub(super) fn verdict(&self) -> Result<Verdict> {
        let mut inner = self.lock();
        let early: Vec<_> = inner.early.drain().flat_map(|(_, notes)| notes).collect();
        early.iter().for_each(|note| inner.note(note));
        if let Some(broken) = &inner.broken {
            anyhow::bail!("the ledger could not be written: {broken}");
        }
        Ok(inner.ledger.verdict())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn note(&mut self, note: &Note) {
        self.ledger.note(note);
        if let Err(error) = writeln!(self.file, "{note}") {
            self.broken.get_or_insert(error.to_string());
        }
    }
}
