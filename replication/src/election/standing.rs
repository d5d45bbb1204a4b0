//! Of a member that is not primary: whom it follows, and whether it stands for election.

use std::collections::BTreeSet;

use super::{Doubt, Member, Observed, Order, Role, Stream};
use crate::planted::{Bug, is_planted};
use crate::{InSync, Lease, Mode, Now, Ordinal};

impl Member {
    /// Whom to follow, or whether to stand.
    pub(super) fn look(&mut self, now: Now) {
        if self.asked.is_some() {
            self.repeat_unanswered(now);
            return;
        }
        let Some(observed) = &self.lease else { return };
        let lease = &observed.seen.lease;
        if lease.epoch < self.epoch {
            // Somebody is ahead of what we read: read again.
            return;
        }
        let follow = match lease.primary {
            Some(primary) if primary != self.me.ordinal && lease.holder.is_some() => Role::Replica(primary),
            _ => Role::Looking,
        };
        // First of all whom the Lease names: what was seen of an earlier primary is nothing against this one.
        if let Role::Replica(primary) = follow
            && self.role != follow
            && !is_planted(Bug::JudgedByOldStream)
        {
            self.stream = (Stream::Lost, now);
            self.role = follow;
            self.orders.push_back(Order::Follow(primary));
        }
        if self.may_stand(now, observed) {
            let (lease, version) = (self.taken_over(lease), observed.seen.version);
            self.role = Role::Standing;
            if !is_planted(Bug::NoFreeze) {
                self.orders.push_back(Order::Freeze);
            }
            return self.swap(now, lease, version);
        }
        // Frozen until the swap's fate is known; now it is.
        if self.role != follow {
            // A swap that it had given up was done: the one that it follows reigns no more.
            let own = matches!(self.role, Role::Replica(_)) && lease.primary == Some(self.me.ordinal);
            self.stream = (Stream::Lost, now);
            self.role = follow;
            if let Role::Replica(primary) = follow {
                self.orders.push_back(Order::Follow(primary));
            } else if own {
                self.orders.push_back(Order::Freeze);
            }
        }
    }

    /// The Lease as it is when this member has taken it over.
    fn taken_over(&self, lease: &Lease) -> Lease {
        let released = lease.holder.is_none();
        let set = match lease.primary {
            Some(fallen) if !released && !is_planted(Bug::FallenStays) => {
                lease.in_sync.clone().without(fallen)
            }
            _ => lease.in_sync.clone(),
        };
        let another_fell = !released && lease.primary.is_some_and(|fallen| fallen != self.me.ordinal);
        let forgets = is_planted(Bug::BoundsForgotten);
        Lease {
            holder: Some(self.name.clone()),
            epoch: if is_planted(Bug::EpochNotRaised) { lease.epoch } else { lease.epoch.next() },
            primary: Some(self.me.ordinal),
            in_sync: if is_planted(Bug::OwnStoreNotRecorded) { set } else { set.with(self.me) },
            wished: None,
            fenced: if forgets { BTreeSet::new() } else { lease.fenced.clone() },
            held: lease.held && !forgets,
            min_in_sync: lease.min_in_sync.filter(|_| !forgets),
            failovers: lease.failovers + u64::from(another_fell),
        }
    }

    /// Whether it may be primary, whether there is none, and whether it is its turn.
    fn may_stand(&self, now: Now, observed: &Observed) -> bool {
        let lease = &observed.seen.lease;
        let in_set = lease.in_sync.holds(self.me) || is_planted(Bug::TakeOutsideSet);
        let unread = self.gave_up_at.is_some_and(|at| self.read_at <= at);
        let fenced = self.is_fenced(self.me.ordinal) && !is_planted(Bug::FenceIgnored);
        if !in_set || fenced || now < self.not_before || unread || !self.trusts_its_end(lease) {
            return false;
        }
        let turn = self.settings.retry / 8 * self.turn(lease);
        self.fallen_since(now, observed).is_some_and(|fallen| now >= fallen.plus(turn))
    }

