//! The power goes, again and again, at every kind of moment: nothing acknowledged may be lost, and the views must be what the
//! log says.
//!
//! ```text
//!   driver (or broker) ─► store ─► ext4 ─► our block device ── cut ──► image ──► mount a copy: the file system recovers
//!         │                                       │                              open: the store recovers
//!         └─► ledger, a process of its own        └── how long the ledger was    read all; compare with the ledger
//!                                                     at that very moment        delete the views, open, compare
//! ```
//!
//! Most cuts are looked at while the world goes on. The last of a life is real: the next life begins with its image, and what
//! was found there is acknowledged from now on; what was not must never come back.

mod moment;

use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use store::Flush;

use crate::audit::{self, Found, Promise};
use crate::device::{Cut, Device};
use crate::dice::Dice;
use crate::driver::{self, MAX_LOG_BYTES, QUEUES, SEGMENT_BYTES, TOPICS};
use crate::ledger::{Ledger, Note, Recorder, What, now_ms};
use crate::process::{Process, SHORT};
use crate::room::{FileSystem, Room, Volume};
use moment::{Occasion, Occasions};

/// Small, so that an image is copied in no time; several times what the log holds.
const VOLUME_BYTES: u64 = 48 << 20;
/// Looks at a world before the power really goes.
const CUTS_OF_A_LIFE: u64 = 10;
/// How long a cut may be waited for; a world in which nothing is written any more is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was tried, and how much was at stake.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cuts.
    pub cuts: u64,
    /// How often the world went on from a cut.
    pub lives: u64,
    /// Acknowledged messages that cuts found, summed up.
    pub found: u64,
    /// Cuts that took some writes that no flush had followed, and cuts that left a torn tail.
    pub lossy: u64,
    /// See `lossy`.
    pub torn: u64,
}

/// Cuts the power so many times. An error says what was lost and where the evidence is.
pub fn run(program: &Path, flush: Flush, cuts: u64, seed: u64) -> Result<Outcome> {
    let room = Room::new(1 << 30)?;
    let mut dice = Dice::new(seed);
    let mut outcome = Outcome::default();
    let mut world = World::new(&room)?;
    while outcome.cuts < cuts {
        let cuts = CUTS_OF_A_LIFE.min(cuts - outcome.cuts);
        let mut life = Life::begin(&room, program, flush, world, outcome.lives, dice.any())?;
        for _ in 1..cuts {
            life.cut(&mut dice, &mut outcome)?;
        }
        world = life.end(&mut dice, &mut outcome)?;
        outcome.lives += 1;
    }
    Ok(outcome)
}

/// What a life begins with: a device's bytes, and a ledger of what is on it.
struct World {
    image: Vec<u8>,
    ledger: String,
}

impl World {
    fn new(room: &Room) -> Result<Self> {
        let file = room.dir("new")?.join("image");
        FileSystem::Ext4.make(&file, VOLUME_BYTES)?;
        let image = std::fs::read(&file)?;
        std::fs::remove_file(&file)?;
        Ok(Self { image, ledger: String::new() })
    }
}

/// From one start of the driver to its end. Fields are dropped in their order: who writes first, the device last.
struct Life<'a> {
    room: &'a Room,
    number: u64,
    flush: Flush,
    before: String,
    driver: Process,
    recorder: Recorder,
    _volume: Volume,
    device: Device,
}

impl<'a> Life<'a> {
    fn begin(
        room: &'a Room,
        program: &Path,
        flush: Flush,
        world: World,
        number: u64,
        seed: u64,
    ) -> Result<Self> {
        let dir = room.dir(&format!("life-{number}"))?;
        let device = Device::serve(world.image, &dir)?;
        let volume = Volume::mount(device.file(), dir.join("volume"))?;
        let recorder = Recorder::start(program, &dir)?;
        let mut command = std::process::Command::new(program);
        command.arg("drive").arg(store_in(volume.dir())).arg(recorder.socket());
        command.args(["--seed", &seed.to_string(), "--life", &number.to_string()]);
        if flush == Flush::Sync {
            command.arg("--sync");
        }
        let driver = Process::start(&mut command)?;
        driver.until("its line that the store is open", SHORT, |lines| lines.first().map(|_| ()))?;
        Ok(Self { room, number, flush, before: world.ledger, driver, recorder, _volume: volume, device })
    }

    /// A cut that is looked at, while the world goes on.
    fn cut(&mut self, dice: &mut Dice, outcome: &mut Outcome) -> Result<(Cut, Found)> {
        let occasion = Occasion::of(dice);
        let number = outcome.cuts;
        let judged = self.take(&occasion, dice.fork()).and_then(|(cut, at_ms)| {
            let found =
                self.look_at(&cut, at_ms, number).map_err(|error| self.with_evidence(error, &cut, number))?;
            Ok((cut, found))
        });
        let (cut, found) = judged.with_context(|| format!("cut {number}, {occasion}, {:?}", self.flush))?;
        outcome.cuts += 1;
        outcome.found += found.queues.values().map(|queue| queue.messages.len() as u64).sum::<u64>();
        outcome.lossy += u64::from(cut.lost > 0);
        outcome.torn += u64::from(found.recovered.cut_bytes > 0);
        Ok((cut, found))
    }

