//! One place of the group: its machine, its process, and in that a driver of [`replication::Member`] as the broker's.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use replication::{
    Doubt, Epoch, Found, Has, History, Lease, Member, MemberId, Now, Order, Ordinal, Role, Seen, Stream,
    SwapOutcome, Version, Way,
};
use store::LogOffset;

use crate::disk::Disk;
use crate::lease::told;
use crate::net::{ConnectionId, Message, Side};
use crate::random::Random;
use crate::world::{Event, World};

/// So much is sent ahead of acknowledgements, in records.
const WINDOW: u64 = 400;
/// So many records go into a frame.
const FRAME: u64 = 40;

/// Duties of the driver that can be left undone, to see that a run notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverBug {
    /// Records are taken while the member stands.
    TakeRecordsWhileFrozen,
    /// A returning member is not cut back.
    NoCutBack,
    /// A returning member is cut one record short of what it shares.
    CutTooMuch,
    /// The epoch is not kept over a restart, and the history neither.
    ForgetEpochs,
    /// The primary does not keep where its reign began.
    NoStartOfReign,
    /// A replica does not take over the primary's history.
    HistoryNotAdopted,
    /// Acknowledgements are sent before the records are there.
    AckBeforeAppend,
    /// What waits for a confirmation is acknowledged when the reign ends.
    AckAtStepDown,
    /// The machine's restart over an unflushed log is not told.
    NoDoubtAfterPowerCut,
    /// Doubt is forgotten when the process starts once more.
    DoubtForgotten,
    /// A lost volume comes back under the old store's id.
    OldStoreId,
    /// A primary that should step down goes on.
    NoStepDown,
    /// A returning member keeps the state that it had beside the log.
    OldStateKept,
}

impl DriverBug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::TakeRecordsWhileFrozen,
        Self::NoCutBack,
        Self::CutTooMuch,
        Self::ForgetEpochs,
        Self::NoStartOfReign,
        Self::HistoryNotAdopted,
        Self::AckBeforeAppend,
        Self::AckAtStepDown,
        Self::NoDoubtAfterPowerCut,
        Self::DoubtForgotten,
        Self::OldStoreId,
        Self::NoStepDown,
        Self::OldStateKept,
    ];
}

/// A monotonic clock that is as good as clocks are.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    base: u64,
    since: u64,
    /// In thousandths of the world's.
    rate: u64,
}

impl Clock {
    /// What it shows.
    pub(crate) fn own(&self, world: u64) -> u64 {
        self.base + (world - self.since) * self.rate / 1000
    }

    /// How long so much of its time takes.
    pub(crate) fn real(&self, own: u64) -> u64 {
        own * 1000 / self.rate
    }

    pub(crate) fn jump(&mut self, forward: u64) {
        self.base += forward;
    }
}

/// A place of the group.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) ordinal: Ordinal,
    pub(crate) powered: bool,
    frozen_until: u64,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// The pod: a container that starts again keeps it.
    pub(crate) pod: u64,
    /// Counts processes.
    pub(crate) process: u64,
    pub(crate) run: Option<Running>,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) member: Member,
    /// It takes no records.
    frozen: bool,
    following: Option<Following>,
    pub(crate) serving: Option<Serving>,
    /// The swap under way, when it was asked for, and whether it releases the Lease.
    swap: Option<(u64, Now, bool)>,
    /// It stands with a swap at this version, whose fate it does not know.
    stands_at: Option<Version>,
    /// The epoch of the Lease, and when it saw that first.
    epoch_seen: (Epoch, Now),
    /// When it last read the Lease.
    read_at: Now,
    /// The Lease holds until then at least, by the member's clock.
    valid_until: Now,
    next_read: Now,
    next_probe: Now,
    /// How much it has of the present reign's state beside the log, as [`Has::state`] counts.
    changes: u64,
}

#[derive(Debug)]
struct Following {
    whom: usize,
    connection: Option<ConnectionId>,
    welcomed: Option<Epoch>,
    has_state: bool,
    history: History,
    heard_at: Now,
    next_try: Now,
}

/// What there is while it reigns.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) epoch: Epoch,
    followers: BTreeMap<ConnectionId, Follower>,
    waiting: VecDeque<Waiting>,
    changes: Vec<u64>,
    /// What it wrote down last for the one that comes next.
    pub(crate) prepared: Option<u64>,
}

#[derive(Debug)]
struct Follower {
    member: MemberId,
    sent: u64,
    /// So many changes; nothing before it has the state.
    sent_changes: Option<u64>,
    acknowledged: u64,
    told: u64,
    heard_at: Now,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    needs: Has,
    message: u64,
    is_change: bool,
    client: usize,
}

