//! Many topics in one command.

use std::path::PathBuf;

use clap::Args;

/// Which topics: named one by one, numbered, or listed in a file.
#[derive(Debug, Clone, Default, Args)]
pub struct TopicNames {
    /// The topics; a name is letters, digits, `-`, `_`, `%` and `|`, at most 127. With --count, `{n}` becomes 1, 2, ...
    #[arg(value_name = "TOPIC", required_unless_present = "file")]
    pub topics: Vec<String>,
    /// So many topics for each name with `{n}`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: Option<u32>,
    /// Also the topics in this file, a name a line; `-` is stdin
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}
