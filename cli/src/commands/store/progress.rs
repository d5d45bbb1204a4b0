//! How far a walk through a store is.

use std::time::Duration;

use store::offline::Progress;

use crate::progress::Teller;
use crate::units;

/// Tells how far a command is.
pub(super) struct Meter {
    verb: &'static str,
    teller: Teller,
}

impl Meter {
    /// `verb` reads like "verified".
    pub(super) fn new(verb: &'static str) -> Self {
        Self { verb, teller: Teller::new() }
    }

    /// Tells it if it is time to.
    pub(super) fn tell(&mut self, progress: Progress) {
        self.teller.tell(|elapsed| line(self.verb, progress, elapsed));
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
