//! A program with a time limit, whose lines can be awaited while it runs. Dropped, it is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// For what is done in no time unless something is broken.
pub const SHORT: Duration = Duration::from_secs(20);

/// Runs a program to its end and returns what it printed; anything but success is an error that quotes it.
pub fn output(command: &mut Command, limit: Duration) -> Result<String> {
    let finished = Process::start(command)?.finish(limit)?;
    finished.ensure_success()?;
    Ok(finished.stdout())
}

/// A program that runs.
pub struct Process {
    child: Child,
    command: String,
    said: Arc<Said>,
}

/// A program that has ended.
pub struct Finished {
    /// The command line.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// The lines of its standard output.
    pub out: Vec<String>,
    /// The lines of its standard error.
    pub err: Vec<String>,
}

impl Finished {
    /// Its standard output as one text.
    pub fn stdout(&self) -> String {
        self.out.join("\n")
    }

    /// An error that quotes the program unless it ended well.
    pub fn ensure_success(&self) -> Result<()> {
        if !self.status.success() {
            bail!("{}: {}\n{}", self.command, self.status, tail(&self.out, &self.err));
        }
        Ok(())
    }
}

/// What a program has said so far.
#[derive(Default)]
struct Said {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    out: Vec<String>,
    err: Vec<String>,
    closed: usize,
}

/// Standard output and standard error.
const STREAMS: usize = 2;

impl Process {
    /// Starts it without input.
    pub fn start(command: &mut Command) -> Result<Self> {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// Starts it with a text as its input.
    pub fn start_with(command: &mut Command, input: &str) -> Result<Self> {
        let mut process = Self::spawn(command.stdin(Stdio::piped()))?;
        let mut stdin = process.child.stdin.take().context("stdin is piped")?;
        stdin.write_all(input.as_bytes()).with_context(|| format!("{} took no input", process.command))?;
        Ok(process)
    }

    fn spawn(command: &mut Command) -> Result<Self> {
        let line = line(command);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {line}"))?;
        let said = Arc::<Said>::default();
        let out = child.stdout.take().context("stdout is piped")?;
        let err = child.stderr.take().context("stderr is piped")?;
        follow(out, Arc::clone(&said), |lines| &mut lines.out);
        follow(err, Arc::clone(&said), |lines| &mut lines.err);
        Ok(Self { child, command: line, said })
    }

    /// Waits until its standard output satisfies a condition, and returns what the condition found.
    pub fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        mut found: impl FnMut(&[String]) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut lines = self.said.lock();
        loop {
            if let Some(found) = found(&lines.out) {
                return Ok(found);
            }
            if lines.closed == STREAMS {
                bail!("{} ended before {what}\n{}", self.command, tail(&lines.out, &lines.err));
            }
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                bail!(
                    "{}: {what} did not come within {limit:?}\n{}",
                    self.command,
                    tail(&lines.out, &lines.err)
                );
            };
            lines = self.said.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for its end; when the limit passes, it is killed and that is an error.
    pub fn finish(mut self, limit: Duration) -> Result<Finished> {
        self.ended(limit)
    }

    /// Waits for its end; one that goes on past the limit is an error.
    pub fn ended(&mut self, limit: Duration) -> Result<Finished> {
        let end = Instant::now() + limit;
        let mut lines = self.said.lock();
        while lines.closed < STREAMS {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                bail!("{} did not end within {limit:?}\n{}", self.command, tail(&lines.out, &lines.err));
            };
            lines = self.said.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let (out, err) = (std::mem::take(&mut lines.out), std::mem::take(&mut lines.err));
        drop(lines);
        let status = self.child.wait()?;
        Ok(Finished { command: self.command.clone(), status, out, err })
    }

    /// An error that quotes it, if it has ended.
    pub fn ensure_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} ended: {status}\n{}", self.command, self.tail()),
            None => Ok(()),
        }
    }

    /// Asks it to stop, as Kubernetes and Ctrl-C do.
    pub fn terminate(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("cannot stop {}", self.command))
    }

    /// Ends it at once, with no chance to tidy up, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// The last lines that it said, for a report.
    pub fn tail(&self) -> String {
        let lines = self.said.lock();
        tail(&lines.out, &lines.err)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended and waited for is fine.
        let _ = self.kill();
    }
}

impl Said {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn follow(stream: impl Read + Send + 'static, said: Arc<Said>, side: fn(&mut Lines) -> &mut Vec<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            side(&mut said.lock()).push(line);
            said.changed.notify_all();
        }
        said.lock().closed += 1;
        said.changed.notify_all();
    });
}

fn line(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let mut words = vec![program.rsplit('/').next().unwrap_or(&program).to_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

fn tail(out: &[String], err: &[String]) -> String {
    let last = |lines: &[String]| lines[lines.len().saturating_sub(25)..].join("\n  ");
    format!("its output ends:\n  {}\nits errors end:\n  {}", last(out), last(err))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_line_is_awaited_while_the_program_runs() {
        let process = Process::start(&mut shell("echo one; echo two; exec sleep 60")).unwrap();
        let count = process.until("two lines", LIMIT, |lines| (lines.len() == 2).then_some(lines.len()));
        assert_eq!(count.unwrap(), 2);
    }

    #[test]
    fn waiting_for_what_never_comes_ends_with_the_program() {
        let process = Process::start(&mut shell("echo one; echo bad luck >&2")).unwrap();
        let error = process.until("a second line", LIMIT, |lines| lines.get(1).cloned()).unwrap_err();
        assert!(error.to_string().contains("ended before a second line"), "{error}");
        assert!(error.to_string().contains("bad luck"), "{error}");
    }

    #[test]
    fn a_program_past_its_limit_is_an_error() {
        let error = output(&mut shell("exec sleep 60"), Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("did not end within"), "{error}");
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let error = output(&mut shell("echo no such thing >&2; exit 3"), LIMIT).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
    }

    #[test]
    fn input_reaches_the_program() {
        let process = Process::start_with(&mut shell("cat"), "hello\n").unwrap();
        assert_eq!(process.finish(LIMIT).unwrap().stdout(), "hello");
    }
}
