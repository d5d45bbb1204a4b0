//! The one record that a group agrees on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::planted::{Bug, is_planted};
use crate::{Epoch, MemberId, Ordinal, StoreId};

/// What the API server calls `resourceVersion`: it grows with each change, renewals included (Kubernetes makes it comparable).
pub type Version = u64;

/// The members that hold everything confirmed, by their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InSync(BTreeMap<Ordinal, Option<StoreId>>);

/// The in-sync set cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no member of an in-sync set: write ordinal:store, the store in hex, for example 0:00c0ffee00c0ffee"
)]
pub struct LeaseError(String);

impl InSync {
    /// This member alone.
    #[must_use]
    pub fn only(member: MemberId) -> Self {
        Self(BTreeMap::from([(member.ordinal, Some(member.store))]))
    }

    /// Is this member in it, with this store? A place without a store stands for whatever store is there.
    #[must_use]
    pub fn holds(&self, member: MemberId) -> bool {
        self.0.get(&member.ordinal).is_some_and(|store| {
            store.is_none_or(|store| store == member.store) || is_planted(Bug::StoreIgnored)
        })
    }

    /// The same and this member.
    #[must_use]
    pub fn with(mut self, member: MemberId) -> Self {
        self.0.insert(member.ordinal, Some(member.store));
        self
    }

    /// The same without whoever is there.
    #[must_use]
    pub fn without(mut self, ordinal: Ordinal) -> Self {
        self.0.remove(&ordinal);
        self
    }

    /// The places, in order.
    pub fn ordinals(&self) -> impl Iterator<Item = Ordinal> + '_ {
        self.0.keys().copied()
    }

    /// The members whose store is known, in order.
    pub fn members(&self) -> impl Iterator<Item = MemberId> + '_ {
        self.0.iter().filter_map(|(&ordinal, store)| store.map(|store| MemberId { ordinal, store }))
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for InSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (ordinal, store)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match store {
                Some(store) => write!(f, "{ordinal}:{store}")?,
                None => write!(f, "{ordinal}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for InSync {
    type Err = LeaseError;

    fn from_str(text: &str) -> Result<Self, LeaseError> {
        let member = |part: &str| {
            let (ordinal, store) = match part.split_once(':') {
                Some((ordinal, store)) => (ordinal, Some(u64::from_str_radix(store, 16).ok()?)),
                None => (part, None),
            };
            Some((Ordinal(ordinal.parse().ok()?), store.map(StoreId)))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts
            .map(|part| member(part).ok_or_else(|| LeaseError(part.to_owned())))
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// The record. Who changes it compares its version and swaps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// The primary's process; `None`: released, or nobody ever took it.
    pub holder: Option<String>,
    /// The present reign, or the last one.
    pub epoch: Epoch,
    /// Whose reign it is, or was.
    pub primary: Option<Ordinal>,
    /// Who holds everything confirmed.
    pub in_sync: InSync,
    /// Who should be next.
    pub wished: Option<Ordinal>,
    /// Who must not be primary. Whoever operates the group says so; a member's swap keeps it as it is.
    pub fenced: BTreeSet<Ordinal>,
    /// Nobody takes the place of a primary that is lost, but the one that is wished for. Said and kept in the same way.
    pub held: bool,
    /// With a smaller in-sync set the primary refuses sends, and the set is not shrunk below (`minInSync`). Said and kept in the same
    /// way; `None`: as [`Settings::min_in_sync`](crate::Settings::min_in_sync) has it.
    pub min_in_sync: Option<usize>,
    /// How often a member took the place of another that had not released the Lease.
    pub failovers: u64,
}

/// The record, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The record.
    pub lease: Lease,
    /// Its version.
    pub version: Version,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_as_it_is_written() {
        let text = "0:00c0ffee00c0ffee,2";
        let set: InSync = text.parse().expect("it is well formed");
        assert_eq!(set.to_string(), text);
        assert_eq!(set.len(), 2);
        let member = |ordinal, store| MemberId { ordinal: Ordinal(ordinal), store: StoreId(store) };
        assert!(set.holds(member(0, 0x00c0_ffee_00c0_ffee)));
        assert!(!set.holds(member(0, 1)), "it lost its volume");
        assert!(set.holds(member(2, 77)), "any store, at first");
        assert!(!set.holds(member(1, 1)));
        assert!("".parse::<InSync>().expect("nobody").is_empty());
        for wrong in ["x", "1:", "1:zz", "-1", "0;1"] {
            assert!(wrong.parse::<InSync>().is_err(), "{wrong}");
        }
    }
}
