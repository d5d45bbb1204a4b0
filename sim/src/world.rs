//! Time, the queue of what will happen, and a run from its seed to its end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::time::Duration;

use replication::{Epoch, InSync, Lease, MemberId, Mode, Now, Ordinal, Seen, Settings, SwapOutcome, Version};
use store::LogOffset;

use crate::checks::{Checks, Stage};
use crate::client::Client;
use crate::driver_bug::DriverBug;
use crate::faults::Habits;
use crate::lease::Api;
use crate::member::Node;
use crate::net::{ConnectionId, Net, Side};
use crate::random::Random;

/// No run takes more.
const STEPS: u64 = 2_000_000;

/// What is asked for besides the seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Keep a line for everything that happens.
    pub trace: bool,
    /// A duty of the driver that is not done.
    pub bug: Option<DriverBug>,
}

/// A run in which everything held.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// A line for everything that happened, if asked for.
    pub trace: String,
    /// Steps.
    pub steps: u64,
    /// Messages acknowledged.
    pub acknowledged: usize,
    /// How many reigns there were.
    pub reigns: usize,
    /// From the end of the faults until the group was whole.
    pub healed_after: Duration,
}

/// A run in which something did not.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where it all came from.
    pub seed: u64,
    /// What did not hold.
    pub what: String,
    /// A line for everything that happened, if asked for.
    pub trace: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, what, .. } = self;
        write!(f, "seed {seed}: {what}\n  again: cargo xtask sim {seed}")
    }
}

/// What will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A member's own timer.
    Tick {
        node: usize,
        process: u64,
    },
    /// A message of a stream is due at this side.
    Deliver(ConnectionId, Side),
    ApiRead {
        node: usize,
        process: u64,
    },
    ApiSeen {
        node: usize,
        process: u64,
        seen: Box<Seen>,
    },
    ApiSwap {
        node: usize,
        process: u64,
        id: u64,
        lease: Box<Lease>,
        version: Version,
    },
    ApiAnswer {
        node: usize,
        process: u64,
        id: u64,
        outcome: SwapOutcome,
    },
    SwapGivenUp {
        node: usize,
        process: u64,
        id: u64,
    },
    Probe {
        from: usize,
        process: u64,
        to: usize,
        epoch: Epoch,
    },
    ProbeAnswer {
        to: usize,
        process: u64,
        from: MemberId,
        epoch: Epoch,
        last: Epoch,
        end: LogOffset,
    },
    /// Nobody of the group says that there is this epoch.
    Lie {
        to: usize,
        epoch: Epoch,
    },
    /// A client does something.
    Client(usize),
    Request {
        client: usize,
        node: usize,
        message: u64,
        state: bool,
    },
    Answer {
        client: usize,
        node: usize,
        message: u64,
        outcome: Result<(), Option<Ordinal>>,
    },
    /// The page cache is written.
    Flush {
        node: usize,
    },
    Fault,
    Start {
        node: usize,
    },
    Stop {
        node: usize,
    },
    Judge,
}

#[derive(Debug)]
struct Timed {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// Everything. Times are microseconds.
pub(crate) struct World {
    pub(crate) now: u64,
    next_event: u64,
    queue: BinaryHeap<Reverse<Timed>>,
    pub(crate) random: Random,
    trace: Option<String>,
    pub(crate) settings: Settings,
    /// A record is durable before it is acknowledged.
    pub(crate) flush_sync: bool,
    pub(crate) bug: Option<DriverBug>,
    pub(crate) habits: Habits,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) api: Api,
    pub(crate) clients: Vec<Client>,
    pub(crate) checks: Checks,
    next_id: u64,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Result<Outcome, Box<Failure>> {
    let mut world = World::new(seed, options);
    let steps = world.live();
    let trace = world.trace.take().unwrap_or_default();
    match world.checks.broken.take() {
        Some(what) => Err(Box::new(Failure { seed, what, trace })),
        None => Ok(Outcome {
            trace,
            steps,
            acknowledged: world.checks.acknowledged(),
            reigns: world.checks.reigns(),
            healed_after: Duration::from_micros(world.checks.healed_after),
        }),
    }
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        let mut random = Random::new(seed);
        let members = match random.below(100) {
            0..3 => 1,
            3..20 => 2,
            20..82 => 3,
            82..92 => 4,
            _ => 5,
        };
        let mode = if random.chance(820) { Mode::Sync } else { Mode::Async };
        let settings = Settings {
            mode,
            members,
            min_in_sync: 1 + random.below(members),
            max_lag: Duration::from_secs(random.between(2, 11)),
            ..Settings::default()
        };
        let flush_sync = random.chance(400);
        let before_group = random.chance(200);
        let nodes = (0..members).map(|ordinal| Node::new(ordinal, before_group, &mut random)).collect();
        let delay = *[2_000, 10_000, 40_000, 120_000].get(random.below(4)).unwrap_or(&10_000);
        // As the operator makes it: the first member, whatever its store.
        let in_sync: InSync = "0".parse().unwrap_or_default();
        let lease = Lease { in_sync, ..Lease::default() };
        let busy = random.chance(120);
        let clients = (0..2).map(|_| Client::new(members, busy, &mut random)).collect();
        let habits = Habits::new(&mut random);
        let mut world = Self {
            now: 0,
            next_event: 0,
            queue: BinaryHeap::new(),
            random,
            trace: options.trace.then(String::new),
            settings,
            flush_sync,
            bug: options.bug,
            habits,
            nodes,
            net: Net { delay, ..Net::default() },
            api: Api::new(lease, members),
            clients,
            checks: Checks::new(mode),
            next_id: 0,
        };
        world.say(|| format!("seed {seed}: {members} members, {:?}, flush sync {flush_sync}", mode));
        for node in 0..members {
            let soon = world.random.between(0, 500_000);
            world.after(soon, Event::Start { node });
            world.after(soon, Event::Flush { node });
        }
        for client in 0..world.clients.len() {
            world.after(100_000, Event::Client(client));
        }
        world.after(1_000_000, Event::Fault);
        world.after(100_000, Event::Judge);
        world
    }

