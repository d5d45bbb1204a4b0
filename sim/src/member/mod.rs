//! One place of the group: its machine, its process, and in that a driver of [`replication::Member`] as the broker's.

mod clients;
mod following;
mod orders;
mod probes;
mod serving;

use std::collections::{BTreeMap, VecDeque};

use replication::{
    Doubt, Epoch, Found, Has, History, Member, MemberId, Now, Ordinal, Role, Seen, Stream, SwapOutcome,
    Version,
};
use store::LogOffset;

use crate::disk::Disk;
use crate::driver_bug::DriverBug;
use crate::net::{ConnectionId, Message, Side};
use crate::random::Random;
use crate::world::{Event, World};

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
                    Message::NotPrimary { epoch, yet } => {
                        self.tell(node, |member, now| member.heard_epoch(now, epoch));
                        if self.follows_by(node, id).is_some() {
                            let how = if yet { Stream::Lost } else { Stream::Refused };
                            self.stream_over(node, how, false);
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
}
