//! A member's life: it looks for a primary, follows it, stands for election, reigns.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use store::LogOffset;

use crate::planted::{Bug, is_planted};
use crate::reign::{Reign, Standing};
use crate::{Epoch, Has, InSync, Lease, MemberId, Mode, Now, Ordinal, Refusal, Seen, Settings, Version};

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It knows no primary.
    Looking,
    /// It follows this one, or tries to.
    Replica(Ordinal),
    /// It takes no records, for it asked for the Lease.
    Standing,
    /// It is the primary of this reign.
    Primary(Epoch),
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Compare-and-swap the Lease: exactly this, at this version. [`Member::swapped`] wants the answer.
    Swap {
        /// What it should be.
        lease: Lease,
        /// What its version must be.
        version: Version,
    },
    /// Read the Lease now: somebody says that it changed. Nothing follows from that but the reading.
    ReadLease,
    /// Follow this member: connect again and again, until there is another order.
    Follow(Ordinal),
    /// Take no records of any primary until there is another order. When the driver has obeyed no such record can be
    /// acknowledged any more.
    Freeze,
    /// Reign: keep the epoch and where the log ends, open for clients.
    Reign(Epoch),
    /// Reign no more, at once: nothing that waits is acknowledged.
    StepDown(Why),
}

/// Why a reign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Another reigns, or did since.
    Deposed,
    /// The Lease was released to another.
    HandedOver,
    /// The Lease may have expired (Async only).
    Expired,
}

/// The stream from the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// It is there.
    Up,
    /// It broke, or cannot be made; who knows why.
    Lost,
    /// The primary's address refuses connections, or the other end is another process or no primary: that reign is over.
    Refused,
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The record is as asked for, and has this version.
    Done(Version),
    /// It had another version.
    Conflict,
    /// No answer: it may be done, or be done later while the version is the one that was asked for.
    Unknown,
}

/// Whether a member trusts the end of its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It does.
    None,
    /// Its machine was restarted over a log that was not flushed.
    LostTail,
}

