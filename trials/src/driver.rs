//! A program that does nothing but write to a store: several writers, and a keeper that takes snapshots and removes old
//! segments far more often than a broker would, so that cuts meet all of it.
//!
//! It tells the ledger what it attempts before it appends, and what is confirmed from the callback that hears so.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::mpsc::{channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use store::{AppendError, Config, Flush, LogOffset, NewRecord, Properties, QueueId, Store};

use crate::dice::Dice;
use crate::ledger::{BodyHash, Pen, Place, What};

/// The property that holds a message's name, as a client's message id.
pub const NAME: &str = "UNIQ_KEY";
/// Topics that are written to, each with [`QUEUES`].
pub const TOPICS: [&str; 3] = ["orders", "bills", "events"];
/// Queues of each topic.
pub const QUEUES: u32 = 4;
/// The log goes on beyond this, but not by much.
pub const MAX_LOG_BYTES: u64 = 6 << 20;
/// Small, so that segments end all the time.
pub const SEGMENT_BYTES: u64 = 256 << 10;

const WRITERS: u64 = 4;
/// Messages of a writer that wait for their confirmation.
const IN_FLIGHT: usize = 8;
/// Between the keeper's deeds at most.
const PAUSE: Duration = Duration::from_millis(60);
/// With asynchronous flush nobody waits for the disk, so a writer waits itself.
const PACE: Duration = Duration::from_millis(2);
/// After an append was refused.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The store's directory.
    pub root: PathBuf,
    /// When it is acknowledged.
    pub flush: Flush,
    /// Of the dice.
    pub seed: u64,
    /// Makes the names of this life's messages differ from those of others.
    pub life: u64,
}

/// The store as the driver and the auditor open it.
#[must_use]
pub fn config(root: PathBuf, flush: Flush) -> Config {
    Config {
        segment_bytes: SEGMENT_BYTES,
        flush,
        delete_at_hour: None,
        max_log_bytes: Some(MAX_LOG_BYTES),
        max_body_bytes: 64 << 10,
        ..Config::new(root)
    }
}

/// Writes until it is killed, or until the store refuses for good. `opened` is called once the store is open.
pub fn drive(plan: &Plan, pen: &Pen, opened: impl FnOnce()) -> Result<()> {
    let (store, _) = Store::open(config(plan.root.clone(), plan.flush))?;
    opened();
    let mut dice = Dice::new(plan.seed ^ plan.life);
    // The first thread that ends ends it all.
    let (tell, ended) = channel();
    let start = |work: Box<dyn FnOnce() -> Result<()> + Send>| {
        let tell = tell.clone();
        thread::spawn(move || tell.send(work()))
    };
    for number in 0..WRITERS {
        let writer = Writer {
            store: store.clone(),
            pen: pen.clone(),
            dice: dice.fork(),
            flush: plan.flush,
            name: format!("{}-{number}", plan.life),
            topic: TOPICS[number as usize % TOPICS.len()],
        };
        start(Box::new(move || writer.run()));
    }
    let (store, pen, dice) = (store.clone(), pen.clone(), dice.fork());
    start(Box::new(move || keep(&store, &pen, dice)));
    ended.recv().context("all threads of the driver are gone")?
}

struct Writer {
    store: Store,
    pen: Pen,
    dice: Dice,
    flush: Flush,
    name: String,
    topic: &'static str,
}

