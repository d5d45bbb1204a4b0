//! `bench-kill9`: kill -9 under load, again and again. What was acknowledged is received afterwards, unaltered.
//!
//! A send that got no answer may or may not be there; it only must not be altered.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bench::process::Server;
use bench::wire;
use bytes::Bytes;
use clap::Parser;
use tokio::task::JoinSet;

const TOPIC: &str = "kill9";
const GROUP: &str = "kill9";
const QUEUES: u64 = 8;

/// Kills `gantry dev` under load, again and again, and looks for every acknowledged message
#[derive(Debug, Parser)]
struct Args {
    /// The gantry program
    #[arg(long)]
    gantry: PathBuf,
    /// How often it is killed
    #[arg(long, default_value_t = 100)]
    times: u64,
    /// Port of gantry dev
    #[arg(long, default_value_t = 28081)]
    port: u16,
    /// Directory of the messages; a temporary one by default
    #[arg(long)]
    data: Option<PathBuf>,
    /// Longest load before a kill, in milliseconds; the lengths differ
    #[arg(long, default_value_t = 400)]
    load_ms: u64,
    /// Senders
    #[arg(long, default_value_t = 32)]
    senders: u64,
    /// Seconds within which the messages of a round must have come
    #[arg(long, default_value_t = 60)]
    patience: u64,
    /// More arguments for gantry dev, for example --sync-flush
    #[arg(last = true)]
    dev_args: Vec<String>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let temporary = tempfile::tempdir()?;
    let data = args.data.clone().unwrap_or_else(|| temporary.path().to_path_buf());
    let numbers = Arc::new(AtomicU64::new(0));
    let mut owed: HashMap<u64, u64> = HashMap::new();
    let (mut acknowledged, mut received) = (0_u64, 0_u64);
    let started = Instant::now();
    for time in 1..=args.times + 1 {
        let server = start(&args, &data).await.with_context(|| format!("start {time}"))?;
        received += collect(&server.endpoint, &mut owed, Duration::from_secs(args.patience))
            .await
            .with_context(|| format!("after kill {} of {}", time - 1, args.times))?;
        if time > args.times {
            server.stop()?;
            break;
        }
        // From 1 to load_ms, differently each time.
        let length = Duration::from_millis(1 + mix(time) % args.load_ms.max(1));
        let fresh = send_until_killed(&args, server, &numbers, length).await?;
        println!("kill {time:>3} after {:>3} ms of load: {} acknowledged", length.as_millis(), fresh.len());
        acknowledged += fresh.len() as u64;
        owed.extend(fresh.into_iter().map(|number| (number, time)));
    }
    println!(
        "{} kills in {:.0} s: {acknowledged} messages acknowledged, none lost, none altered ({received} deliveries)",
        args.times,
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

async fn start(args: &Args, data: &Path) -> anyhow::Result<Server> {
    let server = Server::gantry(&args.gantry, data, args.port, &args.dev_args)?;
    let admin = &server.admin;
    wire::create_topic(admin, TOPIC, QUEUES as u32).await?;
    Ok(server)
}

/// Sends from many tasks, kills the server in the middle, and tells which sends were acknowledged.
async fn send_until_killed(
    args: &Args,
    server: Server,
    numbers: &Arc<AtomicU64>,
    length: Duration,
) -> anyhow::Result<Vec<u64>> {
    let mut senders = JoinSet::new();
    for connection in 0..4 {
        let stub = wire::connect(&server.endpoint, connection).await?;
        for _ in 0..args.senders.div_ceil(4) {
            let (mut stub, numbers) = (stub.clone(), numbers.clone());
            senders.spawn(async move {
                let mut acknowledged = Vec::new();
                loop {
                    let number = numbers.fetch_add(1, Ordering::Relaxed);
                    let queue_id = (number % QUEUES) as i32;
                    let message = wire::message(TOPIC, id(number), queue_id, body(number));
                    match wire::send(&mut stub, message).await {
                        Ok(()) => acknowledged.push(number),
                        Err(_) => return acknowledged,
                    }
                }
            });
        }
    }
    tokio::time::sleep(length).await;
    server.kill()?;
    let mut acknowledged = Vec::new();
    while let Some(sender) = senders.join_next().await {
        acknowledged.extend(sender.context("a sender panicked")?);
    }
    Ok(acknowledged)
}

/// Receives until nothing is owed; what comes is compared with what was sent.
async fn collect(endpoint: &str, owed: &mut HashMap<u64, u64>, patience: Duration) -> anyhow::Result<u64> {
    let started = Instant::now();
    let mut stub = wire::connect(endpoint, 99).await?;
    let mut received = 0;
    while !owed.is_empty() {
        if started.elapsed() > patience {
            let (number, time) = owed.iter().next().context("something is owed")?;
            bail!(
                "LOST: {} acknowledged messages did not come, for example {} sent before kill {time}",
                owed.len(),
                id(*number)
            );
        }
        for message in wire::receive(&mut stub, TOPIC, GROUP, Duration::from_secs(5)).await? {
            let system = message.system_properties.context("a message without system properties")?;
            let number = number(&system.message_id)?;
            ensure!(message.body == body(number), "ALTERED: {} is not as it was sent", system.message_id);
            owed.remove(&number);
            received += 1;
        }
    }
    Ok(received)
}

/// The id of a message: 34 digits, as those of official clients.
fn id(number: u64) -> String {
    format!("01D1E900000000{number:020}")
}

fn number(id: &str) -> anyhow::Result<u64> {
    let digits = id.strip_prefix("01D1E900000000").with_context(|| format!("ALTERED: nobody sent {id}"))?;
    digits.parse().with_context(|| format!("ALTERED: nobody sent {id}"))
}

/// The body of a message: from 1 to 2,048 bytes that follow from its number.
fn body(number: u64) -> Bytes {
    let length = 1 + (mix(number) % 2048) as usize;
    let words = (0..).map(|index: u64| mix(number ^ (index << 32)));
    words.flat_map(u64::to_le_bytes).take(length).collect()
}

/// Spreads a number over all bits (the finalizer of splitmix64).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_by_its_number() {
        for sent in [0, 1, u64::MAX / 7] {
            assert_eq!(number(&id(sent)).unwrap(), sent);
            assert_eq!(id(sent).len(), 34);
            assert_eq!(body(sent), body(sent));
            assert!((1..=2048).contains(&body(sent).len()));
        }
        assert_ne!(body(1), body(2));
        assert!(number("01").is_err());
    }
}
