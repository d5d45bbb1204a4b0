//! Faults on a real cluster, one after the other, under official clients; and a ledger that says what they did.
//!
//! ```text
//!   plan     which faults, drawn from a seed
//!   faults   how each is done
//!   world    pods, nodes and the API server; what must be mended again, however the run ends
//!   reign    who is primary, by the Lease
//!   traffic  the clients
//!   book     what they attempted, heard and received, and when
//!   table    what came of each fault
//!   stop     Ctrl-C
//! ```
//!
//! Between two faults the group is healthy: the Lease names all members as in sync, and the primary acknowledges, which in
//! Sync mode it can only if all of these have the message.

mod book;
mod faults;
mod plan;
mod reign;
mod stop;
mod table;
mod traffic;
mod world;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use trials::dice::Dice;
use trials::ledger::Verdict;

pub use self::plan::Reach;
pub use self::stop::Stop;

use self::book::{Book, SENDERS};
use self::faults::Scene;
use self::plan::Fault;
use self::reign::Watch;
use self::table::Row;
use self::traffic::{FIFO, NORMAL, ORDERED, Traffic};
use self::world::World;
use crate::cluster::Namespace;
use crate::{messaging, process, settings};

/// The name of everything.
const NAME: &str = "main";
const LEASE_NAME: &str = "main-broker";
const MEMBERS: usize = 3;
/// `failover.leaseDurationSeconds`, unless set.
const LEASE: Duration = Duration::from_secs(8);
/// How long the group may take to be healthy when the fault is over. Far more than it should.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);
/// How long until what was acknowledged is delivered, then.
const DELIVERED_WITHIN: Duration = Duration::from_secs(120);
/// Acknowledgements in a row under one Lease: then all that it names follow.
const ENOUGH: usize = 20;

/// The members on a node each, so that a node takes one of them.
const GROUP: &str = "\
replicas: 3
replication: {mode: Sync, minInSync: 2}
failover: {maxPerHour: 60}
pod:
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: DoNotSchedule
      labelSelector: {matchLabels: {mq.gantry.dev/broker-group: main}}
";

/// What a run is to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many faults.
    pub faults: usize,
    /// Which.
    pub seed: u64,
    /// Only those whose description contains this.
    pub only: Option<String>,
    /// For so many seconds, where the dice would say how long one lasts.
    pub lasting: Option<u64>,
    /// What official clients send in a second.
    pub rate: usize,
    /// What may be broken.
    pub reach: Reach,
    /// The folder of the local cluster.
    pub folder: Option<PathBuf>,
    /// Where ledgers and logs of clients go.
    pub evidence: PathBuf,
}

/// What came of a run.
pub struct Outcome {
    rows: Vec<Row>,
    live: Verdict,
    audit: Verdict,
    /// Why it ended before its time.
    ended: Option<anyhow::Error>,
}

/// Runs it in this namespace.
pub fn run(space: &Namespace, options: &Options, stop: &Stop) -> Result<Outcome> {
    fs::create_dir_all(&options.evidence)?;
    let servers = messaging::name_servers(NAME, MEMBERS);
    space.apply(&(servers + &messaging::brokers(NAME, NAME, GROUP)))?;
    space.ready(&["nss/main", "bg/main"])?;
    let topics = messaging::topic(NORMAL, NAME, "") + &messaging::topic(FIFO, NAME, "messageType: Fifo\n");
    space.apply(&topics)?;
    space.ready(&["mqt/orders", "mqt/steps"])?;
    let access_point = space.access_point(NAME)?;
    let server = access_point.replace(":8081", ":9878");
    let mut command = Command::new(settings::cli()?);
    command.args(["group", "update", ORDERED, "--ordered", "true"]).env("GANTRY_SERVER", &server);
    process::output(&mut command, DELIVERED_WITHIN)?;

    let world = World::new(space.cluster.clone(), &space.name, NAME, stop, options.folder.clone());
    let watch = Watch::start(&space.cluster, &space.name, LEASE_NAME);
    let book = Arc::new(Book::new(&options.evidence.join("ledger"))?);
    let mut traffic = Traffic::start(&book, &access_point, options.rate, &options.evidence)?;
    let run = Run { world, watch, book, server };
    let mut rows = Vec::new();
    let mut ended = run.faults(options, &mut traffic, &mut rows).err();
    // Also after a failure: what is lost is known only when everything is whole again.
    let after = run.world.heal().and_then(|()| traffic.stop_sending());
    run.book.forgive_nothing();
    if let Err(error) = after.and_then(|()| run.book.delivered_all(DELIVERED_WITHIN, &Stop::default())) {
        ended.get_or_insert(error);
    }
    let live = run.book.verdict()?;
    drop(traffic);
    run.book.audit(&options.evidence.join("ledger-audit"))?;
    let audited =
        traffic::audit(&run.book, &access_point, &options.evidence, HEALTHY_WITHIN, &Stop::default());
    let audit = run.book.verdict()?;
    if let Err(error) = audited {
        ended.get_or_insert(error);
    }
    Ok(Outcome { rows, live, audit, ended })
}

struct Run<'a> {
    world: World<'a>,
    watch: Watch,
    book: Arc<Book>,
    server: String,
}

