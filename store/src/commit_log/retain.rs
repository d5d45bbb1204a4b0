//! Which segments may go, and their going. RocketMQ: `CleanCommitLogService`.
//!
//! Age is that of a segment's last record by the store's own timestamps, not the file's: file times do not survive a
//! restored volume.

use std::io;

use super::{CommitLog, segment};
use crate::LogOffset;
use crate::config::Config;
use crate::disk::Space;

/// What is to be known to choose.
pub(crate) struct Situation<'a> {
    pub(crate) now_ms: i64,
    /// Bytes of a segment.
    pub(crate) segment_bytes: u64,
    /// When the last record of each segment but the last was stored; `None`: unknown, keep it.
    pub(crate) newest_ms: &'a [Option<i64>],
    pub(crate) space: Space,
}

/// How many segments go, from the oldest on, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) count: usize,
    /// So many of them are younger than the configuration promises to keep them.
    pub(crate) young: usize,
}

/// Which segments go: the old ones at their hour, or at once on a disk that is nearly full; young ones only where the
/// configuration bounds the log, or prefers room for new messages to old messages.
pub(crate) fn choose(config: &Config, situation: &Situation<'_>) -> Choice {
    let &Situation { now_ms, segment_bytes, newest_ms, space } = situation;
    let hour = now_ms.div_euclid(3_600_000).rem_euclid(24);
    let is_time = config.delete_at_hour.is_none_or(|at| i64::from(at) == hour)
        || space.used_percent() > config.disk_percent;
    let retention_ms = i64::try_from(config.retention.as_millis()).unwrap_or(i64::MAX);
    let is_old =
        |newest: &Option<i64>| newest.is_some_and(|newest| now_ms.saturating_sub(newest) > retention_ms);
    let old = newest_ms.iter().take_while(|newest| is_old(newest)).count();

    let log_bytes = (newest_ms.len() as u64 + 1) * segment_bytes;
    let over_log = config.max_log_bytes.map_or(0, |max| log_bytes.saturating_sub(max));
    let used = space.total_bytes.saturating_sub(space.free_bytes);
    let allowed = |percent: u8| (u128::from(space.total_bytes) * u128::from(percent) / 100) as u64;
    let over_disk = config.delete_early_percent.map_or(0, |percent| used.saturating_sub(allowed(percent)));
    let needed = over_log.max(over_disk).div_ceil(segment_bytes);
    let needed = usize::try_from(needed).unwrap_or(usize::MAX).min(newest_ms.len());

    let count = needed.max(if is_time { old } else { 0 });
    Choice { count, young: count.saturating_sub(old) }
}

/// Why appends are refused on a disk as full as this.
pub(crate) fn refusal(config: &Config, space: Space) -> Option<String> {
    let used = space.used_percent();
    (used > config.refuse_percent && config.refuse_percent < 100).then(|| {
        format!(
            "the disk is {used} % full, and above {} % the rest is kept for what else must be written; make room on it, or let messages go earlier",
            config.refuse_percent
        )
    })
}

impl CommitLog {
    /// Which of the oldest segments go now, and where the log would start then.
    pub(crate) fn removable(
        &self,
        config: &Config,
        now_ms: i64,
        space: Space,
        confirmed: LogOffset,
    ) -> Option<(Choice, LogOffset)> {
        let segments: Vec<_> = self.segments.read().iter().cloned().collect();
        if segments.len() < 2 {
            return None;
        }
        // A segment's last record is not younger than the next one's first, or if that is damaged, the one's after it.
        let mut newest_ms: Vec<_> =
            segments[1..].iter().map(|next| self.first_stored_at(next.base())).collect();
        for older in (0..newest_ms.len().saturating_sub(1)).rev() {
            newest_ms[older] = newest_ms[older].or(newest_ms[older + 1]);
        }
        let situation = Situation { now_ms, segment_bytes: self.segment_bytes, newest_ms: &newest_ms, space };
        // What is not on disk yet, or not confirmed, is nobody's past.
        let past_end = self.flushed().min(confirmed).0;
        let past = segments.iter().take_while(|segment| segment.end() <= past_end).count();
        let Choice { count, young } = choose(config, &situation);
        let kept = count.saturating_sub(past);
        let choice = Choice { count: count - kept, young: young.saturating_sub(kept) };
        (choice.count > 0).then(|| (choice, LogOffset(segments[choice.count].base())))
    }

