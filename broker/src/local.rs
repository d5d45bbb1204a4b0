//! What a broker has on its disk: the log with its views, and the metadata beside it.

use std::sync::Arc;

use anyhow::Context;
use store::disk::Disk;
use store::{Clock, Recovered, Store, SystemClock};

use crate::config::Config;
use crate::health::Standing;
use crate::meta::Meta;
use crate::takeover;

/// Opened, and nobody is served from it yet.
#[derive(Clone)]
pub(crate) struct Local {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) store: Store,
    pub(crate) recovered: Recovered,
    pub(crate) meta: Arc<Meta>,
}

impl Local {
    /// Opens both. Blocks.
    pub(crate) fn open(
        config: &Config,
        store: store::Config,
        disk: Arc<dyn Disk>,
        standing: &Standing,
    ) -> anyhow::Result<Self> {
        let folder = config.data_dir.join("config");
        std::fs::create_dir_all(&folder).with_context(|| {
            format!("cannot write to dataDir {}: make it writable for this user", config.data_dir.display())
        })?;
        takeover::check(&folder)?;
        // The store holds the lock of the directory: it comes first.
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (store, recovered) =
            Store::open_telling(Arc::clone(&disk), Arc::clone(&clock), store, &standing.opening)?;
        tracing::info!(
            end = recovered.end.0,
            cut_bytes = recovered.cut_bytes,
            replayed = recovered.replayed_records,
            "log recovered"
        );
        if recovered.cut_bytes > 0 {
            takeover::remove_views(&config.data_dir).with_context(|| {
                format!("cannot remove RocketMQ's views from {}", config.data_dir.display())
            })?;
        }
        let meta = Arc::new(Meta::open(&folder, store.flush_gate())?);
        Ok(Self { disk, clock, store, recovered, meta })
    }
}
