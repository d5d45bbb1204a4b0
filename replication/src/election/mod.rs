//! A member's life: it looks for a primary, follows it, stands for election, reigns. Here is what happens to it, one method for each;
//! what follows from that is in the modules: `standing` of who is not primary, `reigning` of who is, `swaps` of the Lease.

mod reigning;
mod standing;
mod swaps;
mod terms;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use store::LogOffset;

pub use self::terms::{Doubt, Found, Order, Role, Stream, SwapOutcome, Why};
use crate::planted::{Bug, is_planted};
use crate::reign::{Reign, Standing};
use crate::{Epoch, Has, Lease, MemberId, Now, Ordinal, Refusal, Seen, Settings, Version};

/// The rules of one member. Call a method for whatever happens, then [`Member::order`] until there is none.
#[derive(Clone, Debug)]
pub struct Member {
    me: MemberId,
    /// Its process, as the holder of a Lease.
    name: String,
    settings: Settings,
    role: Role,
    doubt: Doubt,
    /// The highest epoch that it ever saw, in the Lease or on its disk.
    epoch: Epoch,
    /// Somebody named a higher one, which the Lease has not confirmed.
    hinted: bool,
    /// When the Lease was last read because of that.
    hint_followed_at: Option<Now>,
    lease: Option<Observed>,
    /// When it was last read, changed or not.
    read_at: Now,
    stream: (Stream, Now),
    /// What others of the group said of their logs.
    heard: BTreeMap<MemberId, Heard>,
    /// Its own: last reign and end; end of what it knows to be confirmed.
    log: (Epoch, Has),
    confirmed: LogOffset,
    asked: Option<Asked>,
    reign: Option<Reign>,
    /// Sends are held up for this one, since then.
    handing_over: Option<(Ordinal, Now)>,
    /// And the driver has written down all that the other must know.
    prepared: bool,
    /// It should not be primary until then: it just gave that up, or failed to get it.
    not_before: Now,
    /// When it last asked in vain: it stands again once it has read the Lease since.
    gave_up_at: Option<Now>,
    /// Counted from before the renewal was sent.
    valid_until: Now,
    renewed_at: Now,
    orders: VecDeque<Order>,
}

/// The Lease, and when this member saw it renewed.
#[derive(Clone, Debug)]
struct Observed {
    seen: Seen,
    at: Now,
}

/// What another member said.
#[derive(Clone, Copy, Debug)]
struct Heard {
    /// It had seen this one then.
    epoch: Epoch,
    /// Its last reign and its end.
    log: (Epoch, LogOffset),
}

/// A swap that is under way, or whose outcome nobody knows.
#[derive(Clone, Debug)]
struct Asked {
    lease: Lease,
    version: Version,
    at: Now,
    answered: bool,
}

/// What it says of itself.
impl Member {
    /// `name`: its process, as the holder of the Lease.
    #[must_use]
    pub fn new(me: MemberId, name: String, settings: Settings, found: Found, now: Now) -> Self {
        let Found { epoch, doubt, last, has, confirmed } = found;
        Self {
            me,
            name,
            settings,
            role: Role::Looking,
            doubt,
            epoch,
            hinted: false,
            hint_followed_at: None,
            lease: None,
            read_at: now,
            stream: (Stream::Lost, now),
            heard: BTreeMap::new(),
            log: (last, has),
            confirmed,
            asked: None,
            reign: None,
            handing_over: None,
            prepared: false,
            not_before: now,
            gave_up_at: None,
            valid_until: now,
            renewed_at: now,
            orders: VecDeque::new(),
        }
    }

    /// What to do next.
    pub fn order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// Is there something to do?
    #[must_use]
    pub fn wants_something(&self) -> bool {
        !self.orders.is_empty()
    }

    /// Who it is.
    #[must_use]
    pub fn me(&self) -> MemberId {
        self.me
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The highest epoch that it knows of. What others only say is none of it.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether it trusts the end of its log by now: whoever starts it keeps that over restarts of the process.
    #[must_use]
    pub fn doubt(&self) -> Doubt {
        self.doubt
    }

    /// The Lease as it was last seen.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref().map(|observed| &observed.seen.lease)
    }

    /// So many must be in sync, as far as it knows.
    #[must_use]
    pub fn min_in_sync(&self) -> usize {
        self.settings.min_in_sync
    }

    /// What everybody who counts has. Of a primary; else what it was told.
    #[must_use]
    pub fn confirmed(&mut self) -> Has {
        match (&mut self.reign, self.role) {
            (Some(reign), Role::Primary(_)) => {
                let confirmed = reign.confirm(&self.settings);
                self.confirmed = self.confirmed.max(confirmed.end);
                confirmed
            }
            _ => Has { end: self.confirmed, state: 0 },
        }
    }