/// What a member finds on its disk.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The highest epoch that it saw before.
    pub epoch: Epoch,
    /// Whether it trusts the end of its log.
    pub doubt: Doubt,
    /// The last reign with records in its log.
    pub last: Epoch,
    /// What it has.
    pub has: Has,
    /// What it knows to be confirmed of that.
    pub confirmed: LogOffset,
}

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

    /// Of a primary: how each follower stands.
    pub fn followers(&self, now: Now) -> impl Iterator<Item = Standing> + '_ {
        self.reign.iter().flat_map(move |reign| reign.followers(now))
    }

    // ---- what happens ----------------------------------------------------------------------------------------------

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
            reign.disconnected(now, ordinal);
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

    /// Time passed. Call it a few times in a retry period.
    pub fn tick(&mut self, now: Now) {
        self.act(now);
    }

    // ---- what follows from it --------------------------------------------------------------------------------------

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

    /// Not the primary: whom to follow, or whether to stand.
    fn look(&mut self, now: Now) {
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
            let released = lease.holder.is_none();
            let set = match lease.primary {
                Some(fallen) if !released && !is_planted(Bug::FallenStays) => {
                    lease.in_sync.clone().without(fallen)
                }
                _ => lease.in_sync.clone(),
            };
            let another_fell = !released && lease.primary.is_some_and(|fallen| fallen != self.me.ordinal);
            let forgets = is_planted(Bug::BoundsForgotten);
            let lease = Lease {
                holder: Some(self.name.clone()),
                epoch: if is_planted(Bug::EpochNotRaised) { lease.epoch } else { lease.epoch.next() },
                primary: Some(self.me.ordinal),
                in_sync: if is_planted(Bug::OwnStoreNotRecorded) { set } else { set.with(self.me) },
                wished: None,
                fenced: if forgets { BTreeSet::new() } else { lease.fenced.clone() },
                held: lease.held && !forgets,
                failovers: lease.failovers + u64::from(another_fell),
            };
            let version = observed.seen.version;
            self.become_role(Role::Standing);
            if !is_planted(Bug::NoFreeze) {
                self.orders.push_back(Order::Freeze);
            }
            self.swap(now, lease, version);
            return;
        }
        // Frozen until the swap's fate is known; now it is.
        if self.role != follow {
            // A swap that it had given up was done: the one that it follows reigns no more.
            let own = matches!(self.role, Role::Replica(_)) && lease.primary == Some(self.me.ordinal);
            self.stream = (Stream::Lost, now);
            self.become_role(follow);
            if let Role::Replica(primary) = follow {
                self.orders.push_back(Order::Follow(primary));
            } else if own {
                self.orders.push_back(Order::Freeze);
            }
        }
    }

    fn may_stand(&self, now: Now, observed: &Observed) -> bool {
        let lease = &observed.seen.lease;
        let in_set = lease.in_sync.holds(self.me) || is_planted(Bug::TakeOutsideSet);
        let unread = self.gave_up_at.is_some_and(|at| self.read_at <= at);
        let fenced = self.is_fenced(self.me.ordinal) && !is_planted(Bug::FenceIgnored);
        if !in_set || fenced || now < self.not_before || unread || !self.trusts_its_end(lease) {
            return false;
        }
        let wished = lease.wished.filter(|wished| !lease.fenced.contains(wished));
        let is_wished = wished == Some(self.me.ordinal);
        let (stream, since) = self.stream;
        let fallen = match (&lease.holder, lease.primary) {
            (None, _) if lease.held && is_planted(Bug::HoldsHandOver) => None,
            (None, _) => Some(observed.at),
            // Its own, from before it fell.
            (Some(_), Some(primary)) if primary == self.me.ordinal => {
                Some(if is_planted(Bug::OwnFallIsNow) { now } else { observed.at })
            }
            // A failover waits for a person, who names the next.
            (Some(_), _)
                if lease.held
                    && (!is_wished || is_planted(Bug::HoldsWished))
                    && !is_planted(Bug::HoldIgnored) =>
            {
                None
            }
            (Some(_), _) if stream == Stream::Up => None,
            // Who cannot read the Lease cannot swap it either: it would only hold up a primary that goes on.
            (Some(_), _)
                if now.since(self.read_at) > self.settings.retry * 2 && !is_planted(Bug::StandUnread) =>
            {
                None
            }
            (Some(_), _) => {
                let expired = observed.at.plus(self.settings.lease_duration);
                let gone = since.plus(self.settings.gone_after);
                if now >= expired {
                    Some(expired)
                } else if self.settings.mode == Mode::Sync && stream == Stream::Refused && now >= gone {
                    Some(gone)
                } else {
                    None
                }
            }
        };
        let Some(fallen) = fallen else { return false };
        // One after the other, or they only hinder each other.
        let turn = if is_wished {
            0
        } else {
            let before = lease.in_sync.ordinals().take_while(|ordinal| *ordinal != self.me.ordinal);
            let before = before.filter(|ordinal| !lease.fenced.contains(ordinal)).count();
            let behind = self.somebody_has_more(&lease.in_sync);
            before.min(8) as u32 + 4 * u32::from(behind) + 8 * u32::from(wished.is_some())
        };
        now >= fallen.plus(self.settings.retry / 8 * turn)
    }

    /// Whether the Lease says that this one must not be primary.
    fn is_fenced(&self, ordinal: Ordinal) -> bool {
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

    /// The primary: renews, keeps the set, hands over.
    fn reign_on(&mut self, now: Now) {
        if self.is_over(now) {
            return self.step_down(now, Why::Expired);
        }
        if self.asked.is_some() {
            self.repeat_unanswered(now);
            return;
        }
        let Some(observed) = &self.lease else { return };
        let (lease, version) = (observed.seen.lease.clone(), observed.seen.version);
        let Some(reign) = &mut self.reign else { return };
        let fenced = |ordinal| lease.fenced.contains(&ordinal) && !is_planted(Bug::HandsOverToFenced);
        if self.handing_over.is_some_and(|(heir, _)| fenced(heir)) {
            (self.handing_over, self.prepared) = (None, false);
        }
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
        if let Some((heir, since)) = self.handing_over {
            let ready = self.prepared || is_planted(Bug::ReleaseUnprepared);
            // A call whose message somebody lacks would have to be made again, though its message stays.
            let answered = reign.is_confirmed(&self.settings) || now.since(since) >= self.settings.retry / 2;
            if ready && answered && (reign.is_level(heir) || is_planted(Bug::ReleaseBeforeLevel)) {
                let released = Lease { holder: None, wished: Some(heir), ..lease };
                return self.swap(now, released, version);
            }
            if now.since(since) >= self.settings.hand_over && !is_planted(Bug::HandOverNeverGivenUp) {
                (self.handing_over, self.prepared) = (None, false);
                self.not_before = now.plus(self.settings.lease_duration);
            }
        }
        let set = reign.wish(now, &self.settings);
        // Cut off from the others it would keep them from electing one that can acknowledge; if that is too many for them,
        // a change of primaries helps nobody.
        let of_use = self.settings.mode == Mode::Async
            || !self.settings.others_could()
            || reign.may_send(now, &self.settings).is_ok()
            || is_planted(Bug::RenewsInVain);
        let renew = of_use && now.since(self.renewed_at) >= self.settings.retry * 2;
        if set != *reign.recorded() || renew {
            reign.ask(set.clone());
            self.swap(now, Lease { in_sync: set, ..lease }, version);
        }
    }

    /// Asks again where no answer came; the version makes that harmless.
    fn repeat_unanswered(&mut self, now: Now) {
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
        self.become_role(Role::Replica(primary));
        self.orders.push_back(Order::Follow(primary));
    }

    fn swap(&mut self, now: Now, lease: Lease, version: Version) {
        self.asked = Some(Asked { lease: lease.clone(), version, at: now, answered: false });
        self.orders.push_back(Order::Swap { lease, version });
    }

    /// The swap was done.
    fn done(&mut self, now: Now, asked: Asked, version: Version) {
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
                (self.handing_over, self.prepared) = (None, false);
                // Nobody of the set had more: what it has is the log from now on.
                self.doubt = Doubt::None;
                let all = is_planted(Bug::ConfirmedFromOwnEnd);
                let confirmed = if all { self.log.1.end } else { self.confirmed };
                self.reign = Some(Reign::new(self.me, now, set, Has { state: 1, ..self.log.1 }, confirmed));
                self.become_role(Role::Primary(epoch));
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

    fn renewed(&mut self, sent: Now) {
        self.renewed_at = sent;
        self.valid_until = sent.plus(self.settings.lease_duration);
    }

    /// What the Lease says now against what this primary believes.
    fn judge_reign(&mut self, now: Now) {
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

    fn step_down(&mut self, now: Now, why: Why) {
        self.reign = None;
        (self.handing_over, self.prepared) = (None, false);
        if self.asked.as_ref().is_some_and(|asked| asked.answered) && why != Why::Deposed {
            self.asked = None;
        }
        self.not_before = self.not_before.max(now.plus(self.settings.retry / 2));
        self.stream = (Stream::Lost, now);
        self.become_role(Role::Looking);
        self.orders.push_back(Order::StepDown(why));
    }

    fn is_over(&self, now: Now) -> bool {
        self.settings.mode == Mode::Async && now >= self.valid_until && !is_planted(Bug::ExpiredGoesOn)
    }

    fn become_role(&mut self, role: Role) {
        self.role = role;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::StoreId;

    fn at(ms: u64) -> Now {
        Now(Duration::from_millis(ms))
    }

    fn id(ordinal: u32) -> MemberId {
        MemberId { ordinal: Ordinal(ordinal), store: StoreId(u64::from(ordinal) + 10) }
    }

    fn found(end: u64) -> Found {
        let has = Has { end: LogOffset(end), state: 0 };
        Found { epoch: Epoch(1), doubt: Doubt::None, last: Epoch(1), has, confirmed: LogOffset(0) }
    }

    fn member(ordinal: u32, found: Found) -> Member {
        Member::new(id(ordinal), format!("broker-{ordinal}/a"), Settings::default(), found, at(0))
    }

    /// Epoch, primary (who holds it), the set.
    fn lease(epoch: u64, primary: u32, set: &[u32]) -> Lease {
        Lease {
            holder: Some(format!("broker-{primary}/a")),
            epoch: Epoch(epoch),
            primary: Some(Ordinal(primary)),
            in_sync: set.iter().fold(InSync::default(), |set, ordinal| set.with(id(*ordinal))),
            ..Lease::default()
        }
    }

    fn sees(member: &mut Member, ms: u64, lease: &Lease, version: Version) {
        member.lease_seen(at(ms), Seen { lease: lease.clone(), version });
    }

    fn stands(member: &mut Member) -> bool {
        std::iter::from_fn(|| member.order()).any(|order| matches!(order, Order::Swap { .. }))
    }

    #[test]
    fn who_fell_as_primary_stands_though_another_goes_first() {
        let mut fallen = member(1, found(5));
        sees(&mut fallen, 0, &lease(1, 1, &[0, 1]), 3);
        assert!(!stands(&mut fallen), "the other goes first");
        fallen.tick(at(1000));
        assert!(stands(&mut fallen), "and did not");
    }

    /// Whether it releases the Lease now.
    fn releases(member: &mut Member) -> bool {
        std::iter::from_fn(|| member.order())
            .any(|order| matches!(order, Order::Swap { lease, .. } if lease.holder.is_none()))
    }

    #[test]
    fn who_hands_over_waits_for_all_that_are_in_sync_and_not_for_long() {
        let mut primary = member(1, found(5));
        sees(&mut primary, 0, &lease(1, 1, &[0, 1, 2]), 5);
        primary.tick(at(1000));
        assert!(stands(&mut primary));
        primary.swapped(at(1000), SwapOutcome::Done(6));
        let epoch = primary.epoch();
        for (ordinal, end) in [(0, 9), (2, 5)] {
            primary.follower_connected(at(1010), id(ordinal), Has { end: LogOffset(end), state: 1 });
        }
        primary.own(at(1020), epoch, Has { end: LogOffset(9), state: 1 });
        assert_eq!(primary.hand_over(at(1020), Some(Ordinal(0))), Some(Ordinal(0)));
        primary.prepared(at(1020));
        let mut lagging = primary.clone();
        assert!(!releases(&mut primary), "2 lacks what a sender waits for");
        primary.follower_has(at(1030), Ordinal(2), Has { end: LogOffset(9), state: 1 });
        assert!(releases(&mut primary));
        lagging.tick(at(1519));
        assert!(!releases(&mut lagging));
        lagging.tick(at(1520));
        assert!(releases(&mut lagging), "it may never have it");
    }

    #[test]
    fn a_primary_that_can_acknowledge_nothing_lets_its_lease_expire_until_it_can() {
        for (members, lets_go) in [(3, true), (2, false)] {
            let settings = Settings { members, min_in_sync: 2, ..Settings::default() };
            assert_eq!(renews_again_and_again(settings), !lets_go, "{members} members");
        }
    }

    /// A primary with one other in the set, which goes and comes: does it renew while it is away?
    fn renews_again_and_again(settings: Settings) -> bool {
        let mut primary = Member::new(id(1), "broker-1/a".to_owned(), settings, found(5), at(0));
        sees(&mut primary, 0, &lease(1, 1, &[0, 1]), 5);
        primary.tick(at(1000));
        assert!(stands(&mut primary));
        primary.swapped(at(1000), SwapOutcome::Done(6));
        primary.follower_connected(at(1100), id(0), Has { end: LogOffset(5), state: 1 });
        let mut version = 6;
        let mut renews = |primary: &mut Member, from: u64| {
            (from..from + 5000).step_by(100).any(|ms| {
                primary.tick(at(ms));
                let asks = stands(primary);
                if asks {
                    version += 1;
                    primary.swapped(at(ms), SwapOutcome::Done(version));
                }
                asks
            })
        };
        assert!(renews(&mut primary, 1200));
        primary.follower_gone(at(6200), Ordinal(0));
        let alone = renews(&mut primary, 8000);
        assert!(matches!(primary.role(), Role::Primary(_)), "nobody else was elected");
        primary.follower_connected(at(13_000), id(0), Has { end: LogOffset(5), state: 1 });
        assert!(renews(&mut primary, 13_000));
        alone
    }

    #[test]
    fn what_refused_as_an_earlier_primary_is_nothing_against_the_next() {
        for next in [0, 2] {
            let mut replica = member(1, found(5));
            sees(&mut replica, 0, &lease(1, 0, &[0, 1, 2]), 3);
            replica.stream(at(10), Stream::Refused);
            sees(&mut replica, 600, &lease(2, next, &[0, 1, 2]), 4);
            assert!(!stands(&mut replica), "{next} only just began");
            replica.stream(at(610), Stream::Refused);
            replica.tick(at(1100));
            assert!(stands(&mut replica), "{next} refuses too");
        }
    }

    #[test]
    fn who_cannot_read_the_lease_does_not_stand_in_the_way_of_a_primary_that_goes_on() {
        let mut replica = member(1, found(5));
        sees(&mut replica, 0, &lease(1, 0, &[0, 1]), 3);
        replica.stream(at(10), Stream::Up);
        replica.stream(at(20_000), Stream::Lost);
        replica.tick(at(21_000));
        assert!(!stands(&mut replica), "it knows nothing of renewals");
        sees(&mut replica, 21_100, &lease(1, 0, &[0, 1]), 3);
        assert!(stands(&mut replica), "there were none");
    }

    #[test]
    fn doubt_lasts_until_there_is_all_with_which_the_reign_began() {
        let mut replica = member(1, Found { doubt: Doubt::LostTail, ..found(90) });
        replica.told(LogOffset(80), LogOffset(100), LogOffset(90));
        assert_eq!(
            replica.doubt(),
            Doubt::LostTail,
            "up to 100 may be confirmed, which a new primary does not know"
        );
        replica.told(LogOffset(80), LogOffset(100), LogOffset(100));
        assert_eq!(replica.doubt(), Doubt::None);
    }

    #[test]
    fn what_was_heard_in_an_earlier_reign_does_not_end_doubt() {
        let mut doubtful = member(1, Found { doubt: Doubt::LostTail, ..found(95) });
        doubtful.heard(at(0), id(2), Epoch(1), Epoch(1), LogOffset(90));
        sees(&mut doubtful, 0, &lease(2, 2, &[1, 2]), 5);
        sees(&mut doubtful, 9000, &lease(2, 2, &[1, 2]), 5);
        assert!(!stands(&mut doubtful), "the other had less before it reigned");
        doubtful.heard(at(9100), id(2), Epoch(2), Epoch(1), LogOffset(95));
        assert!(stands(&mut doubtful));
    }

    #[test]
    fn who_hears_of_a_later_reign_while_it_asks_does_not_begin_one() {
        let mut asks = member(1, found(5));
        sees(&mut asks, 0, &lease(1, 1, &[1]), 5);
        asks.tick(at(10));
        assert!(stands(&mut asks));
        sees(&mut asks, 20, &lease(5, 2, &[1, 2]), 9);
        asks.swapped(at(30), SwapOutcome::Done(6));
        assert_eq!(asks.role(), Role::Replica(Ordinal(2)), "it was overtaken");
    }

    #[test]
    fn an_epoch_that_the_lease_does_not_confirm_changes_nothing() {
        let mut primary = member(1, found(5));
        sees(&mut primary, 0, &lease(1, 1, &[1]), 5);
        primary.swapped(at(10), SwapOutcome::Done(6));
        while primary.order().is_some() {}
        primary.heard_epoch(at(20), Epoch(u64::MAX));
        primary.heard_epoch(at(30), Epoch(u64::MAX));
        let orders: Vec<_> = std::iter::from_fn(|| primary.order()).collect();
        assert_eq!(orders, [Order::ReadLease], "once, whoever says it how often");
        assert_eq!((primary.role(), primary.epoch()), (Role::Primary(Epoch(2)), Epoch(2)));
        let own = Lease { holder: Some("broker-1/a".to_owned()), ..lease(2, 1, &[1]) };
        sees(&mut primary, 40, &own, 6);
        assert_eq!(primary.role(), Role::Primary(Epoch(2)));
        // And one that is there: the Lease says so.
        primary.heard_epoch(at(1000), Epoch(3));
        assert_eq!(primary.order(), Some(Order::ReadLease));
        sees(&mut primary, 1010, &lease(3, 2, &[1, 2]), 7);
        assert_eq!(primary.role(), Role::Replica(Ordinal(2)));
    }

    #[test]
    fn who_stands_while_the_api_server_goes_away_follows_again() {
        let mut replica = member(1, found(5));
        sees(&mut replica, 0, &lease(1, 0, &[0, 1]), 3);
        sees(&mut replica, 9000, &lease(1, 0, &[0, 1]), 3);
        assert!(stands(&mut replica), "it expired");
        replica.swapped(at(9500), SwapOutcome::Unknown);
        assert_eq!(replica.role(), Role::Standing, "it may be done any moment");
        replica.tick(at(10_000));
        assert_eq!(replica.order(), Some(Order::Follow(Ordinal(0))));
        replica.tick(at(11_500));
        assert!(!stands(&mut replica), "it knows no more than before");
        replica.stream(at(11_600), Stream::Up);
        // It was done after all: another reign than it thought of, and nobody's.
        let own = Lease { holder: Some("broker-1/a".to_owned()), ..lease(2, 1, &[1]) };
        replica.swapped(at(11_700), SwapOutcome::Done(4));
        assert_eq!(replica.role(), Role::Replica(Ordinal(0)), "the answer comes too late");
        sees(&mut replica, 20_000, &own, 4);
        let orders: Vec<_> = std::iter::from_fn(|| replica.order()).collect();
        let [.., Order::Freeze, Order::Swap { lease, version: 4 }] = &orders[..] else {
            panic!("it stands again, of epoch 2: {orders:?}")
        };
        assert_eq!(lease.epoch, Epoch(3));
    }

    #[test]
    fn where_the_lease_is_read_and_never_written_the_primary_goes_on_between_attempts() {
        let mut replica = member(1, found(5));
        sees(&mut replica, 0, &lease(1, 0, &[0, 1]), 3);
        sees(&mut replica, 9000, &lease(1, 0, &[0, 1]), 3);
        assert!(stands(&mut replica));
        replica.swapped(at(9010), SwapOutcome::Conflict);
        sees(&mut replica, 9020, &lease(1, 0, &[0, 1]), 3);
        assert_eq!(replica.role(), Role::Standing, "what it read may be older than the conflict");
        replica.tick(at(10_000));
        sees(&mut replica, 10_100, &lease(1, 0, &[0, 1]), 3);
        assert_eq!(replica.role(), Role::Replica(Ordinal(0)));
        replica.tick(at(11_000));
        assert!(stands(&mut replica), "and it tries again");
    }

    #[test]
    fn a_reign_ends_doubt() {
        let mut doubtful = member(1, Found { doubt: Doubt::LostTail, ..found(95) });
        sees(&mut doubtful, 0, &lease(1, 1, &[1]), 5);
        doubtful.swapped(at(10), SwapOutcome::Done(6));
        assert_eq!(doubtful.role(), Role::Primary(Epoch(2)));
        assert_eq!(doubtful.doubt(), Doubt::None);
    }

    #[test]
    fn a_fenced_member_stands_for_no_lease_and_the_others_do_not_wait_for_it() {
        let fence = |lease: Lease| Lease { fenced: [Ordinal(1)].into(), ..lease };
        let released = |wished| Lease { holder: None, wished, ..lease(1, 0, &[0, 1, 2]) };
        let expired = lease(1, 0, &[0, 1, 2]);
        let own = lease(1, 1, &[0, 1, 2]);
        for left in [released(None), released(Some(Ordinal(1))), expired.clone(), own] {
            let mut fenced = member(1, found(5));
            sees(&mut fenced, 0, &fence(left.clone()), 3);
            sees(&mut fenced, 60_000, &fence(left.clone()), 3);
            assert!(!stands(&mut fenced), "{left:?}");
            sees(&mut fenced, 60_000, &left, 4);
            sees(&mut fenced, 70_000, &left, 4);
            assert!(stands(&mut fenced), "the fence is gone");
        }
        // Of 0, 1 and 2 the last has its turn behind one other, whatever is wished for the one that may not.
        let mut last = member(2, found(5));
        sees(&mut last, 0, &fence(released(Some(Ordinal(1)))), 3);
        last.tick(at(125));
        assert!(stands(&mut last));
    }

    #[test]
    fn a_primary_hands_over_to_nobody_who_is_fenced() {
        let mut primary = reigning(&[0, 1, 2]);
        for other in [1, 2] {
            primary.follower_connected(at(100), id(other), Has { end: LogOffset(5), state: 1 });
        }
        let own = primary.lease().cloned().expect("it was seen");
        let fenced = Lease { fenced: [Ordinal(1)].into(), ..own };
        sees(&mut primary, 200, &Lease { wished: Some(Ordinal(1)), ..fenced.clone() }, 7);
        assert!(!primary.is_handing_over(), "though it is wished for");
        assert_eq!(primary.hand_over(at(300), Some(Ordinal(1))), None);
        assert_eq!(primary.hand_over(at(300), None), Some(Ordinal(2)), "1 would be first");
        // The heir is fenced in the meantime.
        sees(&mut primary, 400, &Lease { fenced: [Ordinal(1), Ordinal(2)].into(), ..fenced }, 8);
        assert!(!primary.is_handing_over());
        assert!(matches!(primary.role(), Role::Primary(_)), "there is nobody else");
    }

    #[test]
    fn a_held_failover_waits_for_a_wish_and_a_hand_over_does_not() {
        let held = |lease: Lease| Lease { held: true, ..lease };
        let lost = lease(1, 0, &[0, 1]);
        let mut replica = member(1, found(5));
        sees(&mut replica, 0, &held(lost.clone()), 3);
        replica.stream(at(10), Stream::Refused);
        sees(&mut replica, 60_000, &held(lost.clone()), 3);
        assert!(!stands(&mut replica));
        let mut by_wish = replica.clone();
        sees(&mut by_wish, 60_100, &held(Lease { wished: Some(Ordinal(1)), ..lost.clone() }), 4);
        by_wish.tick(at(61_000));
        assert!(stands(&mut by_wish), "somebody named it");
        let mut by_release = replica.clone();
        sees(&mut by_release, 60_100, &held(Lease { holder: None, ..lost }), 4);
        by_release.tick(at(61_000));
        assert!(stands(&mut by_release), "the primary handed over");
        // Nobody's place is taken.
        let mut back = member(0, found(5));
        sees(&mut back, 0, &held(lease(1, 0, &[0, 1])), 3);
        assert!(stands(&mut back));
    }

    #[test]
    fn who_takes_the_lease_keeps_what_it_does_not_decide_and_counts_who_fell() {
        let bound = |lease| Lease { fenced: [Ordinal(2)].into(), held: true, failovers: 6, ..lease };
        let wished = Some(Ordinal(1));
        for (left, failovers) in [
            (Lease { wished, ..lease(1, 0, &[0, 1]) }, 7),
            (Lease { holder: None, wished, ..lease(1, 0, &[0, 1]) }, 6),
            (lease(1, 1, &[0, 1]), 6),
        ] {
            let mut next = member(1, found(5));
            sees(&mut next, 0, &bound(left.clone()), 3);
            sees(&mut next, 9000, &bound(left), 3);
            let asked = std::iter::from_fn(|| next.order()).find_map(|order| match order {
                Order::Swap { lease, .. } => Some(lease),
                _ => None,
            });
            let asked = asked.expect("it stands");
            assert_eq!((asked.failovers, asked.held), (failovers, true));
            assert_eq!(asked.fenced, [Ordinal(2)].into());
        }
    }

    /// Member 0, which reigns in epoch 2 over this set.
    fn reigning(set: &[u32]) -> Member {
        let mut primary = member(0, found(5));
        sees(&mut primary, 0, &lease(1, 0, set), 5);
        assert!(stands(&mut primary));
        primary.swapped(at(10), SwapOutcome::Done(6));
        while primary.order().is_some() {}
        primary
    }

    #[test]
    fn nothing_is_confirmed_beyond_where_the_log_was_cut() {
        let mut replica = member(1, Found { confirmed: LogOffset(90), ..found(95) });
        replica.own(at(0), Epoch(1), Has { end: LogOffset(70), state: 0 });
        assert_eq!(replica.confirmed().end, LogOffset(70));
    }
}
