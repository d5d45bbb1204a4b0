//! Rules that can be broken on purpose, one at a time, to see that the simulation notices: the enum lists them.
//!
//! A build without the feature `planted-bugs` has none of this. With it, [`plant`] names the one rule that the calling
//! thread breaks from then on. Each bug is one line at the place where it would be made.

/// A rule that is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Confirmed is what the primary has, in Sync too.
    AckBeforeAll,
    /// Confirmed is what one other has, not all.
    AckByMost,
    /// Who is in a set that was asked for is not waited for until that is recorded.
    AskedNotWaitedFor,
    /// A member joins the set before it has what is confirmed.
    JoinBeforeLevel,
    /// A member joins the set before it has the state that is confirmed.
    LevelWithoutState,
    /// A change of the state is confirmed when the primary has it.
    StateNotConfirmed,
    /// Who is gone is not waited for, before the Lease says so.
    LeaverNotWaitedFor,
    /// Who is gone stays in the set.
    SetNotShrunk,
    /// The set shrinks below `minInSync`.
    ShrinkBelowLeast,
    /// Sends are taken with fewer than `minInSync`.
    LeastIgnored,
    /// A place in the set counts for whatever store is there.
    StoreIgnored,
    /// A reign begins with everything confirmed that the new primary has.
    ConfirmedFromOwnEnd,
    /// A member takes the Lease that is not in the set.
    TakeOutsideSet,
    /// The former primary stays in the set though it did not release the Lease.
    FallenStays,
    /// Taking the Lease does not raise the epoch.
    EpochNotRaised,
    /// Whoever takes the Lease does not write down its store.
    OwnStoreNotRecorded,
    /// A candidate takes records of the old epoch.
    NoFreeze,
    /// A candidate takes no records as long as its swap is unanswered, however long that is.
    StandsForEver,
    /// A conflict is taken for success.
    ConflictIsDone,
    /// No answer is taken for success.
    UnknownIsDone,
    /// No answer is taken for failure.
    UnknownIsFailed,
    /// A swap that was overtaken by a higher epoch makes a primary.
    DoneInOldEpoch,
    /// A read that was overtaken by another counts.
    StaleLeaseBelieved,
    /// A primary that reads of another goes on.
    DeposedGoesOn,
    /// A primary that released the Lease goes on.
    ReleasedGoesOn,
    /// An Async primary goes on when the Lease may have expired.
    ExpiredGoesOn,
    /// The Lease is released before the heir has everything.
    ReleaseBeforeLevel,
    /// The wished primary is no concern of the primary's.
    WishedIgnored,
    /// A hand-over holds up sends for ever.
    HandOverNeverGivenUp,
    /// A log that may have lost its tail counts as any.
    DoubtIgnored,
    /// The first word of a primary ends the doubt.
    DoubtLostAtOnce,
    /// Confirmed is what the primary says, whatever this log has.
    ConfirmedFromFuture,
    /// Two logs are taken to be the same as far as both go.
    NothingCut,
    /// Where two logs part is judged by the primary's reigns alone.
    OwnReignsOnly,
    /// Where the log before the first reign comes from is no matter.
    OriginIgnored,
    /// A joiner is waited for once it is level, which under load it never is.
    JoinerNotHeldFor,
    /// The doubt ends at what a new primary knows to be confirmed, though more may be.
    DoubtLostAtConfirmed,
    /// What a member said in an earlier reign counts in this one.
    HeardForEver,
    /// What was confirmed stays so when the log is cut below.
    ConfirmedBeyondCut,
    /// A member stands though it cannot read the Lease.
    StandUnread,
    /// A new primary counts as gone because the one before it was.
    JudgedByOldStream,
    /// A member that fell as primary waits for its turn from now, whenever that is.
    OwnFallIsNow,
    /// A member joins before it has the state with which the reign began.
    BeginsWithoutState,
    /// The Lease is released before the driver wrote down what it alone knows.
    ReleaseUnprepared,
    /// An epoch that somebody names counts without a look at the Lease.
    HearsayBelieved,
    /// A primary that can acknowledge nothing keeps the Lease, though the others could go on.
    RenewsInVain,
    /// A fenced member stands.
    FenceIgnored,
    /// A primary hands over to a fenced member.
    HandsOverToFenced,
    /// Members stand though failover is held.
    HoldIgnored,
    /// Where failover is held nobody takes a Lease that was released.
    HoldsHandOver,
    /// Where failover is held not even the one stands that is wished for.
    HoldsWished,
    /// Who takes the Lease leaves out who is fenced, and that failover is held.
    BoundsForgotten,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 52] = [
        Self::AckBeforeAll,
        Self::AckByMost,
        Self::AskedNotWaitedFor,
        Self::JoinBeforeLevel,
        Self::LevelWithoutState,
        Self::StateNotConfirmed,
        Self::LeaverNotWaitedFor,
        Self::SetNotShrunk,
        Self::ShrinkBelowLeast,
        Self::LeastIgnored,
        Self::StoreIgnored,
        Self::ConfirmedFromOwnEnd,
        Self::TakeOutsideSet,
        Self::FallenStays,
        Self::EpochNotRaised,
        Self::OwnStoreNotRecorded,
        Self::NoFreeze,
        Self::StandsForEver,
        Self::ConflictIsDone,
        Self::UnknownIsDone,
        Self::UnknownIsFailed,
        Self::DoneInOldEpoch,
        Self::StaleLeaseBelieved,
        Self::DeposedGoesOn,
        Self::ReleasedGoesOn,
        Self::ExpiredGoesOn,
        Self::ReleaseBeforeLevel,
        Self::WishedIgnored,
        Self::HandOverNeverGivenUp,
        Self::DoubtIgnored,
        Self::DoubtLostAtOnce,
        Self::ConfirmedFromFuture,
        Self::NothingCut,
        Self::OwnReignsOnly,
        Self::OriginIgnored,
        Self::JoinerNotHeldFor,
        Self::DoubtLostAtConfirmed,
        Self::HeardForEver,
        Self::ConfirmedBeyondCut,
        Self::StandUnread,
        Self::JudgedByOldStream,
        Self::OwnFallIsNow,
        Self::BeginsWithoutState,
        Self::ReleaseUnprepared,
        Self::HearsayBelieved,
        Self::RenewsInVain,
        Self::FenceIgnored,
        Self::HandsOverToFenced,
        Self::HoldIgnored,
        Self::HoldsHandOver,
        Self::HoldsWished,
        Self::BoundsForgotten,
    ];
}

#[cfg(feature = "planted-bugs")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// This rule is broken on this thread from now on.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
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
    PLANTED.get() == Some(bug)
}
