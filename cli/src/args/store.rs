//! The arguments of `gantry store …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
