//! What must hold: after every step, and once the faults stop.

use std::collections::{BTreeMap, BTreeSet};

use replication::{Doubt, Epoch, Lease, Mode, Ordinal, Role};

use crate::disk::Record;
use crate::world::{Event, World};

/// The group must be whole so long after the last fault: a slow clock makes every wait of the rules twice as long.
const HEALED_WITHIN: u64 = 120_000_000;
/// The API server is away for so long at the end, longer than a Lease holds by the slowest clock.
const WITHOUT_API: u64 = 30_000_000;
/// Nobody takes the place of a primary for so long, where failover is held.
const HELD_FOR: u64 = 30_000_000;
/// A group goes on, some time after one of it is gone.
const GONE_FOR: u64 = 40_000_000;
/// A wished primary reigns after so long.
const HANDED_OVER_WITHIN: u64 = 120_000_000;
/// Whoever wishes says so again after so long.
const WISHED_AGAIN: u64 = 25_000_000;

/// How far the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Faults,
    Healing {
        since: u64,
    },
    HandingOver {
        to: usize,
        since: u64,
        wished_at: u64,
    },
    /// A replica is gone for good, maybe just when it should become primary.
    OneGone {
        since: u64,
        gone: usize,
        killed: bool,
    },
    /// The primary is cut off from the members, and from nobody else: they go on without it.
    CutOff {
        since: u64,
    },
    /// The primary is gone for good, and failover is held: nobody takes its place before somebody names the next.
    Held {
        since: u64,
        next: usize,
        named: bool,
    },
    /// Nothing happens, so that nothing is under way when the API server goes.
    Quiet {
        since: u64,
    },
    /// The primary is cut off from all, until another stands; then everything is whole but the API server, which goes
    /// away before it has heard of that.
    StandsInVain {
        since: u64,
    },
    /// The API server is away; a stream is reset; whoever serves goes on.
    WithoutApi {
        since: u64,
        reset: bool,
    },
    Over,
}

/// The ledger.
#[derive(Debug)]
pub(crate) struct Checks {
    mode: Mode,
    pub(crate) broken: Option<String>,
    pub(crate) stage: Stage,
    /// Everything that was ever confirmed, by offset (Sync only).
    confirmed: Vec<Record>,
    acknowledged: Vec<(u64, u64)>,
    changes: BTreeSet<u64>,
    reigns: BTreeMap<Epoch, (usize, u64)>,
    last_acknowledged_at: u64,
    pub(crate) healed_after: u64,
}

impl Checks {
    pub(crate) fn new(mode: Mode) -> Self {
        Self {
            mode,
            broken: None,
            stage: Stage::Faults,
            confirmed: Vec::new(),
            acknowledged: Vec::new(),
            changes: BTreeSet::new(),
            reigns: BTreeMap::new(),
            last_acknowledged_at: 0,
            healed_after: 0,
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len() + self.changes.len()
    }

    pub(crate) fn reigns(&self) -> usize {
        self.reigns.len()
    }
}

impl World {
    pub(crate) fn is_sync(&self) -> bool {
        self.checks.mode == Mode::Sync
    }

    // ---- after every step ------------------------------------------------------------------------------------------

    /// A member knows that everything below `end` is confirmed; `reigns`: it says so itself.
    pub(crate) fn confirmed(&mut self, node: usize, end: u64, reigns: bool) {
        let disk = &mut self.nodes[node].disk;
        let (before, log_end) = (disk.confirmed, disk.log.end());
        if end > log_end {
            return self
                .broken(|| format!("member {node} takes {end} for confirmed, its log ends at {log_end}"));
        }
        disk.confirmed = end;
        if !self.is_sync() || end <= before {
            return;
        }
        let mut grew = false;
        for offset in before..end {
            let Some(record) = self.nodes[node].disk.log.get(offset) else { continue };
            let known = self.checks.confirmed.get(offset as usize).copied();
            match known {
                Some(known) if known == record => {}
                Some(known) => {
                    return self.broken(|| {
                        format!("member {node} takes {record:?} for confirmed at {offset}, but {known:?} was")
                    });
                }
                None if reigns && self.checks.confirmed.len() as u64 == offset => {
                    self.checks.confirmed.push(record);
                    grew = true;
                }
                None => {
                    return self
                        .broken(|| format!("member {node}: {offset} is confirmed, but by no primary"));
                }
            }
        }
        if grew {
            let lease = self.api.lease.clone();
            self.set_has_everything(&lease);
        }
    }

