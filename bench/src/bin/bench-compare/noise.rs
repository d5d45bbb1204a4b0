//! How much of the machine others took while something was measured.
//!
//! By the times of all processes: the kernel's own sum of busy ticks is a sample, and a load that sends at every full
//! millisecond meets each of its ticks.

use std::time::Instant;

use anyhow::Context as _;
use bench::process::cpu_time_with_children;

/// A measurement under way.
pub(crate) struct Watch {
    server: u32,
    started: Instant,
    others: f64,
    steal: f64,
}

impl Watch {
    /// Begins. `server` is the process that is measured.
    pub(crate) fn begin(server: u32) -> anyhow::Result<Self> {
        Ok(Self { server, started: Instant::now(), others: others(server)?, steal: steal()? })
    }

    /// Ends. The share of all CPUs that went to others than the server and this process with the loads that it started,
    /// and to other machines of the host.
    pub(crate) fn end(self) -> anyhow::Result<f64> {
        let taken = (others(self.server)? - self.others).max(0.0) + steal()? - self.steal;
        let cpus = std::thread::available_parallelism()?.get() as f64;
        Ok(taken / self.started.elapsed().as_secs_f64() / cpus)
    }
}

/// CPU time of all other processes, in seconds. A child that ends meanwhile is in its parent's time.
fn others(server: u32) -> anyhow::Result<f64> {
    let mut total = 0.0;
    for entry in std::fs::read_dir("/proc").context("cannot read /proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if pid != server && pid != std::process::id() {
            // It may be gone by now.
            total += cpu_time_with_children(pid).map_or(0.0, |time| time.as_secs_f64());
        }
    }
    Ok(total)
}

/// What the host gave to others, in seconds.
fn steal() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let ticks = stolen(&stat).context("/proc/stat looks strange")?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The eighth time of the first line: user nice system idle iowait irq softirq steal …
fn stolen(stat: &str) -> Option<u64> {
    stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_the_eighth() {
        assert_eq!(stolen("cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1"), Some(8));
        assert_eq!(stolen("cpu  1 2"), None);
    }

    #[test]
    fn others_are_counted() {
        let first = others(u32::MAX).unwrap();
        assert!(others(u32::MAX).unwrap() >= 0.0 && first >= 0.0);
        assert!(steal().unwrap() >= 0.0);
    }
}
