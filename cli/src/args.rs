//! What can be typed: the commands, their arguments and their help.

mod bench;
mod client;
mod group;
mod message;
mod names;
mod operate;
mod store;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::Format;
use crate::place::PlaceArgs;
use crate::units::parse_duration;

pub use bench::{
    BenchCommand, ConsumeLoad, DelayLoad, FlowLoad, IdleLoad, LoadArgs, ProduceLoad, ReceiveArgs, SendArgs,
};
pub use client::{ClientCommand, ClientIdArgs, ClientListArgs, ClientReconnectArgs, ClientVerifyArgs};
pub use group::{Backoff, End, GroupCommand, GroupName, GroupResetArgs, GroupUpdateArgs};
pub use message::{MessageCommand, MessageFindArgs, MessageGetArgs, MessageTraceArgs};
pub use names::TopicNames;
pub use operate::{DrainArgs, FenceArgs, LogsArgs, OperateArgs, PromoteArgs, ReportArgs};
pub use store::{ExportArgs, ExportFormat, ImportArgs, InspectArgs, StoreCommand, VerifyArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  refused or failed
  2  wrong arguments
  3  the topic, group or resource does not exist
  4  the server, or the Kubernetes API, cannot be reached
  5  time ran out before everything asked for had happened

Results go to stdout, remarks to stderr. NO_COLOR switches colours off.";

/// Gantry: messaging native to Kubernetes, compatible with Apache RocketMQ
#[derive(Debug, Parser)]
#[command(
    name = "gantry",
    version,
    max_term_width = 100,
    after_long_help = EXIT_CODES,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
}

/// Arguments of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// Form of what is printed
    #[arg(short, long, global = true, value_enum, default_value_t, value_name = "FORM")]
    pub output: Format,
    /// Where the command acts.
    #[command(flatten)]
    pub place: PlaceArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a name server and a broker in this process
    Dev(DevArgs),
    /// Create, list, describe, update and delete topics
    #[command(arg_required_else_help = true)]
    Topic {
        /// What to do with topics.
        #[command(subcommand)]
        command: TopicCommand,
    },
    /// List, describe and update consumer groups
    #[command(arg_required_else_help = true)]
    Group {
        /// What to do with groups.
        #[command(subcommand)]
        command: GroupCommand,
    },
    /// List the consumers of a group, and ask one of them what it does
    #[command(arg_required_else_help = true)]
    Client {
        /// What to do with clients.
        #[command(subcommand)]
        command: ClientCommand,
    },
    /// Find stored messages by key, by unique id or by place
    #[command(arg_required_else_help = true)]
    Message {
        /// What to do with messages.
        #[command(subcommand)]
        command: MessageCommand,
    },
    /// Show name servers, brokers, logs, disks and topics on one screen
    #[command(after_help = "Ends with exit code 1 when something shown is not as it should be.")]
    Status,
    /// Make another member of a broker group its primary, without losing anything
    Failover(FailoverArgs),
    /// Restart the pods of a BrokerGroup or a NameServerSet, one at a time, the primary last (Kubernetes)
    Restart(OperateArgs),
    /// Ask the operator for another primary of a BrokerGroup (Kubernetes)
    Promote(PromoteArgs),
    /// Take the pods of a BrokerGroup away; its volumes stay (Kubernetes)
    Hibernate(OperateArgs),
    /// Bring the pods of a BrokerGroup back that hibernates (Kubernetes)
    Wake(OperateArgs),
    /// Let topics leave a BrokerGroup that is to be deleted, once they are consumed (Kubernetes)
    Drain(DrainArgs),
    /// Keep members of a BrokerGroup from being its primary (Kubernetes)
    Fence(FenceArgs),
    /// Show the last lines that the pods of a BrokerGroup or a NameServerSet logged (Kubernetes)
    Logs(LogsArgs),
    /// Write objects and logs of a namespace into a directory, for whoever helps (Kubernetes)
    Report(ReportArgs),
    /// Send messages to a topic
    Produce(ProduceArgs),
    /// Receive messages of a topic as a consumer group, and acknowledge them
    Consume(ConsumeArgs),
    /// Measure a server: its rates and latencies under a load
    #[command(arg_required_else_help = true, after_help = bench::HELP)]
    Bench {
        /// The scenario.
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Send one message and receive it again: does this place work?
    Check(CheckArgs),
    /// Look into a store's directory, or carry messages out of it and into it, with no broker running
    #[command(arg_required_else_help = true, after_help = store::HELP)]
    Store {
        /// What to do with the directory.
        #[command(subcommand)]
        command: StoreCommand,
    },
    /// Print the version
    Version,
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write the man pages of all commands into a directory
    Man(ManArgs),
}

