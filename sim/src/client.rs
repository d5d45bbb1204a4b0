//! Clients: they send to whom they believe to be the primary, and go on to another when that does not help.

use replication::Ordinal;

use crate::random::Random;
use crate::world::{Event, World};

/// After so long without an answer it tries another member.
const PATIENCE: u64 = 2_000_000;

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    believes: usize,
    /// It sends about so often.
    interval: u64,
    /// When something was acknowledged, or it turned to another.
    since: u64,
}

impl Client {
    pub(crate) fn new(members: usize, busy: bool, random: &mut Random) -> Self {
        let interval = if busy { 10_000 } else { [60_000, 150_000, 400_000][random.below(3)] };
        Self { believes: random.below(members), interval, since: 0 }
    }
}

impl World {
    pub(crate) fn client_acts(&mut self, client: usize) {
        let interval = self.clients[client].interval;
        let pause = self.random.between(interval / 3, interval * 2);
        self.after(pause, Event::Client(client));
        if self.now - self.clients[client].since > PATIENCE {
            let other = self.random.below(self.nodes.len());
            (self.clients[client].believes, self.clients[client].since) = (other, self.now);
        }
        let node = self.clients[client].believes;
        for _ in 0..self.random.between(1, 4) {
            let message = self.fresh_id();
            let state = self.random.chance(100);
            let delay = self.delay();
            self.after(delay, Event::Request { client, node, message, state });
        }
    }

    /// A member answers.
    pub(crate) fn answer(
        &mut self,
        client: usize,
        node: usize,
        message: u64,
        outcome: Result<(), Option<Ordinal>>,
    ) {
        if self.nodes[node].powered {
            let delay = self.delay();
            self.after(delay, Event::Answer { client, node, message, outcome });
        }
    }

    /// An answer is here.
    pub(crate) fn answered(
        &mut self,
        client: usize,
        node: usize,
        message: u64,
        outcome: Result<(), Option<Ordinal>>,
    ) {
        let members = self.nodes.len();
        match outcome {
            Ok(()) => {
                self.say(|| format!("client {client}: {message} is acknowledged"));
                (self.clients[client].believes, self.clients[client].since) = (node, self.now);
            }
            Err(hint) if self.clients[client].believes == node && self.random.chance(300) => {
                let other = hint.map_or_else(|| self.random.below(members), |hint| hint.0 as usize);
                self.clients[client].believes = other;
            }
            Err(_) => {}
        }
    }
}
