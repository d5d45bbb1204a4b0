//! `gantry`, the command line of Gantry.
//!
//! ```text
//! args ──► place: where it acts ──► commands/: what is to be done ──► output: table, JSON, YAML
//!              │
//!              ├─ control     the control plane of a running cluster (Registry, then each broker's Admin)
//!              ├─ kubernetes  the custom resources, by kubeconfig
//!              ├─ client      a small client of the v2 protocol, for messages
//!              │   └─ bench   the load generator
//!              └─ (store)     `gantry store`: a directory with no broker running, by the library store
//! ```
//!
//! What a command found goes to stdout, and nothing else does: what it has to say about it goes
//! to stderr. So every command can stand in a pipe. A command gathers first and prints
//! after: what is printed is a plain value (a [`output::View`]) with golden files.
//!
//! This crate knows no storage format and no delivery: `gantry dev` starts the same libraries that the
//! pods run, and `gantry store` asks the store's own tools.

#![forbid(unsafe_code)]

pub mod args;
pub mod bench;
pub mod client;
pub mod commands;
pub mod control;
pub mod failure;
pub mod kubernetes;
pub mod message;
pub mod output;
pub mod place;
mod progress;
pub mod units;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser as _;

use args::{Cli, ClientCommand, Command, GroupCommand, MessageCommand, StoreCommand, TopicCommand};
use failure::Failure;
use place::Caller;

/// Runs the program with the arguments of a process, the name it was called by included.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    let started = Instant::now();
    let caller = Caller::of(&arguments);
    let cli = Cli::parse_from(arguments);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::failed(format!("cannot start the async runtime: {error}")).report();
        }
    };
    match runtime.block_on(run(cli, caller, started)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli, caller: Caller, started: Instant) -> Result<(), Failure> {
    let Cli { command, global } = cli;
    let out = output::Printer::new(global.output);
    match command {
        Command::Dev(args) => commands::dev::run(args, out, started).await,
        Command::Topic { command } => {
            let place = global.place.resolve(caller).await?;
            match command {
                TopicCommand::Create(args) => commands::topic::create::run(place, args, out).await,
                TopicCommand::List(args) => commands::topic::list::run(place, args, out).await,
                TopicCommand::Describe(args) => commands::topic::describe::run(place, args, out).await,
                TopicCommand::Update(args) => commands::topic::update::run(place, args, out).await,
                TopicCommand::Delete(args) => commands::topic::delete::run(place, args, out).await,
            }
        }
        Command::Group { command } => {
            let place = global.place.resolve(caller).await?;
            match command {
                GroupCommand::List => commands::group::list::run(place, out).await,
                GroupCommand::Describe(args) => commands::group::describe::run(place, args, out).await,
                GroupCommand::Update(args) => commands::group::update::run(place, args, out).await,
                GroupCommand::Reset(args) => {
                    commands::group::reset::run(place.control().await?, args, out).await
                }
            }
        }
        Command::Client { command } => {
            let control = global.place.resolve(caller).await?.control().await?;
            match command {
                ClientCommand::List(args) => commands::client::list::run(control, args, out).await,
                ClientCommand::Stack(args) => commands::client::stack::run(control, args, out).await,
                ClientCommand::Verify(args) => commands::client::verify::run(control, args, out).await,
                ClientCommand::Reconnect(args) => commands::client::reconnect::run(control, args, out).await,
            }
        }
        Command::Message { command } => {
            let control = global.place.resolve(caller).await?.control().await?;
            match command {
                MessageCommand::Find(args) => commands::message::find::run(control, args, out).await,
                MessageCommand::Get(args) => commands::message::get::run(control, args, out).await,
                MessageCommand::Trace(args) => commands::message::trace::run(control, args, out).await,
            }
        }
        Command::Status => commands::status::run(global.place.resolve(caller).await?, out).await,
        Command::Failover(args) => {
            let control = global.place.resolve(caller).await?.control().await?;
            commands::failover::run(control, args, out).await
        }
        Command::Restart(args) => {
            commands::operate::restart(global.place.resolve(caller).await?, args, out).await
        }
        Command::Promote(args) => {
            commands::operate::promote(global.place.resolve(caller).await?, args, out).await
        }
        Command::Hibernate(args) => {
            commands::operate::hibernate(global.place.resolve(caller).await?, args, true, out).await
        }
        Command::Wake(args) => {
            commands::operate::hibernate(global.place.resolve(caller).await?, args, false, out).await
        }
        Command::Drain(args) => {
            commands::operate::drain(global.place.resolve(caller).await?, args, out).await
        }
        Command::Fence(args) => {
            commands::operate::fence(global.place.resolve(caller).await?, args, out).await
        }
        Command::Logs(args) => commands::operate::logs(global.place.resolve(caller).await?, args, out).await,
        Command::Report(args) => {
            commands::operate::report(global.place.resolve(caller).await?, args, out).await
        }
        Command::Produce(args) => commands::produce::run(&global.place, caller, args, out).await,
        Command::Consume(args) => commands::consume::run(&global.place, caller, args, out).await,
        Command::Bench { command } => commands::bench::run(&global.place, caller, command, out).await,
        Command::Check(args) => commands::check::run(&global.place, caller, args, out).await,
        Command::Store { command } => match command {
            StoreCommand::Inspect(args) => commands::store::inspect::run(&args, out),
            StoreCommand::Export(args) => commands::store::export::run(&args, out),
            StoreCommand::Import(args) => commands::store::import::run(&args, out),
            StoreCommand::Verify(args) => commands::store::verify::run(&args, out),
        },
        Command::Version => commands::version::run(out),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Man(args) => commands::man::run(&args),
    }
}
