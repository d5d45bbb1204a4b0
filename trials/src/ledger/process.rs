//! A ledger in a process of its own: it outlives everything that it tells of, and knows what got out of it only.
//!
//! Clients write notes as lines to a Unix socket; the process appends each whole line to the file, in the order in which
//! they come. What a client had written before it died is in the file soon, and what it had not never happened.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::note::{Note, What};
use crate::process::Process;

/// The recording itself, for ever: what the process does. `connected` is called once clients can connect.
pub fn record(file: &Path, socket: &Path, connected: impl FnOnce()) -> Result<()> {
    let append = OpenOptions::new().create(true).append(true).open(file);
    let file = Arc::new(Mutex::new(append.with_context(|| format!("cannot write {}", file.display()))?));
    let listener =
        UnixListener::bind(socket).with_context(|| format!("cannot listen at {}", socket.display()))?;
    connected();
    for client in listener.incoming() {
        let (client, file) = (client?, Arc::clone(&file));
        thread::spawn(move || {
            // A client that dies has said what it has said. A file that cannot be written ends the process: see `append`.
            if let Err(error) = follow(client, &file) {
                eprintln!("the ledger is broken: {error:#}");
                std::process::exit(1);
            }
        });
    }
    Ok(())
}

fn follow(client: UnixStream, file: &Mutex<File>) -> Result<()> {
    let mut lines = BufReader::new(client);
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) if line.ends_with(b"\n") => {}
            // It died while it wrote this.
            Ok(_) => return Ok(()),
        }
        // One call, so that a line is there whole or not at all.
        file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line).context("cannot append")?;
    }
}

/// The process, started. Dropped, it ends; the file stays.
pub struct Recorder {
    _process: Process,
    file: PathBuf,
    socket: PathBuf,
}

impl Recorder {
    /// Starts `program ledger record`, which calls [`record`], with its file in this directory.
    pub fn start(program: &Path, dir: &Path) -> Result<Self> {
        let (file, socket) = (dir.join("ledger"), dir.join("ledger.socket"));
        let mut command = Command::new(program);
        command.args(["ledger", "record"]).arg(&file).arg(&socket).stdin(Stdio::null());
        let process = Process::start(&mut command)?;
        process.until("its line that says it listens", crate::process::SHORT, |lines| {
            lines.first().map(|_| ())
        })?;
        Ok(Self { _process: process, file, socket })
    }

    /// The notes so far.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where pens connect.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// A pen.
    pub fn pen(&self) -> Result<Pen> {
        Pen::new(&self.socket)
    }
}

/// What a client writes its notes with; clones write to the same connection.
#[derive(Clone)]
pub struct Pen(Arc<Mutex<UnixStream>>);

impl Pen {
    /// Connects.
    pub fn new(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket);
        let stream = stream.with_context(|| format!("no ledger listens at {}", socket.display()))?;
        Ok(Self(Arc::new(Mutex::new(stream))))
    }

    /// Notes what happens to a message, now. When it returns the note is out of this process.
    pub fn note(&self, name: &str, what: What) -> Result<()> {
        let line = format!("{}\n", Note::now(name, what));
        ensure!(line.matches('\n').count() == 1, "a note is one line: {line:?}");
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(line.as_bytes()).context("the ledger's process is gone")
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Ledger, Place};
    use super::*;
    use crate::ledger::BodyHash;

    #[test]
    fn what_clients_wrote_is_in_the_file_in_their_order_also_when_one_dies_in_the_middle() {
        let dir = tempfile::tempdir().unwrap();
        let (file, socket) = (dir.path().join("ledger"), dir.path().join("socket"));
        let (ready, is_ready) = std::sync::mpsc::channel();
        {
            let (file, socket) = (file.clone(), socket.clone());
            thread::spawn(move || record(&file, &socket, || ready.send(()).unwrap()));
        }
        is_ready.recv().unwrap();
        let mut dying = UnixStream::connect(&socket).unwrap();
        dying.write_all(b"1 event first\n2 event cut-o").unwrap();
        drop(dying);
        let pen = Pen::new(&socket).unwrap();
        pen.note("a", What::Attempt { topic: "t".to_owned(), key: None, hash: BodyHash(1) }).unwrap();
        pen.note("a", What::Acknowledged(Place::default())).unwrap();
        let end = std::time::Instant::now() + crate::process::SHORT;
        loop {
            let text = std::fs::read_to_string(&file).unwrap();
            if text.lines().count() == 3 {
                assert_eq!(Ledger::parse(&text).unwrap().acknowledged_count(), 1);
                assert!(!text.contains("cut-o"));
                break;
            }
            assert!(std::time::Instant::now() < end, "{text}");
            thread::yield_now();
        }
    }
}
