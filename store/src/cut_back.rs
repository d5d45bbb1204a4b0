//! Cutting the log of a closed store back, so that it can follow another member's.
//!
//! What is derived from the log goes before the log does: at no moment does anything know more than the log has. So a
//! crash leaves a store that opens, and is cut again.
//!
//! ```text
//!   views' snapshots, marks of deleted topics, key runs, schedule ─► flushed, confirmed ─► later segments ─► the tail: zeros
//! ```

use std::sync::Arc;

use crate::LogOffset;
use crate::commit_log::mark;
use crate::commit_log::recover::Files;
use crate::config::Config;
use crate::disk::Disk;
use crate::error::{CutBackError, OpenError};
use crate::last_writer::LastWriter;
use crate::{schedule, views};

/// Cuts the log of a closed store back: it ends at `to` then, where a record starts or ends, and nothing that the store
/// keeps tells of what was behind. The newest snapshot of the views that tells only of what is left is kept; without one
/// the next opening walks the whole log. A topic that was deleted behind `to` is not deleted any more.
///
/// Durable when it returns. After an error, or a crash in between, the store may have any part of the tail: call it again.
pub fn cut_back(disk: Arc<dyn Disk>, config: &Config, to: LogOffset) -> Result<(), CutBackError> {
    let root = &config.root;
    let lock_path = root.join("lock");
    let _lock = disk
        .lock(&lock_path)
        .map_err(OpenError::at(&lock_path))?
        .ok_or_else(|| OpenError::InUse(root.clone()))?;
    if LastWriter::look(&*disk, root).map_err(OpenError::at(root))?.is_other() {
        return Err(CutBackError::ByAnother(root.clone()));
    }
    let files = Files::load(Arc::clone(&disk), config)?;
    files.check_cut(to)?;
    views::cut_back(&*disk, root, to).map_err(OpenError::at(root))?;
    schedule::cut_back(&*disk, root, to).map_err(OpenError::at(root))?;
    mark::lower(&*disk, root, to).map_err(OpenError::at(root))?;
    // Also what an earlier try wrote, which was killed before this.
    disk.sync_dir(root).map_err(OpenError::at(root))?;
    files.cut_back(to)?;
    tracing::info!(path = %root.display(), log_offset = to.0, "the log was cut back");
    Ok(())
}
