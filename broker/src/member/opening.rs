//! Opening a member's log, shaped before where it must be.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use replication::{Doubt, Found, Member, Ordinal, Settings};
use store::disk::Disk;
use tokio_util::task::TaskTracker;

use super::follow::Reshape;
use super::metrics::Counts;
use super::open::Open;
use super::reigns::Reigns;
use super::wipe::wipe;
use crate::config::Replication;
use crate::local::Local;
use crate::serve::Process;

/// What it takes.
pub(super) struct Opening {
    pub(super) process: Process,
    pub(super) settings: Replication,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) ordinal: Ordinal,
    /// Of the process, as the holder of the Lease.
    pub(super) name: String,
    pub(super) tasks: TaskTracker,
    pub(super) counts: Counts,
    /// The beginning of the rules' time.
    pub(super) began: Instant,
}

impl Opening {
    /// Blocks.
    pub(super) fn open(self, reshape: Option<Reshape>) -> anyhow::Result<Arc<Open>> {
        let Self { process, settings, disk, ordinal, name, tasks, counts, began } = self;
        let config = Arc::clone(&process.config);
        let mut store = config.store();
        match reshape {
            Some(Reshape::CutTo(end)) => {
                tracing::warn!(log_end = end.0, "the log is cut back to where it parts from the primary's");
                store::cut_back(Arc::clone(&disk), &store, end)?;
            }
            Some(Reshape::BeginAt(first)) => {
                tracing::warn!(first = first.0, "the log begins anew as a copy of the primary's");
                wipe(&config.data_dir).context("removing what is of no use")?;
                store.first_offset = Some(first.0);
            }
            None => {}
        }
        let mut local = Local::open(&config, store.clone(), Arc::clone(&disk), &process.standing)?;
        let torn_at = local.recovered.torn_at;
        if let Some(torn_at) = torn_at {
            // What lies behind the hole was never acknowledged, or is on the others: it is copied again.
            tracing::warn!(log_end = torn_at.0, "the log has a hole near its end and is cut there");
            local.meta.close();
            local.store.close()?;
            store::cut_back(Arc::clone(&disk), &store, torn_at)?;
            local = Local::open(&config, store, disk, &process.standing)?;
        }
        let reigns = Reigns::load(Arc::clone(&local.disk), &config.data_dir, local.store.id())?;
        let interrupted =
            (local.store.was_interrupted() && config.flush == store::Flush::Async) || torn_at.is_some();
        let rules = rules(&settings);
        let confirmed = local.store.confirmed();
        let rules_of = |me, reigns: &Reigns, has: replication::Has, now| {
            let found = Found {
                epoch: reigns.seen(),
                doubt: if interrupted { Doubt::LostTail } else { Doubt::None },
                last: reigns.history().up_to(has.end).last(),
                has,
                confirmed,
            };
            Member::new(me, name, rules, found, now)
        };
        Ok(Open::new(config, settings, local, tasks, ordinal, reigns, counts, began, rules_of))
    }
}

/// As long as the Lease says nothing of it.
const MIN_IN_SYNC: usize = 2;

fn rules(settings: &Replication) -> Settings {
    let Replication { mode, members, max_lag, lease, .. } = settings;
    let members = *members as usize;
    Settings {
        mode: *mode,
        members,
        min_in_sync: MIN_IN_SYNC.min(members),
        max_lag: *max_lag,
        lease_duration: lease.duration,
        retry: lease.retry,
        ..Settings::default()
    }
}