impl Run<'_> {
    fn faults(&self, options: &Options, traffic: &mut Traffic, rows: &mut Vec<Row>) -> Result<()> {
        self.healthy().context("before the first fault")?;
        traffic.flows(&self.book, DELIVERED_WITHIN, self.world.stop)?;
        println!("{}", table::head());
        let mut dice = Dice::new(options.seed ^ 0x00C0_FFEE);
        for fault in plan(options)? {
            let row = self.fault(fault, dice.fork())?;
            println!("{}", table::line(rows.len() + 1, &row));
            let outcome =
                if row.broken { Err(anyhow!("the group did not heal: {}", row.wrong)) } else { Ok(()) };
            rows.push(row);
            outcome?;
            traffic.ensure_running()?;
        }
        Ok(())
    }

    /// One fault, from a healthy group to a healthy group.
    fn fault(&self, fault: Fault, dice: Dice) -> Result<Row> {
        self.book.forget_answers();
        self.book.event(&fault.to_string());
        let reign = self.watch.now()?;
        let epoch = reign.epoch;
        let pods = self.world.pods(MEMBERS)?;
        let mut scene =
            Scene { world: &self.world, watch: &self.watch, server: &self.server, pods, reign, dice };
        let began = Instant::now();
        let struck = scene.strike(fault);
        let healed = self.world.heal();
        let (at, whom) = match &struck {
            Ok(struck) => (struck.at, struck.whom.clone()),
            Err(_) => (began, String::new()),
        };
        let outcome = struck.map(drop).and(healed).and_then(|()| self.healthy());
        let healed = at.elapsed();
        let broken = outcome.is_err();
        let outcome = outcome.and_then(|()| self.book.delivered_all(DELIVERED_WITHIN, self.world.stop));
        self.world.stop.check()?;
        let epochs = (epoch, self.watch.now()?.epoch);
        let sends = SENDERS.map(|sender| self.book.sends_since(sender, at));
        let wrong =
            outcome.err().map(|error| format!("{error:#}").replace(['\n', '|'], " ")).unwrap_or_default();
        Ok(Row { fault, whom, epochs, sends, healed, goal: fault.goal(LEASE), wrong, broken })
    }

    fn healthy(&self) -> Result<()> {
        let end = Instant::now() + HEALTHY_WITHIN;
        self.world.ready(MEMBERS, HEALTHY_WITHIN)?;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let all = |reign: &reign::Reign| reign.held && reign.in_sync.len() == MEMBERS;
            let before = self.watch.until("all members in sync", left, self.world.stop, all)?;
            self.book.acknowledged_again(ENOUGH, left, self.world.stop)?;
            if self.watch.now()? == before {
                return Ok(());
            }
        }
    }
}

/// The faults of a run, in their order.
fn plan(options: &Options) -> Result<Vec<Fault>> {
    let draw = |count| plan::draw(options.seed, count, options.reach, options.lasting);
    let Some(only) = &options.only else { return Ok(draw(options.faults)) };
    let many = draw(options.faults * 50);
    let chosen: Vec<_> =
        many.into_iter().filter(|fault| fault.to_string().contains(only)).take(options.faults).collect();
    if chosen.is_empty() {
        bail!("no fault that can be done here has {only:?} in its description");
    }
    Ok(chosen)
}

impl Outcome {
    /// An error unless nothing was lost, altered, invented or out of order, and the group healed every time.
    pub fn judge(self) -> Result<()> {
        if let Some(error) = self.ended {
            return Err(error);
        }
        let wrong = self.rows.iter().filter(|row| !row.wrong.is_empty());
        let wrong: Vec<_> = wrong.map(|row| format!("{}: {}", row.fault, row.wrong)).collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("; "));
        for verdict in [&self.live, &self.audit] {
            ensure!(verdict.is_clean(), "{verdict}");
        }
        Ok(())
    }

    /// The report, in Markdown.
    #[must_use]
    pub fn report(&self, command: &str, date: &str) -> String {
        let mut text = format!("# {} faults, {date}\n\n    {command}\n\n", self.rows.len());
        text += "A gap is the longest time without an acknowledged send from the blow until the next fault; `raw` sends every 50 ms, \
                 many at a time, the official clients one after the other.\n\n";
        text += &table::head();
        for (index, row) in self.rows.iter().enumerate() {
            text += "\n";
            text += &table::line(index + 1, row);
        }
        let sends = self.rows.iter().flat_map(|row| row.sends);
        let (failed, acknowledged) =
            sends.fold((0, 0), |sum, sends| (sum.0 + sends.failed, sum.1 + sends.acknowledged));
        write!(text, "\n\n{}\n\n", table::sums(&self.rows)).expect("a String takes everything");
        let tried = failed + acknowledged;
        writeln!(text, "Sends that failed for a client: {failed} of {tried}.\n")
            .expect("a String takes everything");
        writeln!(text, "Live consumers: {}.\n", self.live).expect("a String takes everything");
        writeln!(text, "Read again from the beginning: {}.", self.audit).expect("a String takes everything");
        if let Some(ended) = &self.ended {
            writeln!(text, "\n**It ended early: {ended:#}**").expect("a String takes everything");
        }
        text
    }

    /// Writes the report.
    pub fn write(&self, file: &Path, command: &str) -> Result<()> {
        let date = process::output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M"]), process::SHORT)?;
        fs::write(file, self.report(command, date.trim()))
            .with_context(|| format!("cannot write {}", file.display()))
    }
}
