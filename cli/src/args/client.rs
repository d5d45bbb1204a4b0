//! The arguments of `gantry client …`.

use clap::{Args, Subcommand};

/// `gantry client …`.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// List the consumers of a group that are here now
    #[command(visible_alias = "ls")]
    List(ClientListArgs),
    /// Show what the threads of a consumer do just now
    #[command(after_help = "\
Examples:
  gantry client list billing
  gantry client stack billing host@4711@0@abc

The client itself is asked, and writes its stack as it can: Java all threads, Go all goroutines, Node a few words. Clients in
Python and Rust never answer: the command ends with exit code 5. Exit code 3: no broker has such a client.")]
    Stack(ClientIdArgs),
    /// Let a consumer's listener have a stored message, to see whether it takes it
    #[command(after_help = "\
Examples:
  gantry client verify billing host@4711@0@abc --topic orders --id 01002590E1A2B3C4D5074F8A1D00000000
  gantry client verify billing host@4711@0@abc --topic %DLQ%billing --id 01002590E1A2B3C4D5074F8A1D00000000

The listener runs, and does whatever it does with a message; it has five seconds. The progress of the group, and what becomes of
the message otherwise, stay as they are. The unique id is what clients call the message id. Only push consumers in Java
do this; others answer that they do not, or never. Ends with exit code 1 where the listener fails the message.")]
    Verify(ClientVerifyArgs),
    /// Tell consumers of a group to connect anew
    #[command(after_help = "\
Examples:
  gantry client reconnect billing
  gantry client reconnect billing host@4711@0@abc

For clients that should go to other addresses behind the same name. Clients in Node and in Java after 5.2.1 do it;
Java from 5.1.0 on and Go only note that they were told; others ignore it. Nobody needs it for a
restart or a failover: brokers end the connections then, and every client connects anew.")]
    Reconnect(ClientReconnectArgs),
}

/// `gantry client list`.
#[derive(Debug, Args)]
pub struct ClientListArgs {
    /// The consumer group
    #[arg(value_name = "GROUP")]
    pub group: String,
}

/// A client, and who may ask it.
#[derive(Debug, Args)]
pub struct ClientIdArgs {
    /// The consumer group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// The client's id; gantry client list shows it
    #[arg(value_name = "CLIENT_ID")]
    pub client: String,
    /// Only over this broker; may be given several times
    #[arg(long = "broker", value_name = "BROKER")]
    pub brokers: Vec<String>,
}

/// `gantry client verify`.
#[derive(Debug, Args)]
pub struct ClientVerifyArgs {
    /// Which.
    #[command(flatten)]
    pub client: ClientIdArgs,
    /// The topic
    #[arg(long)]
    pub topic: String,
    /// The message's unique id
    #[arg(long)]
    pub id: String,
}

/// `gantry client reconnect`.
#[derive(Debug, Args)]
pub struct ClientReconnectArgs {
    /// The consumer group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// Only this client
    #[arg(value_name = "CLIENT_ID")]
    pub client: Option<String>,
    /// Only this broker; may be given several times
    #[arg(long = "broker", value_name = "BROKER")]
    pub brokers: Vec<String>,
}