    /// Until all is judged, or something is broken.
    fn live(&mut self) -> u64 {
        let mut steps = 0;
        while self.checks.broken.is_none() && self.checks.stage != Stage::Over {
            let Some(Reverse(Timed { at, event, .. })) = self.queue.pop() else { break };
            self.now = at;
            self.happens(event);
            steps += 1;
            if steps > STEPS {
                self.broken(|| "so much happens that it never ends".to_owned());
            }
        }
        steps
    }

    fn happens(&mut self, event: Event) {
        let Some(event) = self.hold_back(event) else { return };
        match event {
            Event::Tick { node, .. } => self.tick(node),
            Event::Deliver(id, side) => self.deliver(id, side),
            Event::ApiRead { node, process } => self.api_read(node, process),
            Event::ApiSeen { node, seen, .. } => self.lease_seen(node, *seen),
            Event::ApiSwap { node, process, id, lease, version } => {
                self.api_swap(node, process, id, *lease, version);
            }
            Event::ApiAnswer { node, id, outcome, .. } => self.swap_answered(node, id, outcome),
            Event::SwapGivenUp { node, id, .. } => self.swap_answered(node, id, SwapOutcome::Unknown),
            Event::Probe { from, process, to, epoch } => self.probed(from, process, to, epoch),
            Event::ProbeAnswer { to, from, epoch, last, end, .. } => {
                self.probe_answered(to, from, epoch, last, end)
            }
            Event::Lie { to, epoch } => self.lied_to(to, epoch),
            Event::Client(client) => self.client_acts(client),
            Event::Request { client, node, message, state } => self.requested(client, node, message, state),
            Event::Answer { client, node, message, outcome } => self.answered(client, node, message, outcome),
            Event::Flush { node } => self.flush(node),
            Event::Fault => self.fault(),
            Event::Start { node } => self.start(node),
            Event::Stop { node } if self.checks.stage == Stage::Faults => self.crash(node),
            Event::Stop { .. } => {}
            Event::Judge => self.judge(),
        }
    }

    /// What concerns a process that is gone does not happen; what concerns a frozen one happens later.
    fn hold_back(&mut self, event: Event) -> Option<Event> {
        let (node, process) = match &event {
            Event::Tick { node, process }
            | Event::ApiSeen { node, process, .. }
            | Event::ApiAnswer { node, process, .. }
            | Event::SwapGivenUp { node, process, .. } => (*node, Some(*process)),
            Event::ProbeAnswer { to, process, .. } => (*to, Some(*process)),
            Event::Probe { to, .. } | Event::Lie { to, .. } => (*to, None),
            Event::Request { node, .. } => (*node, None),
            _ => return Some(event),
        };
        if process
            .is_some_and(|process| self.nodes[node].run.is_none() || self.nodes[node].process != process)
        {
            return None;
        }
        if let Some(until) = self.nodes[node].frozen(self.now) {
            let late = self.random.between(1, 3_000);
            self.at(until + late, event);
            return None;
        }
        Some(event)
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        let number = self.next_event;
        self.next_event += 1;
        self.queue.push(Reverse(Timed { at, number, event }));
    }

    pub(crate) fn after(&mut self, delay: u64, event: Event) {
        self.at(self.now + delay, event);
    }

    /// A number that was never used before.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// A line of the trace.
    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            // Writing to a string cannot fail.
            let _ = writeln!(trace, "{:>12.6} {}", self.now as f64 / 1e6, what());
        }
    }

    /// Something did not hold. The first counts.
    pub(crate) fn broken(&mut self, what: impl FnOnce() -> String) {
        if self.checks.broken.is_none() {
            let what = what();
            self.say(|| format!("BROKEN: {what}"));
            self.checks.broken = Some(format!("at {:.3} s: {what}", self.now as f64 / 1e6));
        }
    }

    /// A member's own time.
    pub(crate) fn clock(&self, node: usize) -> Now {
        Now(Duration::from_micros(self.nodes[node].clock.own(self.now)))
    }
}