impl Node {
    pub(crate) fn new(ordinal: usize, before_group: bool, random: &mut Random) -> Self {
        let rate = if random.chance(400) { random.between(500, 2001) } else { 1000 };
        let clock = Clock { base: random.between(0, 1_000_000_000), since: 0, rate };
        let mut disk = Disk::fresh(random.next());
        if before_group {
            // It was a broker alone before.
            for _ in 0..random.between(0, 30) {
                disk.log.write(Epoch(0), u64::MAX - random.between(0, 1 << 40));
            }
        }
        Self {
            ordinal: Ordinal(ordinal as u32),
            powered: true,
            frozen_until: 0,
            clock,
            disk,
            pod: 0,
            process: 0,
            run: None,
        }
    }

    pub(crate) fn id(&self) -> MemberId {
        MemberId { ordinal: self.ordinal, store: self.disk.store }
    }

    pub(crate) fn frozen(&self, now: u64) -> Option<u64> {
        (self.run.is_some() && self.frozen_until > now).then_some(self.frozen_until)
    }

    pub(crate) fn freeze(&mut self, until: u64) {
        self.frozen_until = until;
    }

    pub(crate) fn role(&self) -> Option<Role> {
        self.run.as_ref().map(|run| run.member.role())
    }
}

impl World {
    fn quarter(&self) -> u64 {
        self.settings.retry.as_micros() as u64 / 4
    }

    // ---- the process -----------------------------------------------------------------------------------------------

    pub(crate) fn start(&mut self, node: usize) {
        if self.nodes[node].run.is_some() {
            return;
        }
        let now = self.clock(node);
        let bug = self.bug;
        let place = &mut self.nodes[node];
        place.powered = true;
        place.frozen_until = 0;
        if bug == Some(DriverBug::ForgetEpochs) {
            place.disk.epoch = Epoch(0);
            place.disk.history.starts.clear();
        }
        if bug == Some(DriverBug::DoubtForgotten) && place.process.is_multiple_of(2) {
            place.disk.doubt = Doubt::None;
        }
        // A reign that left no record is none.
        place.disk.cut(place.disk.log.end());
        let found = Found {
            epoch: place.disk.epoch,
            doubt: place.disk.doubt,
            last: place.disk.last(),
            has: place.disk.has(0),
            confirmed: LogOffset(place.disk.confirmed),
        };
        let name = format!("broker-{}/{}", place.ordinal, place.pod);
        let member = Member::new(place.id(), name, self.settings.clone(), found, now);
        place.run = Some(Running {
            member,
            frozen: false,
            following: None,
            serving: None,
            swap: None,
            stands_at: None,
            epoch_seen: (Epoch(0), now),
            read_at: now,
            valid_until: now,
            next_read: now,
            next_probe: now,
            changes: 0,
        });
        self.say(|| format!("member {node}: starts with {found:?}"));
        let process = self.nodes[node].process;
        self.at(self.now, Event::Tick { node, process });
        self.settle(node);
    }

    /// The process ends here. `tell`: the kernel goes on and resets its streams.
    pub(crate) fn stop(&mut self, node: usize, tell: bool) {
        if self.nodes[node].run.take().is_some() {
            self.close_all(node, tell);
            self.nodes[node].process += 1;
        }
    }

    pub(crate) fn flush(&mut self, node: usize) {
        let disk = &mut self.nodes[node].disk;
        disk.flushed = disk.log.end();
        let later = self.random.skewed(50_000, 4_000_000);
        self.after(later, Event::Flush { node });
    }

    // ---- the member ------------------------------------------------------------------------------------------------

    /// Tells the member something, then does what it wants.
    pub(crate) fn tell<R>(&mut self, node: usize, what: impl FnOnce(&mut Member, Now) -> R) -> Option<R> {
        let now = self.clock(node);
        let run = self.nodes[node].run.as_mut()?;
        let answer = what(&mut run.member, now);
        self.settle(node);
        Some(answer)
    }

    /// How far its own log is.
    fn tell_own(&mut self, node: usize) {
        let last = self.nodes[node].disk.last();
        let changes = self.nodes[node].run.as_ref().map_or(0, |run| run.changes);
        let has = self.nodes[node].disk.has(changes);
        self.tell(node, |member, now| member.own(now, last, has));
    }

    fn settle(&mut self, node: usize) {
        while let Some(order) = self.nodes[node].run.as_mut().and_then(|run| run.member.order()) {
            self.obey(node, order);
        }
        self.keep(node);
        self.announce(node);
        self.pump(node);
    }

