//! `gantry store export`: every message a line of JSON, or a directory for Apache RocketMQ.

pub mod rocketmq;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;
use store::offline::{Damage, Look, Met, What};
use store::{LogOffset, Record};

use super::progress::Meter;
use super::{failed, look};
use crate::args::{ExportArgs, ExportFormat};
use crate::failure::Failure;
use crate::message::Message;
use crate::output::{Paint, Printer, View};
use crate::units;

/// What was written.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// Lines.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Stretches of the log that are damaged, and so are not in the export.
    pub damaged_places: u64,
}

impl View for Exported {
    fn text(&self, _: Paint) -> String {
        format!("exported {}, {}", units::counted(self.messages, "message"), units::bytes(self.bytes))
    }
}

/// Runs the command.
pub fn run(args: &ExportArgs, out: Printer) -> Result<(), Failure> {
    if let Some(misfit) = args.misfit() {
        return Err(Failure::usage(misfit));
    }
    let look = look(&args.dir)?;
    match args.format {
        ExportFormat::Jsonl => lines(&look, args, out),
        ExportFormat::Rocketmq => rocketmq::run(&look, args, out),
    }
}

fn lines(look: &Look, args: &ExportArgs, out: Printer) -> Result<(), Failure> {
    let target = Target::open(&args.to)?;
    let to_stdout = matches!(target, Target::Stdout(_));
    let mut meter = Meter::new("read");
    let exported = target.write(|to| export(look, args, to, &mut meter));
    drop(meter);
    let exported = exported?;
    match to_stdout {
        // The lines are what goes to stdout.
        true => eprintln!("{}", exported.text(Paint(false))),
        false => out.print(&exported)?,
    }
    match exported.damaged_places {
        0 => Ok(()),
        places => Err(damaged(places, "left out", &args.dir)),
    }
}

/// The export is made, but the store is not whole: the exit code tells.
fn damaged(places: u64, what: &str, dir: &Path) -> Failure {
    let places = units::counted(places, "damaged place");
    Failure::failed(format!("{places} of the log {what}; all else is exported"))
        .next(format!("gantry store verify {} lists them", dir.display()))
}

fn export(
    look: &Look,
    args: &ExportArgs,
    to: &mut dyn Write,
    meter: &mut Meter,
) -> Result<Exported, Failure> {
    let range = LogOffset(args.from_offset)..LogOffset(args.to_offset.unwrap_or(u64::MAX));
    let mut exported = Exported::default();
    let mut broken = None;
    let end = look.records(range, &mut |met, progress| {
        meter.tell(progress);
        match met {
            Met::Record(record) if is_wanted(args, &record) => {
                match write_line(to, &record) {
                    Ok(bytes) => {
                        exported.messages += 1;
                        exported.bytes += bytes;
                    }
                    Err(error) => {
                        broken = Some(error);
                        return ControlFlow::Break(());
                    }
                };
            }
            Met::Record(_) | Met::Damage(Damage { what: What::Torn(_), .. }) => {}
            Met::Damage(_) => exported.damaged_places += 1,
        }
        ControlFlow::Continue(())
    });
    end.map_err(failed)?;
    match broken {
        None => Ok(exported),
        Some(error) => Err(cannot_write(&args.to, &error)),
    }
}

fn is_wanted(args: &ExportArgs, record: &Record) -> bool {
    let ExportArgs { topics, since, until, .. } = args;
    (topics.is_empty() || topics.iter().any(|topic| topic.as_bytes() == record.topic))
        && since.is_none_or(|since| record.stored_at_ms >= since)
        && until.is_none_or(|until| record.stored_at_ms < until)
}

fn write_line(to: &mut dyn Write, record: &Record) -> io::Result<u64> {
    let mut line = serde_json::to_vec(&Message::of(record))?;
    line.push(b'\n');
    to.write_all(&line)?;
    Ok(line.len() as u64)
}

fn cannot_write(to: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {}", to.display(), crate::control::root_cause(error)))
}

/// Where lines go.
enum Target {
    Stdout(io::Stdout),
    /// Under another name until it is whole.
    File {
        temp: PathBuf,
        path: PathBuf,
        file: File,
    },
}

impl Target {
    fn open(to: &Path) -> Result<Self, Failure> {
        if to == Path::new("-") {
            return Ok(Self::Stdout(io::stdout()));
        }
        if to.exists() {
            return Err(Failure::failed(format!("{} is there already", to.display()))
                .next("name a new file with --to, or remove the old one"));
        }
        let mut temp = to.as_os_str().to_owned();
        temp.push(".partial");
        let temp = PathBuf::from(temp);
        let file = File::create(&temp).map_err(|error| cannot_write(&temp, &error))?;
        Ok(Self::File { temp, path: to.to_path_buf(), file })
    }

    /// Lets `write` write all of it. A file gets its name when all is in it and on the disk, and is removed if not.
    fn write(
        self,
        write: impl FnOnce(&mut dyn Write) -> Result<Exported, Failure>,
    ) -> Result<Exported, Failure> {
        match self {
            Self::Stdout(stdout) => {
                let mut to = BufWriter::with_capacity(1 << 20, StopQuietly(stdout.lock()));
                let exported = write(&mut to)?;
                to.flush().map_err(|error| cannot_write(Path::new("stdout"), &error))?;
                Ok(exported)
            }
            Self::File { temp, path, file } => {
                let mut to = BufWriter::with_capacity(1 << 20, &file);
                let exported = write(&mut to).and_then(|exported| {
                    let finished = to.flush().and_then(|()| file.sync_all());
                    finished
                        .and_then(|()| std::fs::rename(&temp, &path))
                        .map_err(|error| cannot_write(&path, &error))?;
                    Ok(exported)
                });
                if exported.is_err() {
                    // The first error is the one to tell.
                    let _ = std::fs::remove_file(&temp);
                }
                exported
            }
        }
    }
}

/// A reader that went away (`… | head -1`) ends the command without a word.
struct StopQuietly<W>(W);

impl<W: Write> Write for StopQuietly<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            written => written,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
