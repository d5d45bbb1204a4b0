//! Of a primary: it renews, keeps the set, hands over, and ends its reign.

use super::{Member, Order, Role, Stream, Why};
use crate::planted::{Bug, is_planted};
use crate::{Lease, Mode, Now};

impl Member {
    /// Whatever a primary has to ask of the Lease now.
    pub(super) fn reign_on(&mut self, now: Now) {
        if self.is_over(now) {
            return self.step_down(now, Why::Expired);
        }
        if self.asked.is_some() {
            self.repeat_unanswered(now);
            return;
        }
        let Some(observed) = &self.lease else { return };
        let (lease, version) = (observed.seen.lease.clone(), observed.seen.version);
        self.choose_heir(now, &lease);
        if let Some(released) = self.hand_over_when_level(now, &lease) {
            return self.swap(now, released, version);
        }
        let Some(reign) = &mut self.reign else { return };
        let set = reign.wish(now, &self.settings);
        // Cut off from the others it would keep them from electing one that can acknowledge; if that is too many for them,
        // a change of primaries helps nobody.
        let of_use = self.settings.mode == Mode::Async
            || !self.settings.others_could()
            || reign.is_heard(now, &self.settings)
            || is_planted(Bug::RenewsInVain);
        let renew = of_use && now.since(self.renewed_at) >= self.settings.retry * 2;
        if set != *reign.recorded() || renew {
            reign.ask(set.clone());
            self.swap(now, Lease { in_sync: set, ..lease }, version);
        }
    }

    /// Whom the Lease wishes is the heir, and nobody whom it fences.
    fn choose_heir(&mut self, now: Now, lease: &Lease) {
        let fenced = |ordinal| lease.fenced.contains(&ordinal) && !is_planted(Bug::HandsOverToFenced);
        if self.handing_over.is_some_and(|(heir, _)| fenced(heir)) {
            self.keep();
        }
        let Some(reign) = &self.reign else { return };
        if let Some(wished) = lease.wished
            && wished != self.me.ordinal
            && !fenced(wished)
            && self.handing_over.is_none()
            && reign.is_connected_in_set(wished)
            && now >= self.not_before
            && !is_planted(Bug::WishedIgnored)
        {
            self.handing_over = Some((wished, now));
        }
    }

    /// The Lease released to the heir as soon as that has everything; the hand-over is given up if that takes too long.
    fn hand_over_when_level(&mut self, now: Now, lease: &Lease) -> Option<Lease> {
        let (heir, since) = self.handing_over?;
        let reign = self.reign.as_mut()?;
        let ready = self.prepared || is_planted(Bug::ReleaseUnprepared);
        // A call whose message somebody lacks would have to be made again, though its message stays.
        let answered = reign.is_confirmed(&self.settings) || now.since(since) >= self.settings.retry / 2;
        if ready && answered && (reign.is_level(heir) || is_planted(Bug::ReleaseBeforeLevel)) {
            return Some(Lease { holder: None, wished: Some(heir), ..lease.clone() });
        }
        if now.since(since) >= self.settings.hand_over && !is_planted(Bug::HandOverNeverGivenUp) {
            self.keep();
            self.not_before = now.plus(self.settings.lease_duration);
        }
        None
    }

    /// Hands over to nobody.
    pub(super) fn keep(&mut self) {
        (self.handing_over, self.prepared) = (None, false);
    }

    /// Counted from before the renewal was sent.
    pub(super) fn renewed(&mut self, sent: Now) {
        self.renewed_at = sent;
        self.valid_until = sent.plus(self.settings.lease_duration);
    }

    /// What the Lease says now against what this primary believes.
    pub(super) fn judge_reign(&mut self, now: Now) {
        let Role::Primary(epoch) = self.role else { return };
        let Some(observed) = &self.lease else { return };
        let lease = &observed.seen.lease;
        let deposed = lease.epoch > epoch || lease.holder.as_deref() != Some(&self.name);
        if deposed && !is_planted(Bug::DeposedGoesOn) {
            return self.step_down(now, Why::Deposed);
        }
        // Somebody else may have wished for another primary; the set is ours.
        if self.asked.is_none()
            && let Some(reign) = &mut self.reign
        {
            reign.record(lease.in_sync.clone());
        }
    }

    /// The reign ends at once.
    pub(super) fn step_down(&mut self, now: Now, why: Why) {
        self.reign = None;
        self.keep();
        if self.asked.as_ref().is_some_and(|asked| asked.answered) && why != Why::Deposed {
            self.asked = None;
        }
        self.not_before = self.not_before.max(now.plus(self.settings.retry / 2));
        self.stream = (Stream::Lost, now);
        self.role = Role::Looking;
        self.orders.push_back(Order::StepDown(why));
    }

    /// Whether the Lease may have expired, which only counts where nobody else has to confirm (Async).
    pub(super) fn is_over(&self, now: Now) -> bool {
        self.settings.mode == Mode::Async && now >= self.valid_until && !is_planted(Bug::ExpiredGoesOn)
    }
}