/// `gantry dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gantry dev                                 keep messages in ./gantry-data
  gantry dev --ephemeral --port 18081        forget everything at the end
  gantry topic create orders && gantry produce orders --body hello

The control plane listens at PORT+1797 (topics, groups, status: --server) and the broker's own at
PORT+1798; /livez, /readyz and /metrics at PORT+1009. One line on stdout says when all is ready.")]
pub struct DevArgs {
    /// Directory of the messages; made if missing
    #[arg(long, value_name = "DIR", default_value = "gantry-data", conflicts_with = "ephemeral")]
    pub data: PathBuf,
    /// Use a new temporary directory and remove it at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Port for clients; 0 lets the system choose all ports
    #[arg(short, long, default_value_t = 8081)]
    pub port: u16,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub listen: IpAddr,
    /// Host that clients are told to connect to [default: the address listened on, else 127.0.0.1]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Answer a send when it is on the disk
    #[arg(long)]
    pub sync_flush: bool,
    /// Size of a file of the log, for example 64Mi or 1Gi
    #[arg(long, value_name = "SIZE", default_value = "256Mi")]
    pub segment_size: String,
    /// Log more: -v for what happens, -vv for every request
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// `gantry topic …`.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Make a topic on every broker
    #[command(after_help = "\
Examples:
  gantry topic create orders
  gantry topic create payments --type fifo --queues 4
  gantry topic create 'tenant-{n}' --count 100000 --queues 1
  gantry topic create --file names.txt
  kubectl gantry topic create orders -n shop       makes a Topic resource

A topic that already is as asked for is left alone. Of many topics each stands for itself: one that
is refused is made nowhere, the others are made, and the command ends with exit code 1.")]
    Create(TopicCreateArgs),
    /// List the topics
    #[command(visible_alias = "ls")]
    List(TopicListArgs),
    /// Show a topic and its queues
    Describe(TopicName),
    /// Change queues or permission of a topic
    #[command(after_help = "\
Examples:
  gantry topic update orders --queues 16
  gantry topic update orders --permission read-only")]
    Update(TopicUpdateArgs),
    /// Delete a topic
    #[command(after_help = "\
Examples:
  gantry topic delete orders
  gantry topic delete orders --if-drained
  gantry topic delete 'tenant-{n}' --count 100000

In Kubernetes mode the Topic resource is deleted; its spec.deletionPolicy says what becomes of the
messages.")]
    Delete(TopicDeleteArgs),
}

/// A topic's name.
#[derive(Debug, Args)]
pub struct TopicName {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
}

/// `gantry topic create`.
#[derive(Debug, Args)]
pub struct TopicCreateArgs {
    /// Which.
    #[command(flatten)]
    pub names: TopicNames,
    /// What the topic takes
    #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
    pub message_type: MessageType,
    /// Queues on each broker
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub queues: u32,
    /// What clients may do
    #[arg(long, value_enum, default_value_t)]
    pub permission: Permission,
    /// Only on these brokers; may be given several times (direct mode)
    #[arg(long = "broker", value_name = "BROKER")]
    pub brokers: Vec<String>,
}

/// `gantry topic list`.
#[derive(Debug, Args)]
pub struct TopicListArgs {
    /// Show system topics too (direct mode)
    #[arg(long)]
    pub system: bool,
}

/// `gantry topic update`.
#[derive(Debug, Args)]
pub struct TopicUpdateArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Queues on each broker
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1024), required_unless_present = "permission")]
    pub queues: Option<u32>,
    /// What clients may do
    #[arg(long, value_enum)]
    pub permission: Option<Permission>,
}

