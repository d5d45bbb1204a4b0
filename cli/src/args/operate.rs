//! Arguments of the commands that operate a cluster in Kubernetes.

use std::path::PathBuf;

use clap::Args;

/// `gantry restart`, `hibernate`, `wake`.
#[derive(Debug, Args)]
pub struct OperateArgs {
    /// A BrokerGroup, or nss/NAME for a NameServerSet
    #[arg(value_name = "NAME")]
    pub name: String,
}

/// `gantry promote`.
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The BrokerGroup
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Ordinal of the member that is to be the primary; it must be in sync
    #[arg(long, value_name = "ORDINAL")]
    pub to: u32,
}

/// `gantry drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl gantry drain main
  kubectl wait bg main --for=condition=Drained --timeout=-1s && kubectl delete bg main

Topics are made on the other broker groups first, take no more messages here, and go when they are consumed.")]
pub struct DrainArgs {
    /// The BrokerGroup
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Use it again
    #[arg(long)]
    pub undo: bool,
}

/// `gantry fence`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl gantry fence main 2               broker 2 hands over if it is the primary, and is none any more
  kubectl gantry fence main 2 --undo
  kubectl gantry fence main --undo          all of them

A fenced broker goes on keeping every message, so what is acknowledged is as safe as before.")]
pub struct FenceArgs {
    /// The BrokerGroup
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Ordinals of the members that must not be the primary
    #[arg(value_name = "ORDINAL", required_unless_present = "undo")]
    pub members: Vec<i32>,
    /// They may be primary again; without ordinals all members may
    #[arg(long)]
    pub undo: bool,
}

/// `gantry logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// A BrokerGroup, or nss/NAME for a NameServerSet
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Only of the primary
    #[arg(long)]
    pub primary: bool,
    /// Of the container before the last restart
    #[arg(long)]
    pub previous: bool,
    /// The last so many lines of each pod
    #[arg(long, default_value_t = 200, value_name = "N")]
    pub tail: i64,
}

/// `gantry report`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl gantry report -n shop --to /tmp/report && tar czf report.tar.gz -C /tmp report

A file a kind of object and a file a pod's log. Secrets are not read, and what is read holds none.")]
pub struct ReportArgs {
    /// The directory to write; it is made, and must not be there yet
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The last so many lines of each pod's log
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub tail: i64,
}
