//! What goes wrong, how often, and what is never asked of a group: that it keeps what no machine has any more.

use std::collections::BTreeSet;

use replication::{Doubt, Epoch, InSync, Ordinal, Role};

use crate::disk::Disk;
use crate::random::Random;
use crate::world::{Event, World};

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Crash,
    PowerCut,
    LoseVolume,
    Freeze,
    CutLink,
    Isolate,
    IsolateFromAll,
    ApiAway,
    ApiCut,
    ApiFlaky,
    /// A member falls meanwhile: elections by an API server whose answers are lost.
    FallsWhileFlaky,
    ApiLate,
    ClockJump,
    Wish,
    HandOver,
    Drain,
    Slow,
    Retention,
    CutThenCrashes,
    NewPrimaryFalls,
    CandidateFreezes,
    Lies,
    Fence,
    Hold,
    Least,
}

const FAULTS: [Fault; 25] = [
    Fault::Crash,
    Fault::PowerCut,
    Fault::LoseVolume,
    Fault::Freeze,
    Fault::CutLink,
    Fault::Isolate,
    Fault::IsolateFromAll,
    Fault::ApiAway,
    Fault::ApiCut,
    Fault::ApiFlaky,
    Fault::FallsWhileFlaky,
    Fault::ApiLate,
    Fault::ClockJump,
    Fault::Wish,
    Fault::HandOver,
    Fault::Drain,
    Fault::Slow,
    Fault::Retention,
    Fault::CutThenCrashes,
    Fault::NewPrimaryFalls,
    Fault::CandidateFreezes,
    Fault::Lies,
    Fault::Fence,
    Fault::Hold,
    Fault::Least,
];

/// What goes wrong in this run: each has its own few kinds, so that rare things meet often in some.
#[derive(Debug)]
pub(crate) struct Habits {
    kinds: Vec<Fault>,
    pause: u64,
    /// The faults stop then.
    pub(crate) until: u64,
}

impl Habits {
    pub(crate) fn new(random: &mut Random) -> Self {
        let share = [200, 400, 700, 1000][random.below(4)];
        let mut kinds: Vec<_> = FAULTS.into_iter().filter(|_| random.chance(share)).collect();
        if kinds.is_empty() {
            kinds.push(Fault::Crash);
        }
        let pause = [700_000, 2_000_000, 5_000_000][random.below(3)];
        Self { kinds, pause, until: random.between(10_000_000, 50_000_000) }
    }
}

