//! What may differ from group to group.

use std::time::Duration;

use crate::Lease;

/// Whose copy an acknowledgement waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// That of every member of the in-sync set.
    #[default]
    Sync,
    /// The primary's own; what the others have not when it dies may be lost.
    Async,
}

/// What may differ from group to group; the same for all its members.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many the group has.
    pub members: usize,
    /// Whose copy an acknowledgement waits for.
    pub mode: Mode,
    /// With a smaller in-sync set the primary refuses sends, and the set is not shrunk below. So until the Lease says another.
    pub min_in_sync: usize,
    /// Who is so long behind leaves the in-sync set.
    pub max_lag: Duration,
    /// Who is not connected and was not heard of for so long leaves it. Short: all sends wait for it.
    pub max_absence: Duration,
    /// How long the Lease holds from its last renewal.
    pub lease_duration: Duration,
    /// From one attempt to the next, of a renewal or an election; a renewal is asked for twice as rarely.
    pub retry: Duration,
    /// How long the primary's address must refuse connections until its process counts as gone.
    pub gone_after: Duration,
    /// How long a hand-over may hold up sends before it is given up.
    pub hand_over: Duration,
}

impl Settings {
    /// Obeys what the Lease says. It changes while members run: a group that grows serves as before until those who joined have
    /// everything, and one that lost members serves again as soon as a person asks for less.
    pub(crate) fn obey(&mut self, lease: &Lease) {
        if let Some(least) = lease.min_in_sync {
            self.min_in_sync = least.clamp(1, self.members.max(1));
        }
    }

    /// Whether the other members could acknowledge without this one.
    pub(crate) fn others_could(&self) -> bool {
        self.members > self.min_in_sync
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            members: 1,
            mode: Mode::Sync,
            min_in_sync: 1,
            max_lag: Duration::from_secs(10),
            max_absence: Duration::from_millis(1500),
            lease_duration: Duration::from_secs(8),
            retry: Duration::from_secs(1),
            gone_after: Duration::from_millis(300),
            hand_over: Duration::from_secs(3),
        }
    }
}
