//! What clients ask of a member.

use replication::{Has, Role};
use store::LogOffset;

use super::Waiting;
use crate::world::World;

impl World {
    pub(super) fn acknowledge(&mut self, node: usize, waiting: Waiting) {
        self.acknowledged(node, waiting.needs.end.0, waiting.message, waiting.is_change);
        self.answer(waiting.client, node, waiting.message, Ok(()));
    }

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
        let want = run.member.min_in_sync();
        if in_sync < want {
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
}