    /// May clients' messages be appended now?
    pub fn may_send(&self, now: Now) -> Result<(), Refusal> {
        match (&self.reign, self.role) {
            (Some(_), Role::Primary(_)) if self.handing_over.is_some() => Err(Refusal::HandingOver),
            (Some(_), Role::Primary(_)) if self.is_over(now) => Err(Refusal::NotPrimary),
            (Some(reign), Role::Primary(_)) => reign.may_send(now, &self.settings),
            _ => Err(Refusal::NotPrimary),
        }
    }

    /// Of a member that does not reign: whether it may yet be the primary of this epoch or a later one, because it has not read the Lease, waits for
    /// its swap or opens its reign. Who looks for that primary comes again; it did not fall.
    #[must_use]
    pub fn may_yet_reign(&self, epoch: Epoch) -> bool {
        epoch > self.epoch || matches!(self.role, Role::Standing | Role::Primary(_))
    }

    /// Of a primary: how each follower stands.
    pub fn followers(&self, now: Now) -> impl Iterator<Item = Standing> + '_ {
        self.reign.iter().flat_map(move |reign| reign.followers(now))
    }
}

/// What happens to it.
impl Member {
    /// The Lease was read.
    pub fn lease_seen(&mut self, now: Now, seen: Seen) {
        self.read_at = now;
        self.hinted = false;
        // Nothing new, or an answer that was overtaken by another.
        let overtaken = |observed: &Observed| observed.seen.version >= seen.version;
        let believed = is_planted(Bug::StaleLeaseBelieved);
        if self.lease.as_ref().is_some_and(overtaken) && !believed {
            return self.act(now);
        }
        let epoch = seen.lease.epoch;
        // What was asked for at an earlier version can never be done any more.
        if self.asked.as_ref().is_some_and(|asked| asked.version < seen.version && asked.answered) {
            self.asked = None;
        }
        // What refused in an earlier reign says nothing of this one, even of the same member.
        let another = self.lease().is_some_and(|before| before.epoch < epoch);
        if another && self.stream.0 != Stream::Up && !is_planted(Bug::JudgedByOldStream) {
            self.stream = (Stream::Lost, now);
        }
        self.settings.obey(&seen.lease);
        self.lease = Some(Observed { seen, at: now });
        self.epoch = self.epoch.max(epoch);
        self.judge_reign(now);
        self.act(now);
    }

    /// The last [`Order::Swap`] was answered, or will not be.
    pub fn swapped(&mut self, now: Now, outcome: SwapOutcome) {
        let Some(asked) = &mut self.asked else { return };
        asked.answered = true;
        let outcome = match outcome {
            SwapOutcome::Conflict if is_planted(Bug::ConflictIsDone) => SwapOutcome::Done(asked.version + 1),
            SwapOutcome::Unknown if is_planted(Bug::UnknownIsDone) => SwapOutcome::Done(asked.version + 1),
            outcome => outcome,
        };
        match outcome {
            SwapOutcome::Done(version) => {
                let asked = self.asked.take().expect("it was there");
                self.done(now, asked, version);
            }
            // Somebody changed it: what is there now says who.
            SwapOutcome::Conflict => {
                let version = asked.version;
                if self.lease.as_ref().is_some_and(|observed| observed.seen.version > version) {
                    self.asked = None;
                    self.judge_reign(now);
                }
                self.not_before = now.plus(self.settings.retry / 4);
            }
            SwapOutcome::Unknown if is_planted(Bug::UnknownIsFailed) => {
                self.asked = None;
                self.judge_reign(now);
            }
            // Asked again, or given up.
            SwapOutcome::Unknown => {}
        }
        self.act(now);
    }

    /// The stream from the primary came, or went.
    pub fn stream(&mut self, now: Now, stream: Stream) {
        if self.stream.0 != stream {
            self.stream = (stream, now);
        }
        self.act(now);
    }

    /// Somebody named this epoch. Anybody can, so it is no more than a reason to read the Lease: no safety rests on it,
    /// for whoever takes the Lease is in the set itself, and refuses earlier reigns by itself.
    pub fn heard_epoch(&mut self, now: Now, epoch: Epoch) {
        if epoch > self.epoch {
            self.hinted = true;
            if is_planted(Bug::HearsayBelieved) {
                self.epoch = epoch;
                if matches!(self.role, Role::Primary(_)) {
                    self.step_down(now, Why::Deposed);
                }
            }
        }
        self.act(now);
    }

    /// Another member, which has seen `epoch`, said how far its log is.
    pub fn heard(&mut self, now: Now, member: MemberId, epoch: Epoch, last: Epoch, end: LogOffset) {
        self.heard.retain(|known, _| known.ordinal != member.ordinal);
        self.heard.insert(member, Heard { epoch, log: (last, end) });
        self.act(now);
    }

