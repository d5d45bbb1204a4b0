//! Who is primary, by the group's Lease: one watch that is begun again whenever it ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::stop::Stop;
use crate::cluster::Cluster;

const FIELDS: &str = r#"jsonpath={.spec.leaseTransitions}|{.spec.holderIdentity}|{.metadata.annotations.mq\.gantry\.dev/primary}|{.metadata.annotations.mq\.gantry\.dev/in-sync}{"\n"}"#;
/// After a watch ended, for the API server may be away.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// The Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reign {
    /// The epoch.
    pub(super) epoch: u64,
    /// Whether it is held.
    pub(super) held: bool,
    /// Ordinal of the primary of that epoch.
    pub(super) primary: usize,
    /// The in-sync set, with the ids of the stores.
    pub(super) in_sync: Vec<String>,
}

/// The watch.
pub(super) struct Watch {
    shared: Arc<Shared>,
    watching: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    now: Mutex<Now>,
    news: Condvar,
}

#[derive(Default)]
struct Now {
    reign: Option<Reign>,
    over: bool,
    child: Option<Child>,
}

impl Watch {
    /// Watches the Lease of this group.
    pub(super) fn start(cluster: &Cluster, namespace: &str, lease: &str) -> Self {
        let shared = Arc::<Shared>::default();
        let (cluster, words) =
            (cluster.clone(), ["-n", namespace, "get", "lease", lease, "-w", "-o", FIELDS]);
        let words = words.map(str::to_owned);
        let watcher = Arc::clone(&shared);
        let watching = std::thread::spawn(move || {
            while !watcher.is_over() {
                let mut command = cluster.kubectl_command();
                command.args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
                if let Ok(child) = command.spawn() {
                    watcher.follow(child);
                }
                watcher.rest();
            }
        });
        Self { shared, watching: Some(watching) }
    }

    /// Waits until the Lease is so.
    pub(super) fn until(
        &self,
        what: &str,
        limit: Duration,
        stop: &Stop,
        is: impl Fn(&Reign) -> bool,
    ) -> Result<Reign> {
        let end = Instant::now() + limit;
        let mut now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(reign) = now.reign.as_ref().filter(|reign| is(reign)) {
                return Ok(reign.clone());
            }
            stop.check()?;
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                bail!("{what} did not come within {limit:?}; the Lease: {:?}", now.reign);
            };
            let wait = left.min(Duration::from_millis(200));
            now = self.shared.news.wait_timeout(now, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The Lease as it was seen last.
    pub(super) fn now(&self) -> Result<Reign> {
        let now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.reign.clone().context("the Lease was not seen yet")
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut now = self.shared.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.over = true;
        if let Some(child) = &mut now.child {
            // It has ended already.
            let _ = child.kill();
        }
        drop(now);
        self.shared.news.notify_all();
        if let Some(watching) = self.watching.take() {
            // It does not panic.
            let _ = watching.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).over
    }

    fn rest(&self) {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if !now.over {
            drop(self.news.wait_timeout(now, AGAIN_AFTER));
        }
    }

    fn follow(&self, mut child: Child) {
        let Some(lines) = child.stdout.take() else { return };
        {
            let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
            if now.over {
                // It ends by itself, too.
                let _ = child.kill();
            }
            now.child = Some(child);
        }
        for line in BufReader::new(lines).lines() {
            let Ok(line) = line else { break };
            if let Some(reign) = parse(&line) {
                self.now.lock().unwrap_or_else(PoisonError::into_inner).reign = Some(reign);
                self.news.notify_all();
            }
        }
        let child = self.now.lock().unwrap_or_else(PoisonError::into_inner).child.take();
        if let Some(mut child) = child {
            // It ended: nobody reads it any more.
            let _ = (child.kill(), child.wait());
        }
    }
}

fn parse(line: &str) -> Option<Reign> {
    let [epoch, holder, primary, in_sync] = line.split('|').collect::<Vec<_>>()[..] else { return None };
    Some(Reign {
        epoch: epoch.parse().ok()?,
        held: !holder.is_empty(),
        primary: primary.parse().ok()?,
        in_sync: in_sync.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_watch_is_a_reign() {
        let reign = parse("7|main-broker-2/uid|2|0:5e3a,2:77f0").unwrap();
        assert_eq!((reign.epoch, reign.held, reign.primary, reign.in_sync.len()), (7, true, 2, 2));
        assert!(!parse("7||2|0:5e3a").unwrap().held);
        assert_eq!(parse("0|||0"), None);
    }
}
