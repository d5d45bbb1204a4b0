//! The bytes of cold records that callers hold, counted until they let go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

pub(super) struct Held {
    bytes: AtomicU64,
    most: u64,
}

impl Held {
    pub(super) fn new(most: u64) -> Self {
        Self { bytes: AtomicU64::new(0), most }
    }

    /// Is as much held as may be? What a fetch under way adds to it is bounded, so asking before it is enough.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.most
    }

    /// Counts these until their last slice goes.
    pub(super) fn keep(self: &Arc<Self>, bytes: Vec<u8>) -> Bytes {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Kept { bytes, held: Arc::clone(self) })
    }
}

struct Kept {
    bytes: Vec<u8>,
    held: Arc<Held>,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}
