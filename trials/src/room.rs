//! Where a trial does its damage: mounts and files that vanish with it, however it ends.
//!
//! A trial runs in a mount namespace of its own. Its mounts are nobody else's, and when the last of its processes is gone,
//! by Ctrl-C or `kill -9` too, the kernel takes them away, and the loop devices with them. Its files lie on a tmpfs that is
//! one of those mounts. What it starts dies with it: see [`Process`](crate::process::Process) and [`die_with_parent`].

use std::ffi::CString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::Signal;

use crate::process::{SHORT, output};

/// Says that this process is in its namespace already.
const INSIDE: &str = "GANTRY_TRIALS_INSIDE";

/// Starts this program anew in a namespace of its own, unless it is in one.
pub fn enter() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return keep();
    }
    ensure!(
        rustix::process::geteuid().is_root(),
        "this trial mounts file systems on loop devices, which needs root: run it as root"
    );
    let program = std::env::current_exe().context("cannot find this program")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program);
    command.args(std::env::args_os().skip(1)).env(INSIDE, "1");
    // Only an error comes back.
    Err(command.exec()).context("cannot run unshare (package util-linux)")
}

/// Keeps the namespace until this process has closed all its files, however it ends.
///
/// A file system whose device this process serves may still have writes to send when it goes. If the last process of the
/// namespace were this one, the kernel would wait for them in it, before it gives up the device, and so for ever.
fn keep() -> Result<()> {
    let keeper = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    // Nobody else has the other end of its pipe: it ends when this process does.
    std::mem::forget(keeper.context("cannot run cat (package coreutils)")?);
    Ok(())
}

/// Ends this process when the one that started it ends.
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("cannot ask for the parent's end")
}

/// A tmpfs that only this trial sees.
pub struct Room(PathBuf);

impl Room {
    /// Makes it, with room for so many bytes.
    pub fn new(bytes: u64) -> Result<Self> {
        ensure!(std::env::var_os(INSIDE).is_some(), "a room is made inside of the trial's namespace");
        // Always the same: it is empty for everybody else.
        let dir = std::env::temp_dir().join("gantry-trial");
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let options = CString::new(format!("size={bytes},mode=0700"))?;
        rustix::mount::mount("trials", &dir, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .with_context(|| format!("cannot mount a tmpfs at {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// A new directory in it.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.0.join(name);
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(dir)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // Whatever still lies on it goes when nobody has it open any more.
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext4 as `mkfs` makes it.
    Ext4,
    /// xfs as `mkfs` makes it.
    Xfs,
}

impl FileSystem {
    /// Makes one in a file of so many bytes.
    pub fn make(self, file: &Path, bytes: u64) -> Result<()> {
        std::fs::File::create(file)?.set_len(bytes)?;
        let (program, quiet, package): (_, &[&str], _) = match self {
            Self::Ext4 => ("mkfs.ext4", &["-q", "-F"], "e2fsprogs"),
            Self::Xfs => ("mkfs.xfs", &["-q", "-f"], "xfsprogs"),
        };
        output(Command::new(program).args(quiet).arg(file), SHORT)
            .map(drop)
            .with_context(|| format!("{program} comes with the package {package}"))
    }
}

/// A file mounted as a volume. Dropped, it is unmounted.
pub struct Volume(PathBuf);

impl Volume {
    /// Mounts a file by way of a loop device that goes with the mount.
    pub fn mount(file: &Path, dir: PathBuf) -> Result<Self> {
        Self::mount_with(file, dir, "")
    }

    /// The same, with more options of the file system, each after a comma.
    pub fn mount_with(file: &Path, dir: PathBuf, options: &str) -> Result<Self> {
        std::fs::create_dir_all(&dir)?;
        let options = format!("loop,noatime{options}");
        output(Command::new("mount").args(["-o", &options]).arg(file).arg(&dir), SHORT)?;
        Ok(Self(dir))
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Unmounts it and waits until all is written and the loop device is free.
    pub fn unmount(mut self) -> Result<()> {
        let dir = std::mem::take(&mut self.0);
        output(Command::new("umount").arg(&dir), SHORT).map(drop)
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.0.as_os_str().is_empty() {
            return;
        }
        let quick = rustix::mount::unmount(&self.0, UnmountFlags::empty());
        // Somebody is still in it, or the device fails: it goes when it can.
        let _ = quick.or_else(|_| rustix::mount::unmount(&self.0, UnmountFlags::DETACH));
    }
}

/// Which program of ours to run: named by a variable of the environment, as `cargo xtask trial` does.
pub fn program(variable: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable).unwrap_or_default();
    if value.is_empty() {
        bail!(
            "{variable} is not set: it names the program to try; `cargo xtask trial` builds it and sets it"
        );
    }
    let path = PathBuf::from(value);
    ensure!(path.is_file(), "{variable} names {}, which is no file", path.display());
    Ok(path)
}
