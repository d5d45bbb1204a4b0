//! Compare-and-swaps of the Lease: asked, answered or not, asked again, given up.

use super::{Asked, Member, Observed, Order, Role, Stream, Why};
use crate::planted::{Bug, is_planted};
use crate::reign::Reign;
use crate::{Doubt, Has, Lease, Now, Seen, Version};

impl Member {
    /// Asks for this Lease.
    pub(super) fn swap(&mut self, now: Now, lease: Lease, version: Version) {
        self.asked = Some(Asked { lease: lease.clone(), version, at: now, answered: false });
        self.orders.push_back(Order::Swap { lease, version });
    }

    /// The swap was done.
    pub(super) fn done(&mut self, now: Now, asked: Asked, version: Version) {
        let lease = asked.lease;
        let released = lease.holder.is_none();
        let (epoch, set) = (lease.epoch, lease.in_sync.clone());
        // The answer may come later than what was read since.
        if self.lease.as_ref().is_none_or(|known| known.seen.version < version) {
            self.lease = Some(Observed { seen: Seen { lease, version }, at: now });
        }
        self.epoch = self.epoch.max(epoch);
        match self.role {
            Role::Standing if epoch == self.epoch || is_planted(Bug::DoneInOldEpoch) => {
                self.renewed(asked.at);
                self.keep();
                // Nobody of the set had more: what it has is the log from now on.
                self.doubt = Doubt::None;
                let all = is_planted(Bug::ConfirmedFromOwnEnd);
                let confirmed = if all { self.log.1.end } else { self.confirmed };
                self.reign = Some(Reign::new(self.me, now, set, Has { state: 1, ..self.log.1 }, confirmed));
                self.role = Role::Primary(epoch);
                self.orders.push_back(Order::Reign(epoch));
            }
            Role::Primary(own) if own == epoch && released && !is_planted(Bug::ReleasedGoesOn) => {
                self.not_before = now.plus(self.settings.retry * 2);
                self.step_down(now, Why::HandedOver);
            }
            Role::Primary(own) if own == epoch => {
                self.renewed(asked.at);
                if let Some(reign) = &mut self.reign {
                    reign.record(set);
                }
            }
            _ => {}
        }
    }

    /// Asks again where no answer came; the version makes that harmless.
    pub(super) fn repeat_unanswered(&mut self, now: Now) {
        if self.is_vain(now) {
            return self.give_up_standing(now);
        }
        let Some(asked) = &mut self.asked else { return };
        if asked.answered && now.since(asked.at) >= self.settings.retry {
            asked.answered = false;
            asked.at = now;
            let (lease, version) = (asked.lease.clone(), asked.version);
            self.orders.push_back(Order::Swap { lease, version });
        }
    }

    /// It stands against a primary that may well go on, and the Lease cannot be changed now: the API server is away, or
    /// reads and does not write.
    fn is_vain(&self, now: Now) -> bool {
        let Some(asked) = &self.asked else { return false };
        let another = self.lease().is_some_and(|lease| {
            lease.holder.is_some() && lease.primary.is_some_and(|primary| primary != self.me.ordinal)
        });
        let vain = self.role == Role::Standing && another && asked.answered;
        vain && now.since(asked.at) >= self.settings.retry && !is_planted(Bug::StandsForEver)
    }

    /// Follows again, or all who wait for this member's acknowledgements wait as long as the API server is away.
    ///
    /// The swap may still be done. This member then is as one that was started again after it asked: it does not begin the
    /// reign that it asked for, but stands once more when it reads of it. Whatever the old primary confirms until then,
    /// all have who were in its set, and only they are in the new one.
    fn give_up_standing(&mut self, now: Now) {
        let Some(primary) = self.lease().and_then(|lease| lease.primary) else { return };
        self.asked = None;
        self.gave_up_at = Some(now);
        self.not_before = now.plus(self.settings.retry);
        self.stream = (Stream::Lost, now);
        self.role = Role::Replica(primary);
        self.orders.push_back(Order::Follow(primary));
    }
}