    /// Every member of the recorded set has everything that is confirmed.
    pub(crate) fn set_has_everything(&mut self, lease: &Lease) {
        let Some(last) = self.checks.confirmed.last().copied() else { return };
        let offset = self.checks.confirmed.len() as u64 - 1;
        let lacks = self.nodes.iter().position(|node| {
            let there = node.disk.log.get(offset);
            let gone = offset < node.disk.log.first;
            lease.in_sync.holds(node.id())
                && node.disk.doubt == Doubt::None
                && !gone
                && there.is_none_or(|there| there.chain != last.chain)
        });
        if let Some(node) = lacks {
            let there = self.nodes[node].disk.log.get(offset);
            self.broken(|| {
                format!("member {node} is in the in-sync set, but has {there:?} at {offset}, where {last:?} is confirmed")
            });
        }
    }

    /// Every member of the recorded set has every change that was acknowledged.
    fn set_has_changes(&mut self, lease: &Lease) {
        let lacks = |node: &crate::member::Node| {
            lease.in_sync.holds(node.id())
                && node.disk.doubt == Doubt::None
                && !self.checks.changes.is_subset(&node.disk.state)
        };
        if let Some(node) = self.nodes.iter().position(lacks) {
            self.broken(|| format!("member {node} is in the in-sync set, but lacks an acknowledged change"));
        }
    }

    /// A swap is about to be done.
    pub(crate) fn checks_of_swap(&mut self, node: usize, lease: &Lease) {
        let before = self.api.lease.clone();
        self.obeys(node, &before, lease);
        if lease.epoch == before.epoch {
            if lease.holder.is_some() && lease.holder != before.holder {
                self.broken(|| format!("member {node} holds the Lease of another in epoch {}", lease.epoch));
            }
            let heir = lease.wished.filter(|_| lease.holder.is_none()).map(|heir| heir.0 as usize);
            if let Some(heir) = heir.filter(|_| self.nodes[node].role() == Some(Role::Primary(lease.epoch))) {
                let (own, theirs) = (self.nodes[node].disk.log.end(), &self.nodes[heir].disk);
                let serving = self.nodes[node].run.as_ref().and_then(|run| run.serving.as_ref());
                let told = serving.and_then(|serving| serving.prepared);
                let knows = told.is_some_and(|told| theirs.state.contains(&told));
                if (theirs.log.end() < own || !knows)
                    && theirs.doubt == Doubt::None
                    && lease.in_sync.holds(self.nodes[heir].id())
                {
                    self.broken(|| format!("member {node} hands over to {heir}, which has not everything"));
                }
            }
            let (was, is) = (before.in_sync.len(), lease.in_sync.len());
            if is < was && is < self.least() {
                self.broken(|| format!("member {node} shrinks the in-sync set to {is}, below minInSync"));
            }
        } else if lease.epoch != before.epoch.next() {
            self.broken(|| format!("the epoch goes from {} to {}", before.epoch, lease.epoch));
        } else {
            let taker = lease.in_sync.members().find(|member| member.ordinal == Ordinal(node as u32));
            if taker.is_none_or(|taker| !before.in_sync.holds(taker)) {
                self.broken(|| {
                    format!(
                        "member {node} takes the Lease, but is none of the in-sync set {}",
                        before.in_sync
                    )
                });
            }
            // Two in a row by one member: its first swap was done, but it never heard of that.
            let fallen = before.primary.filter(|fallen| before.holder.is_some() && fallen.0 as usize != node);
            if let Some(fallen) =
                fallen.filter(|fallen| lease.in_sync.ordinals().any(|there| there == *fallen))
            {
                self.broken(|| {
                    format!("member {node} leaves {fallen}, which did not release, in the in-sync set")
                });
            }
        }
        if self.is_sync() {
            self.set_has_everything(lease);
            self.set_has_changes(lease);
        }
    }

