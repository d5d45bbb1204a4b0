//! One fault at a time in the files of a stopped store: no wrong byte is delivered, no valid record is dropped, and what is
//! damaged is reported.
//!
//! ```text
//!   stores.rs  small stores in memory, each with every kind of file, and all that was put into them
//!   fault.rs   what can happen to a file: a bit, a sector, its end
//!   here       a copy, one fault, open, read all, compare with what was put in
//! ```
//!
//! One fault in twenty is tried on files of this machine too, where the store maps them.

mod fault;
mod stores;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, ensure};
use store::disk::{Crash, Disk, RealDisk};
use store::{Config, OpenError, QueueId, QueueOffset, ReadError, Recovered, Store, SystemClock};

use crate::dice::Dice;
use crate::ledger::BodyHash;
use fault::Fault;
pub(crate) use stores::append;
use stores::{DELETED, Put, Template};

/// The kind of the log's own files.
const SEGMENT: &str = "segment";
/// One in so many faults is tried on files of this machine as well.
const REAL: u64 = 20;

/// What was tried, by the kind of file, and what the store said of it.
#[derive(Debug, Default)]
pub struct Outcome {
    kinds: BTreeMap<String, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    faults: u64,
    /// Faults that damaged a record, each of them reported.
    damaging: u64,
    /// Faults after which the store does not open before somebody does what it says.
    refused: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, Counts { faults, damaging, refused }) in &self.kinds {
            writeln!(f, "  {kind}: {faults} faults, {damaging} in records, {refused} refused at opening")?;
        }
        Ok(())
    }
}

/// Tries so many faults. An error names the first that was answered wrongly.
pub fn run(times: u64, seed: u64) -> Result<Outcome> {
    let mut dice = Dice::new(seed);
    let templates = stores::all(&mut dice)?;
    let mut outcome = Outcome::default();
    for number in 0..times {
        let template = dice.one_of(&templates);
        let (path, fault) = choose(template, &mut dice)?;
        let judged = attempt(template, &path, &fault, dice.once_in(REAL));
        let Judged { damaging, refused } = judged.map_err(|error| {
            error.context(format!(
                "fault {number}: {fault:?} in {} of the {} store",
                path.display(),
                template.name
            ))
        })?;
        let counts = outcome.kinds.entry(kind(&path)).or_default();
        counts.faults += 1;
        counts.damaging += u64::from(damaging);
        counts.refused += u64::from(refused);
    }
    Ok(outcome)
}

/// Segments half of the time, and of the rest every kind of file as often, whatever its size and number.
fn choose(template: &Template, dice: &mut Dice) -> Result<(PathBuf, Fault)> {
    let mut kinds: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for path in template.disk.paths() {
        kinds.entry(kind(&path)).or_default().push(path);
    }
    let segments = kinds.get(SEGMENT).cloned().unwrap_or_default();
    let kinds: Vec<_> = kinds.into_values().collect();
    loop {
        let paths = if dice.once_in(2) { &segments } else { dice.one_of(&kinds) };
        let path = dice.one_of(paths).clone();
        let content = template.disk.read(&path)?;
        if let Some(fault) = Fault::of(&content, dice) {
            return Ok((path, fault));
        }
    }
}

/// What a file is for: its name without numbers.
fn kind(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '-');
    if name.is_empty() { SEGMENT.to_owned() } else { name.to_owned() }
}

#[derive(Clone, Copy, Debug, Default)]
struct Judged {
    damaging: bool,
    refused: bool,
}

fn attempt(template: &Template, path: &Path, fault: &Fault, real: bool) -> Result<Judged> {
    let disk = template.disk.crash(Crash::Kill);
    disk.edit(path, |bytes| fault.apply(bytes));
    let hit = hit(template, path, fault);
    let judged = judge(template, Arc::new(disk.clone()), &template.config, &hit, &|path, bytes| {
        disk.edit(path, |content| content.resize(bytes as usize, 0));
        Ok(())
    })?;
    if real {
        let dir = tempfile::tempdir()?;
        let copy = template.disk.crash(Crash::Kill);
        copy.edit(path, |bytes| fault.apply(bytes));
        for file in copy.paths() {
            let to = dir.path().join(file.strip_prefix(&template.config.root)?);
            std::fs::create_dir_all(to.parent().unwrap_or(dir.path()))?;
            std::fs::write(to, copy.read(&file)?)?;
        }
        let config = Config { root: dir.path().to_owned(), ..template.config.clone() };
        judge(template, Arc::new(RealDisk::default()), &config, &hit, &|path, bytes| {
            Ok(std::fs::OpenOptions::new().write(true).open(path)?.set_len(bytes)?)
        })
        .map_err(|error| error.context("on files of this machine"))?;
    }
    Ok(judged)
}

/// The records that a fault damages.
fn hit<'a>(template: &'a Template, path: &Path, fault: &Fault) -> Vec<&'a Put> {
    let Some(base) = stores::segment_base(path) else { return Vec::new() };
    let range = fault.range();
    let (start, end) = (base + range.start as u64, base.saturating_add(range.end as u64));
    let end = end.min(base + template.config.segment_bytes);
    template.put.iter().filter(|put| put.log.start < end && start < put.log.end).collect()
}

