//! Which segments may go, and their going. RocketMQ: `CleanCommitLogService`.
//!
//! Age is that of a segment's last record by the store's own timestamps, not the file's: file times do not survive a
//! restored volume.

use std::io;

use super::codec::{Announced, Head, announced};
use super::{CommitLog, segment};
use crate::LogOffset;
use crate::config::Config;
use crate::disk::Space;

/// What is to be known to choose.
pub(crate) struct Situation<'a> {
    pub(crate) now_ms: i64,
    /// When the last record of each segment but the last was stored; `None`: unknown, keep it.
    pub(crate) newest_ms: &'a [Option<i64>],
    pub(crate) space: Space,
}

/// How many segments go, from the oldest on. Young ones never go, however full the disk is: then appends are refused,
/// and what was acknowledged stays. (RocketMQ deletes them above 85 %.)
pub(crate) fn choose(config: &Config, situation: &Situation<'_>) -> usize {
    let &Situation { now_ms, newest_ms, space } = situation;
    let is_full = space.used_percent() > config.disk_percent;
    let hour = now_ms.div_euclid(3_600_000).rem_euclid(24);
    if !is_full && config.delete_at_hour.is_some_and(|at| i64::from(at) != hour) {
        return 0;
    }
    let retention_ms = i64::try_from(config.retention.as_millis()).unwrap_or(i64::MAX);
    let is_old =
        |newest: &Option<i64>| newest.is_some_and(|newest| now_ms.saturating_sub(newest) > retention_ms);
    newest_ms.iter().take_while(|newest| is_old(newest)).count()
}

impl CommitLog {
    /// How many of the oldest segments may go now, and where the log would start then.
    pub(crate) fn removable(&self, config: &Config, now_ms: i64, space: Space) -> Option<(usize, LogOffset)> {
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
        let situation = Situation { now_ms, newest_ms: &newest_ms, space };
        // What is not on disk yet is nobody's past.
        let flushed = segments.iter().take_while(|segment| segment.end() <= self.flushed().0).count();
        let count = choose(config, &situation).min(flushed);
        (count > 0).then(|| (count, LogOffset(segments[count].base())))
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
        let segment = self.segment(LogOffset(base)).ok()?;
        let rest = segment.slice(base..base + segment.map().published())?;
        let Announced::Record(size) = announced(&rest) else { return None };
        Head::parse(&rest[..size]).ok().map(|head| head.stored_at_ms)
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
        now_hours: i64,
        newest_hours: &'static [Option<i64>],
        used_gib: u64,
        expected: usize,
    }

    #[test]
    fn segments_go_by_age_at_their_hour_and_by_room_at_any() {
        let cases = [
            Case {
                name: "nothing is old",
                hour: None,
                now_hours: 80,
                newest_hours: &[Some(8), Some(9)],
                used_gib: 0,
                expected: 0,
            },
            Case {
                name: "old ones, any hour",
                hour: None,
                now_hours: 80,
                newest_hours: &[Some(6), Some(7), Some(8)],
                used_gib: 0,
                expected: 2,
            },
            Case {
                name: "old ones, not the hour",
                hour: Some(4),
                now_hours: 80,
                newest_hours: &[Some(1)],
                used_gib: 0,
                expected: 0,
            },
            Case {
                name: "old ones, the hour",
                hour: Some(8),
                now_hours: 80,
                newest_hours: &[Some(1), Some(20)],
                used_gib: 0,
                expected: 1,
            },
            Case {
                name: "not the hour, but full",
                hour: Some(4),
                now_hours: 80,
                newest_hours: &[Some(1), Some(20)],
                used_gib: 80,
                expected: 1,
            },
            Case {
                name: "young, however full",
                hour: Some(4),
                now_hours: 80,
                newest_hours: &[Some(79), Some(79), Some(80), Some(80)],
                used_gib: 100,
                expected: 0,
            },
            Case {
                name: "an unknown age is young",
                hour: None,
                now_hours: 80,
                newest_hours: &[None, Some(1)],
                used_gib: 0,
                expected: 0,
            },
        ];
        for case in cases {
            let config = Config { delete_at_hour: case.hour, ..Config::new("/") };
            let newest_ms: Vec<_> =
                case.newest_hours.iter().map(|hours| hours.map(|hours| hours * HOUR)).collect();
            let situation = Situation {
                now_ms: case.now_hours * HOUR,
                newest_ms: &newest_ms,
                space: Space { total_bytes: 100 * GIB, free_bytes: (100 - case.used_gib) * GIB },
            };
            assert_eq!(choose(&config, &situation), case.expected, "{}", case.name);
        }
    }
}
