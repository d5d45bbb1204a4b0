//! `bench-store`: the store in this process, beside bare system calls and Java's own store in the same run.

#![forbid(unsafe_code)]

mod append;
mod backlog;
mod java;
mod recovery;
mod scribe;
mod stalls;
mod sync;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures the store in this process, beside bare system calls and Java's own store
#[derive(Debug, Parser)]
struct Args {
    /// A directory to work in, on the disk that is measured; a new one below it is made and removed
    #[arg(long, default_value = ".", global = true)]
    dir: PathBuf,
    /// The program that `e2e/clients/prepare store` builds; without it nothing is compared with Java
    #[arg(long, value_name = "PROGRAM", global = true)]
    java: Option<PathBuf>,
    #[command(subcommand)]
    figure: Figure,
}

#[derive(Debug, Subcommand)]
enum Figure {
    /// Appends of 1 KiB, asynchronous: rate against bare `write` calls, and the slowest
    Append {
        /// How much, in GiB
        #[arg(long, default_value_t = 10)]
        gib: u64,
        /// With the key index, which has a thread of its own
        #[arg(long)]
        keys: bool,
        /// So many a second; without it as fast as it goes
        #[arg(long)]
        rate: Option<u32>,
    },
    /// Synchronous: messages a flush with 256 waiting; one at a time against a bare `fdatasync`
    Sync {
        /// Appends with 256 waiting
        #[arg(long, default_value_t = 200_000)]
        waiting: u64,
        /// Appends one at a time
        #[arg(long, default_value_t = 3_000)]
        alone: u64,
    },
    /// What appends feel while somebody drains an old backlog from the disk; needs root, to drop the page cache
    Backlog {
        /// How much backlog, in GiB: more than is read in all rounds
        #[arg(long, default_value_t = 16)]
        gib: u64,
        /// Appends a second
        #[arg(long, default_value_t = 10_000)]
        rate: u32,
        /// Pairs of five quiet seconds and five beside the reader
        #[arg(long, default_value_t = 2)]
        rounds: u32,
    },
    /// Opening after kill -9
    Recovery {
        /// How much log, in GiB
        #[arg(long, default_value_t = 4)]
        gib: u64,
        /// Java writes and recovers as much, before ours
        #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
        with_java: bool,
    },
    /// What `recovery` runs and kills
    #[command(hide = true)]
    Fill {
        /// Where
        store: PathBuf,
        /// How much, in GiB
        gib: u64,
    },
    /// What `recovery` times
    #[command(hide = true)]
    Open {
        /// Where
        store: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    let Args { dir, java, figure } = Args::parse();
    let java = java.map(java::Java);
    let new = || tempfile::Builder::new().prefix("bench-store-").tempdir_in(&dir);
    match figure {
        Figure::Append { gib, keys, rate } => append::measure(new()?.path(), gib, keys, rate, java.as_ref()),
        Figure::Sync { waiting, alone } => sync::measure(new()?.path(), waiting, alone),
        Figure::Backlog { gib, rate, rounds } => backlog::measure(new()?.path(), gib, rate, rounds),
        Figure::Recovery { gib, with_java } => {
            recovery::measure(new()?.path(), gib, java.as_ref().filter(|_| with_java))
        }
        Figure::Fill { store, gib } => recovery::fill(&store, gib),
        Figure::Open { store } => recovery::open(&store),
    }
}