    fn obey(&mut self, node: usize, order: Order) {
        match order {
            Order::Swap { lease, version } => {
                self.has_cause(node, &lease);
                let id = self.fresh_id();
                let now = self.clock(node);
                self.say(|| format!("member {node}: asks at version {version} for {}", told(&lease)));
                if let Some(run) = &mut self.nodes[node].run {
                    run.swap = Some((id, now, lease.holder.is_none()));
                    if run.serving.is_none() {
                        run.stands_at = Some(version);
                    }
                }
                self.stands_at_last(node);
                self.ask_swap(node, lease, version, id);
            }
            Order::ReadLease => self.read_lease(node),
            Order::Follow(whom) => {
                self.say(|| format!("member {node}: follows {whom}"));
                self.leave(node);
                let now = self.clock(node);
                if let Some(run) = &mut self.nodes[node].run {
                    run.frozen = false;
                    // It gave up the swap, whatever becomes of it.
                    run.stands_at = None;
                    run.following = Some(Following {
                        whom: whom.0 as usize,
                        connection: None,
                        welcomed: None,
                        has_state: false,
                        history: History::default(),
                        heard_at: now,
                        next_try: now,
                    });
                }
                self.reconnect(node);
            }
            Order::Freeze => {
                self.say(|| format!("member {node}: takes no records any more"));
                if self.bug != Some(DriverBug::TakeRecordsWhileFrozen) {
                    self.leave(node);
                    if let Some(run) = &mut self.nodes[node].run {
                        run.frozen = true;
                    }
                }
            }
            Order::Reign(epoch) => {
                if let Some(known) =
                    self.nodes[node].run.as_ref().map(|run| run.member.epoch()).filter(|known| *known > epoch)
                {
                    self.broken(|| {
                        format!("member {node} reigns in epoch {epoch}, though it knows of {known}")
                    });
                }
                self.leave(node);
                self.reign_begins(node, epoch);
                let bug = self.bug;
                let place = &mut self.nodes[node];
                if bug == Some(DriverBug::NoStartOfReign) {
                    place.disk.epoch = epoch;
                } else {
                    place.disk.begin_reign(epoch);
                }
                if let Some(run) = &mut place.run {
                    run.frozen = false;
                    run.changes = 1;
                    run.serving = Some(Serving {
                        epoch,
                        followers: BTreeMap::new(),
                        waiting: VecDeque::new(),
                        changes: Vec::new(),
                        prepared: None,
                    });
                }
            }
            Order::StepDown(why) => {
                self.say(|| format!("member {node}: steps down: {why:?}"));
                if self.bug == Some(DriverBug::NoStepDown) {
                    return;
                }
                let Some(serving) = self.nodes[node].run.as_mut().and_then(|run| run.serving.take()) else {
                    return;
                };
                for id in serving.followers.keys() {
                    self.close(*id, Side::Primary, true);
                }
                let acknowledge = self.bug == Some(DriverBug::AckAtStepDown);
                for waiting in serving.waiting {
                    if acknowledge {
                        self.acknowledge(node, waiting);
                    } else {
                        self.answer(waiting.client, node, waiting.message, Err(None));
                    }
                }
            }
        }
    }

    /// Who asks for a Lease that another holds has waited for a while, and has read it lately: else it only holds up a primary
    /// that may well go on.
    fn has_cause(&mut self, node: usize, asked: &Lease) {
        let (now, patience) = (self.clock(node), self.settings.gone_after);
        let Some(run) = &self.nodes[node].run else { return };
        let Some(seen) = run.member.lease().filter(|seen| seen.epoch < asked.epoch) else { return };
        let other = seen.holder.is_some() && seen.primary != Some(self.nodes[node].ordinal);
        if other && run.epoch_seen.0 == seen.epoch && now.since(run.epoch_seen.1) < patience {
            let epoch = seen.epoch;
            self.broken(|| {
                format!("member {node} stands against epoch {epoch}, of which it knows hardly anything")
            });
        }
        let unread = self.nodes[node].run.as_ref().map_or(Duration::ZERO, |run| now.since(run.read_at));
        if other && unread > self.settings.retry * 2 {
            self.broken(|| format!("member {node} stands, though it has not read the Lease for {unread:?}"));
        }
    }

    /// What has to be durable before anybody hears of it.
    fn keep(&mut self, node: usize) {
        let place = &mut self.nodes[node];
        let Some(run) = &mut place.run else { return };
        let epoch = run.member.epoch();
        let trusts_again = run.member.doubt() == Doubt::None && place.disk.doubt != Doubt::None;
        if trusts_again {
            place.disk.doubt = Doubt::None;
        }
        let before = place.disk.epoch;
        place.disk.epoch = before.max(epoch);
        if trusts_again && self.is_sync() {
            let lease = self.api.lease.clone();
            self.set_has_everything(&lease);
        }
        if epoch < before {
            self.broken(|| format!("member {node} knew of epoch {before}, now of {epoch}"));
        }
    }

