//! `gantry bench …`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::ClientArgs;
use crate::units::{parse_bytes, parse_duration};

pub(super) const HELP: &str = "\
Examples:
  gantry bench produce bench                                 as fast as the server answers
  gantry bench produce bench --rate 5000 --duration 1m --report latency.html
  gantry bench consume bench                                 what lies there, until nothing more comes
  gantry bench end-to-end bench --rate 1000 -o json
  gantry bench fifo orders --connections 2 --in-flight 16    order is checked
  gantry bench delay later --rate 1000 --delay 5s            how late messages come
  gantry bench transaction payments --rate 500

With --rate messages are sent at times fixed beforehand, and latency counts from those: a server that falls behind
cannot hide it (open loop). Without it, each answer is followed by the next send (closed loop), which shows the
most that the server takes, but waits politely while it is slow.

It works against every server of apache.rocketmq.v2, the proxy of Apache RocketMQ too. Topics must exist.";

/// The scenarios.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Send, and measure from the intended time to the answer
    Produce(ProduceLoad),
    /// Receive and acknowledge what lies in the topic, until nothing more comes
    Consume(ConsumeLoad),
    /// Send and receive, and measure from the intended time of sending to receipt
    EndToEnd(FlowLoad),
    /// The same for FIFO messages, one message group for each send under way; order is checked
    Fifo(FlowLoad),
    /// Send messages for later, and measure how late they come
    Delay(DelayLoad),
    /// Send messages in transactions and commit each, and measure to the commit's answer and to receipt
    Transaction(FlowLoad),
    /// Hold clients that do nothing: a telemetry stream and a parked poll each
    Idle(IdleLoad),
}

/// What every load has.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// The topic; it must exist
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Use TOPIC-1 to TOPIC-N in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub topics: Option<u64>,
    /// Connections that send, and as many that receive; each is a client of its own
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub connections: u32,
    /// How long is measured
    #[arg(short, long, default_value = "10s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Stop after so many messages instead
    #[arg(long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub count: Option<u64>,
    /// Write a page with curves of the latency too
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Process of the server, if it runs on this machine: its CPU time for each message is told
    #[arg(long)]
    pub pid: Option<u32>,
    /// Access point and TLS.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// How messages are sent.
#[derive(Debug, Clone, Args)]
pub struct SendArgs {
    /// Messages a second, at fixed times (open loop); without it as fast as answers come (closed loop)
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub rate: Option<u64>,
    /// Sends under way on each connection, at most
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// Size of a body, for example 1Ki
    #[arg(short, long, value_name = "SIZE", default_value = "1Ki", value_parser = parse_bytes)]
    pub size: u64,
    /// Messages of one request
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch: u32,
    /// Sends before this time are not measured
    #[arg(short, long, default_value = "0s", value_parser = parse_duration)]
    pub warm_up: Duration,
}

/// How messages are received.
#[derive(Debug, Clone, Args)]
pub struct ReceiveArgs {
    /// The consumer group
    #[arg(short, long, default_value = "gantry-bench")]
    pub group: String,
    /// Polls under way on each receiving connection
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub polls: u32,
    /// Messages of one answer, at most
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub receive_batch: u32,
    /// How long a received message stays hidden from others of its group
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub invisible: Duration,
    /// How long to wait for the last messages after the last send
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub patience: Duration,
}

/// `gantry bench produce`.
#[derive(Debug, Args)]
pub struct ProduceLoad {
    /// What every load has.
    #[command(flatten)]
    pub load: LoadArgs,
    /// How messages are sent.
    #[command(flatten)]
    pub send: SendArgs,
}

/// `gantry bench consume`.
#[derive(Debug, Args)]
pub struct ConsumeLoad {
    /// What every load has.
    #[command(flatten)]
    pub load: LoadArgs,
    /// How messages are received.
    #[command(flatten)]
    pub receive: ReceiveArgs,
}

/// `gantry bench end-to-end`, `fifo` and `transaction`.
#[derive(Debug, Args)]
pub struct FlowLoad {
    /// What every load has.
    #[command(flatten)]
    pub load: LoadArgs,
    /// How messages are sent.
    #[command(flatten)]
    pub send: SendArgs,
    /// How messages are received.
    #[command(flatten)]
    pub receive: ReceiveArgs,
}

/// `gantry bench delay`.
#[derive(Debug, Args)]
pub struct DelayLoad {
    /// What every load has.
    #[command(flatten)]
    pub load: LoadArgs,
    /// How messages are sent.
    #[command(flatten)]
    pub send: SendArgs,
    /// How messages are received.
    #[command(flatten)]
    pub receive: ReceiveArgs,
    /// How long each message waits, from its intended time of sending
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    pub delay: Duration,
    /// Only send: nobody waits for the messages
    #[arg(long)]
    pub send_only: bool,
}

/// `gantry bench idle`.
#[derive(Debug, Args)]
#[command(after_help = "\
A line on stdout says when all clients are there and their polls are under way. Each poll that ends empty is followed
by the next. Clients send no heartbeats: their open streams say that they live.")]
pub struct IdleLoad {
    /// The topic; it must exist
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Clients, each with a connection of its own
    #[arg(short, long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub clients: u32,
    /// The consumer group
    #[arg(short, long, default_value = "gantry-bench")]
    pub group: String,
    /// How long they are held
    #[arg(short, long, default_value = "30s", value_parser = parse_duration)]
    pub duration: Duration,
    /// How long a poll waits
    #[arg(short, long, default_value = "20s", value_parser = parse_duration)]
    pub poll: Duration,
    /// Access point and TLS.
    #[command(flatten)]
    pub client: ClientArgs,
}
