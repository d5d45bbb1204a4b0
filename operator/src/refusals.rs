//! What the API server would not take, kept for a while, so that the same is not asked for at every look. Pure but for its lock.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant},
};

/// After so long the same is asked for again: somebody may have allowed it.
pub const AGAIN: Duration = Duration::from_secs(600);

/// What was refused, by what was asked for: when, and why.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, (Instant, String)>>);

impl Refusals {
    /// Why `what` was refused, unless that is long ago.
    pub fn lately(&self, what: &str, now: Instant) -> Option<String> {
        let all = self.0.lock().expect("no panic while the lock is held");
        let (at, why) = all.get(what)?;
        is_recent(*at, now).then(|| why.clone())
    }

    /// Remembers that `what` was refused, and forgets what is long ago.
    pub fn remember(&self, what: String, why: String, now: Instant) {
        let mut all = self.0.lock().expect("no panic while the lock is held");
        all.retain(|_, (at, _)| is_recent(*at, now));
        all.insert(what, (now, why));
    }
}

fn is_recent(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) < AGAIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_known_until_it_is_time_to_ask_again() {
        let refusals = Refusals::default();
        let now = Instant::now();
        refusals.remember("a".to_owned(), "no".to_owned(), now);
        assert_eq!(refusals.lately("a", now + AGAIN / 2).as_deref(), Some("no"));
        assert_eq!(refusals.lately("b", now), None);
        assert_eq!(refusals.lately("a", now + AGAIN), None);
        refusals.remember("b".to_owned(), "no".to_owned(), now + AGAIN);
        assert_eq!(refusals.0.lock().unwrap().len(), 1, "what is long ago takes no room");
    }
}
