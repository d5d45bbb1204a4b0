//! The lines of an export, read back: each is checked as an append would check it, and told by its number.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use access::TopicName;
use store::{LogOffset, NewRecord, QueueId};

use crate::failure::Failure;
use crate::message::Message;

/// The longest line that is read: a body of 4 MiB and properties, in base64, many times over.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// A file of lines that can be read twice.
pub(super) struct Lines {
    shown: PathBuf,
    file: File,
    /// Removed at the end.
    spooled: Option<PathBuf>,
}

impl Lines {
    /// The lines of this file. Those of stdin (`-`) go to a temporary file first, since they are read twice.
    pub(super) fn open(from: &Path) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            Failure::failed(format!("cannot read {}: {}", from.display(), crate::control::root_cause(&error)))
        };
        if from != Path::new("-") {
            return Ok(Self {
                shown: from.to_path_buf(),
                file: File::open(from).map_err(cannot)?,
                spooled: None,
            });
        }
        let name = format!("gantry-import-{}-{:08x}", std::process::id(), crate::client::random() as u32);
        let path = std::env::temp_dir().join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path).map_err(cannot)?;
        let mut lines = Self { shown: PathBuf::from("stdin"), file, spooled: Some(path) };
        io::copy(&mut io::stdin().lock(), &mut lines.file).map_err(cannot)?;
        Ok(lines)
    }

    /// Reads all of it. `each` hears of every line's number and message; an error of it ends the reading.
    pub(super) fn each(
        &mut self,
        mut each: impl FnMut(u64, Message) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let bad = |number: u64, reason: &str| {
            Failure::failed(format!("line {number} of {}: {reason}", self.shown.display()))
        };
        self.file.rewind().map_err(|error| bad(1, &error.to_string()))?;
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
            if read.map_err(|error| bad(number, &error.to_string()))? == 0 {
                break;
            }
            if line.len() as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
                return Err(bad(number, "it is longer than 64 MiB"));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let message: Message =
                serde_json::from_slice(&line).map_err(|error| bad(number, &reason(&error.to_string())))?;
            check(&message).map_err(|reason| bad(number, &reason))?;
            each(number, message)?;
        }
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if let Some(path) = &self.spooled
            && let Err(error) = std::fs::remove_file(path)
        {
            eprintln!("cannot remove {}: {error}", path.display());
        }
    }
}

/// The line is the file's, not that of the JSON text.
fn reason(error: &str) -> String {
    error.replace(" at line 1 column", ", column")
}

/// Can the store take it, and a broker serve it?
fn check(message: &Message) -> Result<(), String> {
    TopicName::internal(&message.topic).map_err(|refusal| refusal.to_string())?;
    // The first 1 ends a name, a 2 ends a value.
    let torn =
        |(name, value): &&(String, String)| name.contains(['\u{1}', '\u{2}']) || value.contains('\u{2}');
    if message.properties_base64.is_none()
        && let Some((name, _)) = message.properties.0.iter().find(torn)
    {
        return Err(format!(
            "the property {name:?} has a character that separates properties; give propertiesBase64"
        ));
    }
    if message.body_base64.is_none() {
        return Err("bodyBase64 is missing".to_owned());
    }
    let encoded = message.encoded_properties();
    let record = record(message, &encoded);
    record.check(usize::MAX).map(|_| ()).map_err(|error| error.to_string())
}

/// As it is appended; `encoded` are its properties.
pub(super) fn record<'a>(message: &'a Message, encoded: &'a [u8]) -> NewRecord<'a> {
    NewRecord {
        topic: &message.topic,
        queue_id: QueueId(message.queue_id),
        body: message.body(),
        properties: encoded,
        tag: message.properties.get("TAGS"),
        flag: message.flag,
        sys_flag: message.sys_flag,
        born_at_ms: message.born_at_ms,
        born_host: message.born_host,
        store_host: message.store_host,
        reconsume_times: message.reconsume_times,
        prepared_offset: LogOffset(message.prepared_offset),
    }
}