/// `gantry topic delete`.
#[derive(Debug, Args)]
pub struct TopicDeleteArgs {
    /// Which.
    #[command(flatten)]
    pub names: TopicNames,
    /// Refuse while a consumer group has messages to consume (direct mode)
    #[arg(long)]
    pub if_drained: bool,
}

/// What a topic takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum MessageType {
    /// Messages in no order
    #[default]
    Normal,
    /// Messages in order within their message group
    Fifo,
    /// Messages for later
    Delay,
    /// Messages that become visible when their transaction commits
    Transaction,
    /// Messages with a priority
    Priority,
    /// Messages of many light topics within this one
    Lite,
    /// Normal, FIFO, delay and transaction messages
    Mixed,
}

/// What clients may do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Permission {
    /// Send and receive
    #[default]
    ReadWrite,
    /// Only receive
    ReadOnly,
    /// Only send
    WriteOnly,
    /// Neither
    None,
}

/// How commands that send and receive find and reach the clients' port.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Access point for clients [default: 127.0.0.1:8081; in Kubernetes mode that of the NameServerSet]
    #[arg(long, env = "GANTRY_ENDPOINT", value_name = "HOST:PORT", help_heading = "Where")]
    pub endpoint: Option<String>,
    /// Encrypt; the server's certificate is checked only with --tls-ca
    #[arg(long, help_heading = "Where")]
    pub tls: bool,
    /// Encrypt, and check the server's certificate against this CA (PEM)
    #[arg(long, value_name = "FILE", help_heading = "Where")]
    pub tls_ca: Option<PathBuf>,
}

/// `gantry produce`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gantry produce orders --body hello
  gantry produce orders --count 1000 --body 'order {n}' --key k{n}      {n} counts from 1
  gantry produce orders --tag eu --key 4711 --property colour=red --file order.json
  cat lines.txt | gantry produce orders                      a message a line

A line of stdout is one stored message: its id, its broker and its offset in the queue.")]
pub struct ProduceArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Text of the message; `{n}` becomes its number, from 1, here and in --key and --message-group
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file")]
    pub body: Option<String>,
    /// Send this file's content as one message; `-` is stdin as a whole
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// How often to send --body or --file; with stdin lines: stop after so many
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Tag, for filters of consumers
    #[arg(long)]
    pub tag: Option<String>,
    /// Key, to find the message by; may be given several times
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Property of the message; may be given several times
    #[arg(long = "property", value_name = "KEY=VALUE", value_parser = parse_property)]
    pub properties: Vec<(String, String)>,
    /// Message group: messages of one group stay in order (FIFO topics)
    #[arg(long, value_name = "NAME")]
    pub message_group: Option<String>,
    /// Print no line for each message
    #[arg(short, long)]
    pub quiet: bool,
    /// Access point and TLS.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `gantry consume`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gantry consume orders --group billing                      until Ctrl-C
  gantry consume orders --group billing --count 10 --timeout 30s
  gantry consume orders --group billing --filter 'eu || us' -o json
  gantry consume orders --group dear --sql \"price > 100 AND region LIKE 'eu%'\"
  gantry consume orders --group look --no-ack --count 1      it comes again after --invisible

