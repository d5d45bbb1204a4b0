//! `gantry store export --format rocketmq`: a directory that Apache RocketMQ opens as it is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use broker::takeover::{self, JavaConfig, JavaTopic};
use serde::Serialize;
use store::offline::{ExportError, Look, RocketExport, Sizes};

use super::super::failed;
use super::super::progress::Meter;
use crate::args::ExportArgs;
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::units;

/// What was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exported {
    /// The new directory.
    pub directory: String,
    /// Where its log ends.
    pub end: u64,
    /// Records of the log.
    pub records: u64,
    /// Messages in its consume queues.
    pub messages: u64,
    /// Keys in its index.
    pub keys: u64,
    /// Topics in its configuration.
    pub topics: u64,
    /// Consumer groups in its configuration.
    pub groups: u64,
    /// Damaged stretches of the log that are covered.
    pub damaged_places: u64,
    /// Messages that Java cannot have in a queue.
    pub left_out: u64,
    /// Files of the log that are links to those of the store.
    pub linked_files: u64,
}

impl View for Exported {
    fn text(&self, paint: Paint) -> String {
        let Self { directory, end, records, messages, keys, topics, groups, .. } = self;
        let mut lines = vec![
            format!("{directory} is a store of Apache RocketMQ"),
            format!("log of {records} records up to {end}; {messages} messages in queues, {keys} keys"),
            format!("{}, {}", units::counted(*topics, "topic"), units::counted(*groups, "consumer group")),
        ];
        if self.linked_files > 0 {
            let files = units::counted(self.linked_files, "file");
            lines.push(format!("{files} of the log shared with the store: never write to either by hand"));
        }
        if self.left_out > 0 {
            let what = "without a queue: a topic that is no name of a directory, or an offset twice";
            lines.push(paint.bad(&format!("{} {what}", units::counted(self.left_out, "message"))));
        }
        lines.join("\n")
    }
}

/// Runs the command.
pub(super) fn run(look: &Look, args: &ExportArgs, out: Printer) -> Result<(), Failure> {
    let to = &args.to;
    if to.exists() {
        return Err(Failure::failed(format!("{} is there already", to.display()))
            .next("name a new directory with --to, or remove the old one"));
    }
    // Under another name until it is whole.
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let made = make(look, args, &partial).and_then(|made| {
        let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let named = fs::rename(&partial, to).and_then(|()| fs::File::open(parent)?.sync_all());
        named.map_err(|error| super::cannot_write(to, &error))?;
        Ok(made)
    });
    let (export, config) = match made {
        Ok(made) => made,
        Err(failure) => {
            // The first error is the one to tell; what is left has a name that says so.
            let _ = fs::remove_dir_all(&partial);
            return Err(failure);
        }
    };
    let RocketExport { end, records, entries, keys, topics: _, covered, linked, left_out } = export;
    out.print(&Exported {
        directory: to.display().to_string(),
        end: end.0,
        records,
        messages: entries,
        keys,
        topics: config.topics.len() as u64,
        groups: config.groups.len() as u64,
        damaged_places: covered,
        left_out,
        linked_files: linked,
    })?;
    match covered {
        0 => Ok(()),
        places => Err(super::damaged(places, "covered with records that nobody reads", &args.dir)),
    }
}

fn make(look: &Look, args: &ExportArgs, to: &Path) -> Result<(RocketExport, JavaConfig), Failure> {
    let mut meter = Meter::new("exported");
    let export = look.export_rocketmq(to, Sizes::default(), args.link, &mut |progress| meter.tell(progress));
    drop(meter);
    let export = export.map_err(|error| match error {
        ExportError::Read(error) => failed(error),
        ExportError::Write { path, source } => super::cannot_write(&path, &source),
        ExportError::Unfit(_) => Failure::failed(error.to_string()),
    })?;
    let folder = to.join("config");
    let mut config = metadata(&args.dir.join("config"), &folder)?;
    complete(&mut config, &export.topics);
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
    takeover::write(&folder, &config, now_ms).map_err(|error| super::cannot_write(&folder, &error))?;
    Ok((export, config))
}

/// What the store knows of topics, groups and their progress. Opening our database writes to it, so that is done to a
/// copy in `folder`, which goes again.
fn metadata(config: &Path, folder: &Path) -> Result<JavaConfig, Failure> {
    let copied = copy_files(config, folder);
    let copied = copied.map_err(|error| super::cannot_write(folder, &error))?;
    let known = takeover::give_back(folder).map_err(|error| {
        let error = format!("cannot read topics and groups of {}: {error}", config.display());
        Failure::failed(error).next("without the directory config the messages alone are exported")
    })?;
    for path in copied {
        fs::remove_file(&path).map_err(|error| super::cannot_write(&path, &error))?;
    }
    Ok(known)
}

/// Copies the files of a directory, if there is one.
fn copy_files(from: &Path, to: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(to)?;
    let mut copied = Vec::new();
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(copied),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let target = to.join(entry.file_name());
            fs::copy(entry.path(), &target)?;
            copied.push(target);
        }
    }
    Ok(copied)
}

/// Java removes the queues of a topic that it does not know, and shows no queue beyond a topic's number: every queue in
/// the log is in the metadata.
fn complete(config: &mut JavaConfig, queues: &BTreeMap<String, u32>) {
    for (name, &count) in queues {
        let topic = config.topics.entry(name.clone()).or_insert_with(|| JavaTopic {
            topic_name: name.clone(),
            read_queue_nums: count,
            write_queue_nums: count,
            ..JavaTopic::default()
        });
        topic.read_queue_nums = topic.read_queue_nums.max(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_of_the_log_is_in_the_metadata() {
        let known = JavaTopic {
            topic_name: "a".to_owned(),
            read_queue_nums: 4,
            write_queue_nums: 4,
            ..JavaTopic::default()
        };
        let mut config =
            JavaConfig { topics: BTreeMap::from([("a".to_owned(), known)]), ..JavaConfig::default() };
        complete(&mut config, &BTreeMap::from([("a".to_owned(), 6), ("b".to_owned(), 2)]));
        let sizes = |name: &str| (config.topics[name].read_queue_nums, config.topics[name].write_queue_nums);
        assert_eq!((sizes("a"), sizes("b")), ((6, 4), (2, 2)));
    }
}
