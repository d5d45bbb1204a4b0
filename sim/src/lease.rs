//! The API server's side of the Lease: compare-and-swap, and all that can happen to requests and answers.

use std::collections::BTreeSet;

use replication::{Lease, Ordinal, Seen, SwapOutcome, Version};

use crate::world::{Event, World};

/// The record and who can reach it.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) lease: Lease,
    pub(crate) version: Version,
    /// What it was before, for reads that are stale.
    past: Vec<Seen>,
    /// Away until then.
    pub(crate) away_until: u64,
    /// This member cannot reach it until then.
    pub(crate) cut_until: Vec<u64>,
    /// Requests and answers get lost or late more often until then.
    pub(crate) flaky_until: u64,
    /// Swaps are done, and their answers come, about when the member gives up waiting, until then.
    pub(crate) late_until: u64,
    /// Swaps that may still be done.
    pub(crate) under_way: Vec<(usize, Lease, Version)>,
}

impl Api {
    pub(crate) fn new(lease: Lease, members: usize) -> Self {
        Self {
            lease,
            version: 1,
            past: Vec::new(),
            away_until: 0,
            cut_until: vec![0; members],
            flaky_until: 0,
            late_until: 0,
            under_way: Vec::new(),
        }
    }

    fn put(&mut self, lease: Lease, step: u64) {
        self.past.push(Seen { lease: std::mem::replace(&mut self.lease, lease), version: self.version });
        self.version += step;
        if self.past.len() > 8 {
            self.past.remove(0);
        }
    }
}

impl World {
    fn reaches_api(&self, node: usize) -> bool {
        self.now >= self.api.away_until && self.now >= self.api.cut_until[node]
    }

    fn is_flaky(&self) -> bool {
        self.now < self.api.flaky_until
    }

    fn is_late(&self) -> bool {
        self.now < self.api.late_until
    }

    /// A member asks for the record.
    pub(crate) fn read_lease(&mut self, node: usize) {
        let (process, delay) = (self.nodes[node].process, self.delay());
        self.after(delay, Event::ApiRead { node, process });
    }

    pub(crate) fn api_read(&mut self, node: usize, process: u64) {
        if !self.reaches_api(node) {
            return;
        }
        let stale = if self.is_flaky() { 300 } else { 20 };
        let seen = if self.random.chance(stale) && !self.api.past.is_empty() {
            let which = self.random.below(self.api.past.len());
            self.api.past[which].clone()
        } else {
            Seen { lease: self.api.lease.clone(), version: self.api.version }
        };
        if self.is_flaky() && self.random.chance(200) {
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::ApiSeen { node, process, seen: Box::new(seen) });
    }

    /// Those who watch hear of a change at once, or when they ask the next time.
    fn watched(&mut self) {
        for node in 0..self.nodes.len() {
            if self.random.chance(700) {
                self.read_lease(node);
            }
        }
    }

    /// A member asks for a swap. It gives up waiting by its own clock.
    pub(crate) fn ask_swap(&mut self, node: usize, lease: Lease, version: Version, id: u64) {
        let process = self.nodes[node].process;
        self.api.under_way.push((node, lease.clone(), version));
        let mut delay = self.delay();
        if self.is_flaky() && self.random.chance(250) {
            delay = self.random.skewed(500_000, 15_000_000);
        } else if self.is_late() && self.random.chance(300) {
            delay = self.random.between(800_000, 2_000_000);
        }
        self.after(delay, Event::ApiSwap { node, process, id, lease: Box::new(lease), version });
        let patience = self.nodes[node].clock.real(self.settings.retry.as_micros() as u64);
        self.after(patience, Event::SwapGivenUp { node, process, id });
    }

    pub(crate) fn api_swap(&mut self, node: usize, process: u64, id: u64, lease: Lease, version: Version) {
        if !self.reaches_api(node) {
            // Lost for good, or kept somewhere and delivered when all have forgotten it.
            if self.random.chance(300) {
                let later = self.random.between(100_000, 10_000_000);
                return self
                    .after(later, Event::ApiSwap { node, process, id, lease: Box::new(lease), version });
            }
            return self.forget_swap(node, &lease, version);
        }
        self.forget_swap(node, &lease, version);
        let outcome = if version == self.api.version {
            self.checks_of_swap(node, &lease);
            let step = self.random.between(1, 4);
            self.say(|| {
                format!("lease: member {node} has its way at version {}+{step}: {}", version, told(&lease))
            });
            self.api.put(lease, step);
            self.watched();
            SwapOutcome::Done(self.api.version)
        } else {
            SwapOutcome::Conflict
        };
        if self.is_flaky() && self.random.chance(300) {
            self.say(|| format!("lease: the answer {outcome:?} to member {node} is lost"));
            return;
        }
        let delay = if self.is_late() {
            self.random.between(500_000, 1_200_000)
        } else if self.is_flaky() && self.random.chance(250) {
            self.random.between(100_000, 1_500_000)
        } else {
            self.delay()
        };
        self.after(delay, Event::ApiAnswer { node, process, id, outcome });
    }

    fn forget_swap(&mut self, node: usize, lease: &Lease, version: Version) {
        let same =
            |known: &(usize, Lease, Version)| known.0 == node && known.2 == version && known.1 == *lease;
        if let Some(at) = self.api.under_way.iter().position(same) {
            self.api.under_way.remove(at);
        }
    }

    /// The operator writes down who should be primary, or nobody.
    pub(crate) fn wish(&mut self, wished: Option<Ordinal>) {
        let lease = Lease { wished, ..self.api.lease.clone() };
        self.say(|| format!("operator: wishes for {wished:?}"));
        self.api.put(lease, 1);
        self.watched();
    }

    /// The operator writes down how many must be in sync.
    pub(crate) fn ask_for(&mut self, least: usize) {
        self.say(|| format!("operator: {least} must be in sync"));
        self.api.put(Lease { min_in_sync: Some(least), ..self.api.lease.clone() }, 1);
        self.watched();
    }

    /// How many must be in sync.
    pub(crate) fn least(&self) -> usize {
        self.api.lease.min_in_sync.unwrap_or(self.settings.min_in_sync)
    }

    /// The operator writes down who must not be primary, and whether failover waits for it.
    pub(crate) fn bind(&mut self, fenced: BTreeSet<Ordinal>, held: bool) {
        if (&self.api.lease.fenced, self.api.lease.held) == (&fenced, held) {
            return;
        }
        self.say(|| format!("operator: fences {fenced:?}, failover is held: {held}"));
        self.api.put(Lease { fenced, held, ..self.api.lease.clone() }, 1);
        self.watched();
    }
}

/// A Lease in few words.
pub(crate) fn told(lease: &Lease) -> String {
    let holder = lease.holder.as_deref().unwrap_or("nobody");
    let wished = lease.wished.map_or_else(String::new, |wished| format!(", wished {wished}"));
    let held = if lease.held { ", held" } else { "" };
    let fenced = if lease.fenced.is_empty() { String::new() } else { format!(", fenced {:?}", lease.fenced) };
    let least = lease.min_in_sync.map_or_else(String::new, |least| format!(" of {least}"));
    format!("epoch {} {holder}, in sync {}{least}{wished}{fenced}{held}", lease.epoch, lease.in_sync)
}