    /// Removes the oldest segments. Readers that hold them keep their bytes.
    pub(crate) fn remove_oldest(&self, count: usize) -> io::Result<()> {
        for _ in 0..count {
            // The name first: if that fails, the segment stays readable.
            let base = self.min().0;
            self.disk.remove(&segment::path(&self.dir, base))?;
            let removed = {
                let mut segments = self.segments.write();
                assert!(segments.len() > 1, "the last segment is never removed");
                segments.pop_front()
            };
            // Outside the lock: unmapping a gigabyte takes its time.
            drop(removed);
            tracing::info!(log_offset = base, bytes = self.segment_bytes, "removed an old segment");
        }
        self.disk.sync_dir(&self.dir)
    }

    /// Store time of the record that starts here. For the last segment, if it is empty: of the last record.
    fn first_stored_at(&self, base: u64) -> Option<i64> {
        if self.appended().0 <= base {
            return Some(self.stored_at_ms());
        }
        self.segment(LogOffset(base)).ok()?.first_stored_at_ms()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const GIB: u64 = 1 << 30;

    struct Case {
        name: &'static str,
        hour: Option<u8>,
        newest_hours: &'static [Option<i64>],
        used_gib: u64,
        early: Option<u8>,
        max_gib: Option<u64>,
        expected: (usize, usize),
    }

    const NOTHING: Case = Case {
        name: "",
        hour: None,
        newest_hours: &[],
        used_gib: 0,
        early: None,
        max_gib: None,
        expected: (0, 0),
    };

    /// At hour 80 of the world, 8 in the morning, with segments of 1 GiB on a disk of 100, kept for 72 hours.
    #[test]
    fn segments_go_by_age_at_their_hour_and_by_room_at_any() {
        let cases = [
            Case { name: "nothing is old", newest_hours: &[Some(8), Some(9)], ..NOTHING },
            Case {
                name: "old ones, any hour",
                newest_hours: &[Some(6), Some(7), Some(8)],
                expected: (2, 0),
                ..NOTHING
            },
            Case { name: "old ones, not the hour", hour: Some(4), newest_hours: &[Some(1)], ..NOTHING },
            Case {
                name: "old ones, the hour",
                hour: Some(8),
                newest_hours: &[Some(1), Some(20)],
                expected: (1, 0),
                ..NOTHING
            },
            Case {
                name: "not the hour, but nearly full",
                hour: Some(4),
                newest_hours: &[Some(1), Some(20)],
                used_gib: 80,
                expected: (1, 0),
                ..NOTHING
            },
            Case {
                name: "young, however full",
                newest_hours: &[Some(79), Some(79), Some(80), Some(80)],
                used_gib: 100,
                ..NOTHING
            },
            Case { name: "an unknown age is young", newest_hours: &[None, Some(1)], ..NOTHING },
            Case {
                name: "young ones make room where that is wanted, as many as it takes",
                newest_hours: &[Some(1), Some(79), Some(79), Some(80)],
                used_gib: 88,
                early: Some(85),
                expected: (3, 2),
                ..NOTHING
            },
            Case {
                name: "never the one that is written to",
                newest_hours: &[Some(79), Some(80)],
                used_gib: 100,
                early: Some(50),
                expected: (2, 2),
                ..NOTHING
            },
            Case {
                name: "the log is bounded",
                hour: Some(4),
                newest_hours: &[Some(78), None, Some(79)],
                max_gib: Some(2),
                expected: (2, 2),
                ..NOTHING
            },
        ];
        for case in cases {
            let config = Config {
                delete_at_hour: case.hour,
                delete_early_percent: case.early,
                max_log_bytes: case.max_gib.map(|gib| gib * GIB),
                ..Config::new("/")
            };
            let newest_ms: Vec<_> =
                case.newest_hours.iter().map(|hours| hours.map(|hours| hours * HOUR)).collect();
            let situation = Situation {
                now_ms: 80 * HOUR,
                segment_bytes: GIB,
                newest_ms: &newest_ms,
                space: Space { total_bytes: 100 * GIB, free_bytes: (100 - case.used_gib) * GIB },
            };
            let Choice { count, young } = choose(&config, &situation);
            assert_eq!((count, young), case.expected, "{}", case.name);
        }
    }

    #[test]
    fn a_disk_that_is_nearly_full_refuses_and_says_how_full_it_is() {
        let config = Config::new("/");
        let space = |used: u64| Space { total_bytes: 100 * GIB, free_bytes: (100 - used) * GIB };
        assert_eq!(refusal(&config, space(90)), None);
        assert!(refusal(&config, space(91)).unwrap().contains("91 % full"));
        assert_eq!(refusal(&config, Space::default()), None, "an unknown disk is no reason");
        let config = Config { refuse_percent: 100, ..config };
        assert_eq!(refusal(&config, space(100)), None, "then only the disk itself refuses");
    }
}
