//! The one door to building and checking Gantry: `cargo xtask COMMAND`.
//!
//! ```text
//!   check   format, lints, tidiness, walls, licences      writes nothing
//!   test    check + every test + e2e on a local cluster   writes nothing in the checkout
//!   golden  compares rendered charts; --accept rewrites them and the snapshots
//!   guard   counts what the hot calls of a broker cost; --accept writes the figures
//!   gen     writes CRD YAML and the copies in charts/ and deploy/
//!   image   static binaries and images, cached by the hash of what they are made of
//!   interleavings  every order of what the store's threads agree on without a lock
//!   fuzz    libFuzzer on the decoders of stored bytes
//!   miri    the codec layer of the store under Miri
//!   sim     broker groups in which everything goes wrong, from one seed each; 100,000 unless told otherwise
//!   trial   breaks what the store stands on: power cuts, full disks, bit rot; see trials/README.md
//!   chaos   faults on the local cluster under official clients; see e2e/chaos/README.md
//!   cluster the local cluster: up, down, load
//!   quickstart  what ./quickstart runs once the machine is prepared
//! ```
//!
//! It runs other programs and compares files; it knows nothing of messaging and depends on no room, so
//! that it is built in seconds.
#![forbid(unsafe_code)]

mod chaos;
mod charts;
mod check;
mod cluster;
mod e2e;
mod files;
mod fuzz;
mod r#gen;
mod guard;
mod guests;
mod image;
mod miri;
mod quickstart;
mod room;
mod run;
mod schema;
mod scripts;
mod sim;
mod test;
mod tidy;
mod tools;
mod trial;
mod walls;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Builds, checks and tries Gantry.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Format, lints, tidiness, walls between crates, licences; changes nothing
    Check,
    /// Check, every test of every crate, charts, and the end-to-end tests on a local cluster
    Test(test::Options),
    /// Compares what charts render with charts/*/tests/golden
    Golden {
        /// Write the present output as the expected one, snapshots of all crates included
        #[arg(long)]
        accept: bool,
    },
    /// Counts instructions and allocations of the hot calls, and compares them with what was accepted
    Guard {
        /// Write the present figures as the expected ones
        #[arg(long)]
        accept: bool,
    },
    /// Writes the generated files: CRD YAML and the copies in charts/ and deploy/
    Gen,
    /// Builds the static binaries and packs the images; prints where they are
    Image,
    /// The local cluster
    Cluster {
        #[command(subcommand)]
        action: cluster::Action,
    },
    /// Runs what the store's threads agree on without a lock in every order
    Interleavings,
    /// Any bytes for every decoder of stored bytes, found by libFuzzer; or for one of them
    Fuzz(fuzz::Options),
    /// The codec layer of the store, its tests and a few of the inputs, under Miri
    Miri,
    /// Broker groups in which everything goes wrong: 100,000 seeds, or one word for word
    Sim(sim::Options),
    /// Power cuts, full disks, bit rot: one trial, by its name
    Trial(trial::Options),
    /// Causes faults on the local cluster, one after the other, while official clients send to a broker group of three and receive
    /// from it; fails if a message is lost, altered or out of order, or if the group does not recover. Needs root, and the cluster
    /// to itself
    Chaos(chaos::Options),
    /// Brings everything up, sends a message and receives it
    Quickstart(quickstart::Options),
}

fn main() -> ExitCode {
    match act(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> anyhow::Result<()> {
    let root = files::root()?;
    match command {
        Command::Check => check::run(&root),
        Command::Test(options) => watch::at_most(test::LIMIT, || test::run(&root, &options)),
        Command::Golden { accept } => charts::golden(&root, accept),
        Command::Guard { accept } => guard::run(&root, accept),
        Command::Gen => r#gen::write(&root),
        Command::Image => image::build(&root).map(|images| println!("{}", images.folder.display())),
        Command::Cluster { action } => cluster::act(&root, &action),
        Command::Interleavings => test::interleavings(&root),
        Command::Fuzz(options) => fuzz::run(&root, &options),
        Command::Miri => miri::run(&root),
        Command::Sim(options) => sim::run(&root, &options),
        Command::Trial(options) => trial::run(&root, &options),
        Command::Chaos(options) => chaos::run(&root, &options),
        Command::Quickstart(options) => quickstart::run(&root, &options),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_commands_and_their_flags_fit_together() {
        super::Arguments::command().debug_assert();
    }
}
