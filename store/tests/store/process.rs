//! Two processes: only one has the store, and killing it loses nothing that it confirmed.
//!
//! The other process is this test program, told by an environment variable to be it.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use store::{Config, Flush, OpenError, Store};

use crate::support::{append, message, numbers};

const DIR: &str = "STORE_TEST_WRITER_DIR";

/// Not a test of its own: what the other process does until it is killed.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (store, _) = Store::open(config(dir.as_ref())).unwrap();
    let (confirmed, confirmations) = mpsc::sync_channel(64);
    for n in 0..u64::MAX {
        let end = append(&store, &message("t", 0, n.to_string())).end;
        let confirmed = confirmed.clone();
        store.on_confirmed(end, Box::new(move |result| confirmed.send(result.map(|()| n)).unwrap_or(())));
        if n >= 32 {
            println!("confirmed {}", confirmations.recv().unwrap().unwrap());
        }
    }
}

fn config(dir: &std::path::Path) -> Config {
    Config { segment_bytes: 64 << 10, flush: Flush::Sync, ..Config::new(dir) }
}

#[test]
fn a_second_process_is_refused_and_a_killed_one_loses_nothing_that_it_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let mut found = 0;
    for round in 1..=5u64 {
        let mut writer = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "process::writer", "--nocapture"])
            .env(DIR, dir.path().join(round.to_string()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut confirmed = |upto: u64| {
            let numbers = lines.by_ref().map_while(Result::ok);
            numbers
                .filter_map(|line| line.strip_prefix("confirmed ")?.parse::<u64>().ok())
                .find(|n| *n >= upto)
        };
        assert!(confirmed(0).is_some());
        let path = dir.path().join(round.to_string());
        assert!(matches!(Store::open(config(&path)), Err(OpenError::InUse(_))));
        confirmed(300 * round).unwrap();
        writer.kill().unwrap();
        writer.wait().unwrap();
        let last = confirmed(u64::MAX);
        assert_eq!(last, None);
        let (store, recovered) = Store::open(config(&path)).unwrap();
        assert!(!recovered.clean);
        let numbers = numbers(&store, "t");
        assert!(numbers.iter().enumerate().all(|(n, found)| *found == (n as u64, n as u64)));
        assert!(numbers.len() as u64 > 300 * round);
        found += numbers.len();
    }
    assert!(found > 0);
}
