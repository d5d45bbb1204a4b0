//! The slowest calls, and whose fault they were: a thread that the system put aside for others says nothing about the
//! program, one that slept by itself does.

use std::time::Duration;

/// Steps by which calls are counted, microseconds.
const STEPS: [u64; 4] = [10, 100, 1_000, 10_000];

#[derive(Default)]
pub(crate) struct Stalls {
    over: [u64; STEPS.len()],
    longest: Duration,
    /// Of the calls over a millisecond: the thread was put aside, and did not sleep.
    put_aside: u64,
    /// It slept: it waited for something.
    waited: u64,
    longest_wait: Duration,
    switches: Switches,
}

#[derive(Clone, Copy, Default)]
struct Switches {
    own: u64,
    forced: u64,
}

impl Stalls {
    pub(crate) fn note(&mut self, took: Duration) {
        if took < Duration::from_micros(STEPS[0]) {
            return;
        }
        for (step, over) in STEPS.iter().zip(&mut self.over) {
            *over += u64::from(took >= Duration::from_micros(*step));
        }
        self.longest = self.longest.max(took);
        if took >= Duration::from_millis(1) {
            let now = switches();
            if now.own > self.switches.own {
                self.waited += 1;
                self.longest_wait = self.longest_wait.max(took);
            } else if now.forced > self.switches.forced {
                self.put_aside += 1;
            }
            self.switches = now;
        }
    }

    /// The thread slept between two calls, which is no fault of theirs.
    pub(crate) fn slept(&mut self) {
        self.switches = switches();
    }

    pub(crate) fn print(&self) {
        let [us10, us100, ms1, ms10] = self.over;
        println!(
            "  slower than 10 µs: {us10}, 100 µs: {us100}, 1 ms: {ms1}, 10 ms: {ms10}; longest {:?}",
            self.longest
        );
        println!(
            "  of those over 1 ms: {} waited for something (longest {:?}), {} were put aside for other threads of the machine",
            self.waited, self.longest_wait, self.put_aside
        );
    }
}

/// How often this thread gave up its core, by itself and by force.
fn switches() -> Switches {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let number = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim_start_matches(':').trim().parse().ok()).unwrap_or(0)
    };
    Switches { own: number("voluntary_ctxt_switches"), forced: number("nonvoluntary_ctxt_switches") }
}
