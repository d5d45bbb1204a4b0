//! A member as a replica: the stream from its primary.

use std::time::Duration;

use replication::{Doubt, Epoch, Has, Now, Role, Stream, Way};
use store::LogOffset;

use super::Following;
use crate::driver_bug::DriverBug;
use crate::net::{ConnectionId, Message, Side};
use crate::world::World;

impl World {
    pub(super) fn hear_primary(&mut self, node: usize, now: Now) {
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

    /// Follows nobody.
    pub(super) fn leave(&mut self, node: usize) {
        let following = self.nodes[node].run.as_mut().and_then(|run| run.following.take());
        if let Some(id) = following.and_then(|following| following.connection) {
            self.close(id, Side::Follower, true);
        }
    }

    pub(super) fn reconnect(&mut self, node: usize) {
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
    pub(super) fn stream_over(&mut self, node: usize, how: Stream, soon: bool) {
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
    pub(super) fn follows_by(&mut self, node: usize, id: ConnectionId) -> Option<&mut Following> {
        let run = self.nodes[node].run.as_mut()?;
        run.following.as_mut().filter(|following| following.connection == Some(id))
    }

    /// The primary tells the way from this log to its own.
    pub(super) fn welcomed(&mut self, node: usize, id: ConnectionId, message: Message) {
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
    pub(super) fn got_state(&mut self, node: usize, state: Vec<u64>, changes: u64) {
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

    pub(super) fn got_frame(&mut self, node: usize, id: ConnectionId, message: Message) {
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

    pub(super) fn acknowledge_frame(
        &mut self,
        node: usize,
        id: ConnectionId,
        confirmed: LogOffset,
        epoch: Epoch,
    ) {
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
}
