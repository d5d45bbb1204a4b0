//! The one list of what is tried with which official client: the tests of `tests/dev` are made of it, and so is the table
//! of `docs/clients.md`. What is in the table has a test, and nothing else is.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result, ensure};

use crate::clients::Language;
use crate::settings::root;

/// Passes the list to the macro of this name: for each row what it shows, the function `file::scenario` of `tests/dev` that
/// tries it, the clients that it is tried with, and those that cannot.
#[macro_export]
macro_rules! suite {
    ($then:ident) => {
        $then! {
            "send, receive with a SimpleConsumer" clients::simple: Java Python Go Node Rust, cannot;
            "PushConsumer" clients::push: Java Python Go Node, cannot Rust;
            "TLS, on the port of plaintext" clients::tls: Java Python Go Node, cannot Rust;
            "filter by tag" clients::tags: Java Python Go Node Rust, cannot;
            "filter in SQL" clients::sql: Java Python Go Node, cannot;
            "order of a message group while messages fail" features::order: Java Python Go Node Rust, cannot;
            "back-off, attempts, dead letters" features::dead_letters: Java Python Go Node, cannot Rust;
            "delayed messages, recalled messages" delay::delays: Java Python Go Node, cannot;
            "transactions: commit, roll back, questions" transactions::ends: Java Python Go Node Rust, cannot;
            "priority" features::priority: Java Python Go Node, cannot Rust;
            "lite topics" lite::subscribes: Java Python Go Node, cannot Rust;
            "going back while the consumer runs" features::reset: Java Python Go Node Rust, cannot;
            "a restart of the server in the middle" features::restart: Java Python Go Node Rust, cannot;
            "its stack, a message verified, told to connect anew" questions::asked: Java Go Node, cannot Python Rust;
            "wrong input is a clear error" mistakes::wrong_input: Java Python Go Node Rust, cannot;
        }
    };
}

/// A scenario, as the table shows it.
#[derive(Debug)]
pub struct Row {
    /// What is tried.
    pub scenario: &'static str,
    /// The module of `tests/dev` that tries it, and the function there.
    pub test: (&'static str, &'static str),
    /// With these clients.
    pub tried: &'static [Language],
    /// These cannot do it.
    pub cannot: &'static [Language],
}

macro_rules! rows {
    ($($scenario:literal $file:ident::$test:ident: $($client:ident)+, cannot $($without:ident)*;)+) => {
        /// All scenarios.
        pub const ROWS: &[Row] = &[$(Row {
            scenario: $scenario,
            test: (stringify!($file), stringify!($test)),
            tried: &[$(Language::$client),+],
            cannot: &[$(Language::$without),*],
        }),+];
    };
}

suite!(rows);

/// The clients, what they are called in the table, and the lock file that names their version behind a text.
const CLIENTS: [(Language, &str, &str, &str); 5] = [
    (Language::Java, "Java", "java/pom.xml", "<artifactId>rocketmq-client-java</artifactId>"),
    (Language::Python, "Python", "python/requirements.txt", "\nrocketmq-python-client=="),
    (Language::Go, "Go", "go/go.mod", "rocketmq-clients/golang/v5 v"),
    (Language::Node, "Node", "node/package-lock.json", "\"rocketmq-client-nodejs\": \""),
    (Language::Rust, "Rust", "rust/Cargo.lock", "name = \"rocketmq\"\n"),
];

/// The table in Markdown: a row a scenario, a column a client with the version that is locked.
///
/// # Errors
/// A lock file cannot be read, or names no version.
pub fn table() -> Result<String> {
    let mut table = String::from("| scenario |");
    for (_, name, file, before) in CLIENTS {
        write!(table, " {name} {} |", version(file, before)?)?;
    }
    table += " test |\n|---|---|---|---|---|---|---|\n";
    for Row { scenario, test: (file, test), tried, cannot } in ROWS {
        write!(table, "| {scenario} |")?;
        for (language, ..) in CLIENTS {
            let cell = match (tried.contains(&language), cannot.contains(&language)) {
                (true, _) => " ✓ |",
                (false, true) => " – |",
                (false, false) => " |",
            };
            table += cell;
        }
        writeln!(table, " `{file}.rs`, `{test}` |")?;
    }
    Ok(table)
}

/// The numbers behind the text.
fn version(file: &str, before: &str) -> Result<String> {
    let path = root().join("e2e/clients").join(file);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let (_, rest) = text.split_once(before).with_context(|| format!("{file} has no {before:?}"))?;
    let rest = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    ensure!(!version.is_empty(), "{file} names no version behind {before:?}");
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str =
        "<!-- made of e2e/src/suite.rs: GANTRY_ACCEPT=1 cargo test -p e2e --lib table -->\n\n";
    const END: &str = "\n<!-- end -->";

    #[test]
    fn the_table_of_the_documentation_is_what_is_tested() {
        let path = root().join("docs/clients.md");
        let page = fs::read_to_string(&path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (shown, after) = rest.split_once(END).unwrap();
        let table = table().unwrap();
        if std::env::var_os("GANTRY_ACCEPT").is_some() {
            fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}")).unwrap();
        } else {
            assert_eq!(
                shown, table,
                "docs/clients.md is stale: GANTRY_ACCEPT=1 cargo test -p e2e --lib table"
            );
        }
    }
}
