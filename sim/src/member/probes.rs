//! A member asks the others how far they are.

use replication::{Doubt, Epoch, MemberId, Now};
use store::LogOffset;

use crate::world::{Event, World};

impl World {
    pub(super) fn probe(&mut self, node: usize, now: Now) {
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
}