    /// Nobody takes or hands over a Lease against what the operator wrote into it, and it stays there.
    fn obeys(&mut self, node: usize, before: &Lease, lease: &Lease) {
        let ordinal = Ordinal(node as u32);
        let takes = lease.epoch > before.epoch;
        let lost = before.primary.filter(|fallen| before.holder.is_some() && *fallen != ordinal);
        let bounds = |lease: &Lease| (lease.fenced.clone(), lease.held, lease.min_in_sync);
        if bounds(lease) != bounds(before) {
            self.broken(|| format!("member {node} changes what the operator bids members"));
        }
        if takes && before.fenced.contains(&ordinal) {
            self.broken(|| format!("member {node} takes the Lease, though it is fenced"));
        }
        if takes && lost.is_some() && before.held && before.wished != Some(ordinal) {
            self.broken(|| format!("member {node} takes the place of {lost:?}, though failover is held"));
        }
        let releases = lease.holder.is_none() && before.holder.is_some();
        if let Some(heir) = lease.wished.filter(|heir| releases && before.fenced.contains(heir)) {
            self.broken(|| format!("member {node} hands over to {heir}, which is fenced"));
        }
        if lease.failovers != before.failovers + u64::from(takes && lost.is_some()) {
            self.broken(|| format!("member {node} counts {} failovers", lease.failovers));
        }
    }

    /// A member begins to reign.
    pub(crate) fn reign_begins(&mut self, node: usize, epoch: Epoch) {
        let end = self.nodes[node].disk.log.end();
        self.say(|| format!("member {node}: reigns in epoch {epoch} from {end}"));
        let process = self.nodes[node].process;
        if let Some((other, _)) = self.checks.reigns.insert(epoch, (node, process)) {
            self.broken(|| format!("both {other} and {node} reign in epoch {epoch}"));
        }
        // Who hears late that it was elected, when another is already, reigns over nobody: it can confirm nothing.
        if epoch == self.api.lease.epoch {
            self.has_everything(node);
        }
        self.may_fall(node);
    }

    /// A primary has everything that was ever confirmed or acknowledged.
    fn has_everything(&mut self, node: usize) {
        if !self.is_sync() {
            return;
        }
        let disk = &self.nodes[node].disk;
        let lacks = (disk.log.first..self.checks.confirmed.len() as u64)
            .find(|offset| disk.log.get(*offset) != self.checks.confirmed.get(*offset as usize).copied());
        if let Some(offset) = lacks {
            let (there, known) = (disk.log.get(offset), self.checks.confirmed[offset as usize]);
            return self.broken(|| {
                format!("lost: the primary {node} has {there:?} at {offset}, where {known:?} was confirmed")
            });
        }
        if let Some(change) = self.checks.changes.difference(&disk.state).next().copied() {
            self.broken(|| {
                format!("lost: the primary {node} does not know the acknowledged change {change}")
            });
        }
    }

    /// A primary acknowledges a message, the one below `end`, or a change.
    pub(crate) fn acknowledged(&mut self, node: usize, end: u64, message: u64, is_change: bool) {
        self.checks.last_acknowledged_at = self.now;
        if is_change {
            self.checks.changes.insert(message);
            if self.is_sync() {
                let lease = self.api.lease.clone();
                self.set_has_changes(&lease);
            }
            return;
        }
        self.checks.acknowledged.push((end, message));
        if self.is_sync() {
            let known = self.checks.confirmed.get((end - 1) as usize).copied();
            if known.is_none_or(|known| known.message != message) {
                self.broken(|| {
                    format!(
                        "member {node} acknowledges {message} at {}, where {known:?} is confirmed",
                        end - 1
                    )
                });
            }
        }
    }

    // ---- once the faults stop --------------------------------------------------------------------------------------

