//! The official clients of `clients/`, started as programs and understood by their lines.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use tempfile::TempDir;

use crate::process::Process;
use crate::settings;

/// An official client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// `rocketmq-client-java`
    Java,
    /// `rocketmq-python-client`
    Python,
    /// `rocketmq-clients/golang`
    Go,
    /// `rocketmq-client-nodejs`
    Node,
    /// The crate `rocketmq`, which has no push consumer
    Rust,
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Java => "java",
            Self::Python => "python",
            Self::Go => "go",
            Self::Node => "node",
            Self::Rust => "rust",
        })
    }
}

/// A way to consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    /// A SimpleConsumer: it asks, and acknowledges each message itself.
    Simple,
    /// A PushConsumer: its listener is called.
    Push,
}

/// A client program about to be started.
pub struct Program {
    command: Command,
    home: TempDir,
    name: String,
}

/// A client program that runs.
pub struct Client {
    process: Process,
    // Clients write their logs into the home directory; it goes when the client is gone.
    _home: TempDir,
    name: String,
}

/// What a client says about one message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// It was acknowledged.
    Sent {
        /// The message id.
        sent: String,
        /// The body.
        body: String,
    },
    /// It was refused, or no answer came.
    Failed {
        /// The client's own words.
        failed: String,
        /// The body.
        body: String,
    },
    /// It was taken back.
    Recalled {
        /// The message id.
        recalled: String,
        /// The body.
        body: String,
    },
    /// Its producer was asked what became of its transaction.
    Asked {
        /// The message id.
        asked: String,
        /// The body.
        body: String,
    },
    /// It is about to be sent, with `--announce`.
    Sending {
        /// The whole body.
        sending: String,
    },
    /// It was delivered.
    Received {
        /// The message id.
        received: String,
        /// The body.
        body: String,
        /// Which delivery it was, from 1.
        attempt: i32,
        /// Its tag.
        tag: Option<String>,
    },
}

/// Everything that a client said.
#[derive(Debug, Default)]
pub struct Report {
    /// The lines in their order.
    pub lines: Vec<Line>,
}

/// Sends `count` messages.
pub fn produce(language: Language, endpoint: &str, topic: &str, count: usize) -> Result<Program> {
    let program = Program::new(language, "produce", endpoint, topic)?;
    Ok(program.count(count))
}

/// Sends `count` messages, each in a transaction that it commits; see `clients/README.md` for other ends.
pub fn transact(language: Language, endpoint: &str, topic: &str, count: usize) -> Result<Program> {
    let program = Program::new(language, "transact", endpoint, topic)?;
    Ok(program.count(count))
}

/// Receives until nothing comes any more, or for a given [`Program::count`].
pub fn consume(
    language: Language,
    consumer: Consumer,
    endpoint: &str,
    topic: &str,
    group: &str,
) -> Result<Program> {
    let command = match consumer {
        Consumer::Simple => "simple",
        Consumer::Push => "push",
    };
    let program = Program::new(language, command, endpoint, topic)?;
    Ok(program.with("--group", group))
}

/// A LitePushConsumer that subscribes these lite topics, with commas between them, of a parent topic.
pub fn consume_lite(
    language: Language,
    endpoint: &str,
    topic: &str,
    group: &str,
    lites: &str,
) -> Result<Program> {
    let program = Program::new(language, "lite", endpoint, topic)?;
    Ok(program.with("--group", group).with("--lite", lites))
}

impl Program {
    fn new(language: Language, what: &str, endpoint: &str, topic: &str) -> Result<Self> {
        let home = TempDir::new()?;
        let program = settings::clients()?.join(language.to_string()).join("run");
        ensure!(program.exists(), "{} is not built: run e2e/clients/prepare", program.display());
        let mut command = Command::new(program);
        command.arg(what).args(["--endpoint", endpoint, "--topic", topic]).env("HOME", home.path());
        Ok(Self { command, home, name: format!("{language} {what}") })
    }

