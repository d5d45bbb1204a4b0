//! A line on stderr that says how far a long command is: it stays in its place on a terminal, and is written anew every
//! few seconds elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Between two updates of the line on a terminal.
const ON_TERMINAL: Duration = Duration::from_millis(200);
/// Between two lines in a log.
const IN_LOG: Duration = Duration::from_secs(5);

/// Tells how far a command is. Commands that end soon tell nothing.
pub(crate) struct Teller {
    terminal: bool,
    started: Instant,
    told_at: Instant,
    told: bool,
}

impl Teller {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { terminal: std::io::stderr().is_terminal(), started: now, told_at: now, told: false }
    }

    /// Tells the line if it is time to; it is given how long the command runs.
    pub(crate) fn tell(&mut self, line: impl FnOnce(Duration) -> String) {
        let every = if self.terminal { ON_TERMINAL } else { IN_LOG };
        // Called for every single thing: mostly this is all that is done.
        if self.told_at.elapsed() < every {
            return;
        }
        self.told_at = Instant::now();
        let line = line(self.started.elapsed());
        let mut stderr = std::io::stderr().lock();
        // Nobody hears that nobody can be told.
        let _ = match self.terminal {
            true => write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush()),
            false => writeln!(stderr, "{line}"),
        };
        self.told = true;
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        if self.told && self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
