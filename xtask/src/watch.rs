//! Ends a test run that hangs, and says in what: a run that somebody ends from outside says nothing.

use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::Result;

/// Runs `work`. If it takes longer than `limit`, tells what every process of ours is doing, and exits with failure.
pub(crate) fn at_most<T>(limit: Duration, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (ended, end) = mpsc::channel::<()>();
    thread::spawn(move || {
        if end.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            eprintln!("xtask: not done after {} minutes, so it hangs; what runs:", limit.as_secs() / 60);
            tell(std::process::id(), 1);
            std::process::exit(1);
        }
    });
    let result = work();
    drop(ended);
    result
}

/// Tells of the children of a process and their threads. The thread of a test has the test's name.
fn tell(parent: u32, depth: usize) {
    for task in folders(&format!("/proc/{parent}/task")) {
        let children = fs::read_to_string(task.join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            let process = format!("/proc/{child}");
            let arguments = fs::read_to_string(format!("{process}/cmdline")).unwrap_or_default();
            eprintln!("{:1$}{child} {2}", "", depth * 2, arguments.replace('\0', " ").trim_end());
            for thread in folders(&format!("{process}/task")) {
                let of = |what: &str| fs::read_to_string(thread.join(what)).unwrap_or_default();
                eprintln!("{:1$}| {2} in {3}", "", depth * 2, of("comm").trim_end(), of("wchan"));
            }
            tell(child, depth + 1);
        }
    }
}

fn folders(path: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(Path::new(path)).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}