    /// How far its own log is, and the state beyond it; `last` is the last reign with records in it.
    pub fn own(&mut self, now: Now, last: Epoch, has: Has) {
        self.log = (last, has);
        // It was cut: in Async mode, or because it had lost more.
        if !is_planted(Bug::ConfirmedBeyondCut) {
            self.confirmed = self.confirmed.min(has.end);
        }
        if let Some(reign) = &mut self.reign {
            reign.own(has);
        }
        if self.handing_over.is_some() {
            self.act(now);
        }
    }

    /// As a replica: the primary says what is confirmed, its reign began at `began`, and this member has its log up to
    /// `end`.
    pub fn told(&mut self, confirmed: LogOffset, began: LogOffset, end: LogOffset) {
        let known = if is_planted(Bug::ConfirmedFromFuture) { confirmed } else { confirmed.min(end) };
        self.confirmed = self.confirmed.max(known);
        // A new primary has all that was confirmed before it, but need not know how much of it was.
        let all = end >= confirmed && (end >= began || is_planted(Bug::DoubtLostAtConfirmed));
        if all || is_planted(Bug::DoubtLostAtOnce) {
            self.doubt = Doubt::None;
        }
    }

    /// As the primary: a member follows, and has so much of this log.
    pub fn follower_connected(&mut self, now: Now, member: MemberId, has: Has) {
        if let Some(reign) = &mut self.reign {
            reign.connected(now, member, has);
        }
        self.act(now);
    }

    /// As the primary: a follower acknowledges in this reign.
    pub fn follower_has(&mut self, now: Now, ordinal: Ordinal, has: Has) {
        if let Some(reign) = &mut self.reign {
            reign.has(now, ordinal, has);
        }
        if self.handing_over.is_some() {
            self.act(now);
        }
    }

    /// As the primary: a follower is about to stop.
    pub fn follower_leaves(&mut self, now: Now, ordinal: Ordinal) {
        if let Some(reign) = &mut self.reign {
            reign.leaves(ordinal);
        }
        self.act(now);
    }

    /// As the primary: a follower is gone.
    pub fn follower_gone(&mut self, now: Now, ordinal: Ordinal) {
        if let Some(reign) = &mut self.reign {
            reign.disconnected(ordinal);
        }
        self.act(now);
    }

    /// Somebody asks this primary to hand over; to the one that has most if nobody is named. To whom it will, if it can.
    pub fn hand_over(&mut self, now: Now, to: Option<Ordinal>) -> Option<Ordinal> {
        let reign = self.reign.as_ref()?;
        if self.handing_over.is_none() {
            let heirs = || reign.heirs().filter(|heir| !self.is_fenced(*heir));
            let heir = to.map_or_else(|| heirs().last(), |to| heirs().find(|heir| *heir == to))?;
            self.handing_over = Some((heir, now));
        }
        self.act(now);
        self.handing_over.map(|(heir, _)| heir)
    }

    /// Sends are held up until another has taken over.
    #[must_use]
    pub fn is_handing_over(&self) -> bool {
        self.handing_over.is_some()
    }

    /// Sends are held up for a hand-over: the driver is to write down all that the other must know, and to say so.
    #[must_use]
    pub fn must_prepare(&self) -> bool {
        self.handing_over.is_some() && !self.prepared
    }

    /// What this member knows beyond the log, and was not written down, is now; [`Member::own`] was told.
    pub fn prepared(&mut self, now: Now) {
        self.prepared = self.handing_over.is_some();
        self.act(now);
    }

    /// As a replica: the stream from the primary is there.
    #[must_use]
    pub fn is_following(&self) -> bool {
        matches!(self.role, Role::Replica(_)) && self.stream.0 == Stream::Up
    }

    /// As a replica: it does not reach the primary, which renews its Lease all the same. So it is this member that is cut off.
    #[must_use]
    pub fn is_cut_off(&self, now: Now) -> bool {
        let is_silent = matches!(self.role, Role::Replica(_)) && self.stream.0 == Stream::Silent;
        // It does so every second retry period.
        let just_renewed = |lease: &Observed| now.since(lease.at) < self.settings.retry * 3;
        is_silent && self.lease.as_ref().is_some_and(just_renewed)
    }

    /// Time passed. Call it a few times in a retry period.
    pub fn tick(&mut self, now: Now) {
        self.act(now);
    }

    fn act(&mut self, now: Now) {
        self.follow_hint(now);
        match self.role {
            Role::Primary(_) => self.reign_on(now),
            Role::Looking | Role::Replica(_) | Role::Standing => self.look(now),
        }
    }

    /// Looks whether there is a higher epoch as somebody says; not more often than the API server can bear, whoever says it.
    fn follow_hint(&mut self, now: Now) {
        let just_read = self.hint_followed_at.is_some_and(|at| now.since(at) < self.settings.retry / 2);
        if self.hinted && !just_read {
            self.hint_followed_at = Some(now);
            self.orders.push_back(Order::ReadLease);
        }
    }
}
