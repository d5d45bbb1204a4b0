//! CPU time of a server that runs on this machine, as the kernel counts it.

use std::time::Duration;

/// User and system time that a process has used, to the kernel's tick (mostly 10 ms); none if there is no such process.
pub(crate) fn time(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(Duration::from_secs_f64(ticks(&stat)? as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Fields 14 and 15 of a stat line. Names of programs may hold anything, so they are counted from its end.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 3 0 1 1 1";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
        assert!(time(std::process::id()).is_some() && time(u32::MAX).is_none());
    }
}
