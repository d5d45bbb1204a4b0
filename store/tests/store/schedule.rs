//! The schedule against a model that is a list: random operations, crashes, failing and rotting disks included.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use store::LogOffset;
use store::disk::{Crash, Disk as _, MemoryDisk};
use store::schedule::{Limits, Noted, Schedule, Scheduled, Standing, Work};

const ROOT: &str = "/data";

#[derive(Clone, Debug)]
enum Op {
    Put { delays: Vec<i64> },
    Cancel { which: usize },
    Move { which: usize },
    Take { wait: i64, max: usize, back: bool },
    Note { early: bool },
    Work { times: usize },
    Fail { call: u64 },
    Rot { file: usize, at: usize },
    Crash { crash: Crash, lost: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let crash = prop_oneof![Just(Crash::Kill), Just(Crash::LoseUnsynced), any::<u64>().prop_map(Crash::Tear)];
    prop_oneof![
        6 => prop::collection::vec(-5..60i64, 1..12).prop_map(|delays| Op::Put { delays }),
        2 => any::<usize>().prop_map(|which| Op::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Op::Move { which }),
        4 => (0..20i64, 0..20usize, prop::bool::weighted(0.2))
            .prop_map(|(wait, max, back)| Op::Take { wait, max, back }),
        4 => any::<bool>().prop_map(|early| Op::Note { early }),
        5 => (1..4usize).prop_map(|times| Op::Work { times }),
        1 => (0..12u64).prop_map(|call| Op::Fail { call }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(file, at)| Op::Rot { file, at }),
        2 => (crash, any::<usize>()).prop_map(|(crash, lost)| Op::Crash { crash, lost }),
    ]
}

/// What the log says, a record each.
#[derive(Clone, Copy, Debug)]
enum Event {
    Put { due: i64 },
    Moved { due: i64, id: u64 },
    Cancelled { due: i64, id: u64 },
    Done { due: i64, id: u64 },
}

/// Due time and id.
type Key = (i64, u64);

struct Run {
    disk: MemoryDisk,
    schedule: Schedule,
    log: Vec<Event>,
    durable: Cell<usize>,
    now: i64,
}

/// Where the record of this number lies.
fn place(number: usize) -> u64 {
    number as u64 * 10
}

fn scheduled(due_ms: i64, id: u64, at: u64) -> Scheduled {
    Scheduled { due_ms, id: LogOffset(id), at: LogOffset(at), size: 10, kind: 3 }
}

fn open(disk: &MemoryDisk, end: usize) -> io::Result<(Schedule, Option<Noted>)> {
    let log = LogOffset(0)..LogOffset(place(end));
    Schedule::open(
        Arc::new(disk.clone()),
        Path::new(ROOT),
        log,
        Limits { table_entries: 8, merge_entries: 7 },
    )
}

impl Run {
    fn new() -> Self {
        let disk = MemoryDisk::default();
        let (schedule, noted) = open(&disk, 0).unwrap();
        assert_eq!(noted, None);
        Self { disk, schedule, log: Vec::new(), durable: Cell::new(0), now: 0 }
    }

    /// What waits, and where, by the log.
    fn waiting(&self) -> BTreeMap<Key, u64> {
        let mut waiting = BTreeMap::new();
        for (number, event) in self.log.iter().enumerate() {
            let at = place(number);
            match *event {
                Event::Put { due } => drop(waiting.insert((due, at), at)),
                Event::Moved { due, id } => drop(waiting.insert((due, id), at)),
                Event::Cancelled { due, id } | Event::Done { due, id } => drop(waiting.remove(&(due, id))),
            }
        }
        waiting
    }

    fn cancelled(&self) -> BTreeSet<Key> {
        let cancelled = |event: &Event| match *event {
            Event::Cancelled { due, id } => Some((due, id)),
            _ => None,
        };
        self.log.iter().filter_map(cancelled).collect()
    }

