//! Servers as child processes, and what the kernel counts for them.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use tokio::task::block_in_place;

/// A server that this program started; it is killed when this value is dropped.
#[derive(Debug)]
pub struct Server {
    process: Process,
    /// Its process id.
    pub pid: u32,
    /// Where clients connect.
    pub endpoint: String,
    /// Where the broker's Admin service listens.
    pub admin: String,
}

/// The line of `gantry dev -o json`.
#[derive(Deserialize)]
struct Ready {
    endpoint: String,
}

impl Server {
    /// Starts `gantry dev` and waits for its line.
    pub fn gantry(gantry: &Path, data: &Path, port: u16, more: &[String]) -> anyhow::Result<Self> {
        let mut process = Process::spawn(dev_command(gantry, data, port).args(more))?;
        let line = process.first_line().context("gantry dev did not say that it is ready")?;
        let Ready { endpoint } =
            serde_json::from_str(line.trim()).with_context(|| format!("gantry dev said {line:?}"))?;
        Ok(Self { pid: process.0.id(), process, endpoint, admin: admin_of(port) })
    }

    /// Asks the server to stop, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.context("no process id")?, rustix::process::Signal::TERM)?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the server ended with {status}");
        }
        Ok(())
    }

    /// Ends the server as a crash would: kill -9.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.process.kill()
    }
}

/// `gantry dev` on a data directory, not yet started. What it prints first is one line of JSON.
pub fn dev_command(gantry: &Path, data: &Path, port: u16) -> Command {
    let mut command = Command::new(gantry);
    command.args(["dev", "-o", "json", "--port", &port.to_string(), "--data"]).arg(data);
    command
}

/// Where `gantry dev` puts the Admin service.
pub fn admin_of(port: u16) -> String {
    format!("127.0.0.1:{}", port + 1798)
}

/// A child process whose stdout is ours; it does not outlive this value.
#[derive(Debug)]
pub struct Process(Child);

impl Process {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> anyhow::Result<Self> {
        let child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("cannot start {:?}", command.get_program()))
    }

    /// Kills it, and waits until it is gone: its ports and locks are free then.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill()?;
        self.wait().map(drop)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(block_in_place(|| self.0.wait())?)
    }

    /// The first line of its stdout; it must be the only one that is wanted.
    pub fn first_line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().context("its stdout is not ours")?;
        // One line is all that servers say on stdout, so nothing is lost in the buffer.
        if block_in_place(|| BufReader::new(stdout).read_line(&mut line))? == 0 {
            bail!("it ended: {}", self.wait()?);
        }
        Ok(line)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it is gone already.
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The same command on one CPU. `taskset` becomes the program, so the process id is the program's.
pub fn bound(command: &Command, cpu: usize) -> Command {
    let mut bound = Command::new("taskset");
    bound.args(["-c", &cpu.to_string()]).arg(command.get_program()).args(command.get_args());
    bound.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(directory) = command.get_current_dir() {
        bound.current_dir(directory);
    }
    bound
}

/// A program that was built with this one.
pub fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        // Without the folder: what is said here goes into pages that others read.
        bail!("{name} is not beside this program: build it, cargo build --release -p bench");
    }
    Ok(path)
}

/// User and system time that a process has used.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    time_of(pid, 2)
}

/// The same with that of its children that it has waited for.
pub fn cpu_time_with_children(pid: u32) -> anyhow::Result<Duration> {
    time_of(pid, 4)
}

fn time_of(pid: u32, fields: usize) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let ticks = ticks(&stat, fields).with_context(|| format!("{path} looks strange"))?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// The sum of so many fields of a stat line from 14 on: user, system, and both of children. Names of programs may hold
/// anything, so they are counted from its end.
fn ticks(stat: &str, fields: usize) -> Option<u64> {
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .skip(11)
        .take(fields)
        .map(|field| field.parse::<u64>().ok())
        .sum()
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Memory that a process has for itself, without the files that it maps, in bytes.
pub fn own_bytes(pid: u32) -> anyhow::Result<u64> {
    status_bytes(pid, "RssAnon:")
}

/// How many descriptors and mappings a process has.
pub fn descriptors_and_mappings(pid: u32) -> anyhow::Result<(usize, usize)> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    Ok((descriptors, std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines().count()))
}

fn status_bytes(pid: u32, field: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    Ok(kib.with_context(|| format!("{path} looks strange"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 5 2 20 0 3 0 1 1 1";
        assert_eq!((ticks(stat, 2), ticks(stat, 4)), (Some(42), Some(49)));
        assert_eq!(ticks("7 (a", 2), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(resident_bytes(std::process::id()).unwrap() > 100_000);
        assert!(own_bytes(std::process::id()).unwrap() > 10_000);
        assert!(descriptors_and_mappings(std::process::id()).unwrap() > (2, 2));
        assert!(cpu_time(std::process::id()).is_ok());
        assert!(cpu_time(u32::MAX).is_err());
    }
}