impl World {
    pub(crate) fn fault(&mut self) {
        if self.now >= self.habits.until {
            return;
        }
        let pause = self.random.between(self.habits.pause / 10, self.habits.pause * 2);
        self.after(pause, Event::Fault);
        let kind = self.habits.kinds[self.random.below(self.habits.kinds.len())];
        let members = self.nodes.len();
        // The primary is the most interesting victim.
        let reigns = self.nodes.iter().position(|node| matches!(node.role(), Some(Role::Primary(_))));
        let node = match reigns {
            Some(primary) if self.random.chance(400) => primary,
            _ => self.random.below(members),
        };
        let lasts = self.random.skewed(20_000, 20_000_000);
        let until = self.now + lasts;
        self.say(|| format!("fault: {kind:?} of {node} for {:.3} s", lasts as f64 / 1e6));
        match kind {
            Fault::Crash => self.crash(node),
            Fault::PowerCut => self.cut_power(node),
            Fault::LoseVolume => self.lose_volume(node),
            Fault::Freeze => self.nodes[node].freeze(until),
            Fault::CutLink => {
                let other = self.random.below(members);
                self.net.cut.insert((node, other), until);
                if self.random.chance(600) {
                    self.net.cut.insert((other, node), until);
                }
            }
            Fault::Isolate | Fault::IsolateFromAll => {
                self.isolate(node, until);
                if kind == Fault::IsolateFromAll {
                    self.api.cut_until[node] = until;
                }
            }
            Fault::ApiAway => self.api.away_until = until,
            Fault::ApiCut => self.api.cut_until[node] = until,
            Fault::ApiFlaky => self.api.flaky_until = until,
            Fault::FallsWhileFlaky => {
                self.api.flaky_until = until;
                if self.random.chance(500) { self.crash(node) } else { self.cut_power(node) }
            }
            Fault::ApiLate => {
                self.api.late_until = until;
                // Who joins is gone again before the API server has it in the set, or its primary is.
                for _ in 0..self.random.between(0, 6) {
                    let (other, later) = (self.random.below(members), self.random.between(0, lasts));
                    self.after(later, Event::Stop { node: other });
                }
                if self.random.chance(500) {
                    let later = self.random.between(0, lasts);
                    self.after(later, Event::Stop { node });
                }
            }
            Fault::ClockJump => {
                let forward = self.random.skewed(1_000, 20_000_000);
                self.nodes[node].clock.jump(forward);
            }
            Fault::Wish => {
                let wished = (!self.random.chance(200)).then(|| Ordinal(self.random.below(members) as u32));
                self.wish(wished);
            }
            Fault::HandOver => {
                let to = self.random.chance(500).then(|| Ordinal(self.random.below(members) as u32));
                self.hand_over(reigns.unwrap_or(node), to);
            }
            Fault::Drain => {
                self.hand_over(node, None);
                let later = self.random.between(100_000, 5_000_000);
                self.after(later, Event::Stop { node });
            }
            Fault::Slow => self.net.slow_until = until,
            // Those that fall are new: see `may_fall`.
            Fault::NewPrimaryFalls | Fault::CandidateFreezes => self.crash(node),
            Fault::CutThenCrashes => {
                // A replica is soon back without its tail, and then one after the other falls.
                let victim = (reigns.unwrap_or(node) + 1 + self.random.below(members)) % members;
                self.cut_power(victim);
                let soon = self.random.skewed(10_000, 400_000);
                self.after(soon, Event::Start { node: victim });
                for other in (0..members).filter(|other| *other != victim) {
                    let later = self.random.skewed(10_000, 4_000_000);
                    self.after(later, Event::Stop { node: other });
                }
            }
            Fault::Lies => {
                for _ in 0..self.random.between(1, 20) {
                    let to = self.random.below(members);
                    let epoch = Epoch(self.api.lease.epoch.0 + self.random.skewed(1, 1 << 40));
                    let later = self.random.between(0, lasts);
                    self.after(later, Event::Lie { to, epoch });
                }
            }
            Fault::Fence => {
                // All of them, too: then nobody reigns until the fence goes.
                let share = [0, 300, 700, 1000][self.random.below(4)];
                let all = (0..members).map(|ordinal| Ordinal(ordinal as u32));
                let fenced = all.filter(|_| self.random.chance(share)).collect();
                self.bind(fenced, self.api.lease.held);
            }
            Fault::Hold => self.bind(self.api.lease.fenced.clone(), !self.api.lease.held),
            Fault::Least => {
                // As many as there are would often keep all sends away, and with them what can go wrong.
                let least = 1 + self.random.below(members).min(self.random.below(members));
                self.ask_for(least);
            }
            Fault::Retention => {
                let disk = &mut self.nodes[node].disk;
                let first = self.random.between(disk.log.first, disk.confirmed.min(disk.flushed) + 1);
                disk.log.retain(first);
            }
        }
    }

