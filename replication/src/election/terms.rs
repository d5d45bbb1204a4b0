//! What a member is told, and what it orders.

use store::LogOffset;

use crate::{Epoch, Has, Lease, Ordinal, Version};

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It knows no primary.
    Looking,
    /// It follows this one, or tries to.
    Replica(Ordinal),
    /// It takes no records, for it asked for the Lease.
    Standing,
    /// It is the primary of this reign.
    Primary(Epoch),
}

/// What the driver is to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Compare-and-swap the Lease: exactly this, at this version. [`Member::swapped`] wants the answer.
    Swap {
        /// What it should be.
        lease: Lease,
        /// What its version must be.
        version: Version,
    },
    /// Read the Lease now: somebody says that it changed. Nothing follows from that but the reading.
    ReadLease,
    /// Follow this member: connect again and again, until there is another order.
    Follow(Ordinal),
    /// Take no records of any primary until there is another order. When the driver has obeyed no such record can be
    /// acknowledged any more.
    Freeze,
    /// Reign: keep the epoch and where the log ends, open for clients.
    Reign(Epoch),
    /// Reign no more, at once: nothing that waits is acknowledged.
    StepDown(Why),
}

/// Why a reign ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Another reigns, or did since.
    Deposed,
    /// The Lease was released to another.
    HandedOver,
    /// The Lease may have expired (Async only).
    Expired,
}

/// The stream from the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// It is there.
    Up,
    /// It broke, or cannot be made; who knows why.
    Lost,
    /// Nothing answers at the primary's address, or none is found.
    Silent,
    /// The primary's address refuses connections, or the other end is another process or no primary: that reign is over.
    Refused,
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SwapOutcome {
    /// The record is as asked for, and has this version.
    Done(Version),
    /// It had another version.
    Conflict,
    /// No answer: it may be done, or be done later while the version is the one that was asked for.
    Unknown,
}

/// Whether a member trusts the end of its own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It does.
    None,
    /// Its machine was restarted over a log that was not flushed.
    LostTail,
}

/// What a member finds on its disk.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The highest epoch that it saw before.
    pub epoch: Epoch,
    /// Whether it trusts the end of its log.
    pub doubt: Doubt,
    /// The last reign with records in its log.
    pub last: Epoch,
    /// What it has.
    pub has: Has,
    /// What it knows to be confirmed of that.
    pub confirmed: LogOffset,
}