    /// The last cut: the power really goes, and this is the world that is left.
    fn end(mut self, dice: &mut Dice, outcome: &mut Outcome) -> Result<World> {
        let (cut, found) = self.cut(dice, outcome)?;
        self.driver.kill()?;
        Ok(World { image: cut.image, ledger: found.as_ledger() })
    }

    /// Waits for the occasion and cuts.
    fn take(&self, occasion: &Occasion, dice: Dice) -> Result<(Cut, u64)> {
        let notes = self.recorder.file();
        Occasions::new(notes)?.wait(&occasion.after, PATIENCE).with_context(|| self.driver.tail())?;
        let look = {
            let notes = notes.to_owned();
            Box::new(move || std::fs::metadata(&notes).map_or(0, |metadata| metadata.len()))
        };
        let cut = self.device.cut(occasion.moment, occasion.loss, dice, look);
        match cut.recv_timeout(PATIENCE) {
            Ok(cut) => Ok((cut, now_ms())),
            Err(RecvTimeoutError::Timeout) => {
                Err(anyhow!("nothing was written for {PATIENCE:?}: {}", self.driver.tail()))
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the device is gone"),
        }
    }

    /// Mounts a copy, opens the store in it, and judges.
    fn look_at(&self, cut: &Cut, cut_at_ms: u64, number: u64) -> Result<Found> {
        let file = self.room.dir("cut")?.join("image");
        std::fs::write(&file, &cut.image)?;
        let volume = Volume::mount(&file, self.room.dir("cut")?.join("volume"))
            .context("the file system did not survive: this is not the store's fault")?;
        let config = driver::config(store_in(volume.dir()), self.flush);
        let found = audit::read(&config, &TOPICS, QUEUES)
            .with_context(|| format!("cut {number}: the store does not open"))?;
        let promise = Promise {
            flush: self.flush,
            // A segment goes as a whole, and the one that is written to does not count yet.
            kept_bytes: MAX_LOG_BYTES - 2 * SEGMENT_BYTES,
            cut_at_ms,
        };
        let mut wrong = self.judge(cut, &found, &promise)?;
        wrong.extend(audit::compare_with_rebuilt(&found, &config, &TOPICS, QUEUES)?);
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        volume.unmount()?;
        Ok(found)
    }

    fn judge(&self, cut: &Cut, found: &Found, promise: &Promise) -> Result<Vec<String>> {
        // What was attempted right before the cut may be on its way into the ledger still.
        let end = Instant::now() + SHORT;
        loop {
            let notes = std::fs::read_to_string(self.recorder.file())?;
            let ledger = known_at(&self.before, &notes, cut.seen as usize)?;
            let all_known =
                found.in_log_order().iter().all(|(_, _, message)| ledger.message(&message.name).is_some());
            if all_known || Instant::now() > end {
                return Ok(audit::judge(ledger, found, promise));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Keeps what is needed to find out, outside of the room, which vanishes.
    fn with_evidence(&self, error: anyhow::Error, cut: &Cut, number: u64) -> anyhow::Error {
        let dir = std::env::temp_dir().join(format!("gantry-trial-evidence-{}", std::process::id()));
        let kept = keep(
            &dir,
            &[("image", &cut.image), ("ledger-before", self.before.as_bytes())],
            self.recorder.file(),
        );
        let seen = cut.seen;
        match kept {
            Ok(()) => error.context(format!(
                "life {}, cut {number}, {seen} bytes of ledger acknowledged; evidence in {}",
                self.number,
                dir.display()
            )),
            Err(not_kept) => error.context(format!("the evidence could not be kept: {not_kept:#}")),
        }
    }
}

fn keep(dir: &Path, files: &[(&str, &[u8])], notes: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for (name, content) in files {
        std::fs::write(dir.join(name), content)?;
    }
    std::fs::copy(notes, dir.join("ledger"))?;
    Ok(())
}

fn store_in(volume: &Path) -> PathBuf {
    volume.join("store")
}

/// The ledger at the moment of a cut: what was answered in the whole lines of its first `seen` bytes (a file grows by pages, also in the middle
/// of a write), and everything that was ever attempted, since an attempt may be noted late.
fn known_at(before: &str, notes: &str, seen: usize) -> Result<Ledger> {
    let mut ledger = Ledger::parse(before)?;
    let lines = |text: &str| text.rfind('\n').map_or(0, |end| end + 1);
    let whole = &notes[..lines(notes)];
    let (acknowledged, later) = whole.split_at(lines(&whole[..seen.min(whole.len())]));
    for (text, all) in [(acknowledged, true), (later, false)] {
        for line in text.lines() {
            let note: Note = line.parse()?;
            if all || matches!(note.what, What::Attempt { .. }) {
                ledger.note(&note);
            }
        }
    }
    Ok(ledger)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_after_the_cut_counts_as_attempted_only() {
        let notes = "1 attempt a t - 0000000000000001\n2 ack a 0 0 0\n";
        let later = "3 attempt b t - 0000000000000001\n4 ack b 0 1 9\n5 ack";
        for in_the_middle_of_a_line in [0, 9] {
            let seen = notes.len() + in_the_middle_of_a_line;
            let ledger = known_at("", &format!("{notes}{later}"), seen).unwrap();
            assert_eq!((ledger.acknowledged_count(), ledger.verdict().attempted), (1, 2));
        }
    }
}