    /// The one primary, if the group is as it should be: all in sync and trusted, and messages acknowledged since then.
    fn whole(&self, since: u64) -> Result<usize, String> {
        let lease = &self.api.lease;
        let mut primaries = self.nodes.iter().enumerate().filter_map(|(at, node)| match node.role() {
            Some(Role::Primary(epoch)) => Some((at, epoch)),
            _ => None,
        });
        let Some((primary, epoch)) = primaries.next() else { return Err("nobody reigns".to_owned()) };
        if let Some((other, _)) = primaries.next() {
            return Err(format!("{primary} and {other} believe that they reign"));
        }
        if epoch != lease.epoch {
            return Err(format!("{primary} reigns in epoch {epoch}, the Lease is of {}", lease.epoch));
        }
        for (at, node) in self.nodes.iter().enumerate() {
            if node.run.is_none() || !lease.in_sync.holds(node.id()) {
                return Err(format!("member {at} is not in sync"));
            }
            if node.disk.doubt != Doubt::None {
                return Err(format!("member {at} does not trust its log"));
            }
        }
        if self.checks.last_acknowledged_at <= since {
            return Err("nothing is acknowledged".to_owned());
        }
        Ok(primary)
    }

    /// One of the trials that end a run.
    fn last_stage(&mut self, primary: usize) -> Stage {
        let others = self.nodes.len() - 1;
        let can_do_without_one = self.least() <= others;
        // The former primary may be fenced: somebody else must be there to take over.
        let fenced = if others > 1 { self.api.lease.fenced.clone() } else { BTreeSet::new() };
        self.bind(fenced.clone(), false);
        if can_do_without_one && self.random.chance(150) {
            let able = |at: &usize| *at != primary && !fenced.contains(&Ordinal(*at as u32));
            let Some(next) = (0..self.nodes.len()).find(able) else { return Stage::Over };
            self.bind(fenced, true);
            self.stop(primary, true);
            self.nodes[primary].powered = false;
            self.say(|| format!("the primary {primary} is gone for good"));
            return Stage::Held { since: self.now, next, named: false };
        }
        if self.is_sync() && can_do_without_one && self.random.chance(200) {
            // It may take all but the fenced one out of the set before it knows how far it is cut off.
            self.bind(BTreeSet::new(), false);
            self.say(|| format!("member {primary} is cut off from the members"));
            self.isolate(primary, self.now + HEALED_WITHIN);
            return Stage::CutOff { since: self.now };
        }
        if self.random.chance(500) && can_do_without_one {
            let gone = (primary + 1 + self.random.below(others)) % self.nodes.len();
            if self.random.chance(500) {
                self.wish(Some(Ordinal(gone as u32)));
            }
            return Stage::OneGone { since: self.now, gone, killed: false };
        }
        self.bind(BTreeSet::new(), false);
        // In Async mode the primary has to stop, for its Lease expires.
        if self.is_sync() { Stage::Quiet { since: self.now } } else { Stage::Over }
    }

    /// The API server goes away: now, or when a member asks for the Lease because the primary is cut off.
    fn lose_api(&mut self) -> Stage {
        let is_primary = |node: &crate::member::Node| matches!(node.role(), Some(Role::Primary(_)));
        let primary = self.nodes.iter().position(is_primary);
        if let Some(primary) = primary.filter(|_| self.random.chance(500)) {
            let until = self.now + HEALED_WITHIN;
            self.say(|| format!("member {primary} is cut off"));
            self.isolate(primary, until);
            self.api.cut_until[primary] = until;
            return Stage::StandsInVain { since: self.now };
        }
        self.say(|| "the API server is away".to_owned());
        self.api.away_until = self.now + 2 * WITHOUT_API;
        Stage::WithoutApi { since: self.now, reset: false }
    }

    /// A member asks for the Lease, and the API server goes away.
    pub(crate) fn stands_at_last(&mut self, node: usize) {
        let reigns = matches!(self.nodes[node].role(), Some(Role::Primary(_)));
        if reigns || !matches!(self.checks.stage, Stage::StandsInVain { .. }) {
            return;
        }
        self.say(|| "the API server is away, and all are connected".to_owned());
        self.net.cut.clear();
        self.api.away_until = self.now + 2 * WITHOUT_API;
        self.checks.stage = Stage::WithoutApi { since: self.now, reset: true };
    }

