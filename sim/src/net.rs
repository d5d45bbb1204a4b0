//! The network between members: streams keep the order of what is sent on them, and nothing else is promised.

use std::collections::{BTreeMap, VecDeque};

use replication::{Epoch, Has, History, MemberId, Way};
use store::LogOffset;

use crate::disk::Record;
use crate::world::{Event, World};

/// A stream, from the one who follows to the one who is followed.
pub(crate) type ConnectionId = u64;

/// The end of a stream: of the follower, or of the followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Follower = 0,
    Primary = 1,
}

impl Side {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Follower => Self::Primary,
            Self::Primary => Self::Follower,
        }
    }
}

/// What goes over a stream.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Hello {
        member: MemberId,
        epoch: Epoch,
        history: History,
        end: LogOffset,
    },
    Welcome {
        epoch: Epoch,
        way: Way,
        history: History,
        chain: u64,
        confirmed: LogOffset,
    },
    /// All that there is beside the log, after so many changes of this reign.
    State {
        state: Vec<u64>,
        changes: u64,
    },
    NotPrimary {
        epoch: Epoch,
        /// It may be soon.
        yet: bool,
    },
    Frame {
        epoch: Epoch,
        at: u64,
        records: Vec<Record>,
        confirmed: LogOffset,
        changes: Option<(u64, Vec<u64>)>,
    },
    Ack {
        epoch: Epoch,
        has: Has,
    },
    /// Nobody listens at that address.
    Refused,
    /// The other end is closed.
    Closed,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Member and process, by [`Side`]; the primary's process is known once it answers.
    pub(crate) ends: [(usize, u64); 2],
    pub(crate) open: [bool; 2],
    /// What is under way to each side.
    queues: [VecDeque<Message>; 2],
    last_at: [u64; 2],
}

/// The network.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) next: ConnectionId,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    /// Cut, from the first to the second, until then.
    pub(crate) cut: BTreeMap<(usize, usize), u64>,
    /// The longest ordinary delay, in microseconds.
    pub(crate) delay: u64,
    /// Slow until then.
    pub(crate) slow_until: u64,
}

impl World {
    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.net.cut.get(&(from, to)).is_some_and(|until| *until > self.now)
    }

    pub(crate) fn delay(&mut self) -> u64 {
        let longest = if self.now < self.net.slow_until { self.net.delay * 40 } else { self.net.delay };
        self.random.skewed(50, longest)
    }

    /// Asks for a stream; the first message goes with it.
    pub(crate) fn connect(&mut self, from: usize, to: usize, hello: Message) -> ConnectionId {
        let id = self.net.next;
        self.net.next += 1;
        let ends = [(from, self.nodes[from].process), (to, u64::MAX)];
        let connection = Connection {
            ends,
            open: [true, true],
            queues: [VecDeque::new(), VecDeque::new()],
            last_at: [0, 0],
        };
        self.net.connections.insert(id, connection);
        self.send(id, Side::Follower, hello);
        id
    }

    /// Sends from this side.
    pub(crate) fn send(&mut self, id: ConnectionId, from: Side, message: Message) {
        let delay = self.delay();
        let Some(connection) = self.net.connections.get_mut(&id) else { return };
        if !connection.open[from as usize] {
            return;
        }
        let to = from.other() as usize;
        let at = (self.now + delay).max(connection.last_at[to] + 1);
        connection.last_at[to] = at;
        connection.queues[to].push_back(message);
        self.at(at, Event::Deliver(id, from.other()));
    }

    /// Closes this side; the other hears of it, if the machine still runs.
    pub(crate) fn close(&mut self, id: ConnectionId, side: Side, tell: bool) {
        if tell {
            self.send(id, side, Message::Closed);
        }
        let Some(connection) = self.net.connections.get_mut(&id) else { return };
        connection.open[side as usize] = false;
        connection.queues[side as usize].clear();
        if !connection.open[side.other() as usize] {
            self.net.connections.remove(&id);
        }
    }

    /// A process ended: its streams are reset, or silent if the whole machine is gone.
    pub(crate) fn close_all(&mut self, node: usize, tell: bool) {
        let process = self.nodes[node].process;
        let sides = self.net.connections.iter().flat_map(|(id, connection)| {
            [Side::Follower, Side::Primary]
                .into_iter()
                .filter(|side| {
                    connection.ends[*side as usize] == (node, process) && connection.open[*side as usize]
                })
                .map(|side| (*id, side))
        });
        for (id, side) in sides.collect::<Vec<_>>() {
            // A reset overtakes what the dead process had still to send.
            if tell
                && self.random.chance(500)
                && let Some(connection) = self.net.connections.get_mut(&id)
            {
                connection.queues[side.other() as usize].clear();
            }
            self.close(id, side, tell);
        }
    }

    /// A network's box in between resets what goes over it.
    pub(crate) fn reset_streams(&mut self, node: usize) {
        let touches = |connection: &&mut Connection| connection.ends.iter().any(|(end, _)| *end == node);
        let mut reset = Vec::new();
        for (id, connection) in &mut self.net.connections {
            if touches(&connection) {
                for (queue, side) in connection.queues.iter_mut().zip([Side::Follower, Side::Primary]) {
                    queue.clear();
                    queue.push_back(Message::Closed);
                    reset.push((*id, side));
                }
            }
        }
        for (id, side) in reset {
            self.at(self.now, Event::Deliver(id, side));
        }
    }

    /// The next message of a stream is due at this side.
    pub(crate) fn deliver(&mut self, id: ConnectionId, to: Side) {
        let Some(connection) = self.net.connections.get(&id) else { return };
        let (receiver, process) = connection.ends[to as usize];
        let (sender, _) = connection.ends[to.other() as usize];
        if connection.queues[to as usize].is_empty() {
            return;
        }
        if self.is_cut(sender, receiver) {
            // It is sent again until it arrives, or somebody has enough.
            let again = self.now + self.random.between(20_000, 150_000);
            return self.at(again, Event::Deliver(id, to));
        }
        let node = &self.nodes[receiver];
        if let Some(until) = node.frozen(self.now) {
            return self.at(until + 1, Event::Deliver(id, to));
        }
        let (runs, now_process, powered) = (node.run.is_some(), node.process, node.powered);
        let Some(connection) = self.net.connections.get_mut(&id) else { return };
        let Some(message) = connection.queues[to as usize].pop_front() else { return };
        if !powered {
            return;
        }
        let is_first = to == Side::Primary && process == u64::MAX;
        if is_first && runs {
            connection.ends[1].1 = now_process;
        } else if is_first {
            self.send(id, Side::Primary, Message::Refused);
            return self.close(id, Side::Primary, false);
        } else if !runs || process != now_process || !connection.open[to as usize] {
            self.send(id, to, Message::Closed);
            return self.close(id, to, false);
        }
        self.received(receiver, id, to, message);
    }
}