impl Writer {
    fn run(mut self) -> Result<()> {
        // As many permits as may be in flight, and the first failure.
        let (give, take) = sync_channel(IN_FLIGHT);
        (0..IN_FLIGHT).for_each(|_| give.send(()).expect("there is room for every permit"));
        let failed: Arc<Mutex<Option<String>>> = Arc::default();
        let mut number = 0_u64;
        let mut segment = 0;
        loop {
            take.recv().expect("this holds a sender itself");
            if let Some(why) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
                bail!("not confirmed: {why}");
            }
            let count = if self.dice.once_in(8) { 1 + self.dice.below(5) } else { 1 };
            let queue = self.dice.below(u64::from(QUEUES)) as u32;
            let messages: Vec<_> = (number..number + count).map(|number| self.message(number)).collect();
            number += count;
            for (name, body) in &messages {
                let key = Some(format!("{}-{queue}", self.name));
                let hash = BodyHash::of(body);
                self.pen.note(name, What::Attempt { topic: self.topic.to_owned(), key, hash })?;
            }
            let Some(places) = self.append(queue, &messages)? else {
                give.send(()).expect("the permit that was taken has room");
                thread::sleep(BACK_OFF);
                continue;
            };
            let (end, log) = (places.1, places.0[0].log.unwrap_or_default());
            if log / SEGMENT_BYTES != segment {
                segment = log / SEGMENT_BYTES;
                self.pen.note("roll", What::Event)?;
            }
            let names: Vec<_> = messages.into_iter().map(|(name, _)| name).zip(places.0).collect();
            let (pen, give, failed) = (self.pen.clone(), give.clone(), Arc::clone(&failed));
            self.store.on_confirmed(
                end,
                Box::new(move |confirmed| {
                    let told = match confirmed {
                        Ok(()) => {
                            names.iter().try_for_each(|(name, at)| pen.note(name, What::Acknowledged(*at)))
                        }
                        Err(error) => Err(error.into()),
                    };
                    if let Err(error) = told {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
                    }
                    // The writer may have ended with an error.
                    let _ = give.send(());
                }),
            );
            if self.flush == Flush::Async {
                thread::sleep(PACE);
            }
        }
    }

    /// A name, and a body of it that is like no other.
    fn message(&mut self, number: u64) -> (String, Vec<u8>) {
        let name = format!("{}-{number}", self.name);
        let most = if self.dice.once_in(50) { 60_000 } else { 4000 };
        let len = name.len() + self.dice.below(most) as usize;
        let body = name.bytes().chain(*b" ").cycle().take(len).collect();
        (name, body)
    }

    /// Where each went, and the end of them; `None` if there was no room.
    fn append(&self, queue: u32, messages: &[(String, Vec<u8>)]) -> Result<Option<(Vec<Place>, LogOffset)>> {
        let host = SocketAddr::from((Ipv4Addr::LOCALHOST, 8081));
        let properties: Vec<_> = messages
            .iter()
            .map(|(name, _)| {
                let mut properties = Properties::default();
                properties.push(NAME, name);
                properties
            })
            .collect();
        let records: Vec<_> = messages
            .iter()
            .zip(&properties)
            .map(|((_, body), properties)| NewRecord {
                topic: self.topic,
                queue_id: QueueId(queue),
                body,
                properties: properties.as_bytes(),
                tag: None,
                flag: 0,
                sys_flag: 0,
                born_at_ms: 0,
                born_host: host,
                store_host: host,
                reconsume_times: 0,
                prepared_offset: LogOffset(0),
            })
            .collect();
        let appended = match self.store.append(&records) {
            Ok(appended) => appended,
            Err(AppendError::DiskFull(_)) => {
                messages.iter().try_for_each(|(name, _)| self.pen.note(name, What::Refused))?;
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        // Only the first one's place in the log is told.
        let log = |index| (index == 0).then_some(appended.start.0);
        let place = |(index, offset): (usize, &store::QueueOffset)| Place {
            queue: Some(queue),
            offset: Some(offset.0),
            log: log(index),
        };
        Ok(Some((appended.queue_offsets.iter().enumerate().map(place).collect(), appended.end)))
    }
}

/// Housekeeping for ever.
fn keep(store: &Store, pen: &Pen, mut dice: Dice) -> Result<()> {
    loop {
        thread::sleep(dice.shorter_than(PAUSE));
        if dice.once_in(2) {
            pen.note("snapshot", What::Event)?;
            store.snapshot()?;
        } else {
            pen.note("housekeeping", What::Event)?;
            store.housekeep();
        }
    }
}
