//! The arguments of `gantry message …`.

use clap::{Args, Subcommand};

use crate::units::parse_past;

/// `gantry message …`.
#[derive(Debug, Subcommand)]
pub enum MessageCommand {
    /// List messages of a topic by key or unique id, newest first
    #[command(after_help = "\
Examples:
  gantry message find --topic orders --key 4711
  gantry message find --topic orders --key 4711 --since 2h --limit 5 -o json
  gantry message find --topic orders --id 01002590E1A2B3C4D5074F8A1D00000000

Every broker that has the topic is asked. A key is one of those that the producer gave; the unique id is what
clients call the message id, and --key takes it too. What was acknowledged is found at once, whether or not it was
consumed, until retention deletes it. Ends with exit code 3 when nothing is found.")]
    Find(MessageFindArgs),
    /// Follow a message: where it was stored, and how far each consumer group is with it
    #[command(after_help = "\
Examples:
  gantry message trace 01002590E1A2B3C4D5074F8A1D00000000 --topic orders

The unique id is what clients call the message id. Of each group that has looked at the topic it is shown whether it has not
come so far, has the message in flight (how often it was delivered, until when it is invisible, who has it), or is done
with it: acknowledged, a dead letter, or not wanted by its filter. Ends with exit code 3 when there is no such message.")]
    Trace(MessageTraceArgs),
    /// Show the message at one place of a queue
    #[command(after_help = "\
Examples:
  gantry message get --topic orders --queue 3 --offset 4711
  gantry message get --topic orders --queue 3 --offset 4711 --body
  gantry message get --topic orders --queue 3 --offset 4711 --broker broker-a --body -o json")]
    Get(MessageGetArgs),
}

/// `gantry message find`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("wanted").required(true).args(["key", "id"]))]
pub struct MessageFindArgs {
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// One of the message's keys, or its unique id
    #[arg(long)]
    pub key: Option<String>,
    /// The message's unique id
    #[arg(long)]
    pub id: Option<String>,
    /// Only messages stored at this time or later: 2h (ago), 2026-11-25T17:00:00Z, or Unix milliseconds
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub since: Option<i64>,
    /// Only messages stored before this time
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub until: Option<i64>,
    /// So many at most, the newest
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub limit: u32,
    /// Ask only this broker; may be given several times
    #[arg(long = "broker", value_name = "BROKER")]
    pub brokers: Vec<String>,
}

/// `gantry message get`.
#[derive(Debug, Args)]
pub struct MessageGetArgs {
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// The queue of the topic
    #[arg(long, value_name = "N")]
    pub queue: u32,
    /// The message's offset in the queue
    #[arg(long, value_name = "N")]
    pub offset: u64,
    /// Show the body too
    #[arg(long)]
    pub body: bool,
    /// The broker, where several have a message at this place
    #[arg(long = "broker", value_name = "BROKER")]
    pub brokers: Vec<String>,
}

/// `gantry message trace`.
#[derive(Debug, Args)]
pub struct MessageTraceArgs {
    /// The message's unique id
    #[arg(value_name = "ID")]
    pub id: String,
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// Ask only this broker; may be given several times
    #[arg(long = "broker", value_name = "BROKER")]
    pub brokers: Vec<String>,
}
