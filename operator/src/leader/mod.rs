//! Who leads: one process writes, the others wait.
//!
//! The record is a Lease. Taking and renewing it is a compare-and-swap on its resource version, and nobody's clock is
//! trusted: a candidate takes the Lease only after it has itself seen no renewal for the Lease's whole duration, and a
//! leader counts itself as one only until its own deadline after the moment it *asked* for its last renewal that
//! worked. The deadline is shorter than the duration, so the old leader has stopped before the next begins; whoever cannot
//! reach the API server stops leading. It fails closed.

use std::time::Duration;

use tokio::time::Instant;

mod kubernetes;
mod run;

pub use kubernetes::KubernetesLease;
pub use run::{LeaseStore, Lost, acquire, keep, release};

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// So long a Lease is its holder's after the last renewal.
    pub lease: Duration,
    /// So long a leader leads after it asked for its last renewal that worked. Shorter than `lease`.
    pub deadline: Duration,
    /// Between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// A Lease as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// How long it is the holder's after a renewal.
    pub duration: Duration,
    /// Text that changes with each renewal.
    pub renewed: String,
    /// How often the holder changed.
    pub transitions: i32,
    /// What a write must name.
    pub resource_version: String,
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no Lease: make it.
    Create,
    /// Make the Lease ours, or keep it so, if it still is what was read.
    Write {
        /// What was read.
        resource_version: String,
        /// How often the holder changed, this time included.
        transitions: i32,
        /// Whether we held it before.
        renewal: bool,
    },
    /// Somebody else leads.
    Wait,
}

/// Decides; never acts.
#[derive(Clone, Debug)]
pub struct Elector {
    me: String,
    timing: Timing,
    /// The Lease of somebody else as it was last seen to change, and when that was.
    seen: Option<(Record, Instant)>,
    leads_until: Option<Instant>,
}

impl Elector {
    /// A candidate.
    pub fn new(me: impl Into<String>, timing: Timing) -> Self {
        Self { me: me.into(), timing, seen: None, leads_until: None }
    }

    /// The name under which we lead.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// How long things take.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Until when we lead, unless renewed.
    pub fn leads_until(&self) -> Option<Instant> {
        self.leads_until
    }

    /// The Lease was read at `now`.
    pub fn read(&mut self, now: Instant, record: Option<Record>) -> Step {
        let Some(record) = record else { return Step::Create };
        if record.holder == self.me {
            return Step::Write {
                resource_version: record.resource_version,
                transitions: record.transitions,
                renewal: true,
            };
        }
        // Whatever we believed, somebody else holds it.
        self.leads_until = None;
        let since = match &self.seen {
            Some((seen, since)) if *seen == record => *since,
            _ => {
                self.seen = Some((record.clone(), now));
                now
            }
        };
        if record.holder.is_empty() || now.duration_since(since) >= record.duration {
            return Step::Write {
                resource_version: record.resource_version,
                transitions: record.transitions.saturating_add(1),
                renewal: false,
            };
        }
        Step::Wait
    }

    /// A write that was asked for at `asked` worked.
    pub fn written(&mut self, asked: Instant) {
        self.seen = None;
        self.leads_until = Some(asked + self.timing.deadline);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        lease: Duration::from_secs(15),
        deadline: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };

    fn record(holder: &str, renewed: &str) -> Record {
        Record {
            holder: holder.to_owned(),
            duration: TIMING.lease,
            renewed: renewed.to_owned(),
            transitions: 3,
            resource_version: format!("version of {renewed}"),
        }
    }

    fn take(renewed: &str) -> Step {
        Step::Write { resource_version: format!("version of {renewed}"), transitions: 4, renewal: false }
    }

    #[test]
    fn a_lease_that_does_not_exist_is_made_and_a_released_one_taken_at_once() {
        let now = Instant::now();
        let mut elector = Elector::new("me", TIMING);
        assert_eq!(elector.read(now, None), Step::Create);
        assert_eq!(elector.read(now, Some(record("", "a"))), take("a"));
    }

    #[test]
    fn a_lease_of_another_is_taken_only_after_its_whole_duration_without_renewal_seen_by_us() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut elector = Elector::new("me", TIMING);
        assert_eq!(elector.read(at(0), Some(record("other", "a"))), Step::Wait);
        assert_eq!(elector.read(at(14), Some(record("other", "a"))), Step::Wait);
        // It was renewed: our patience begins anew.
        assert_eq!(elector.read(at(15), Some(record("other", "b"))), Step::Wait);
        assert_eq!(elector.read(at(29), Some(record("other", "b"))), Step::Wait);
        assert_eq!(elector.read(at(30), Some(record("other", "b"))), take("b"));
    }

    #[test]
    fn a_lease_that_we_hold_by_name_is_renewed() {
        // So a container that restarts in its pod leads again at once.
        let step = Elector::new("me", TIMING).read(Instant::now(), Some(record("me", "a")));
        assert_eq!(
            step,
            Step::Write { resource_version: "version of a".to_owned(), transitions: 3, renewal: true }
        );
    }

    #[test]
    fn leadership_ends_a_deadline_after_the_last_renewal_was_asked_for() {
        let asked = Instant::now();
        let mut elector = Elector::new("me", TIMING);
        assert_eq!(elector.leads_until(), None);
        elector.written(asked);
        assert_eq!(elector.leads_until(), Some(asked + TIMING.deadline));
        // Sooner, when somebody else has it.
        elector.read(asked, Some(record("other", "b")));
        assert_eq!(elector.leads_until(), None);
    }
}
