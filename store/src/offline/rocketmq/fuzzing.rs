//! Tries what is made for RocketMQ of a record that may say anything, and what is read of RocketMQ's own files.

use super::super::listing::Checkpoint;
use super::super::walk::Item;
use super::{index, queues};
use crate::LogOffset;
use crate::commit_log::codec::fuzzing as records;
use crate::commit_log::codec::{Head, STAMP_BYTES};
use crate::fuzzing::Input;

/// As Java writes them: most of such a record is under no checksum, so anything may stand there.
pub(crate) fn encodings() -> Vec<Vec<u8>> {
    records::encodings()
}

pub(crate) fn run(Input { mend: mends, bytes, .. }: Input<'_>) {
    let checkpoint = Checkpoint::decode(bytes);
    assert_eq!(checkpoint.is_some(), bytes.len() >= 24);
    let mut record = bytes.to_vec();
    if mends {
        records::mend(&mut record, 0);
    }
    let Ok(head) = Head::parse(&record).and_then(|head| head.verify(&record, LogOffset(0)).map(|()| head))
    else {
        return;
    };
    assert!(record.len() >= STAMP_BYTES);
    let topic = head.topic(&record);
    if queues::is_folder_name(topic) {
        let path = std::path::Path::new("/to").join(topic);
        assert_eq!(path.parent(), Some(std::path::Path::new("/to")), "it leads nowhere else");
    }
    let name = index::name(head.stored_at_ms);
    assert_eq!(name.to_string().len(), 17);
    assert!(index::java_hash(topic) <= i32::MAX as u32);
    assert!(index::entry(1, 0, &head, 1).len() == 20 && index::entry(1, i64::MAX, &head, 1).len() == 20);
    let tags_code = head.tags_code(&record);
    let body_matches = head.body_matches(&record);
    let item = Item { start: 0, size: record.len(), tags_code, body_matches, head };
    let _ = queues::column(&item, item.head.topic(&record), &record);
}