    /// What is confirmed by now, and who waits for it.
    fn announce(&mut self, node: usize) {
        let Some(run) = &mut self.nodes[node].run else { return };
        let confirmed = run.member.confirmed();
        let reigns = run.serving.is_some();
        self.confirmed(node, confirmed.end.0, reigns);
        loop {
            let Some(serving) = self.nodes[node].run.as_mut().and_then(|run| run.serving.as_mut()) else {
                return;
            };
            let due = |waiting: &Waiting| {
                waiting.needs.end <= confirmed.end && waiting.needs.state <= confirmed.state
            };
            let Some(waiting) = serving.waiting.pop_front_if(|waiting| due(waiting)) else { return };
            self.acknowledge(node, waiting);
        }
    }

    fn acknowledge(&mut self, node: usize, waiting: Waiting) {
        self.acknowledged(node, waiting.needs.end.0, waiting.message, waiting.is_change);
        self.answer(waiting.client, node, waiting.message, Ok(()));
    }

    // ---- clients ---------------------------------------------------------------------------------------------------

    /// A client's message, or a change of what is beside the log.
    pub(crate) fn requested(&mut self, client: usize, node: usize, message: u64, is_change: bool) {
        let now = self.clock(node);
        let Some(run) = &self.nodes[node].run else {
            return self.answer(client, node, message, Err(None));
        };
        if let Err(refusal) = run.member.may_send(now) {
            let hint = match run.member.role() {
                Role::Replica(primary) => Some(primary),
                _ => None,
            };
            self.say(|| format!("member {node}: refuses {message}: {refusal}"));
            return self.answer(client, node, message, Err(hint));
        }
        let in_sync = run.member.lease().map_or(0, |lease| lease.in_sync.len());
        let expired = !self.is_sync() && now >= run.valid_until;
        if in_sync < self.settings.min_in_sync {
            let want = self.settings.min_in_sync;
            self.broken(|| format!("member {node} takes a message with {in_sync} of {want} in sync"));
        }
        if expired {
            self.broken(|| {
                format!("member {node} takes a message though the Lease may have expired (Async)")
            });
        }
        let flush = self.flush_sync;
        let place = &mut self.nodes[node];
        let Some(run) = &mut place.run else { return };
        let Some(serving) = &mut run.serving else { return };
        if is_change {
            serving.changes.push(message);
            run.changes = 1 + serving.changes.len() as u64;
            place.disk.state.insert(message);
        } else {
            place.disk.log.write(serving.epoch, message);
            if flush {
                place.disk.flushed = place.disk.log.end();
            }
        }
        let end = if is_change { LogOffset(0) } else { LogOffset(place.disk.log.end()) };
        let state = if is_change { run.changes } else { 0 };
        serving.waiting.push_back(Waiting { needs: Has { end, state }, message, is_change, client });
        self.say(|| format!("member {node}: takes {message} as {}", if is_change { state } else { end.0 }));
        self.tell_own(node);
    }

    // ---- the Lease -------------------------------------------------------------------------------------------------

    pub(crate) fn lease_seen(&mut self, node: usize, seen: Seen) {
        let now = self.clock(node);
        if let Some(run) = &mut self.nodes[node].run {
            if seen.lease.epoch > run.epoch_seen.0 {
                run.epoch_seen = (seen.lease.epoch, now);
            }
            run.read_at = now;
            run.stands_at = run.stands_at.filter(|version| seen.version <= *version);
        }
        self.tell(node, |member, now| member.lease_seen(now, seen));
    }

    pub(crate) fn swap_answered(&mut self, node: usize, id: u64, outcome: SwapOutcome) {
        let Some(run) = &mut self.nodes[node].run else { return };
        let Some((_, asked_at, releases)) = run.swap.take_if(|(asked, ..)| *asked == id) else { return };
        if let SwapOutcome::Done(_) = outcome {
            run.valid_until = asked_at.plus(self.settings.lease_duration);
            run.stands_at = None;
        }
        self.say(|| format!("member {node}: its swap is {outcome:?}"));
        let read = outcome == SwapOutcome::Conflict;
        if read && let Some(run) = &mut self.nodes[node].run {
            run.stands_at = None;
        }
        let released = releases && matches!(outcome, SwapOutcome::Done(_));
        self.tell(node, |member, now| member.swapped(now, outcome));
        if released && matches!(self.nodes[node].role(), Some(Role::Primary(_))) {
            self.broken(|| format!("member {node} released the Lease and reigns on"));
        }
        if read {
            self.read_lease(node);
        }
    }

    // ---- time ------------------------------------------------------------------------------------------------------