    fn pick(&self, which: usize) -> Option<Key> {
        let waiting = self.waiting();
        waiting.keys().nth(which % waiting.len().max(1)).copied()
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Put { ref delays } => {
                for delay in delays {
                    let (due, at) = (self.now + delay, place(self.log.len()));
                    self.log.push(Event::Put { due });
                    self.schedule.put(scheduled(due, at, at));
                }
            }
            Op::Cancel { which } => {
                let Some((due, id)) = self.pick(which) else { return };
                self.log.push(Event::Cancelled { due, id });
                self.schedule.cancel(due, LogOffset(id));
            }
            Op::Move { which } => {
                let Some((due, id)) = self.pick(which) else { return };
                self.schedule.put(scheduled(due, id, place(self.log.len())));
                self.log.push(Event::Moved { due, id });
            }
            Op::Take { wait, max, back } => {
                self.now += wait;
                let due = self.waiting().into_iter().filter(|((due, _), _)| *due <= self.now).take(max);
                let expected: Vec<_> = due.map(|((due, id), at)| scheduled(due, id, at)).collect();
                let mut taken = Vec::new();
                // A disk that refuses in between cuts it short.
                while taken.len() < expected.len() {
                    let Ok(more) = self.schedule.take(self.now, max - taken.len()) else { break };
                    assert!(!more.is_empty(), "{:?} are due as well", &expected[taken.len()..]);
                    taken.extend(more);
                }
                assert_eq!(taken, expected[..taken.len()], "what is due, in order, and nothing else");
                for scheduled in taken {
                    if back {
                        self.schedule.put(scheduled);
                    } else {
                        self.log.push(Event::Done { due: scheduled.due_ms, id: scheduled.id.0 });
                    }
                }
            }
            Op::Note { early } => {
                // What is no put may be told twice.
                let last_put = self.log.iter().rposition(|event| matches!(event, Event::Put { .. }));
                let complete_to = if early { last_put.map_or(0, |put| put + 1) } else { self.log.len() };
                self.schedule.note(LogOffset(place(complete_to)), complete_to.to_string().into_bytes());
            }
            Op::Work { times } => {
                for _ in 0..times {
                    let flush = || {
                        self.durable.set(self.log.len());
                        Ok(())
                    };
                    self.schedule.work(&flush);
                }
            }
            Op::Fail { call } => self.disk.fail_call(call),
            Op::Rot { file, at } => {
                let paths = self.disk.paths();
                let Some(path) = paths.get(file % paths.len().max(1)) else { return };
                self.disk.edit(path, |bytes| {
                    if let Some(at) = at.checked_rem(bytes.len()) {
                        bytes[at] ^= 0x40;
                    }
                });
            }
            Op::Crash { crash, lost } => {
                self.disk = self.disk.crash(crash);
                if !matches!(crash, Crash::Kill) {
                    let durable = self.durable.get();
                    self.log.truncate(durable + lost % (self.log.len() - durable + 1));
                }
                let (schedule, noted) = open(&self.disk, self.log.len()).unwrap();
                self.schedule = schedule;
                let from = noted.map_or(0, |noted| {
                    assert_eq!(noted.note, (noted.complete_to.0 / 10).to_string().into_bytes());
                    noted.complete_to.0 / 10
                });
                self.tell(from as usize);
            }
        }
    }

    /// Tells what the log has from here on, as whoever opens a schedule does.
    fn try_tell(&self, from: usize) -> io::Result<()> {
        for (number, event) in self.log.iter().enumerate().skip(from) {
            let at = place(number);
            match *event {
                Event::Put { due } => self.schedule.put(scheduled(due, at, at)),
                Event::Moved { due, id } => {
                    if self.schedule.standing(due, LogOffset(id))? != Standing::Cancelled {
                        self.schedule.put(scheduled(due, id, at));
                    }
                }
                Event::Cancelled { due, id } => {
                    if matches!(self.schedule.standing(due, LogOffset(id))?, Standing::Waiting(_)) {
                        self.schedule.cancel(due, LogOffset(id));
                    }
                }
                Event::Done { due, id } => {
                    if matches!(self.schedule.standing(due, LogOffset(id))?, Standing::Waiting(_)) {
                        self.schedule.forget(due, LogOffset(id))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, from: usize) {
        if self.try_tell(from).is_err() {
            self.begin_anew();
        }
    }

    fn begin_anew(&mut self) {
        if self.schedule.clear().is_ok() {
            return self.try_tell(0).unwrap();
        }
        // After a flush that failed none succeeds: only another process can go on.
        self.apply(&Op::Crash { crash: Crash::Kill, lost: 0 });
    }

    fn check(&mut self) {
        let waiting = self.waiting();
        match self.listed() {
            Ok(listed) => {
                let expected: Vec<_> =
                    waiting.iter().map(|((due, id), at)| scheduled(*due, *id, *at)).collect();
                assert_eq!(listed, expected, "all that waits, in order");
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                assert!(self.schedule.is_damaged());
                self.begin_anew();
            }
            // The call that was to fail.
            Err(_) => {}
        }
        for (due, id) in self.cancelled() {
            let Ok(standing) = self.schedule.standing(due, LogOffset(id)) else { continue };
            let is_known =
                standing == Standing::Cancelled || due <= self.now && standing == Standing::Unknown;
            assert!(is_known, "{due} {id} was cancelled: {standing:?} at {}", self.now);
        }
    }

    fn listed(&self) -> io::Result<Vec<Scheduled>> {
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let (found, next) = self.schedule.lying_below(LogOffset(u64::MAX), after)?;
            all.extend(found);
            if next.is_none() {
                return Ok(all);
            }
            after = next;
        }
    }
}

fn configuration() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 256 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

proptest! {
    #![proptest_config(configuration())]

    #[test]
    fn a_schedule_is_its_model_through_crashes_and_failing_disks(ops in prop::collection::vec(op(), 1..60)) {
        let mut run = Run::new();
        for op in &ops {
            run.apply(op);
            run.check();
        }
    }
}

#[test]
fn many_runs_become_few_and_nothing_of_them_is_lost() {
    let mut run = Run::new();
    let mut dice = crate::support::Dice(7);
    for round in 0..60 {
        let delays = (0..11).map(|_| dice.below(5000) as i64).collect();
        run.apply(&Op::Put { delays });
        for _ in 0..3 {
            run.apply(&Op::Cancel { which: dice.below(500) });
        }
        run.apply(&Op::Note { early: round % 2 == 0 });
        while run.schedule.work(&|| Ok(())) == Work::Done {
            run.apply(&Op::Take { wait: 7, max: 2, back: false });
        }
        run.check();
    }
    run.check();
    let files = run.disk.list(&Path::new(ROOT).join("views/schedule")).unwrap();
    assert!(files.len() < 30, "{files:?}");
    run.apply(&Op::Take { wait: 2000, max: 200, back: false });
    run.apply(&Op::Crash { crash: Crash::Kill, lost: 0 });
    run.check();
    run.apply(&Op::Take { wait: 10_000, max: 1000, back: false });
    assert_eq!(run.schedule.next_due().unwrap(), None);
}
