//! A member as the primary: its followers.

use replication::{Epoch, Has, History, MemberId, Now, Way};
use store::LogOffset;

use super::Follower;
use crate::net::{ConnectionId, Message, Side};
use crate::world::World;

/// So much is sent ahead of acknowledgements, in records.
const WINDOW: u64 = 400;
/// So many records go into a frame.
const FRAME: u64 = 40;

impl World {
    /// Who is silent for too long counts as gone; all others hear that this one is there.
    pub(super) fn hear_followers(&mut self, node: usize, now: Now) {
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

    pub(super) fn greeted(
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
            let yet = run.member.may_yet_reign(epoch);
            self.send(id, Side::Primary, Message::NotPrimary { epoch: known, yet });
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

    pub(super) fn got_ack(&mut self, node: usize, id: ConnectionId, epoch: Epoch, has: Has) {
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

    pub(super) fn follower_closed(&mut self, node: usize, id: ConnectionId) {
        self.close(id, Side::Primary, true);
        let Some(serving) = self.nodes[node].run.as_mut().and_then(|run| run.serving.as_mut()) else {
            return;
        };
        if let Some(follower) = serving.followers.remove(&id) {
            self.tell(node, |member, now| member.follower_gone(now, follower.member.ordinal));
        }
    }

    /// Sends the state beside the log, once.
    pub(super) fn send_state(&mut self, node: usize, id: ConnectionId) {
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
    pub(super) fn pump(&mut self, node: usize) {
        let Some(serving) = self.nodes[node].run.as_ref().and_then(|run| run.serving.as_ref()) else {
            return;
        };
        for id in serving.followers.keys().copied().collect::<Vec<_>>() {
            while self.send_frame(node, id, false) {}
        }
    }

    /// `always`: a frame without records if there are none to send. Was there one?
    pub(super) fn send_frame(&mut self, node: usize, id: ConnectionId, always: bool) -> bool {
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