/// Opens and reads everything. `make_whole` gives a file the size that the store asks for.
fn judge(
    template: &Template,
    disk: Arc<dyn Disk>,
    config: &Config,
    hit: &[&Put],
    make_whole: &dyn Fn(&Path, u64) -> Result<()>,
) -> Result<Judged> {
    let open = || Store::open_without_threads(Arc::clone(&disk), Arc::new(SystemClock), config.clone());
    let mut refused = false;
    let (store, recovered) = match open() {
        Err(OpenError::SegmentSize { path, expected, .. }) => {
            refused = true;
            make_whole(&path, expected)?;
            open()?
        }
        other => other?,
    };
    let found = read_all(&store, template)?;
    let is_dropped = |found: &Bodies, put: &&Put| {
        let may_be_gone = put.topic == DELETED || hit.iter().any(|other| other.log == put.log);
        !may_be_gone && !found.contains_key(&put.place())
    };
    for put in &template.put {
        let wrong = found.get(&put.place()).is_some_and(|hash| *hash != put.hash);
        ensure!(!wrong, "a wrong byte was delivered: {put:?}");
        ensure!(!is_dropped(&found, &put), "a valid record was dropped: {put:?}");
    }
    // Zeros over zeros are no damage.
    let gone: Vec<_> = hit.iter().copied().filter(|put| !found.contains_key(&put.place())).collect();
    ensure!(
        gone.is_empty() || refused || is_reported(&store, &recovered, &gone),
        "damage is not reported: {gone:?}, {recovered:?}"
    );
    is_listed(&store, &recovered, template, hit, &gone)?;
    go_on(&store, template)?;
    store.close()?;
    Ok(Judged { damaging: !gone.is_empty(), refused })
}

/// The bodies of everything that can be read, by topic, queue and offset.
type Bodies = BTreeMap<(&'static str, u32, u64), BodyHash>;

fn read_all(store: &Store, template: &Template) -> Result<Bodies> {
    let mut found = BTreeMap::new();
    let known: HashSet<_> = template.put.iter().map(Put::place).collect();
    for &(topic, queue) in &template.queues {
        let bounds = store.queue_bounds(topic, QueueId(queue));
        let entries = match store.entries(topic, QueueId(queue), bounds.start, usize::MAX) {
            Ok(entries) => entries,
            // What was to be read counts as dropped.
            Err(_) => continue,
        };
        for entry in entries {
            if let Ok(record) = store.record(&entry) {
                ensure!(
                    record.topic == topic.as_bytes() && record.queue_id == QueueId(queue),
                    "another queue's record was delivered: {entry:?}"
                );
                let before = found.insert((topic, queue, entry.queue_offset.0), BodyHash::of(&record.body));
                ensure!(before.is_none(), "a record was delivered twice: {entry:?}");
                let known = known.contains(&(topic, queue, entry.queue_offset.0));
                ensure!(known, "a record came from nowhere: {entry:?} of {topic} {queue}");
            }
        }
    }
    Ok(found)
}

/// Recovery told of it, or reading does.
fn is_reported(store: &Store, recovered: &Recovered, gone: &[&Put]) -> bool {
    let by_reading = |put: &&Put| {
        let queue = QueueId(put.queue);
        let entries = store.entries(put.topic, queue, QueueOffset(put.offset), 1).unwrap_or_default();
        entries.iter().any(|entry| matches!(store.record(entry), Err(ReadError::Damaged { .. })))
    };
    let deleted = |put: &&Put| put.topic == DELETED;
    !recovered.damaged.is_empty()
        || recovered.cut_bytes > 0
        || gone.iter().all(|put| deleted(put) || by_reading(put))
}

/// Once all is read through, what is damaged is listed, and nothing else is.
fn is_listed(
    store: &Store,
    recovered: &Recovered,
    template: &Template,
    hit: &[&Put],
    gone: &[&Put],
) -> Result<()> {
    store.flush()?;
    while store.scrub() {}
    let listed = store.damaged(usize::MAX);
    let is_listed = |put: &Put| {
        listed.iter().any(|place| place.start.0 < put.log.end && put.log.start < place.start.0 + place.bytes)
    };
    for put in &template.put {
        let is_whole = !hit.iter().any(|other| other.log == put.log);
        ensure!(!(is_whole && is_listed(put)), "a whole record is listed as damaged: {put:?}, {listed:?}");
    }
    for put in gone.iter().filter(|put| put.topic != DELETED && put.log.start < recovered.end.0) {
        ensure!(is_listed(put), "a damaged record is not listed: {put:?}, {listed:?}");
    }
    Ok(())
}

/// A damaged store takes messages, and gives no offset away twice.
fn go_on(store: &Store, template: &Template) -> Result<()> {
    for &(topic, queue) in template.queues.iter().filter(|(topic, _)| *topic != DELETED) {
        let put = append(store, topic, queue, b"after the fault")?;
        let used = template.put.iter().filter(|old| (old.topic, old.queue) == (topic, queue));
        let next = used.map(|old| old.offset + 1).max().unwrap_or_default();
        ensure!(
            put.offset >= next || template.may_reuse_last,
            "offset {} of {topic} {queue} was given away twice",
            put.offset
        );
        store.flush()?;
        let entries = store.entries(topic, QueueId(queue), QueueOffset(put.offset), 1)?;
        let body = entries.first().map(|entry| store.record(entry)).transpose()?.map(|record| record.body);
        ensure!(
            body.as_deref() == Some(b"after the fault"),
            "what was appended after the fault does not come back"
        );
    }
    Ok(())
}
