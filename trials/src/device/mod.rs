//! A block device of our own, under a real file system and a real broker: it sees every write and every flush, and so can
//! lose what was not flushed, tear, fail, and be cut at an exact moment.
//!
//! ```text
//!   broker ── mmap, fdatasync ──► ext4 ──► loop device ──► a file that we serve (fuse.rs) ──► Media (media.rs)
//!                                    writes, flushes ─────────────────────────────────────────►  now, durable
//! ```
//!
//! A copy of a loop device's ordinary backing file would take a while, mix what was written before with what was written
//! after, and know nothing of flushes. This one is cut between two requests, and knows what a disk with a volatile cache
//! may have lost by then.

mod fuse;
mod media;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};

use crate::dice::Dice;
use media::{Armed, Media};
pub use media::{Cut, Loss, Moment};

/// A device, served by a thread until it is dropped.
pub struct Device {
    media: Arc<Mutex<Media>>,
    file: PathBuf,
}

impl Device {
    /// Serves these bytes as the content of a file in `dir`; a loop device on it is the block device.
    pub fn serve(content: Vec<u8>, dir: &Path) -> Result<Self> {
        let file = dir.join("device");
        std::fs::write(&file, b"").with_context(|| format!("cannot make {}", file.display()))?;
        let media = Arc::new(Mutex::new(Media::new(content)));
        let connection = fuse::mount(&file)?;
        let served = Arc::clone(&media);
        thread::Builder::new().name("device".to_owned()).spawn(move || fuse::serve(&connection, &served))?;
        Ok(Self { media, file })
    }

    /// The file that stands for the device.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn media(&self) -> MutexGuard<'_, Media> {
        self.media.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power at a moment: what is left on the device then, while this one goes on. `look` is called at that very
    /// moment, between two requests.
    pub fn cut(
        &self,
        moment: Moment,
        loss: Loss,
        dice: Dice,
        look: Box<dyn FnOnce() -> u64 + Send>,
    ) -> Receiver<Cut> {
        let (tell, cut) = channel();
        self.media().arm(Armed { moment, loss, dice, look, tell });
        cut
    }

    /// The `n`-th flush from now fails, once, and what was not flushed before it never becomes durable.
    pub fn fail_flush(&self, n: u64) {
        self.media().fail_flush = Some(n);
    }

    /// Until told otherwise every write fails, or none does.
    pub fn fail_writes(&self, fail: bool) {
        self.media().fail_writes = fail;
    }

    /// Requests that failed as they were told to.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.media().failures
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Nobody may use it any more; the connection ends with the mount, and the thread with the connection.
        let _ = rustix::mount::unmount(&self.file, rustix::mount::UnmountFlags::DETACH);
    }
}
