//! What the driver may leave undone.

/// Duties of the driver that can be left undone, to see that a run notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverBug {
    /// Records are taken while the member stands.
    TakeRecordsWhileFrozen,
    /// A returning member is not cut back.
    NoCutBack,
    /// A returning member is cut one record short of what it shares.
    CutTooMuch,
    /// The epoch is not kept over a restart, and the history neither.
    ForgetEpochs,
    /// The primary does not keep where its reign began.
    NoStartOfReign,
    /// A replica does not take over the primary's history.
    HistoryNotAdopted,
    /// Acknowledgements are sent before the records are there.
    AckBeforeAppend,
    /// What waits for a confirmation is acknowledged when the reign ends.
    AckAtStepDown,
    /// The machine's restart over an unflushed log is not told.
    NoDoubtAfterPowerCut,
    /// Doubt is forgotten when the process starts once more.
    DoubtForgotten,
    /// A lost volume comes back under the old store's id.
    OldStoreId,
    /// A primary that should step down goes on.
    NoStepDown,
    /// A returning member keeps the state that it had beside the log.
    OldStateKept,
}

impl DriverBug {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::TakeRecordsWhileFrozen,
        Self::NoCutBack,
        Self::CutTooMuch,
        Self::ForgetEpochs,
        Self::NoStartOfReign,
        Self::HistoryNotAdopted,
        Self::AckBeforeAppend,
        Self::AckAtStepDown,
        Self::NoDoubtAfterPowerCut,
        Self::DoubtForgotten,
        Self::OldStoreId,
        Self::NoStepDown,
        Self::OldStateKept,
    ];
}
