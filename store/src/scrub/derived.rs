//! The part of a pass that reads what is derived from the log: the queues' blocks, the runs of the key index. It comes first,
//! and is not noted: a pass that a restart breaks off reads it again. What is damaged there is made anew from the log, so
//! it is told where that is done, and not listed.

use std::sync::Arc;

use crate::views::keys::{self, Keys};
use crate::views::{self, Views};

pub(super) struct Derived {
    pub(super) views: Arc<Views>,
    /// `None`: it is turned off.
    pub(super) keys: Option<Arc<Keys>>,
}

/// How far it is.
pub(super) enum At {
    Queues(views::Checking),
    Keys(keys::Checking),
    End,
}

impl Default for At {
    fn default() -> Self {
        Self::Queues(views::Checking::default())
    }
}

impl Derived {
    /// Reads on, about so many bytes; returns how many. `None`: everything was read.
    pub(super) fn read(&self, at: &mut At, bytes: u64) -> Option<u64> {
        if let At::Queues(checking) = at {
            if let Some(read) = self.views.check(checking, bytes) {
                return Some(read);
            }
            *at = At::Keys(keys::Checking::default());
        }
        if let (At::Keys(checking), Some(keys)) = (&mut *at, &self.keys)
            && let Some(read) = keys.check(checking, bytes)
        {
            return Some(read);
        }
        *at = At::End;
        None
    }
}
