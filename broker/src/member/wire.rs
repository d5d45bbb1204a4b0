//! Between the domain's types and those of the wire.

use proto::control;
use replication::{Epoch, History, MemberId, Ordinal, Start, StoreId};
use store::LogOffset;

use crate::meta;
use crate::meta::journal::Change;

pub(super) fn member(member: MemberId) -> control::Member {
    control::Member { ordinal: member.ordinal.0, store: member.store.0 }
}

pub(super) fn read_member(member: Option<control::Member>) -> Option<MemberId> {
    member.map(|member| MemberId { ordinal: Ordinal(member.ordinal), store: StoreId(member.store) })
}

pub(super) fn history(history: &History) -> control::LogHistory {
    let starts = history.starts.iter();
    let starts = starts.map(|start| control::ReignStart { epoch: start.epoch.0, log_offset: start.at.0 });
    control::LogHistory { origin: history.origin.0, starts: starts.collect() }
}

/// `None`: the numbers do not grow.
pub(super) fn read_history(history: Option<control::LogHistory>) -> Option<History> {
    let control::LogHistory { origin, starts } = history?;
    let start =
        |start: control::ReignStart| Start { epoch: Epoch(start.epoch), at: LogOffset(start.log_offset) };
    let starts: Vec<_> = starts.into_iter().map(start).collect();
    let grows = starts.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].at <= pair[1].at);
    grows.then_some(History { origin: StoreId(origin), starts })
}

pub(super) fn changes(changes: &[Change]) -> Vec<control::StateChange> {
    let change = |change: &Change| control::StateChange {
        table: change.table.to_owned(),
        key: change.key.clone(),
        value: change.value.clone().map(Into::into),
    };
    changes.iter().map(change).collect()
}

/// `None`: a table that this version does not know.
pub(super) fn read_changes(changes: Vec<control::StateChange>) -> Option<Vec<Change>> {
    let change = |change: control::StateChange| {
        let control::StateChange { table, key, value } = change;
        Some(Change { table: meta::table_name(&table)?, key, value: value.map(Into::into) })
    };
    changes.into_iter().map(change).collect()
}