    pub(crate) fn tick(&mut self, node: usize) {
        let process = self.nodes[node].process;
        let pause = self.nodes[node].clock.real(self.quarter());
        self.after(pause, Event::Tick { node, process });
        self.tell(node, |member, now| member.tick(now));
        self.prepare(node);
        let now = self.clock(node);
        let retry = self.settings.retry;
        let Some(run) = &mut self.nodes[node].run else { return };
        if now >= run.next_read {
            run.next_read = now.plus(retry);
            self.read_lease(node);
        }
        self.hear_followers(node, now);
        self.hear_primary(node, now);
        self.probe(node, now);
    }

    /// A hand-over: what this member alone knows is written down first.
    fn prepare(&mut self, node: usize) {
        let change = self.random.next();
        let place = &mut self.nodes[node];
        let Some(run) = place.run.as_mut().filter(|run| run.member.must_prepare()) else { return };
        let Some(serving) = &mut run.serving else { return };
        serving.changes.push(change);
        run.changes += 1;
        serving.prepared = Some(change);
        place.disk.state.insert(change);
        self.tell_own(node);
        self.tell(node, |member, now| member.prepared(now));
    }

    /// Who is silent for too long counts as gone; all others hear that this one is there.
    fn hear_followers(&mut self, node: usize, now: Now) {
        let patience = self.settings.retry * 2;
        let Some(serving) = self.nodes[node].run.as_ref().and_then(|run| run.serving.as_ref()) else {
            return;
        };
        let (gone, there): (Vec<_>, Vec<_>) = serving
            .followers
            .iter()
            .map(|(id, follower)| (*id, follower.heard_at))
            .partition(|(_, heard_at)| now.since(*heard_at) > patience);
        for (id, _) in gone {
            self.follower_closed(node, id);
        }
        for (id, _) in there {
            self.send_state(node, id);
            self.send_frame(node, id, true);
        }
    }

    fn hear_primary(&mut self, node: usize, now: Now) {
        let retry = self.settings.retry;
        let Some(following) = self.nodes[node].run.as_mut().and_then(|run| run.following.as_mut()) else {
            return;
        };
        match following.connection {
            Some(_) if now.since(following.heard_at) > retry * 2 => {
                self.stream_over(node, Stream::Lost, true)
            }
            Some(_) => {}
            None => self.reconnect(node),
        }
    }

    // ---- asking the others how far they are ----------------------------------------------------------------------

    fn probe(&mut self, node: usize, now: Now) {
        let pause = self.settings.retry / 2;
        let Some(run) = &mut self.nodes[node].run else { return };
        let follows = run.following.as_ref().is_some_and(|following| following.welcomed.is_some());
        if now < run.next_probe || run.serving.is_some() || (follows && run.member.doubt() == Doubt::None) {
            return;
        }
        run.next_probe = now.plus(pause);
        let epoch = run.member.epoch();
        let process = self.nodes[node].process;
        for to in (0..self.nodes.len()).filter(|to| *to != node) {
            let delay = self.delay();
            if !self.is_cut(node, to) {
                self.after(delay, Event::Probe { from: node, process, to, epoch });
            }
        }
    }

    pub(crate) fn probed(&mut self, from: usize, process: u64, to: usize, epoch: Epoch) {
        self.tell(to, |member, now| member.heard_epoch(now, epoch));
        let place = &self.nodes[to];
        let Some(run) = &place.run else { return };
        let (id, last, end) = (place.id(), place.disk.last(), LogOffset(place.disk.log.end()));
        let epoch = run.member.epoch();
        if self.is_cut(to, from) {
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::ProbeAnswer { to: from, process, from: id, epoch, last, end });
    }

    /// Somebody who is none of the group names an epoch.
    pub(crate) fn lied_to(&mut self, node: usize, epoch: Epoch) {
        self.say(|| format!("member {node}: hears of epoch {epoch}, which is a lie"));
        self.tell(node, |member, now| member.heard_epoch(now, epoch));
    }

    pub(crate) fn probe_answered(
        &mut self,
        to: usize,
        from: MemberId,
        epoch: Epoch,
        last: Epoch,
        end: LogOffset,
    ) {
        self.tell(to, |member, now| member.heard_epoch(now, epoch));
        self.tell(to, |member, now| member.heard(now, from, epoch, last, end));
    }

    // ---- as a replica ----------------------------------------------------------------------------------------------

    /// Follows nobody.
    fn leave(&mut self, node: usize) {
        let following = self.nodes[node].run.as_mut().and_then(|run| run.following.take());
        if let Some(id) = following.and_then(|following| following.connection) {
            self.close(id, Side::Follower, true);
        }
    }

