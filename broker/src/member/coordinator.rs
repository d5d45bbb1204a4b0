//! Where a group's Lease is kept.

use replication::{Lease, Seen, SwapOutcome, Version};
use tokio::sync::mpsc;

/// The Lease cannot be read now.
#[derive(Debug, thiserror::Error)]
#[error("the Lease cannot be read: {0}")]
pub struct Unreadable(pub String);

/// Where a group's Lease is kept. It decides nothing: it compares, and swaps.
#[tonic::async_trait]
pub trait Coordinator: Send + Sync {
    /// As it is now: whatever was swapped before is seen.
    async fn read(&self) -> Result<Seen, Unreadable>;

    /// Makes it so, if this is its version. Tries once.
    async fn swap(&self, lease: &Lease, version: Version) -> SwapOutcome;

    /// Sends each change as it comes, until the receiver is gone; some may be left out, the last is not.
    async fn watch(&self, changes: mpsc::Sender<Seen>);

    /// Clients find this member from now on. It may fail, and is asked again.
    async fn announce(&self) -> Result<(), Unreadable>;
}
