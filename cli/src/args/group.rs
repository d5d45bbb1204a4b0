//! What can be typed behind `gantry group`.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use crate::units::{parse_duration, parse_past};

/// `gantry group …`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List the consumer groups
    #[command(visible_alias = "ls")]
    List,
    /// Show a group: what it has consumed, what is in flight, what waits
    Describe(GroupName),
    /// Change how a group consumes; makes the group if it is new
    #[command(after_help = "\
Examples:
  gantry group update billing --max-attempts 5
  gantry group update billing --ordered true
  gantry group update billing --consume false        pause it
  gantry group update billing --backoff 1s,10s,1m    the last one repeats
  gantry group update billing --backoff exponential:1s,10m,2")]
    Update(GroupUpdateArgs),
    /// Let a group go on elsewhere in a topic: consume again, or skip
    #[command(after_help = "\
Examples:
  gantry group reset billing --topic orders --to earliest            consume all again
  gantry group reset billing --topic orders --time 2h                again what was stored in the last two hours
  gantry group reset billing --topic orders --time 2026-11-25T17:00:00Z --dry-run
  gantry group reset billing --topic orders --queue 3 --offset 4711
  gantry group reset billing --topic orders --to latest              skip what waits

Its consumers may run: they go on from there at once. What they hold just now of those queues may come again. A group that
is new is made, so that its first consumer begins there.")]
    Reset(GroupResetArgs),
}

/// A group's name.
#[derive(Debug, Args)]
pub struct GroupName {
    /// The consumer group
    #[arg(value_name = "GROUP")]
    pub group: String,
}

/// `gantry group update`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("changes").required(true).multiple(true).args(["consume", "ordered", "max_attempts", "backoff"]))]
pub struct GroupUpdateArgs {
    /// The consumer group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// Whether the group receives messages
    #[arg(long, value_name = "BOOL")]
    pub consume: Option<bool>,
    /// Whether messages of one message group are delivered in order
    #[arg(long, value_name = "BOOL")]
    pub ordered: Option<bool>,
    /// Deliveries of a message before it becomes a dead letter
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_attempts: Option<u32>,
    /// How long a message stays away after a failed delivery: one duration an attempt, the last repeats; or
    /// exponential:FIRST,LONGEST,FACTOR
    #[arg(long, value_name = "BACKOFF", value_parser = parse_backoff)]
    pub backoff: Option<Backoff>,
}

/// How long a message stays away after a failed delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// One duration an attempt, the last repeats.
    Steps(Vec<Duration>),
    /// Longer by a factor each time.
    Exponential {
        /// After the first attempt.
        first: Duration,
        /// Never longer.
        longest: Duration,
        /// From one attempt to the next.
        factor: f64,
    },
}

fn parse_backoff(text: &str) -> Result<Backoff, String> {
    let Some(curve) = text.strip_prefix("exponential:") else {
        let steps = text.split(',').map(|step| parse_duration(step.trim())).collect::<Result<Vec<_>, _>>()?;
        return Ok(Backoff::Steps(steps));
    };
    let fields: Vec<&str> = curve.split(',').map(str::trim).collect();
    let &[first, longest, factor] = fields.as_slice() else {
        return Err("write exponential:FIRST,LONGEST,FACTOR, for example exponential:1s,10m,2".to_owned());
    };
    let factor = factor.parse::<f64>().ok().filter(|factor| (1.0..=1000.0).contains(factor));
    Ok(Backoff::Exponential {
        first: parse_duration(first)?,
        longest: parse_duration(longest)?,
        factor: factor.ok_or("the factor is a number from 1 to 1000")?,
    })
}

/// `gantry group reset`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("place").required(true).args(["to", "time", "offset"]))]
pub struct GroupResetArgs {
    /// The consumer group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// An end of the queues
    #[arg(long, value_enum)]
    pub to: Option<End>,
    /// The first message stored at this time or later: 2h (ago), 2026-11-25T17:00:00Z, or Unix milliseconds
    #[arg(long, value_parser = parse_past)]
    pub time: Option<i64>,
    /// This offset; beyond an end of a queue it is that end
    #[arg(long)]
    pub offset: Option<u64>,
    /// Only this queue; may be given several times
    #[arg(long = "queue", value_name = "QUEUE")]
    pub queues: Vec<u32>,
    /// Only this broker; may be given several times
    #[arg(long = "broker", value_name = "BROKER")]
    pub brokers: Vec<String>,
    /// Only show where it would go on
    #[arg(long)]
    pub dry_run: bool,
}

/// An end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum End {
    /// The first message that is left
    Earliest,
    /// Behind the last message
    Latest,
}
