//! `bench-delay`: what messages that wait for their time cost, and how late they come.

#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use bench::figures::{Sorted, median};
use bench::load::{Generator, Load, Outcome};
use bench::process::{Server, own_bytes};
use bench::wire::{self, Stub};
use bytes::Bytes;
use clap::Parser;
use proto::{control, v2};
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages of one SendMessage, where their number and not their rate is wanted.
const TOGETHER: u64 = 100;
const TOPIC: &str = "later";
const AT_ONCE: &str = "at-once";
/// Nothing takes longer.
const LIMIT: Duration = Duration::from_secs(300);

/// Sends delayed messages to a `gantry dev` of its own: at what rate, in what memory, and how late they are delivered
#[derive(Debug, Parser)]
struct Args {
    /// The program `gantry`
    #[arg(long)]
    gantry: PathBuf,
    /// Messages that wait while memory is measured
    #[arg(long, default_value_t = 1_000_000)]
    pending: u64,
    /// Messages that are due in each second
    #[arg(long, default_value_t = 10_000)]
    due: u64,
    /// Seconds in which they are
    #[arg(long, default_value_t = 10)]
    due_seconds: u64,
    /// Rounds of sends at once and delayed, alternately
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Port of gantry dev
    #[arg(long, default_value_t = 28081)]
    port: u16,
    #[command(flatten)]
    load: Load,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    rates(&args).await?;
    let data = tempfile::tempdir()?;
    let server = start(&args, data.path()).await?;
    memory(&args, &server).await?;
    lateness(&args, &server).await?;
    server.stop()
}

async fn start(args: &Args, data: &std::path::Path) -> anyhow::Result<Server> {
    let server = Server::gantry(&args.gantry, data, args.port, &[])?;
    let admin = &server.admin;
    wire::create_topic(admin, AT_ONCE, 8).await?;
    wire::create_topic_of(admin, TOPIC, 8, control::MessageType::Delay).await?;
    Ok(server)
}

/// Sends at once against sends that wait.
async fn rates(args: &Args) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let server = start(args, data.path()).await?;
    let generator = Generator::unbound(&args.gantry);
    let (endpoint, pid) = (&server.endpoint, server.pid);
    let (mut at_once, mut later) = (Vec::new(), Vec::new());
    println!("            {}", Outcome::HEAD);
    for _ in 0..args.rounds {
        let outcome = args.load.produce(&generator, endpoint, pid, AT_ONCE, &[])?;
        let delayed = args.load.delay(&generator, endpoint, pid, TOPIC)?;
        for (name, outcome, rates) in [("at once", outcome, &mut at_once), ("delayed", delayed, &mut later)] {
            outcome.ensure_clean()?;
            println!("{name:<12}{}", outcome.row());
            rates.push(outcome.rate());
        }
    }
    if let (Some(at_once), Some(later)) = (median(at_once), median(later)) {
        println!("delayed sends: {:.0} % of the rate of others (medians)", later / at_once * 100.0);
    }
    server.stop()
}

async fn memory(args: &Args, server: &Server) -> anyhow::Result<()> {
    let before = own_bytes(server.pid)?;
    let start = now_ms() + 3_600_000;
    // In no order: each takes another place among them.
    let due = move |number: u64| start + (number.wrapping_mul(2_654_435_761) % 86_400_000).cast_signed();
    let began = std::time::Instant::now();
    send_all(server, args.pending, "pending", due).await?;
    let rate = args.pending as f64 / began.elapsed().as_secs_f64();
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let after = own_bytes(server.pid)?;
    println!(
        "{} waiting: {:.1} MiB of the process's own memory, {:.1} before ({rate:.0} a second, {TOGETHER} in a request)",
        args.pending,
        mib(after),
        mib(before)
    );
    Ok(())
}

