//! How far a long command is, on stderr: a line that stays in its place on a terminal, else one every few seconds.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use store::offline::Progress;

use crate::units;

/// Between two updates of the line on a terminal.
const ON_TERMINAL: Duration = Duration::from_millis(200);
/// Between two lines in a log.
const IN_LOG: Duration = Duration::from_secs(5);

/// Tells how far a command is. Commands that end soon tell nothing.
pub(super) struct Meter {
    verb: &'static str,
    terminal: bool,
    started: Instant,
    told_at: Instant,
    told: bool,
}

impl Meter {
    /// `verb` reads like "verified".
    pub(super) fn new(verb: &'static str) -> Self {
        let now = Instant::now();
        Self { verb, terminal: std::io::stderr().is_terminal(), started: now, told_at: now, told: false }
    }

    /// Tells it if it is time to.
    pub(super) fn tell(&mut self, progress: Progress) {
        let every = if self.terminal { ON_TERMINAL } else { IN_LOG };
        // Called for every record: mostly this is all that is done.
        if self.told_at.elapsed() < every {
            return;
        }
        self.told_at = Instant::now();
        let line = line(self.verb, progress, self.started.elapsed());
        let mut stderr = std::io::stderr().lock();
        // Nobody hears that nobody can be told.
        let _ = match self.terminal {
            true => write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{line}"),
        };
        self.told = true;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.told && self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(verb: &str, progress: Progress, elapsed: Duration) -> String {
    let Progress { done_bytes, total_bytes } = progress;
    let percent = done_bytes.saturating_mul(100).checked_div(total_bytes).unwrap_or(100).min(100);
    let rate = done_bytes as f64 / elapsed.as_secs_f64().max(0.001);
    let left = total_bytes.saturating_sub(done_bytes) as f64 / rate.max(1.0);
    format!(
        "{verb} {} of {} ({percent} %), {}/s, {} left",
        units::bytes(done_bytes),
        units::bytes(total_bytes),
        units::bytes(rate as u64),
        units::duration(Duration::from_secs(left as u64 + 1)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_how_much_how_fast_and_how_long() {
        let progress = Progress { done_bytes: 3 << 30, total_bytes: 20 << 30 };
        assert_eq!(
            line("verified", progress, Duration::from_secs(2)),
            "verified 3.0 GiB of 20 GiB (15 %), 1.5 GiB/s, 12s left"
        );
        let nothing = Progress { done_bytes: 0, total_bytes: 0 };
        assert_eq!(line("read", nothing, Duration::ZERO), "read 0 B of 0 B (100 %), 0 B/s, 1s left");
    }
}