    fn reconnect(&mut self, node: usize) {
        let now = self.clock(node);
        let place = &mut self.nodes[node];
        let (member, history, end) =
            (place.id(), place.disk.history.clone(), LogOffset(place.disk.log.end()));
        let Some(run) = &mut place.run else { return };
        let epoch = run.member.epoch();
        let Some(following) = &mut run.following else { return };
        if now < following.next_try || following.connection.is_some() {
            return;
        }
        (following.heard_at, following.welcomed, following.has_state) = (now, None, false);
        let whom = following.whom;
        let id = self.connect(node, whom, Message::Hello { member, epoch, history, end });
        if let Some(following) = self.nodes[node].run.as_mut().and_then(|run| run.following.as_mut()) {
            following.connection = Some(id);
        }
    }

    /// The stream from the primary is over.
    fn stream_over(&mut self, node: usize, how: Stream, soon: bool) {
        let now = self.clock(node);
        let pause = if soon { Duration::ZERO } else { self.settings.retry / 4 };
        let Some(following) = self.nodes[node].run.as_mut().and_then(|run| run.following.as_mut()) else {
            return;
        };
        following.next_try = now.plus(pause);
        following.welcomed = None;
        if let Some(id) = following.connection.take() {
            self.close(id, Side::Follower, true);
        }
        self.tell(node, |member, now| member.stream(now, how));
        if soon {
            self.reconnect(node);
        }
    }

    /// Is this the stream that it follows by?
    fn follows_by(&mut self, node: usize, id: ConnectionId) -> Option<&mut Following> {
        let run = self.nodes[node].run.as_mut()?;
        run.following.as_mut().filter(|following| following.connection == Some(id))
    }

    pub(crate) fn received(&mut self, node: usize, id: ConnectionId, side: Side, message: Message) {
        match (side, message) {
            (Side::Primary, Message::Hello { member, epoch, history, end }) => {
                self.greeted(node, id, member, epoch, &history, end);
            }
            (Side::Primary, Message::Ack { epoch, has }) => self.got_ack(node, id, epoch, has),
            (Side::Primary, _) => self.follower_closed(node, id),
            (Side::Follower, message) => {
                let now = self.clock(node);
                let Some(following) = self.follows_by(node, id) else {
                    return self.close(id, Side::Follower, true);
                };
                following.heard_at = now;
                match message {
                    Message::Welcome { .. } => self.welcomed(node, id, message),
                    Message::Frame { .. } => self.got_frame(node, id, message),
                    Message::State { state, changes } => self.got_state(node, state, changes),
                    Message::NotPrimary { epoch } => {
                        self.tell(node, |member, now| member.heard_epoch(now, epoch));
                        if self.follows_by(node, id).is_some() {
                            self.stream_over(node, Stream::Refused, false);
                        }
                    }
                    Message::Refused => self.stream_over(node, Stream::Refused, false),
                    Message::Closed | Message::Hello { .. } | Message::Ack { .. } => {
                        self.stream_over(node, Stream::Lost, true);
                    }
                }
            }
        }
    }

    /// The primary tells the way from this log to its own.
    fn welcomed(&mut self, node: usize, id: ConnectionId, message: Message) {
        let Message::Welcome { epoch, way, history, chain, confirmed } = message else { return };
        let known = self.nodes[node].run.as_ref().map_or(Epoch(0), |run| run.member.epoch());
        self.tell(node, |member, now| member.heard_epoch(now, epoch));
        if epoch != known {
            // Of an earlier reign, or of one that the Lease has yet to confirm.
            return self.stream_over(node, Stream::Lost, false);
        }
        if self.follows_by(node, id).is_none() {
            return;
        }
        self.say(|| {
            format!("member {node}: is welcome in epoch {epoch}: {way:?}, confirmed {}", confirmed.0)
        });
        let (sync, bug) = (self.is_sync(), self.bug);
        let disk = &mut self.nodes[node].disk;
        let (confirmed_before, doubts) = (disk.confirmed, disk.doubt != Doubt::None);
        let to = match way {
            Way::From(to) => {
                let to = match bug {
                    Some(DriverBug::NoCutBack) => disk.log.end(),
                    Some(DriverBug::CutTooMuch) => to.0.saturating_sub(1).max(disk.log.first),
                    _ => to.0,
                };
                if to < disk.log.first {
                    // Retention took what both had.
                    disk.log.begin_anew(to, chain);
                }
                disk.cut(to);
                to
            }
            Way::Anew(first) => {
                disk.log.begin_anew(first.0, chain);
                disk.cut(first.0);
                first.0
            }
        };
        if bug != Some(DriverBug::HistoryNotAdopted) {
            disk.adopt(&history);
        }
        if sync && !doubts && to < confirmed_before {
            self.broken(|| {
                format!("member {node} is cut to {to}, below {confirmed_before}, which was confirmed")
            });
        }
        if let Some(run) = &mut self.nodes[node].run {
            run.changes = 0;
            if let Some(following) = &mut run.following {
                following.welcomed = Some(epoch);
                following.history = history;
            }
        }
        self.tell_own(node);
        self.tell(node, |member, now| member.stream(now, Stream::Up));
        self.acknowledge_frame(node, id, confirmed, epoch);
    }

