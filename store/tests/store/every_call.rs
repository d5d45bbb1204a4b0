//! One fault at every call that a long trace makes to its disk.
//!
//! The trace has 2,000 operations, and the store is closed and opened again after each 25 of them. What a faulted run
//! shares with the trace before its opening is not run again: it goes on from a copy of the disk.

use std::sync::atomic::{AtomicUsize, Ordering};

use store::Flush;
use store::disk::{Crash, Fault};

use crate::trace::{Op, Saved, operations};

const SEED: u64 = 20_261_121;
const OPERATIONS: usize = 2_000;
const BETWEEN_OPENINGS: usize = 25;
/// Methods that change nothing on the disk.
const READS: [&str; 6] = ["data_end", "list", "map", "read", "read_at", "space"];
/// The machine may be small.
const THREADS: usize = 2;

/// A part of the trace: from an opening to a closing.
struct Part {
    number: usize,
    before: Saved,
    operations: Vec<Op>,
    calls: u64,
}

/// Runs the trace without a fault.
fn parts(flush: Flush) -> Vec<Part> {
    let mut before = Saved::new(flush);
    let mut parts = Vec::new();
    for operations in operations(SEED, OPERATIONS).chunks(BETWEEN_OPENINGS) {
        let mut life = before.resume();
        life.open().unwrap();
        operations.iter().for_each(|op| life.apply(op));
        life.close();
        let calls = life.disk.calls();
        let after = life.save();
        parts.push(Part { number: parts.len(), before, operations: operations.to_vec(), calls });
        before = after;
    }
    parts
}

/// Runs a part with a fault at this call, and looks at what crashes leave: just then, and at the end. Says which method
/// of the disk failed.
fn run(part: &Part, call: u64, fault: Fault) -> &'static str {
    let mut life = part.before.resume();
    life.disk.fail_call_with(call, fault);
    let crashes = [Crash::Kill, Crash::LoseUnsynced, Crash::Tear(call * 2 + 1)];
    let mut failed = None;
    if let Err(error) = life.open() {
        failed = life.disk.failed();
        assert!(failed.is_some(), "nothing keeps it from opening: {error}");
        crashes.iter().for_each(|crash| life.crash(*crash));
        life.open().unwrap();
    }
    for op in &part.operations {
        life.apply(op);
        if failed.is_none() && life.disk.failed().is_some() {
            failed = life.disk.failed();
            life.check();
            if failed.as_ref().is_some_and(|failed| READS.contains(&failed.call)) {
                life.crash(crashes[(call + 1) as usize % crashes.len()]);
            } else {
                crashes.iter().for_each(|crash| life.crash(*crash));
            }
            life.settle();
        }
    }
    if failed.is_some() {
        life.check();
    }
    life.close();
    life.crash(crashes[call as usize % crashes.len()]);
    life.disk.failed().expect("the fault strikes").call
}

/// A fault of each kind that makes a difference.
fn every_fault(part: &Part, call: u64) {
    match run(part, call, Fault::Refuse) {
        "flush" | "sync" | "sync_dir" | "rename" | "remove" => {
            run(part, call, Fault::Half);
        }
        "write" | "write_at" => {
            run(part, call, Fault::Half);
            run(part, call, Fault::Full);
        }
        "allocate" => {
            run(part, call, Fault::Full);
        }
        _ => {}
    }
}

fn whichever_call_fails(flush: Flush) {
    let parts = parts(flush);
    let cases: Vec<_> = parts.iter().flat_map(|part| (0..part.calls).map(move |call| (part, call))).collect();
    assert!(cases.len() > 2_000, "the trace has only {} calls", cases.len());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(&(part, call)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let _told = Told(format!("call {call} of part {}, {flush:?}", part.number), &next);
                    every_fault(part, call);
                }
            });
        }
    });
}

/// Says which case panicked, and lets the others be.
struct Told<'a>(String, &'a AtomicUsize);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the fault was at {}", self.0);
            self.1.store(usize::MAX / 2, Ordering::Relaxed);
        }
    }
}

#[test]
fn whichever_call_of_a_long_trace_fails_sync_flush_keeps_its_word() {
    whichever_call_fails(Flush::Sync);
}

#[test]
fn whichever_call_of_a_long_trace_fails_async_flush_keeps_its_word() {
    whichever_call_fails(Flush::Async);
}
