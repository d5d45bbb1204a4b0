//! When something is looked at again of which nobody will tell: soon, and all of it together not too often. Pure, but for
//! [`Again`], which has the clock.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

const SOON: Duration = Duration::from_secs(5);
/// Where very many wait, one comes after the other.
const APART: Duration = Duration::from_millis(5);
/// Nothing waits longer, however many there are.
const LONGEST: Duration = Duration::from_secs(600);

/// Gives out turns.
#[derive(Debug)]
pub struct Again(Mutex<Instant>);

impl Default for Again {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Again {
    /// How long to wait for the next turn.
    pub fn wait(&self) -> Duration {
        let now = Instant::now();
        let mut free = self.0.lock().expect("no panic while the lock is held");
        let turn = turn(now, *free);
        *free = turn + APART;
        turn.duration_since(now)
    }
}

/// The next turn, where the first that nobody has is `free`.
fn turn(now: Instant, free: Instant) -> Instant {
    free.clamp(now + SOON, now + LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_come_again_soon_and_many_one_after_the_other_but_not_for_ever() {
        let now = Instant::now();
        assert_eq!(turn(now, now), now + SOON);
        let later = now + Duration::from_secs(60);
        assert_eq!(turn(now, later), later);
        assert_eq!(turn(now, now + LONGEST * 2), now + LONGEST);

        let again = Again::default();
        let last = (0..2000).map(|_| again.wait()).last().unwrap();
        assert!(last > SOON + Duration::from_secs(5), "{last:?}");
    }
}
