//! A broker that is one of several: it follows a primary, or is it.
//!
//! ```text
//!   coordinator (the Lease) ──► life ◄──────── replication::Member: the rules
//!                                │  orders
//!              ┌─────────────────┼──────────────────────┐
//!              ▼                 ▼                      ▼
//!           follow            reign ──► serve        door: Introduce, HandOver
//!     log and state of      opened once all in-sync       Follow ──► sender, one a follower
//!     the primary           members have everything
//! ```
//!
//! The log and the metadata are open all the time ([`open::Open`]), and so are the ports for clients ([`clients::ClientDoor`]). Only a
//! primary opens what is above the log. Where a log must be cut, everything is closed and opened anew: as after a crash, by the same way.

mod clients;
mod coordinator;
mod door;
mod follow;
mod group;
mod introduce;
mod keeper;
mod kubernetes;
mod late;
mod life;
mod metrics;
mod open;
mod opening;
mod reign;
mod reigns;
mod sender;
mod wipe;
mod wire;

use std::sync::Arc;

use access::{logging, vital};
use anyhow::Context as _;
pub use coordinator::{Coordinator, Unreadable};
pub(crate) use door::ReplicationDoor;
pub use group::{Group, Standing};
pub(crate) use late::Late;
use store::disk::RealDisk;

use crate::config::Config;
use crate::serve::Process;

/// The process `broker --config FILE` as a member of a group, from its start to its end.
pub(crate) async fn run_in_kubernetes(config: Config, log_levels: logging::Control) -> anyhow::Result<()> {
    let settings = config.replication.clone().expect("it is asked for");
    let pod = kubernetes::Pod::from_environment()?;
    let (ordinal, name) = (pod.ordinal()?, format!("{}/{}", pod.name, pod.uid));
    let lease = kubernetes::KubernetesLease::connect(settings, pod).await.context("the API server")?;
    let process = Process::new(config, Some(log_levels));
    let disk = Arc::new(RealDisk::default());
    let group = Group::start(process, ordinal, name, Arc::new(lease), disk).await?;
    tokio::select! {
        asked = vital::asked_to_stop() => asked.context("cannot listen for signals")?,
        error = group.failed() => return Err(error),
    }
    tracing::info!("asked to stop");
    group.stop().await
}
