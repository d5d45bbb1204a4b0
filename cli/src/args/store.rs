//! The arguments of `gantry store …`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::parse_instant;

pub(super) const HELP: &str = "\
DIR is a broker's data directory (`gantry dev --data`, dataDir of a broker, storePathRootDir of Apache RocketMQ).
Stop its broker first; while a command runs, no broker can start on it.
Nothing is written to DIR unless you ask for it with --write.";

/// `gantry store …`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Show what lies in a store: files, marks, queues, a record
    #[command(after_help = "\
Examples:
  gantry store inspect ./gantry-data
  gantry store inspect ./gantry-data --queues
  gantry store inspect ./gantry-data --record 1073741824
  gantry store inspect ./gantry-data --topic orders --queue 0 --offset 4711 -o json")]
    Inspect(InspectArgs),
    /// Read everything and tell what is damaged
    #[command(after_help = "\
Examples:
  gantry store verify ./gantry-data
  gantry store verify ./gantry-data -o json

Every record is read and its checksums are compared; the queues are compared with what a rebuild from the log
would give. Ends with exit code 1 when anything is damaged, and lists the places. What a crash left behind the
log's end is no damage: opening the store cuts it.")]
    Verify(VerifyArgs),
    /// Write the messages to a file, one JSON line each, or make a directory for Apache RocketMQ
    #[command(after_help = "\
Examples:
  gantry store export ./gantry-data --to messages.jsonl
  gantry store export ./gantry-data --to - --topic orders --since 2026-11-25T00:00:00Z | gzip > orders.jsonl.gz
  gantry store export ./gantry-data --format rocketmq --to ./java-store

A line has all fields of a message as it is stored: half messages and messages for later too, the body in base64.
Works on data of Apache RocketMQ as well. Messages of deleted topics are left out. Where the log is damaged, what
is valid is written, and the exit code is 1.

With --format rocketmq the new directory is a storePathRootDir of Apache RocketMQ 5: the log byte for byte, its
consume queues, key index, checkpoint, topics, groups and offsets. Damaged places are covered with records that
nobody reads, since Java would cut the log there.")]
    Export(ExportArgs),
    /// Append the messages of an export to a store, which may be a new one
    #[command(after_help = "\
Examples:
  gantry store import ./gantry-data --from messages.jsonl              says what it would do
  gantry store import ./gantry-data --from messages.jsonl --write      does it
  gantry store export ./java-store --to - | gantry store import ./gantry-data --from - --write

All lines are read and checked first; with one bad line nothing is written. Messages keep topic, queue, body,
properties, flags, hosts and producer's time; their offsets and their store time are new. Topics are not made:
create those that the broker does not have before consumers come.")]
    Import(ImportArgs),
}

/// `gantry store inspect`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").args(["queues", "segments", "record", "topic"]))]
pub struct InspectArgs {
    /// The store's directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Show every queue: its first and next offset
    #[arg(long)]
    pub queues: bool,
    /// Show every file of the log
    #[arg(long)]
    pub segments: bool,
    /// Show the record that starts at this log offset
    #[arg(long, value_name = "LOG OFFSET")]
    pub record: Option<u64>,
    /// Show a message of this topic; with --queue and --offset
    #[arg(long, requires = "queue", requires = "offset")]
    pub topic: Option<String>,
    /// The queue of the topic
    #[arg(long, value_name = "N", requires = "topic")]
    pub queue: Option<u32>,
    /// The message's offset in the queue
    #[arg(long, value_name = "N", requires = "topic")]
    pub offset: Option<u64>,
}

/// `gantry store verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The store's directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
}

/// `gantry store export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The store's directory
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The file or directory to make; `-` is stdout
    #[arg(long, value_name = "OUT")]
    pub to: PathBuf,
    /// What to make
    #[arg(long, value_enum, default_value_t)]
    pub format: ExportFormat,
    /// With rocketmq: share full files of the log with the store (hard links) instead of copying them
    #[arg(long)]
    pub link: bool,
    /// Only messages of this topic; may be given several times
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Only messages stored at this time or later: 2026-11-25T17:00:00Z, or Unix milliseconds
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    pub since: Option<i64>,
    /// Only messages stored before this time
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    pub until: Option<i64>,
    /// Only messages at this log offset or behind it
    #[arg(long, value_name = "LOG OFFSET", default_value_t = 0)]
    pub from_offset: u64,
    /// Only messages before this log offset
    #[arg(long, value_name = "LOG OFFSET")]
    pub to_offset: Option<u64>,
}

/// What an export makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum ExportFormat {
    /// A file, one JSON object a line
    #[default]
    Jsonl,
    /// A directory that Apache RocketMQ 5 opens
    Rocketmq,
}

impl ExportArgs {
    /// An option that the format does not have, in words.
    pub fn misfit(&self) -> Option<&'static str> {
        let Self { dir: _, to, format, link, topics, since, until, from_offset, to_offset } = self;
        let filtered =
            !topics.is_empty() || *from_offset > 0 || to_offset.is_some() || since.or(*until).is_some();
        match format {
            ExportFormat::Jsonl if *link => Some("--link goes with --format rocketmq only"),
            ExportFormat::Rocketmq if filtered => Some(
                "--format rocketmq takes the whole log: --topic, --since, --until and offsets go with jsonl only",
            ),
            ExportFormat::Rocketmq if to.as_os_str() == "-" => {
                Some("--format rocketmq makes a directory: name it with --to")
            }
            ExportFormat::Jsonl | ExportFormat::Rocketmq => None,
        }
    }
}

/// `gantry store import`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["from", "from_rocketmq"]))]
pub struct ImportArgs {
    /// The store's directory; made if missing
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The lines to import; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Says how to take over the data of an Apache RocketMQ broker, which needs no import
    #[arg(long, value_name = "OTHER DIR")]
    pub from_rocketmq: Option<PathBuf>,
    /// Write; without it the command only says what it would do
    #[arg(long)]
    pub write: bool,
    /// Size of a file of the log if the store is new, for example 64Mi or 1Gi
    #[arg(long, value_name = "SIZE", default_value = "256Mi")]
    pub segment_size: String,
}