async fn lateness(args: &Args, server: &Server) -> anyhow::Result<()> {
    let count = args.due * args.due_seconds;
    // Time enough to send them all.
    let start = now_ms() + 10_000 + (count / 20).cast_signed();
    let per_second = args.due;
    send_all(server, count, "due", move |number| start + (number * 1000 / per_second).cast_signed()).await?;
    ensure!(now_ms() < start - 1000, "they took too long to send: ask for fewer");
    let mut workers = JoinSet::new();
    let wanted = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(count));
    for index in 0..4 {
        let (endpoint, wanted) = (server.endpoint.clone(), std::sync::Arc::clone(&wanted));
        workers.spawn(async move { receive(&endpoint, index, &wanted).await });
    }
    let mut late = Vec::new();
    let mut ids = HashSet::new();
    let all = async {
        while let Some(received) = workers.join_next().await {
            for (id, late_ms) in received.context("a worker panicked")?? {
                ensure!(late_ms >= 0, "{id} came {late_ms} ms early");
                ensure!(ids.insert(id), "a message came twice");
                late.push(Duration::from_millis(late_ms.cast_unsigned()));
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(LIMIT, all).await.context("not all came")??;
    let late = Sorted::new(late);
    println!(
        "{count} due at {} a second, {} others waiting: late p50 {} ms, p99 {} ms, p99.9 {} ms, worst {} ms",
        args.due,
        args.pending,
        late.at(0.5).as_millis(),
        late.at(0.99).as_millis(),
        late.at(0.999).as_millis(),
        late.max().as_millis()
    );
    Ok(())
}

/// Receives until none is wanted any more: ids, and how long after their time the broker stored them in their topic.
async fn receive(
    endpoint: &str,
    index: usize,
    wanted: &std::sync::atomic::AtomicU64,
) -> anyhow::Result<Vec<(String, i64)>> {
    use std::sync::atomic::Ordering::Relaxed;

    let mut stub = wire::connect(endpoint, 100 + index).await?;
    let mut found = Vec::new();
    while wanted.load(Relaxed) > 0 {
        let messages = wire::receive(&mut stub, TOPIC, "bench", Duration::from_secs(1)).await?;
        wanted.fetch_sub(messages.len() as u64, Relaxed);
        for system in messages.into_iter().filter_map(|message| message.system_properties) {
            let ms = |at: Option<prost_types::Timestamp>| {
                at.map(|at| at.seconds * 1000 + i64::from(at.nanos / 1_000_000)).context("no time")
            };
            found.push((system.message_id, ms(system.store_timestamp)? - ms(system.delivery_timestamp)?));
        }
    }
    Ok(found)
}

/// Sends so many messages of 100 bytes, many in a request, on four connections.
async fn send_all(
    server: &Server,
    count: u64,
    prefix: &'static str,
    due_ms: impl Fn(u64) -> i64 + Copy + Send + 'static,
) -> anyhow::Result<()> {
    let mut workers = JoinSet::new();
    for worker in 0..4 {
        let mut stub = wire::connect(&server.endpoint, worker as usize).await?;
        workers.spawn(async move {
            let requests = (worker..count.div_ceil(TOGETHER)).step_by(4);
            for first in requests.map(|request| request * TOGETHER) {
                let numbers = first..count.min(first + TOGETHER);
                send(&mut stub, numbers.map(|number| message(prefix, number, due_ms(number))).collect())
                    .await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(sent) = workers.join_next().await {
        sent.context("a worker panicked")??;
    }
    Ok(())
}

fn message(prefix: &str, number: u64, due_ms: i64) -> v2::Message {
    let mut message = wire::message(TOPIC, format!("{prefix}{number}"), 0, Bytes::from_static(&[b'x'; 100]));
    wire::delay(&mut message, due_ms);
    message
}

async fn send(stub: &mut Stub, messages: Vec<v2::Message>) -> anyhow::Result<()> {
    let answer = stub.send_message(v2::SendMessageRequest { messages }).await?.into_inner();
    let status = answer.status.context("an answer without a status")?;
    ensure!(status.code() == v2::Code::Ok, "{}", status.message);
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
