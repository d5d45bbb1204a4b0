//! Tries the files of a schedule: opened, asked, emptied, used.
//!
//! ```text
//!   bytes:  │ length of the catalog u16 big-endian │ catalog │ the run of number 0
//! ```

use std::path::Path;
use std::sync::Arc;

use super::catalog::{self, Catalog};
use super::{Limits, Schedule, Scheduled, Standing, Work, run};
use crate::LogOffset;
use crate::disk::{Disk, MemoryDisk};
use crate::frame;
use crate::fuzzing::{Input, mend_end};

const LIMITS: Limits = Limits { table_entries: 64, merge_entries: 50 };
/// The log ends here, far behind all that is valid.
const END: LogOffset = LogOffset(1 << 40);

fn root() -> &'static Path {
    Path::new("/data")
}

fn dir() -> std::path::PathBuf {
    root().join("views/schedule")
}

fn open(disk: &MemoryDisk) -> Option<(Schedule, bool)> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Schedule::open(disk, root(), LogOffset(0)..END, LIMITS)
        .ok()
        .map(|(schedule, noted)| (schedule, noted.is_some()))
}

fn write(schedule: &Schedule, complete_to: LogOffset) {
    while !schedule.note(complete_to, b"note".to_vec()) {
        schedule.work(&|| Ok(()));
    }
    while schedule.work(&|| Ok(())) == Work::Done {}
}

pub(crate) fn schedules() -> Vec<Vec<u8>> {
    let schedule_of = |count: u64, taken: usize| {
        let disk = MemoryDisk::default();
        let (schedule, _) = open(&disk).expect("a new one opens");
        for n in 0..count {
            let due_ms = (n / 2).cast_signed();
            schedule.put(Scheduled { due_ms, id: LogOffset(n), at: LogOffset(n + 9), size: 7, kind: 1 });
        }
        if count > 3 {
            schedule.cancel(1, LogOffset(2));
        }
        write(&schedule, LogOffset(count));
        schedule.take(i64::MAX, taken).expect("it can be read");
        write(&schedule, LogOffset(count));
        let catalog = disk.read(&dir().join("catalog")).expect("it was just written");
        let run = disk.read(&run::path(&dir(), 0)).unwrap_or_default();
        [&(catalog.len() as u16).to_be_bytes()[..], &catalog, &run].concat()
    };
    vec![schedule_of(0, 0), schedule_of(5, 2), schedule_of(700, 100)]
}

pub(crate) fn run(Input { mend: mends, bytes, .. }: Input<'_>) {
    let Some((length, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (catalog, file) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let (mut catalog, mut file) = (catalog.to_vec(), file.to_vec());
    if mends {
        mend_end(&mut catalog);
        run::mend(&mut file);
    }
    if let Some(decoded) = frame::unseal(catalog::MAGIC, &catalog).and_then(Catalog::decode) {
        assert_eq!(frame::seal(catalog::MAGIC, &decoded.encode()), catalog);
    }
    let disk = MemoryDisk::default();
    disk.create_dir(&dir()).expect("there is room");
    disk.write(&dir().join("catalog"), &catalog).expect("there is room");
    disk.write(&run::path(&dir(), 0), &file).expect("there is room");
    let Some((schedule, noted)) = open(&disk) else { return };
    ask(&schedule);
    // No more comes out than is in: some 600 entries lie in 16 KiB.
    let most = 2 + file.len() / 20;
    let mut taken = 0;
    while let Ok(some) = schedule.take(i64::MAX, 100) {
        taken += some.len();
        assert!(taken <= most, "{taken} came out of {} bytes", file.len());
        if some.is_empty() {
            break;
        }
    }
    if schedule.is_damaged() || !noted {
        schedule.clear().expect("what is damaged can be made anew");
    }
    // It goes on, over a reopening.
    let new = Scheduled { due_ms: 5, id: END, at: END, size: 1, kind: 1 };
    schedule.put(new);
    write(&schedule, LogOffset(1));
    let (schedule, noted) = open(&disk).expect("what we wrote we open");
    assert!(noted);
    if !schedule.is_damaged() && taken == 0 {
        ask(&schedule);
    }
    match schedule.standing(5, END) {
        Ok(standing) => assert_eq!(standing, Standing::Waiting(new)),
        Err(_) => assert!(schedule.is_damaged(), "what cannot be read is known to be damaged"),
    }
}

fn ask(schedule: &Schedule) {
    let _ = schedule.next_due();
    for due_ms in [i64::MIN, 0, 1, i64::MAX] {
        let _ = schedule.standing(due_ms, LogOffset(2));
    }
    let mut after = None;
    for _ in 0..10 {
        match schedule.lying_below(END, after) {
            Ok((_, Some(next))) => after = Some(next),
            Ok((_, None)) | Err(_) => break,
        }
    }
}