    /// With one more argument of `clients/README.md`.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.command.args([name, value]);
        self
    }

    /// So many messages, and no more.
    pub fn count(self, count: usize) -> Self {
        self.with("--count", &count.to_string())
    }

    /// Sends the bodies `prefix0`, `prefix1`, …
    pub fn prefix(self, prefix: &str) -> Self {
        self.with("--prefix", prefix)
    }

    /// Sends so many a second.
    pub fn rate(self, rate: usize) -> Self {
        self.with("--rate", &rate.to_string())
    }

    /// Ends when nothing came for so long.
    pub fn idle(self, seconds: usize) -> Self {
        self.with("--idle-seconds", &seconds.to_string())
    }

    /// With TLS, as some clients have it by default.
    pub fn with_tls(mut self) -> Self {
        self.command.arg("--tls");
        self
    }

    /// With one more word of `clients/README.md`.
    pub fn flag(mut self, name: &str) -> Self {
        self.command.arg(name);
        self
    }

    /// A consumer that acknowledges nothing.
    pub fn without_ack(mut self) -> Self {
        self.command.arg("--no-ack");
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Result<Client> {
        Ok(Client { process: Process::start(&mut self.command)?, _home: self.home, name: self.name })
    }

    /// Starts it and hears each line when it comes; nothing is kept, for it may run long. Its errors go to a file in `logs`.
    pub fn listen(mut self, logs: &Path, mut hear: impl FnMut(Line) + Send + 'static) -> Result<Heard> {
        let words: Vec<_> = self.command.get_args().filter_map(|word| word.to_str()).collect();
        let topic = words.iter().position(|word| *word == "--topic").and_then(|at| words.get(at + 1));
        let log = logs.join(format!("{} {}.log", self.name, topic.unwrap_or(&"")).replace(' ', "-"));
        let errors = File::create(&log).with_context(|| log.display().to_string())?;
        let command = self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        let lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let listening = thread::spawn(move || {
            lines.map_while(std::io::Result::ok).filter_map(|line| parse(&line)).for_each(&mut hear);
        });
        Ok(Heard { child, listening: Some(listening), name: self.name, log, _home: self.home })
    }

    /// Runs it to its end, a good or a bad one, and returns everything that it said.
    pub fn told(self, limit: Duration) -> Result<String> {
        let Client { process, _home, name } = self.start()?;
        let finished = process.finish(limit).with_context(|| name)?;
        Ok([finished.out, finished.err].concat().join("\n"))
    }

    /// Runs it to its end.
    pub fn run(self, limit: Duration) -> Result<Report> {
        self.start()?.finish(limit)
    }
}

/// A client program whose lines are heard as they come. Dropped, it is killed.
pub struct Heard {
    child: Child,
    listening: Option<JoinHandle<()>>,
    name: String,
    log: PathBuf,
    _home: TempDir,
}

impl Heard {
    /// An error if it has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended: {status}, see {}", self.name, self.log.display());
        }
        Ok(())
    }

    /// Ends it at once; all that it said was heard.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.end()
    }

    /// Waits for its end, which must be a good one.
    pub fn ended(mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < end, "{} did not end within {limit:?}", self.name);
            thread::sleep(Duration::from_millis(50));
        }
        self.end()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "{} ended: {status}, see {}", self.name, self.log.display());
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.child.wait()?;
        if let Some(listening) = self.listening.take() {
            listening.join().map_err(|_| anyhow!("whoever heard {} panicked", self.name))?;
        }
        Ok(())
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.end();
    }
}

impl Client {
    /// Waits until it has reported so many messages.
    pub fn until_lines(&self, count: usize, limit: Duration) -> Result<()> {
        self.process.until(&format!("its message {count}"), limit, |lines| {
            (lines.iter().filter_map(|line| parse(line)).count() >= count).then_some(())
        })
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(self, limit: Duration) -> Result<Report> {
        let finished = self.process.finish(limit).with_context(|| self.name.clone())?;
        finished.ensure_success()?;
        Ok(Report { lines: finished.out.iter().filter_map(|line| parse(line)).collect() })
    }
}

/// A line of a client, or nothing: some print their logs in between.
fn parse(line: &str) -> Option<Line> {
    serde_json::from_str(line).ok()
}

impl Report {
    /// Bodies of the messages that were acknowledged.
    pub fn sent(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| if let Line::Sent { body, .. } = line { Some(&**body) } else { None })
            .collect()
    }

    /// Ids of the messages that were taken back, and of those that were sent with the same bodies.
    pub fn recalled(&self) -> Vec<(&str, &str)> {
        let sent_with = |wanted: &str| {
            self.lines.iter().find_map(|line| match line {
                Line::Sent { sent, body } if body == wanted => Some(&**sent),
                _ => None,
            })
        };
        let recalled = self.lines.iter().filter_map(|line| match line {
            Line::Recalled { recalled, body } => Some((&**recalled, sent_with(body).unwrap_or_default())),
            _ => None,
        });
        recalled.collect()
    }