    /// Since when the primary that the Lease names is none any more, as far as this member may judge that.
    fn fallen_since(&self, now: Now, observed: &Observed) -> Option<Now> {
        let lease = &observed.seen.lease;
        if lease.holder.is_none() {
            return (!lease.held || !is_planted(Bug::HoldsHandOver)).then_some(observed.at);
        }
        if lease.primary == Some(self.me.ordinal) {
            // Its own, from before it fell.
            return Some(if is_planted(Bug::OwnFallIsNow) { now } else { observed.at });
        }
        let is_wished = wished(lease) == Some(self.me.ordinal) && !is_planted(Bug::HoldsWished);
        if lease.held && !is_wished && !is_planted(Bug::HoldIgnored) {
            // A failover waits for a person, who names the next.
            return None;
        }
        if now.since(self.read_at) > self.settings.retry * 2 && !is_planted(Bug::StandUnread) {
            // Who cannot read the Lease cannot swap it either: it would only hold up a primary that goes on.
            return None;
        }
        let (stream, since) = self.stream;
        let expired = observed.at.plus(self.settings.lease_duration);
        let gone = since.plus(self.settings.gone_after);
        match stream {
            Stream::Up => None,
            _ if now >= expired => Some(expired),
            Stream::Refused if self.settings.mode == Mode::Sync && now >= gone => Some(gone),
            Stream::Refused | Stream::Lost | Stream::Silent => None,
        }
    }

    /// How many go before it: one after the other, or they only hinder each other.
    fn turn(&self, lease: &Lease) -> u32 {
        let wished = wished(lease);
        if wished == Some(self.me.ordinal) {
            return 0;
        }
        // Nobody waits for the one that fell, which may well have more than all others: nobody acknowledged that.
        let fallen = lease.primary.filter(|_| lease.holder.is_some());
        let rivals =
            fallen.map_or_else(|| lease.in_sync.clone(), |fallen| lease.in_sync.clone().without(fallen));
        let before = rivals.ordinals().take_while(|ordinal| *ordinal < self.me.ordinal);
        let before = before.filter(|ordinal| !lease.fenced.contains(ordinal)).count();
        let behind = self.somebody_has_more(&rivals);
        before.min(8) as u32 + 4 * u32::from(behind) + 8 * u32::from(wished.is_some())
    }

    /// Whether the Lease says that this one must not be primary.
    pub(super) fn is_fenced(&self, ordinal: Ordinal) -> bool {
        self.lease().is_some_and(|lease| lease.fenced.contains(&ordinal))
    }

    fn somebody_has_more(&self, set: &InSync) -> bool {
        let own = (self.log.0, self.log.1.end);
        self.heard.iter().any(|(member, theirs)| set.holds(*member) && theirs.log > own)
    }

    /// A log that may have lost its tail counts only if nobody of the set has more.
    fn trusts_its_end(&self, lease: &Lease) -> bool {
        if self.doubt == Doubt::None || is_planted(Bug::DoubtIgnored) {
            return true;
        }
        let mut others = lease.in_sync.ordinals().filter(|ordinal| *ordinal != self.me.ordinal);
        let heard_of = |ordinal: Ordinal| {
            self.heard.iter().any(|(member, theirs)| {
                // What was said in an earlier reign says nothing of what was confirmed since.
                let present = theirs.epoch >= lease.epoch || is_planted(Bug::HeardForEver);
                member.ordinal == ordinal && lease.in_sync.holds(*member) && present
            })
        };
        others.all(heard_of) && !self.somebody_has_more(&lease.in_sync)
    }
}

/// Whom the Lease wishes to be the next primary, unless it fences that one.
fn wished(lease: &Lease) -> Option<Ordinal> {
    lease.wished.filter(|wished| !lease.fenced.contains(wished))
}