    /// The state beside the log, which replaces what there was.
    fn got_state(&mut self, node: usize, state: Vec<u64>, changes: u64) {
        let keep = self.bug == Some(DriverBug::OldStateKept);
        let place = &mut self.nodes[node];
        let Some(run) = &mut place.run else { return };
        let Some(following) = &mut run.following else { return };
        following.has_state = true;
        run.changes = changes;
        if !keep {
            place.disk.state = state.into_iter().collect();
        }
        self.tell_own(node);
    }

    fn got_frame(&mut self, node: usize, id: ConnectionId, message: Message) {
        let Message::Frame { epoch, at, records, confirmed, changes } = message else { return };
        let flush = self.flush_sync;
        let place = &mut self.nodes[node];
        let Some(run) = &mut place.run else { return };
        let Some(following) = &run.following else { return };
        let changes_fit = changes.as_ref().is_none_or(|(at, _)| following.has_state && *at == run.changes);
        let fits = following.welcomed == Some(epoch) && at == place.disk.log.end() && changes_fit;
        if run.frozen || epoch < run.member.epoch() || !fits {
            let end = place.disk.log.end();
            self.say(|| format!("member {node}: takes no frame of epoch {epoch} at {at}, it has {end}"));
            return self.stream_over(node, Stream::Lost, false);
        }
        if self.bug == Some(DriverBug::AckBeforeAppend) && !records.is_empty() {
            let has = Has { end: LogOffset(at + records.len() as u64), state: run.changes };
            self.send(id, Side::Follower, Message::Ack { epoch, has });
            if self.random.chance(100) {
                return self.stream_over(node, Stream::Lost, false);
            }
        }
        let place = &mut self.nodes[node];
        let Some(run) = &mut place.run else { return };
        let Some(following) = &run.following else { return };
        let mut wrong = None;
        for record in records {
            let offset = place.disk.log.end();
            if !place.disk.log.copy(record) {
                wrong = Some((offset, record));
            }
        }
        if flush {
            place.disk.flushed = place.disk.log.end();
        }
        if self.bug != Some(DriverBug::HistoryNotAdopted) {
            place.disk.adopt(&following.history);
        }
        if let Some((_, changes)) = changes {
            run.changes += changes.len() as u64;
            place.disk.state.extend(changes);
        }
        if let Some((offset, record)) = wrong {
            return self.broken(|| {
                format!(
                    "member {node} has {record:?} at {offset}, but before that another log than its primary"
                )
            });
        }
        self.tell_own(node);
        self.acknowledge_frame(node, id, confirmed, epoch);
    }

    fn acknowledge_frame(&mut self, node: usize, id: ConnectionId, confirmed: LogOffset, epoch: Epoch) {
        let end = LogOffset(self.nodes[node].disk.log.end());
        let Some(following) = self.follows_by(node, id) else { return };
        let began = following.history.starts.last().map_or(LogOffset(0), |start| start.at);
        self.tell(node, |member, _| member.told(confirmed, began, end));
        if self.follows_by(node, id).is_none() {
            return;
        }
        let place = &self.nodes[node];
        let Some(run) = &place.run else { return };
        if run.stands_at.is_some() || run.member.role() == Role::Standing || run.member.epoch() > epoch {
            let (role, seen) = (run.member.role(), run.member.epoch());
            return self.broken(|| {
                format!("member {node}, {role:?} and aware of {seen}, acknowledges in epoch {epoch}")
            });
        }
        let has = place.disk.has(run.changes);
        self.send(id, Side::Follower, Message::Ack { epoch, has });
    }

    // ---- as the primary --------------------------------------------------------------------------------------------