With --count, ends with exit code 5 when --timeout passes before so many messages came.")]
pub struct ConsumeArgs {
    /// The topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// The consumer group; a new one starts at the oldest message
    #[arg(short, long)]
    pub group: String,
    /// End after so many messages
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time
    #[arg(short, long, value_parser = parse_duration)]
    pub timeout: Option<Duration>,
    /// Do not acknowledge: the messages come again
    #[arg(long)]
    pub no_ack: bool,
    /// How long a received message stays hidden from others of its group
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    pub invisible: Duration,
    /// Only messages with these tags, for example `eu || us`; the others are gone for the group
    #[arg(long, value_name = "TAGS", default_value = "*")]
    pub filter: String,
    /// Only messages of which this holds, for example `price > 100 AND TAGS = 'eu'`; the others are gone for the group
    #[arg(long, value_name = "CONDITION", conflicts_with = "filter")]
    pub sql: Option<String>,
    /// Print bodies only, as they are, a newline after each
    #[arg(long)]
    pub raw: bool,
    /// Access point and TLS.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `gantry check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gantry check --topic orders
  gantry check --topic orders --endpoint gantry-namesrv:8081 --timeout 30s

Other messages of the topic are left alone: the check's group takes only its own message, by a tag.")]
pub struct CheckArgs {
    /// The topic to send through
    #[arg(long)]
    pub topic: String,
    /// The consumer group to receive with
    #[arg(long, default_value = "gantry-check")]
    pub group: String,
    /// How long it may take
    #[arg(short, long, default_value = "30s", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Access point and TLS.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `gantry failover`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gantry failover broker-a             to the in-sync member that has most
  gantry failover broker-a --to 2      to that one

The primary holds up sends until the other has everything, about a second, and then follows it.")]
pub struct FailoverArgs {
    /// The broker group: the broker's name that clients see
    pub broker: String,
    /// Ordinal of the member that is to be the primary; it must be in sync
    #[arg(long, value_name = "ORDINAL")]
    pub to: Option<u32>,
}

/// `gantry completions`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(gantry completions bash)
  gantry completions zsh > ~/.zfunc/_gantry")]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// `gantry man`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  gantry man ~/.local/share/man/man1 && man gantry-topic-create")]
pub struct ManArgs {
    /// The directory; it is made where it does not exist
    pub directory: PathBuf,
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_property_is_a_key_and_a_value() {
        assert_eq!(parse_property("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_property("a="), Ok(("a".to_owned(), String::new())));
        assert!(parse_property("=b").is_err());
        assert!(parse_property("ab").is_err());
    }

    #[test]
    fn durations_and_counts_are_checked_where_they_are_typed() {
        let parses = |line: &str| Cli::try_parse_from(line.split(' ')).is_ok();
        assert!(parses("gantry consume t -g g --count 1 --timeout 30s"));
        assert!(!parses("gantry consume t -g g --count 0"));
        assert!(!parses("gantry consume t -g g --timeout soon"));
        assert!(!parses("gantry consume t"));
        assert!(!parses("gantry topic create t --queues 0"));
        assert!(!parses("gantry topic create"));
        assert!(parses("gantry topic create a b --file -") && parses("gantry topic create --file x"));
        assert!(!parses("gantry topic create a-{n} --count 0"));
        assert!(!parses("gantry topic update t"));
        assert!(!parses("gantry group update g"));
        assert!(parses("gantry group update g --ordered true"));
        assert!(parses("gantry group update g --backoff 1s,5s,30s"));
        assert!(parses("gantry group update g --backoff exponential:1s,10m,2"));
        assert!(!parses("gantry group update g --backoff soon"));
        assert!(parses("gantry group reset g --topic t --to earliest --queue 1 --queue 2"));
        assert!(parses("gantry group reset g --topic t --time 2h --dry-run"));
        assert!(parses("gantry group reset g --topic t --offset 4711"));
        assert!(!parses("gantry group reset g --topic t"));
        assert!(!parses("gantry group reset g --topic t --to latest --offset 1"));
        assert!(!parses("gantry produce t --body x --file y"));
        assert!(parses("gantry message find --topic t --key k --since 2h --until 2026-11-25T17:42:10Z"));
        assert!(!parses("gantry message find --topic t"));
        assert!(!parses("gantry message find --topic t --key k --id i"));
        assert!(!parses("gantry message find --topic t --key k --limit 1001"));
        assert!(!parses("gantry message get --topic t --queue 0"));
        assert!(parses("gantry client stack g c --broker b") && !parses("gantry client stack g"));
        assert!(parses("gantry client verify g c --topic t --id i"));
        assert!(!parses("gantry client verify g c --topic t"));
        assert!(parses("gantry client reconnect g") && parses("gantry client reconnect g c"));
        assert!(parses("gantry store inspect d --topic t --queue 0 --offset 1"));
        assert!(!parses("gantry store inspect d --topic t --queue 0"));
        assert!(!parses("gantry store inspect d --queues --segments"));
    }
}
