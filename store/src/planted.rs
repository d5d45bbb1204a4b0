//! Rules that can be broken on purpose, one at a time, to see that a trial notices: the enum lists them.
//!
//! A build without the feature `planted-bugs` has none of this. With it, `GANTRY_PLANTED_BUG` names the one rule that this
//! process breaks; without the variable it breaks none. Each bug is one line at the place where it would be made.

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// What was not flushed counts as flushed.
    AcknowledgeBeforeFlush,
    /// A segment is used before its name is durable.
    SkipDirectorySync,
    /// A record is believed by its size, its checksum is not looked at.
    TrustSizeBeforeCrc,
    /// What is read again from the disk is not checked.
    ReadUnchecked,
    /// A segment's blocks are not reserved.
    SparseSegments,
    /// A flush that failed is tried again, and believed.
    RetryFailedFlush,
    /// With asynchronous flush, what lies behind a hole is kept.
    KeepBehindTear,
    /// The log is taken to end at its first bad record.
    EndAtFirstBadRecord,
    /// The views say that they are complete beyond what is flushed.
    ViewsAheadOfLog,
    /// A snapshot counts on blocks that are not durable.
    SkipBlockSync,
    /// A failed flush does not close the log.
    GoOnAfterFailedFlush,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AcknowledgeBeforeFlush,
        Self::SkipDirectorySync,
        Self::TrustSizeBeforeCrc,
        Self::ReadUnchecked,
        Self::SparseSegments,
        Self::RetryFailedFlush,
        Self::KeepBehindTear,
        Self::EndAtFirstBadRecord,
        Self::ViewsAheadOfLog,
        Self::SkipBlockSync,
        Self::GoOnAfterFailedFlush,
    ];
}

/// Is this rule to be broken?
#[cfg(not(feature = "planted-bugs"))]
#[inline]
pub(crate) const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Is this rule to be broken?
#[cfg(feature = "planted-bugs")]
pub(crate) fn is_planted(bug: Bug) -> bool {
    static PLANTED: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let planted = PLANTED.get_or_init(|| {
        let name = std::env::var("GANTRY_PLANTED_BUG").ok().filter(|name| !name.is_empty())?;
        let named = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
        Some(named.unwrap_or_else(|| panic!("{name} is none of {:?}", Bug::ALL)))
    });
    *planted == Some(bug)
}