    fn greeted(
        &mut self,
        node: usize,
        id: ConnectionId,
        member: MemberId,
        epoch: Epoch,
        history: &History,
        end: LogOffset,
    ) {
        self.tell(node, |member, now| member.heard_epoch(now, epoch));
        let now = self.clock(node);
        let place = &mut self.nodes[node];
        let Some(run) = &mut place.run else { return };
        let known = run.member.epoch();
        let confirmed = run.member.confirmed().end;
        // Who knows of a later reign acknowledges nothing of this one.
        let Some(serving) = run.serving.as_mut().filter(|serving| epoch <= serving.epoch) else {
            self.send(id, Side::Primary, Message::NotPrimary { epoch: known });
            return self.close(id, Side::Primary, false);
        };
        let disk = &place.disk;
        let way = disk.history.way(LogOffset(disk.log.first), LogOffset(disk.log.end()), history, end);
        let (Way::From(from) | Way::Anew(from)) = way;
        let welcome = Message::Welcome {
            epoch: serving.epoch,
            way,
            history: disk.history.clone(),
            chain: disk.log.chain(from.0),
            confirmed,
        };
        let before: Vec<_> = serving
            .followers
            .iter()
            .filter(|(_, before)| before.member.ordinal == member.ordinal)
            .map(|(id, _)| *id)
            .collect();
        for before in &before {
            serving.followers.remove(before);
        }
        let follower = Follower {
            member,
            sent: from.0,
            sent_changes: None,
            acknowledged: from.0,
            told: confirmed.0,
            heard_at: now,
        };
        serving.followers.insert(id, follower);
        for before in before {
            self.close(before, Side::Primary, true);
        }
        self.send(id, Side::Primary, welcome);
        self.tell(node, |primary, now| primary.follower_connected(now, member, Has { end: from, state: 0 }));
    }

    fn got_ack(&mut self, node: usize, id: ConnectionId, epoch: Epoch, has: Has) {
        let now = self.clock(node);
        let Some(serving) = self.nodes[node].run.as_mut().and_then(|run| run.serving.as_mut()) else {
            return;
        };
        let Some(follower) = serving.followers.get_mut(&id).filter(|_| epoch == serving.epoch) else {
            return;
        };
        follower.heard_at = now;
        follower.acknowledged = follower.acknowledged.max(has.end.0);
        let ordinal = follower.member.ordinal;
        self.tell(node, |member, now| member.follower_has(now, ordinal, has));
    }

    fn follower_closed(&mut self, node: usize, id: ConnectionId) {
        self.close(id, Side::Primary, true);
        let Some(serving) = self.nodes[node].run.as_mut().and_then(|run| run.serving.as_mut()) else {
            return;
        };
        if let Some(follower) = serving.followers.remove(&id) {
            self.tell(node, |member, now| member.follower_gone(now, follower.member.ordinal));
        }
    }

    /// Sends the state beside the log, once.
    fn send_state(&mut self, node: usize, id: ConnectionId) {
        let place = &mut self.nodes[node];
        let Some(serving) = place.run.as_mut().and_then(|run| run.serving.as_mut()) else { return };
        let changes = 1 + serving.changes.len() as u64;
        let Some(follower) = serving.followers.get_mut(&id).filter(|to| to.sent_changes.is_none()) else {
            return;
        };
        follower.sent_changes = Some(changes);
        let state = place.disk.state.iter().copied().collect();
        self.send(id, Side::Primary, Message::State { state, changes });
    }

    /// Sends what there is to send.
    fn pump(&mut self, node: usize) {
        let Some(serving) = self.nodes[node].run.as_ref().and_then(|run| run.serving.as_ref()) else {
            return;
        };
        for id in serving.followers.keys().copied().collect::<Vec<_>>() {
            while self.send_frame(node, id, false) {}
        }
    }

    /// `always`: a frame without records if there are none to send. Was there one?
    fn send_frame(&mut self, node: usize, id: ConnectionId, always: bool) -> bool {
        let place = &mut self.nodes[node];
        let Some(run) = &mut place.run else { return false };
        let confirmed = run.member.confirmed().end;
        let Some(serving) = &mut run.serving else { return false };
        let Some(follower) = serving.followers.get_mut(&id) else { return false };
        if follower.sent < place.disk.log.first {
            // What it needs is deleted: it begins anew.
            self.follower_closed(node, id);
            return false;
        }
        let to = place.disk.log.end().min(follower.sent + FRAME).min(follower.acknowledged + WINDOW);
        let sent = follower.sent_changes.filter(|sent| *sent < 1 + serving.changes.len() as u64);
        let changes =
            sent.map(|sent| (sent, serving.changes.iter().skip(sent as usize - 1).copied().collect()));
        if !always && to <= follower.sent && changes.is_none() && confirmed.0 <= follower.told {
            return false;
        }
        let records = place.disk.log.range(follower.sent, to.max(follower.sent));
        let at = follower.sent;
        follower.sent += records.len() as u64;
        follower.sent_changes = follower.sent_changes.map(|_| 1 + serving.changes.len() as u64);
        follower.told = confirmed.0;
        let epoch = serving.epoch;
        self.send(id, Side::Primary, Message::Frame { epoch, at, records, confirmed, changes });
        true
    }
}
