//! `bench-compare`: echo and `gantry dev`, alternately, in one run.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use bench::figures::median;
use bench::load::{Load, Outcome};
use bench::process::{Server, resident_bytes};
use bench::wire;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Sends to a bare tonic server and to `gantry dev`, alternately, and compares their CPU time for each send
#[derive(Debug, Parser)]
struct Args {
    /// The gantry program
    #[arg(long)]
    gantry: PathBuf,
    /// Rounds; each measures both
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Port of gantry dev
    #[arg(long, default_value_t = 28081)]
    port: u16,
    /// Another server to measure in each round: its access point …
    #[arg(long, requires = "other_pid", value_name = "HOST:PORT")]
    other: Option<String>,
    /// … and its process; the topic must exist there
    #[arg(long, requires = "other")]
    other_pid: Option<u32>,
    /// More arguments for gantry dev, for example --sync-flush
    #[arg(last = true)]
    dev_args: Vec<String>,
    #[command(flatten)]
    load: Load,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    println!("round  server  {}", Outcome::HEAD);
    let (mut echo, mut gantry, mut other) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let server = Server::echo()?;
        echo.push(measure(round, "echo", &args.load, &server.endpoint, server.pid).await?);
        server.stop()?;

        let data = tempfile::tempdir()?;
        let server = Server::gantry(&args.gantry, data.path(), args.port, &args.dev_args)?;
        let idle = resident_bytes(server.pid)?;
        let admin = server.admin.as_deref().context("gantry dev has an Admin service")?;
        wire::create_topic(admin, &args.load.topic, u32::try_from(args.load.queues)?).await?;
        gantry.push(measure(round, "gantry", &args.load, &server.endpoint, server.pid).await?);
        let loaded = resident_bytes(server.pid)?;
        println!("       gantry resident MiB: {:.1} idle, {:.1} loaded", mib(idle), mib(loaded));
        server.stop()?;

        if let (Some(endpoint), Some(pid)) = (&args.other, args.other_pid) {
            other.push(measure(round, "other", &args.load, endpoint, pid).await?);
        }
    }
    let cpu = |outcomes: &[Outcome]| median(outcomes.iter().filter_map(Outcome::cpu_us));
    let (echo_us, gantry_us) = cpu(&echo).zip(cpu(&gantry)).context("no CPU times")?;
    println!(
        "\nmedian CPU µs/send: echo {echo_us:.1}, gantry {gantry_us:.1}: {:.2} times",
        gantry_us / echo_us
    );
    if let Some(other_us) = cpu(&other) {
        println!("other {other_us:.1}: {:.2} times echo", other_us / echo_us);
    }
    Ok(())
}

async fn measure(round: usize, name: &str, load: &Load, endpoint: &str, pid: u32) -> anyhow::Result<Outcome> {
    let outcome = load.run(endpoint, Some(pid)).await?;
    println!("{round:>5}  {name:<6}  {}", outcome.row());
    if let Some(reason) = &outcome.first_failure {
        println!("       first failure: {reason}");
    }
    ensure!(outcome.acknowledged > 0, "{name} acknowledged nothing");
    Ok(outcome)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
