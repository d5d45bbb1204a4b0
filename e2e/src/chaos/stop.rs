//! Asked to stop, a run heals what it broke and ends.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Whether the run is asked to stop.
#[derive(Default)]
pub struct Stop {
    asked: Mutex<bool>,
    news: Condvar,
}

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.news.notify_all();
    }

    /// An error if it was asked.
    pub(super) fn check(&self) -> Result<()> {
        if *self.asked.lock().unwrap_or_else(PoisonError::into_inner) {
            bail!("stopped by hand");
        }
        Ok(())
    }

    /// Lets so much time pass: that is how long a fault lasts. An error as soon as the run is to stop.
    pub(super) fn pass(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while !*asked {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return Ok(()) };
            asked = self.news.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        bail!("stopped by hand")
    }
}
