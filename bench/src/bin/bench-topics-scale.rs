//! `bench-topics-scale`: what a hundred thousand topics cost one broker.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bench::figures::{median, ms};
use bench::load::{Generator, Load, Outcome};
use bench::process::{self, Server};
use bench::wire;
use clap::Parser;

/// All topics are NAME-1, NAME-2, ...
const NAME: &str = "scale";
const ONE: &str = "scale-one";
/// Most that a broker may have, whatever it holds.
const DESCRIPTORS: usize = 4096;
const MAPPINGS: usize = 16_384;

/// Makes many topics with `gantry topic`, fills their queues, compares sending to all with sending to one, and starts
/// the server again, after a stop and after kill -9
#[derive(Debug, Parser)]
struct Args {
    /// The gantry program
    #[arg(long)]
    gantry: PathBuf,
    /// Topics
    #[arg(long, default_value_t = 100_000)]
    topics: u64,
    /// Queues of each
    #[arg(long, default_value_t = 10)]
    queues_each: u64,
    /// Rounds, each of one topic and then of all
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Port of gantry dev
    #[arg(long, default_value_t = 28091)]
    port: u16,
    /// How each round sends
    #[command(flatten)]
    load: Load,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let data = tempfile::tempdir()?;
    let server = Server::gantry(&args.gantry, data.path(), args.port, &[])?;
    let empty = tell("empty", &server, None)?;

    let created =
        args.gantry_topic(&["create", &format!("{NAME}-{{n}}"), "--count", &args.topics.to_string()])?;
    println!("created in {:.1} s", created.as_secs_f64());
    args.gantry_topic(&["create", ONE])?;
    let listed = args.gantry_topic(&["list"])?;
    println!("listed in {:.1} s", listed.as_secs_f64());
    tell("with the topics", &server, Some((empty, args.topics, "topic")))?;

    let queues = args.topics * args.queues_each;
    let filled = args.fill(&server.endpoint, queues).await?;
    println!("a message to each of {queues} queues in {:.0} s", filled.as_secs_f64());
    tell("with the messages", &server, Some((empty, queues, "queue")))?;

    let generator = Generator::unbound(&args.gantry);
    let spread = [format!("--topics={}", args.topics)];
    let mut figures: [Vec<Outcome>; 2] = Default::default();
    println!("            {}", Outcome::HEAD);
    for _ in 0..args.rounds {
        for (all, outcomes) in figures.iter_mut().enumerate() {
            let (endpoint, pid) = (&server.endpoint, server.pid);
            let outcome = match all {
                0 => args.load.produce(&generator, endpoint, pid, ONE, &[]),
                _ => args.load.produce(&generator, endpoint, pid, NAME, &spread),
            }?;
            outcome.ensure_clean()?;
            println!("{:<12}{}", ["one topic", "all topics"][all], outcome.row());
            outcomes.push(outcome);
        }
    }
    let of =
        |all: usize, figure: fn(&Outcome) -> f64| median(figures[all].iter().map(figure)).unwrap_or_default();
    let cpu = |outcome: &Outcome| outcome.server_cpu_micros.unwrap_or_default();
    println!(
        "all topics: {:.0} % of the rate of one, {:.2} times its CPU time a send (medians of {})",
        of(1, Outcome::rate) / of(0, Outcome::rate) * 100.0,
        of(1, cpu) / of(0, cpu),
        args.rounds
    );
    tell("after sending", &server, Some((empty, queues, "queue")))?;

    let started = Instant::now();
    server.stop()?;
    println!("stopped in {} ms", ms(started.elapsed()));
    let server = args.start_again("after a stop", data.path()).await?;
    // So that there is something to recover.
    args.load.produce(&generator, &server.endpoint, server.pid, NAME, &spread)?;
    server.kill()?;
    let server = args.start_again("after kill -9", data.path()).await?;
    tell("started again", &server, Some((empty, queues, "queue")))?;
    server.stop()
}

/// Says what the server has, and for each thing since `empty`. Returns its own memory.
fn tell(when: &str, server: &Server, since: Option<(u64, u64, &str)>) -> anyhow::Result<u64> {
    let own = process::own_bytes(server.pid)?;
    let (descriptors, mappings) = process::descriptors_and_mappings(server.pid)?;
    let each = since.map_or(String::new(), |(empty, count, what)| {
        format!(", {} B a {what}", own.saturating_sub(empty) / count.max(1))
    });
    println!("{when}: {} MiB of its own{each}; {descriptors} descriptors, {mappings} mappings", own >> 20);
    ensure!(descriptors <= DESCRIPTORS && mappings <= MAPPINGS, "that is too many");
    Ok(own)
}

impl Args {
    /// Runs `gantry topic …` as a person does.
    fn gantry_topic(&self, arguments: &[&str]) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let mut command = Command::new(&self.gantry);
        command.arg("topic").args(arguments).args(["--server", &format!("127.0.0.1:{}", self.port + 1797)]);
        if arguments[0] == "create" {
            command.args(["--queues", &self.queues_each.to_string()]);
        }
        let output = tokio::task::block_in_place(|| command.output()).context("cannot run gantry")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(started.elapsed())
    }

    /// Small messages, until every queue has one: each topic takes its queues in turn.
    async fn fill(&self, endpoint: &str, messages: u64) -> anyhow::Result<Duration> {
        const WORKERS: u64 = 64;
        let started = Instant::now();
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..WORKERS {
            let (topics, endpoint) = (self.topics, endpoint.to_owned());
            workers.spawn(async move {
                let mut stub = wire::connect(&endpoint, worker as usize).await?;
                for n in (worker..messages).step_by(WORKERS as usize) {
                    let topic = format!("{NAME}-{}", n % topics + 1);
                    let message = wire::message(&topic, format!("01BE7C01000000{n:020}"), 0, "x".into());
                    wire::send(&mut stub, message).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = workers.join_next().await {
            done??;
        }
        Ok(started.elapsed())
    }

    /// Measures from exec to the first acknowledged send.
    async fn start_again(&self, when: &str, data: &Path) -> anyhow::Result<Server> {
        let started = Instant::now();
        let server = Server::gantry(&self.gantry, data, self.port, &[])?;
        let mut stub = wire::connect(&server.endpoint, 0).await?;
        let topic = format!("{NAME}-{}", self.topics);
        wire::send(&mut stub, wire::message(&topic, "01".repeat(17), 0, "again".into())).await?;
        println!("{when}: exec to the first acknowledged send {} ms", ms(started.elapsed()));
        Ok(server)
    }
}