    /// Cuts a member off from all others.
    pub(crate) fn isolate(&mut self, node: usize, until: u64) {
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.net.cut.insert((node, other), until);
            self.net.cut.insert((other, node), until);
        }
    }

    /// A primary that only just reigns loses the others, and falls before it finds them again.
    pub(crate) fn may_fall(&mut self, node: usize) {
        let falls = self.now < self.habits.until && self.habits.kinds.contains(&Fault::NewPrimaryFalls);
        if !falls || !self.random.chance(400) {
            return;
        }
        let later = self.random.between(100_000, 3_000_000);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.net.cut.insert((node, other), self.now + later);
        }
        self.after(later, Event::Stop { node });
    }

    /// Whoever asks for the Lease hears late what became of that: another may reign by then.
    pub(crate) fn may_freeze(&mut self, node: usize) {
        let freezes = self.now < self.habits.until && self.habits.kinds.contains(&Fault::CandidateFreezes);
        if freezes && self.nodes[node].role() == Some(Role::Standing) && self.random.chance(300) {
            let lasts = self.random.between(500_000, 20_000_000);
            self.say(|| format!("member {node} freezes for {:.3} s", lasts as f64 / 1e6));
            self.nodes[node].freeze(self.now + lasts);
        }
    }

    fn hand_over(&mut self, node: usize, to: Option<Ordinal>) {
        if self.nodes[node].frozen(self.now).is_none() {
            self.tell(node, |member, now| member.hand_over(now, to));
        }
    }

    /// The process dies, and is started again.
    pub(crate) fn crash(&mut self, node: usize) {
        let told = !self.random.chance(100);
        self.stop(node, told);
        if self.random.chance(400) {
            self.nodes[node].pod += 1;
        }
        self.start_later(node);
    }

    fn start_later(&mut self, node: usize) {
        let later = self.random.skewed(10_000, 12_000_000);
        self.after(later, Event::Start { node });
    }

    /// May this member lose what is not on its disk, or the disk? Only while another is there that has everything; that
    /// is what a group promises: one fault at a time.
    fn may_lose(&self, node: usize) -> bool {
        let victim = self.nodes[node].id();
        let others_keep =
            |set: &InSync| {
                !set.holds(victim)
                    || self.nodes.iter().enumerate().any(|(at, other)| {
                        at != node && set.holds(other.id()) && other.disk.doubt == Doubt::None
                    })
            };
        let under_way = self.api.under_way.iter().filter(|(_, _, version)| *version >= self.api.version);
        others_keep(&self.api.lease.in_sync) && under_way.map(|(_, lease, _)| &lease.in_sync).all(others_keep)
    }

    fn cut_power(&mut self, node: usize) {
        if !self.flush_sync && !self.may_lose(node) {
            return;
        }
        self.stop(node, false);
        let disk = &self.nodes[node].disk;
        let end = self.random.between(disk.flushed, disk.log.end() + 1);
        let unsafe_flush = !self.flush_sync;
        let bug = self.bug;
        let place = &mut self.nodes[node];
        place.powered = false;
        place.pod += 1;
        if unsafe_flush {
            place.disk.cut(end);
            if bug != Some(crate::DriverBug::NoDoubtAfterPowerCut) {
                place.disk.doubt = Doubt::LostTail;
            }
        }
        self.say(|| format!("member {node}: without power, {end} is left"));
        self.start_later(node);
    }

    fn lose_volume(&mut self, node: usize) {
        if !self.may_lose(node) {
            return;
        }
        self.stop(node, true);
        let same = self.bug == Some(crate::DriverBug::OldStoreId);
        let store = if same { self.nodes[node].disk.store.0 } else { self.random.next() };
        self.nodes[node].disk = Disk::fresh(store);
        self.nodes[node].pod += 1;
        self.say(|| format!("member {node}: has an empty volume"));
        self.start_later(node);
    }

    /// No faults any more.
    pub(crate) fn heal(&mut self) {
        self.say(|| "the faults stop".to_owned());
        self.bind(BTreeSet::new(), false);
        self.net.cut.clear();
        self.net.slow_until = 0;
        self.api.away_until = 0;
        self.api.flaky_until = 0;
        self.api.late_until = 0;
        for node in 0..self.nodes.len() {
            self.api.cut_until[node] = 0;
            self.nodes[node].freeze(0);
            if self.nodes[node].run.is_none() {
                let later = self.random.between(10_000, 1_000_000);
                self.after(later, Event::Start { node });
            }
        }
    }
}
