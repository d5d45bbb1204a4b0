//! A disk that fills up, again and again, by messages or by somebody else, under a real broker: it refuses and says so, lives
//! on, and takes messages again within seconds of the room's return.
//!
//! ```text
//!   a volume of 256 MiB ◄── broker ◄── senders until they are refused
//!           ▲
//!           └── somebody else: to the last block, while the broker is busy or idle; and the room's return
//! ```
//!
//! A life is a new volume and a broker with settings of its own. At its end every message that was acknowledged is read.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::broker::Broker;
use crate::dice::Dice;
use crate::load::{Book, QUEUES, TOPIC};
use crate::room::{FileSystem, Room, Volume};
use crate::wire::{Refusal, Wire};

const VOLUME_BYTES: u64 = 256 << 20;
/// Cycles of a volume. Each takes a part of it for good, since no message goes.
const CYCLES_OF_A_LIFE: u64 = 5;
/// Room for the messages of a cycle: more than two segments, and a tenth of the disk.
const CYCLE_BYTES: usize = 28 << 20;
const SENDERS: u64 = 4;
const MOST_BODY_BYTES: u64 = 256 << 10;
/// So often in a row is a sender refused before it believes it.
const REFUSALS: u64 = 3;
/// Within this time of the room's return messages are taken again.
const RETURN: Duration = Duration::from_secs(5);
/// Within this time somebody gets an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// How long filling the disk may take.
const FILL: Duration = Duration::from_secs(120);
/// How long reading it all may take.
const AUDIT: Duration = Duration::from_secs(180);
/// Somebody else keeps the disk full for as long at most; an idle broker may notice or not.
const KEPT_FULL: Duration = Duration::from_secs(5);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// What was tried.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Times that the disk was full and had room again.
    pub cycles: u64,
    /// Volumes.
    pub lives: u64,
    /// Messages that were acknowledged, and read at the end.
    pub acknowledged: usize,
    /// The longest time that messages were refused after the room's return.
    pub longest_return: Duration,
}

/// Fills and frees so many times. An error says what was not as promised.
pub fn run(program: &Path, cycles: u64, seed: u64) -> Result<Outcome> {
    let room = Room::new(1 << 30)?;
    let mut dice = Dice::new(seed);
    let mut outcome = Outcome::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    while outcome.cycles < cycles {
        let wanted = CYCLES_OF_A_LIFE.min(cycles - outcome.cycles);
        let dir = room.dir(&format!("life-{}", outcome.lives))?;
        let mut life = Life::begin(program, &dir, &runtime, dice.fork())?;
        for number in 0..wanted {
            let tried = life.cycle(number);
            let returned = tried.map_err(|error| anyhow!("{error:#}\n{}", life.broker.tail()))?;
            outcome.longest_return = outcome.longest_return.max(returned);
            outcome.cycles += 1;
        }
        outcome.acknowledged += life.end()?;
        outcome.lives += 1;
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(outcome)
}

/// Who fills the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filler {
    /// The messages do.
    Messages,
    /// Somebody else, to the last block, while messages are sent.
    Stranger,
    /// Somebody else, while the broker has nothing to do.
    StrangerWhileIdle,
}

/// How the disk gets full, and what happens then.
#[derive(Clone, Copy, Debug)]
struct Cycle {
    filler: Filler,
    /// The broker is killed and started again while the disk is full.
    restart: bool,
    /// Nobody sends when there is room again: the broker finds out by itself.
    quiet: bool,
}

impl Cycle {
    /// A store that was idle looks at its disk rarely.
    const FIRST: Self = Self { filler: Filler::Stranger, restart: false, quiet: true };

    fn of(dice: &mut Dice) -> Self {
        let filler = *dice.one_of(&[Filler::Messages, Filler::Stranger, Filler::StrangerWhileIdle]);
        Self { filler, restart: dice.once_in(4), quiet: dice.once_in(2) }
    }
}

/// A volume and its broker. Fields are dropped in their order: who writes first.
struct Life<'a> {
    runtime: &'a Runtime,
    dice: Dice,
    settings: String,
    book: Book,
    wire: Wire,
    broker: Broker,
    volume: Volume,
    /// Room that comes back, a file a cycle.
    ballast: Vec<PathBuf>,
}

impl<'a> Life<'a> {
    fn begin(program: &Path, dir: &Path, runtime: &'a Runtime, mut dice: Dice) -> Result<Self> {
        let image = dir.join("image");
        FileSystem::Ext4.make(&image, VOLUME_BYTES)?;
        let volume = Volume::mount(&image, dir.join("volume"))?;
        let mut ballast = Vec::new();
        for number in 0..CYCLES_OF_A_LIFE {
            let file = volume.dir().join(format!("ballast-{number}"));
            std::fs::write(&file, vec![1; CYCLE_BYTES])?;
            ballast.push(file);
        }
        let settings = format!(
            "flush: {}\nsegmentSize: 8Mi\nmessageRetention: {{refusePercent: {}}}\n",
            dice.one_of(&["Sync", "Async"]),
            // At 100 the disk itself refuses.
            dice.one_of(&[90, 100]),
        );
        let broker = Broker::start(program, &volume.dir().join("data"), dir, &settings)?;
        let (book, mut wire) = (Book::default(), runtime.block_on(async { broker.wire("prober") })?);
        runtime.block_on(async {
            broker.make_topic(TOPIC, QUEUES).await?;
            // So that the group is known before the disk is full.
            let received = book.receive(&mut wire, "live").await;
            received.map(drop).map_err(|refusal| anyhow!("{refusal:?}"))
        })?;
        Ok(Self { runtime, dice, settings, book, wire, broker, volume, ballast })
    }

