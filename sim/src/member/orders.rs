//! What a member orders, done.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use replication::{Doubt, Epoch, History, Lease, Order, Ordinal, Version, Why};

use super::{Following, Serving, Waiting};
use crate::driver_bug::DriverBug;
use crate::lease::told;
use crate::net::Side;
use crate::world::World;

impl World {
    pub(super) fn obey(&mut self, node: usize, order: Order) {
        match order {
            Order::Swap { lease, version } => self.swap(node, lease, version),
            Order::ReadLease => self.read_lease(node),
            Order::Follow(whom) => self.follow(node, whom),
            Order::Freeze => self.stop_following(node),
            Order::Reign(epoch) => self.reign(node, epoch),
            Order::StepDown(why) => self.step_down(node, why),
        }
    }

    fn swap(&mut self, node: usize, lease: Lease, version: Version) {
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
        self.may_freeze(node);
    }

    fn follow(&mut self, node: usize, whom: Ordinal) {
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

    fn stop_following(&mut self, node: usize) {
        self.say(|| format!("member {node}: takes no records any more"));
        if self.bug != Some(DriverBug::TakeRecordsWhileFrozen) {
            self.leave(node);
            if let Some(run) = &mut self.nodes[node].run {
                run.frozen = true;
            }
        }
    }

    fn reign(&mut self, node: usize, epoch: Epoch) {
        if let Some(known) =
            self.nodes[node].run.as_ref().map(|run| run.member.epoch()).filter(|known| *known > epoch)
        {
            self.broken(|| format!("member {node} reigns in epoch {epoch}, though it knows of {known}"));
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

    fn step_down(&mut self, node: usize, why: Why) {
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

    /// Who asks for a Lease that another holds has waited for a while, and has read it lately: else it only holds up a primary
    /// that may well go on.
    pub(super) fn has_cause(&mut self, node: usize, asked: &Lease) {
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
    pub(super) fn keep(&mut self, node: usize) {
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
    pub(super) fn announce(&mut self, node: usize) {
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

    /// A hand-over: what this member alone knows is written down first.
    pub(super) fn prepare(&mut self, node: usize) {
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
}
