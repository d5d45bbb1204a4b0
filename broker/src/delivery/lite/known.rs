//! The lite topics of one parent topic: how many there may be, and which were idle for long. Pure: time is a parameter.

use std::collections::HashMap;
use std::time::Duration;

use access::LiteTopic;

use crate::delivery::queue::Millis;

/// Why nothing is sent to a lite topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    TooMany,
    /// It is being removed.
    Going,
}

#[derive(Debug)]
struct Life {
    last_sent_at: Millis,
    /// Sends under way.
    sends: u32,
    going: bool,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Known(HashMap<LiteTopic, Life>);

impl Known {
    /// One that is in the log. Nothing says cheaply when it was sent to, so it counts from now.
    pub(super) fn restore(&mut self, lite: LiteTopic, now: Millis) {
        self.0.insert(lite, Life { last_sent_at: now, sends: 0, going: false });
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn all(&self) -> Vec<LiteTopic> {
        self.0.keys().cloned().collect()
    }

    pub(super) fn contains(&self, lite: &str) -> bool {
        self.0.contains_key(lite)
    }

    /// A send begins; the first makes the lite topic. Follow with [`Known::sent`].
    pub(super) fn send(&mut self, lite: &LiteTopic, now: Millis, most: usize) -> Result<(), Refused> {
        let is_full = self.0.len() >= most;
        match self.0.get_mut(lite) {
            Some(Life { going: true, .. }) => Err(Refused::Going),
            Some(life) => {
                life.sends += 1;
                life.last_sent_at = now;
                Ok(())
            }
            None if is_full => Err(Refused::TooMany),
            None => {
                self.0.insert(lite.clone(), Life { last_sent_at: now, sends: 1, going: false });
                Ok(())
            }
        }
    }

    /// A send is over.
    pub(super) fn sent(&mut self, lite: &LiteTopic) {
        if let Some(life) = self.0.get_mut(lite) {
            life.sends -= 1;
        }
    }

    /// Those that nothing was sent to for longer than `idle`. Until they are gone, or stay, nothing is sent to them.
    pub(super) fn idle(&mut self, now: Millis, idle: Duration) -> Vec<LiteTopic> {
        let idle = Millis::try_from(idle.as_millis()).unwrap_or(Millis::MAX);
        let is_idle =
            |life: &Life| life.sends == 0 && !life.going && now.saturating_sub(life.last_sent_at) > idle;
        let idle = self.0.iter_mut().filter(|(_, life)| is_idle(life));
        idle.map(|(lite, life)| {
            life.going = true;
            lite.clone()
        })
        .collect()
    }

    /// Somebody needs it still.
    pub(super) fn stays(&mut self, lite: &LiteTopic) {
        if let Some(life) = self.0.get_mut(lite) {
            life.going = false;
        }
    }

    pub(super) fn gone(&mut self, lite: &LiteTopic) {
        self.0.remove(lite);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lite(name: &str) -> LiteTopic {
        LiteTopic::parse(name).unwrap()
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let mut known = Known::default();
        assert_eq!(known.send(&lite("a"), 0, 2), Ok(()));
        assert_eq!(known.send(&lite("b"), 0, 2), Ok(()));
        assert_eq!(known.send(&lite("c"), 0, 2), Err(Refused::TooMany));
        assert_eq!(known.send(&lite("a"), 0, 2), Ok(()), "that is there");
        known.gone(&lite("b"));
        assert_eq!(known.send(&lite("c"), 0, 2), Ok(()));
        assert_eq!(known.len(), 2);
    }

    #[test]
    fn what_is_idle_goes_unless_it_is_sent_to_or_needed() {
        let mut known = Known::default();
        let idle = Duration::from_millis(100);
        for name in ["a", "b", "c"] {
            known.send(&lite(name), 0, 9).unwrap();
        }
        known.sent(&lite("a"));
        known.sent(&lite("b"));
        known.send(&lite("b"), 50, 9).unwrap();
        known.sent(&lite("b"));
        assert_eq!(known.idle(100, idle), []);
        assert_eq!(known.idle(101, idle), [lite("a")], "b was used later, c is being sent to");
        assert_eq!(known.send(&lite("a"), 101, 9), Err(Refused::Going));
        assert_eq!(known.idle(102, idle), [], "it is going already");
        known.stays(&lite("a"));
        assert_eq!(known.send(&lite("a"), 102, 9), Ok(()));
    }
}