    /// Bodies of the messages whose producer was asked about, in their order.
    pub fn asked(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| if let Line::Asked { body, .. } = line { Some(&**body) } else { None })
            .collect()
    }

    /// What clients said about sends that failed.
    pub fn failures(&self) -> Vec<&str> {
        self.lines
            .iter()
            .filter_map(|line| if let Line::Failed { failed, .. } = line { Some(&**failed) } else { None })
            .collect()
    }

    /// Bodies of the messages that were received, in their order.
    pub fn bodies(&self) -> impl Iterator<Item = &str> {
        self.lines
            .iter()
            .filter_map(|line| if let Line::Received { body, .. } = line { Some(&**body) } else { None })
    }

    /// How often each body was received.
    pub fn received(&self) -> BTreeMap<&str, usize> {
        let mut times = BTreeMap::new();
        for line in &self.lines {
            if let Line::Received { body, .. } = line {
                *times.entry(&**body).or_default() += 1;
            }
        }
        times
    }

    /// An error unless every send was acknowledged.
    pub fn ensure_all_sent(&self, count: usize) -> Result<()> {
        let failures = self.failures();
        ensure!(failures.is_empty(), "{} sends failed, the first: {}", failures.len(), failures[0]);
        ensure!(self.sent().len() == count, "{} of {count} were sent", self.sent().len());
        Ok(())
    }

    /// An error unless exactly the bodies `prefix0` to `prefix(count-1)` came, each once and at its first attempt.
    pub fn ensure_each_once(&self, prefix: &str, count: usize) -> Result<()> {
        let received = self.received();
        let missing: Vec<_> = (0..count)
            .map(|n| format!("{prefix}{n}"))
            .filter(|body| !received.contains_key(&**body))
            .collect();
        ensure!(missing.is_empty(), "{} of {count} never came, the first: {}", missing.len(), missing[0]);
        ensure!(received.len() == count, "{} bodies came that nobody sent", received.len() - count);
        let again: Vec<_> = received.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(again.is_empty(), "{} came more than once: {:?}", again.len(), again[0]);
        for line in &self.lines {
            if let Line::Received { body, attempt, .. } = line {
                ensure!(*attempt == 1, "{body} came first with attempt {attempt}");
            }
        }
        Ok(())
    }

    /// Those of these bodies that never came.
    pub fn missing<'a>(&self, bodies: &[&'a str]) -> Vec<&'a str> {
        let received = self.received();
        bodies.iter().copied().filter(|body| !received.contains_key(body)).collect()
    }

    /// An error unless all of these bodies came; more may have come.
    pub fn ensure_holds(&self, bodies: &[&str]) -> Result<()> {
        let missing = self.missing(bodies);
        ensure!(
            missing.is_empty(),
            "{} of {} acknowledged messages never came: {:?}",
            missing.len(),
            bodies.len(),
            &missing[..missing.len().min(5)]
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        Report { lines: lines.iter().filter_map(|line| parse(line)).collect() }
    }

    #[test]
    fn only_lines_about_messages_count() {
        let report = report(&[
            r#"{"sent":"01","body":"m-0"}"#,
            r#"{"msg":"start producer success","level":"INFO"}"#,
            "log stream had been closed",
            r#"{"failed":"TIMEOUT","body":"m-1"}"#,
        ]);
        assert_eq!(report.sent(), ["m-0"]);
        assert_eq!(report.failures(), ["TIMEOUT"]);
        assert!(report.ensure_all_sent(2).is_err());
    }

    #[test]
    fn exactly_once_is_neither_less_nor_more() {
        let first = r#"{"received":"01","body":"m-0","attempt":1,"tag":null}"#;
        let second = r#"{"received":"02","body":"m-1","attempt":1,"tag":"a"}"#;
        let late = r#"{"received":"02","body":"m-1","attempt":2,"tag":"a"}"#;
        assert!(report(&[first, second]).ensure_each_once("m-", 2).is_ok());
        for wrong in [&[first][..], &[first, second, second], &[first, late], &[first, second]] {
            let count = if wrong == [first, second] { 1 } else { 2 };
            assert!(report(wrong).ensure_each_once("m-", count).is_err(), "{wrong:?}");
        }
    }
}