    /// Full, and free again; how long messages were refused then.
    fn cycle(&mut self, number: u64) -> Result<Duration> {
        let cycle = if number == 0 { Cycle::FIRST } else { Cycle::of(&mut self.dice) };
        self.full(cycle).with_context(|| format!("{cycle:?}, {}", self.settings))
    }

    fn full(&mut self, Cycle { filler, restart, quiet }: Cycle) -> Result<Duration> {
        let stranger = self.volume.dir().join("stranger");
        match filler {
            Filler::Messages => self.send_until_refused()?,
            Filler::Stranger => {
                fill(&stranger)?;
                self.send_until_refused()?;
            }
            Filler::StrangerWhileIdle => {
                fill(&stranger)?;
                std::thread::sleep(self.dice.shorter_than(KEPT_FULL));
            }
        }
        self.broker.ensure_running()?;
        let (book, wire) = (&self.book, &mut self.wire);
        let start = Instant::now();
        loop {
            match self.runtime.block_on(book.receive(wire, "live")) {
                Ok(_) => break,
                Err(Refusal::Silence(_)) if start.elapsed() <= SILENCE => {}
                Err(refusal) => bail!("consuming goes on while the disk is full, but: {refusal:?}"),
            }
        }
        if restart {
            self.broker.kill()?;
            self.broker.start_again().context("it was killed while the disk was full, and started again")?;
        }
        if filler != Filler::Messages {
            std::fs::remove_file(&stranger)?;
        }
        // Messages came in any case, into the segments that were there.
        let ballast = self.ballast.pop().context("there is ballast for each cycle")?;
        std::fs::remove_file(ballast)?;
        self.returns(quiet)
    }

    /// The room is back: how long messages are refused.
    fn returns(&mut self, quiet: bool) -> Result<Duration> {
        let start = Instant::now();
        if quiet {
            self.broker.until("it is ready again", RETURN, |readiness| readiness.ready)?;
        }
        let mut refused_until = start.elapsed();
        loop {
            let (book, wire, dice) = (&self.book, &mut self.wire, &mut self.dice);
            let sent = self.runtime.block_on(book.send(wire, dice, MOST_BODY_BYTES));
            self.broker.ensure_running()?;
            let now = start.elapsed();
            match sent {
                Ok(()) => break,
                Err(Refusal::Answered { .. }) if now <= RETURN => refused_until = now,
                // The disk of a busy machine may be slow; it does not refuse.
                Err(Refusal::Silence(_)) if now <= SILENCE => {}
                Err(refusal) => bail!("{now:?} after there was room again: {refusal:?}"),
            }
            std::thread::sleep(PAUSE);
        }
        self.broker.until("it is ready again", RETURN, |readiness| readiness.ready)?;
        Ok(refused_until)
    }

    /// Several senders, until each is refused.
    fn send_until_refused(&mut self) -> Result<()> {
        let mut senders = JoinSet::new();
        for number in 0..SENDERS {
            let wire = self.runtime.block_on(async { self.broker.wire(&format!("sender-{number}")) })?;
            senders.spawn_on(
                send_until_refused(wire, self.book.clone(), self.dice.fork()),
                self.runtime.handle(),
            );
        }
        let ended = self.runtime.block_on(async {
            let all = async {
                while let Some(sentence) = senders.join_next().await {
                    let sentence = sentence?;
                    ensure!(sentence.contains("disk"), "that the disk is full is not said: {sentence}");
                }
                anyhow::Ok(())
            };
            tokio::time::timeout(FILL, all).await
        });
        self.broker.ensure_running()?;
        ended.with_context(|| format!("the disk was not full within {FILL:?}"))?
    }

    /// Stops it one way or another, and reads everything.
    fn end(mut self) -> Result<usize> {
        if self.dice.once_in(2) {
            self.broker.stop()?;
        } else {
            self.broker.kill()?;
        }
        self.broker.start_again()?;
        let (book, wire) = (&self.book, &mut self.wire);
        self.runtime.block_on(book.audit(wire, "audit", AUDIT)).with_context(|| self.broker.tail())?;
        let acknowledged = book.lock().acknowledged_count();
        self.broker.stop()?;
        Ok(acknowledged)
    }
}

/// Sends until it is refused several times in a row; the last sentence.
async fn send_until_refused(mut wire: Wire, book: Book, mut dice: Dice) -> String {
    let mut refused = 0;
    loop {
        match book.send(&mut wire, &mut dice, MOST_BODY_BYTES).await {
            Ok(()) => refused = 0,
            Err(Refusal::Silence(_)) => tokio::time::sleep(PAUSE).await,
            Err(Refusal::Answered { message, .. }) if refused + 1 == REFUSALS => return message,
            Err(Refusal::Answered { .. }) => {
                refused += 1;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Writes a file until the disk has no block left.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    let mut bytes = 1 << 20;
    let zeros = vec![0; bytes];
    while bytes > 0 {
        match file.write(&zeros[..bytes]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => bytes /= 2,
            Err(error) => return Err(error).context("cannot fill the disk"),
        }
    }
    Ok(())
}
