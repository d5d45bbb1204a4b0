//! `gantry store import`: the lines of an export, appended to a stopped store. Without `--write` only what would be.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use store::disk::{Disk as _, RealDisk};
use store::offline::{Error, Look, Progress};
use store::{Config, Store};

use super::failed;
use super::lines::{self, Lines};
use super::progress::Meter;
use crate::args::ImportArgs;
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::row;
use crate::units;

/// What an import would do, or did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Import {
    /// The messages are in the store.
    pub written: bool,
    /// How many.
    pub messages: u64,
    /// Bytes that they take in the log.
    pub log_bytes: u64,
    /// By name.
    pub topics: Vec<Topic>,
}

/// The messages of a topic.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Topic {
    /// Its name.
    pub topic: String,
    /// Queues that it needs.
    pub queues: u32,
    /// Messages.
    pub messages: u64,
}

impl View for Import {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["TOPIC", "QUEUES", "MESSAGES"]);
        for Topic { topic, queues, messages } in &self.topics {
            table.row(row![topic, queues, messages]);
        }
        let what = match self.written {
            true => "imported",
            false => "would import",
        };
        let (messages, bytes) = (units::counted(self.messages, "message"), units::bytes(self.log_bytes));
        format!("{}\n{what} {messages}, {bytes} of log", table.text(paint))
    }
}

/// Runs the command.
pub fn run(args: &ImportArgs, out: Printer) -> Result<(), Failure> {
    if let Some(other) = &args.from_rocketmq {
        return Err(take_over(args, other));
    }
    let from = args.from.as_deref().expect("clap asks for one of --from and --from-rocketmq");
    let config = config(args)?;
    let mut lines = Lines::open(from)?;
    let mut plan = plan(&mut lines, config.segment_bytes)?;
    let room = room(&args.dir);
    if plan.log_bytes > room.unwrap_or(u64::MAX) {
        let (needed, free) = (units::bytes(plan.log_bytes), units::bytes(room.unwrap_or_default()));
        return Err(Failure::failed(format!("the messages need {needed} and the volume has {free} left"))
            .next("make room, or import a part: gantry store export takes --topic, --since and --until"));
    }
    if args.write {
        write(&mut lines, config, plan.log_bytes)?;
        plan.written = true;
    }
    out.print(&plan)?;
    match args.write {
        true => eprintln!(
            "topics are not made by this: gantry topic create NAME --queues N for those that are new"
        ),
        false => eprintln!("nothing was written; --write does it"),
    }
    Ok(())
}

/// No import is needed for a Java broker's data, so none is made: its directory is opened as it is.
fn take_over(args: &ImportArgs, other: &Path) -> Failure {
    let (dir, other) = (args.dir.display(), other.display());
    Failure::usage(format!("data of Apache RocketMQ needs no import: a broker opens {other} as it lies")).next(format!(
        "gantry dev --data {other}, or dataDir of a broker, once the Java broker is stopped\n        \
         to add its messages to another store: gantry store export {other} --to - | gantry store import {dir} --from - --write"
    ))
}

/// The store's configuration: the size of its files is that of those that are there.
fn config(args: &ImportArgs) -> Result<Config, Failure> {
    let found = match Look::open(&args.dir) {
        Ok(look) => {
            let listing = look.listing().map_err(failed)?;
            if let Some(obstacle) = listing.obstacle() {
                return Err(Failure::failed(obstacle));
            }
            listing.segments.first().map(|segment| segment.bytes)
        }
        Err(Error::NoStore(_)) => None,
        Err(error) => return Err(failed(error)),
    };
    let segment_bytes = match found {
        Some(bytes) => bytes,
        None => {
            let yaml = serde_json::json!({ "dataDir": args.dir, "segmentSize": args.segment_size });
            let parsed = broker::Config::parse("gantry store import", &yaml.to_string());
            parsed.map_err(|error| Failure::usage(format!("--segment-size: {error}")))?.store().segment_bytes
        }
    };
    // Nothing goes while messages come, however old they are; the volume is asked beforehand.
    Ok(Config {
        segment_bytes,
        retention: Duration::MAX,
        refuse_percent: 100,
        max_body_bytes: usize::MAX,
        ..Config::new(&args.dir)
    })
}

/// Reads and checks every line.
fn plan(lines: &mut Lines, segment_bytes: u64) -> Result<Import, Failure> {
    let mut topics: BTreeMap<String, (u32, u64)> = BTreeMap::new();
    let mut import = Import { written: false, messages: 0, log_bytes: 0, topics: Vec::new() };
    lines.each(|number, message| {
        let encoded = message.encoded_properties();
        let bytes = lines::record(&message, &encoded)
            .check(usize::MAX)
            .map_err(|error| Failure::failed(format!("line {number}: {error}")))?;
        // A segment's last eight bytes are its end mark.
        if bytes + 8 > segment_bytes {
            return Err(Failure::failed(format!(
                "line {number}: the message takes {bytes} bytes, a file of the log has {segment_bytes}"
            )));
        }
        import.messages += 1;
        import.log_bytes += bytes;
        let (queues, messages) = topics.entry(message.topic).or_default();
        *queues = (*queues).max(message.queue_id.saturating_add(1));
        *messages += 1;
        Ok(())
    })?;
    import.topics =
        topics.into_iter().map(|(topic, (queues, messages))| Topic { topic, queues, messages }).collect();
    Ok(import)
}

/// Free bytes of the volume of this directory, or of the parent that it will be made in.
fn room(dir: &Path) -> Option<u64> {
    let there = dir.ancestors().find(|dir| dir.exists());
    let there = there.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    RealDisk::default().space(there).ok().map(|space| space.free_bytes)
}

fn write(lines: &mut Lines, config: Config, total_bytes: u64) -> Result<(), Failure> {
    let dir = config.root.clone();
    let (store, _) = Store::open(config).map_err(|error| Failure::failed(error.to_string()))?;
    let start = store.state().appended;
    let mut meter = Meter::new("imported");
    let written = lines.each(|number, message| {
        let encoded = message.encoded_properties();
        let appended = store.append(&[lines::record(&message, &encoded)]).map_err(|error| {
            Failure::failed(format!("stopped at line {number}: {error}")).next(format!(
                "the lines before it are in the store; when the cause is gone, go on with \
                 tail -n +{number} FILE | gantry store import {} --from - --write",
                dir.display()
            ))
        })?;
        meter.tell(Progress { done_bytes: appended.end.0 - start.0, total_bytes });
        Ok(())
    });
    drop(meter);
    let closed = store.close();
    written?;
    closed.map_err(|error| {
        Failure::failed(error.to_string()).next(format!("gantry store verify {}", dir.display()))
    })
}