    pub(crate) fn judge(&mut self) {
        self.after(100_000, Event::Judge);
        match self.checks.stage {
            Stage::Faults if self.now >= self.habits.until => {
                self.heal();
                self.checks.stage = Stage::Healing { since: self.now };
            }
            Stage::Faults | Stage::Over => {}
            Stage::Healing { since } => match self.whole(since) {
                Ok(primary) => {
                    self.checks.healed_after = self.now - since;
                    self.has_everything(primary);
                    if self.nodes.len() == 1 {
                        self.checks.stage = Stage::Over;
                        return;
                    }
                    let step = 1 + self.random.below(self.nodes.len() - 1);
                    let to = (primary + step) % self.nodes.len();
                    let fences = self.random.chance(300);
                    let fenced = fences.then_some(Ordinal(primary as u32)).into_iter().collect();
                    let held = self.random.chance(300);
                    self.bind(fenced, held);
                    self.wish(Some(Ordinal(to as u32)));
                    self.checks.stage = Stage::HandingOver { to, since: self.now, wished_at: self.now };
                }
                Err(why) if self.now > since + HEALED_WITHIN => {
                    self.broken(|| format!("the group does not heal: {why}"));
                }
                Err(_) => {}
            },
            Stage::HandingOver { to, since, wished_at } => match self.whole(since) {
                Ok(primary) if primary == to => {
                    self.has_everything(primary);
                    self.checks.stage = self.last_stage(primary);
                }
                whole if self.now > since + HANDED_OVER_WITHIN => {
                    self.broken(|| format!("the wished {to} is not primary: {whole:?}"));
                }
                _ if self.now > wished_at + WISHED_AGAIN => {
                    // Somebody else was faster, and the wish is forgotten: as the operator does.
                    self.wish(Some(Ordinal(to as u32)));
                    self.checks.stage = Stage::HandingOver { to, since, wished_at: self.now };
                }
                _ => {}
            },
            Stage::OneGone { since, gone, killed: false } => {
                // At once, or some time within the hand-over.
                if self.random.chance(500) {
                    self.stop(gone, true);
                    self.nodes[gone].powered = false;
                    self.say(|| format!("member {gone} is gone for good"));
                    self.checks.stage = Stage::OneGone { since, gone, killed: true };
                }
            }
            Stage::Held { since, next, named: false } if self.now > since + HELD_FOR => {
                self.wish(Some(Ordinal(next as u32)));
                self.checks.stage = Stage::Held { since: self.now, next, named: true };
            }
            Stage::Held { named: false, .. } => {}
            Stage::OneGone { since, .. } | Stage::CutOff { since } | Stage::Held { since, .. }
                if self.now > since + GONE_FOR =>
            {
                if self.checks.last_acknowledged_at + GONE_FOR / 6 < self.now {
                    self.broken(|| "nothing is acknowledged with one member gone".to_owned());
                }
                self.checks.stage = Stage::Over;
            }
            Stage::OneGone { .. } | Stage::CutOff { .. } | Stage::Held { .. } => {}
            Stage::Quiet { since } if self.now > since + WITHOUT_API / 5 => {
                self.checks.stage = self.lose_api();
            }
            Stage::Quiet { .. } => {}
            Stage::StandsInVain { since } if self.now > since + HEALED_WITHIN => {
                self.broken(|| "nobody stands, though the primary is cut off".to_owned());
            }
            Stage::StandsInVain { .. } => {}
            Stage::WithoutApi { since, reset: false } if self.now > since + WITHOUT_API / 4 * 3 => {
                let node = self.random.below(self.nodes.len());
                self.say(|| format!("the streams of {node} are reset"));
                self.reset_streams(node);
                self.checks.stage = Stage::WithoutApi { since, reset: true };
            }
            Stage::WithoutApi { since, .. } if self.now > since + WITHOUT_API => {
                if self.checks.last_acknowledged_at + WITHOUT_API / 6 < self.now {
                    self.broken(|| "nothing is acknowledged while the API server is away".to_owned());
                }
                self.checks.stage = Stage::Over;
            }
            Stage::WithoutApi { .. } => {}
        }
    }
}
