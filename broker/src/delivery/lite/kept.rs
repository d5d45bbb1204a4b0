//! What clients hold, over a restart: clients say it again every 30 seconds, and would get nothing until then.
//!
//! ```text
//!   table  lite_subscriptions
//!   key    client
//!   value  lines: format 1, group, parent, lite topics one by one, with * for all
//! ```
//!
//! Written with the batches of delivery state, and only when something changes. All rows together have a bound; a client for
//! whom there is no room waits until it says again what it holds.

use std::collections::{HashMap, HashSet};

use access::{GroupName, LiteTopic, TopicName};

use super::Lite;
use super::board::{ALL, Holding};
use crate::meta::{Definition, Error, Meta, Transaction};

const LITE_SUBSCRIPTIONS: Definition = Definition::new("lite_subscriptions");
const FORMAT: &str = "1";
/// Of all rows together.
const MOST_BYTES: usize = 16 << 20;

/// What one client holds, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::delivery) struct Held {
    pub(in crate::delivery) client: String,
    pub(in crate::delivery) group: GroupName,
    pub(in crate::delivery) parent: TopicName,
    pub(in crate::delivery) holding: Holding,
}

/// A client's row as it is to be; `None`: there is to be none.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::delivery) struct Row {
    client: String,
    value: Option<String>,
}

/// Which rows there are, and which are not as they should be.
#[derive(Debug, Default)]
pub(super) struct Book {
    changed: HashSet<String>,
    /// The bytes of each row.
    written: HashMap<String, usize>,
    bytes: usize,
}

impl Book {
    /// The client holds something else than before.
    pub(super) fn changed(&mut self, client: &str) {
        self.changed.insert(client.to_owned());
    }

    /// A row that was read, and whether it is as it should be.
    pub(super) fn read(&mut self, client: &str, bytes: usize, is_right: bool) {
        self.add(client, bytes);
        if is_right {
            self.changed.remove(client);
        } else {
            self.changed(client);
        }
    }

    fn add(&mut self, client: &str, bytes: usize) {
        self.bytes += bytes;
        self.written.insert(client.to_owned(), bytes);
    }

    /// The row of a client who holds this now, or nothing. `None`: nothing is to be done.
    fn row(&mut self, client: String, value: Option<String>, most_bytes: usize) -> Option<Row> {
        let before = self.written.remove(&client);
        self.bytes -= before.unwrap_or(0);
        let value = value.filter(|value| self.bytes + client.len() + value.len() <= most_bytes);
        if let Some(value) = &value {
            self.add(&client, client.len() + value.len());
        }
        (before.is_some() || value.is_some()).then_some(Row { client, value })
    }
}

impl Lite {
    /// Whether a row is not as it should be.
    pub(in crate::delivery) fn has_changed(&self) -> bool {
        !self.book.lock().changed.is_empty()
    }

    /// The rows that are not as they should be.
    pub(in crate::delivery) fn take_changed(&self) -> Vec<Row> {
        let changed = std::mem::take(&mut self.book.lock().changed);
        let row = |client: String| {
            let value = self.held_by(&client).map(|held| encode(&held));
            self.book.lock().row(client, value, MOST_BYTES)
        };
        changed.into_iter().filter_map(row).collect()
    }

    /// What was taken could not be written.
    pub(in crate::delivery) fn not_written(&self, rows: &[Row]) {
        let mut book = self.book.lock();
        rows.iter().for_each(|row| book.changed(&row.client));
    }

    fn held_by(&self, client: &str) -> Option<Held> {
        let clients = self.clients.lock();
        let (group, parent) = clients.get(client)?.clone();
        let holding = self.hub(&group, &parent).0.lock().holds(client)?.clone();
        Some(Held { client: client.to_owned(), group, parent, holding })
    }
}

/// Writes them within a transaction of the caller.
pub(in crate::delivery) fn write(transaction: &Transaction, rows: &[Row]) -> Result<(), redb::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut table = transaction.open_table(LITE_SUBSCRIPTIONS)?;
    for Row { client, value } in rows {
        match value {
            Some(value) => table.insert(client, value.as_bytes())?,
            None => table.remove(client)?,
        }
    }
    Ok(())
}

/// What clients held, each with the bytes of its row.
pub(in crate::delivery) fn read_all(meta: &Meta) -> Result<Vec<(Held, usize)>, Error> {
    meta.read_all(LITE_SUBSCRIPTIONS, |client, value| {
        let damaged = || Error::Damaged(format!("the lite topics of client {client}"));
        Ok((decode(client, value).ok_or_else(damaged)?, client.len() + value.len()))
    })
}

fn encode(Held { client: _, group, parent, holding }: &Held) -> String {
    let mut lines = vec![FORMAT, group.as_str(), parent.as_str()];
    lines.extend(holding.all.then_some(ALL));
    lines.extend(holding.names.iter().map(LiteTopic::as_str));
    lines.join("\n")
}

fn decode(client: &str, value: &[u8]) -> Option<Held> {
    let mut lines = std::str::from_utf8(value).ok()?.split('\n');
    if lines.next()? != FORMAT {
        return None;
    }
    let group = GroupName::parse(lines.next()?).ok()?;
    let parent = TopicName::parse(lines.next()?).ok()?;
    let holding = Holding::of(lines).ok()?;
    Some(Held { client: client.to_owned(), group, parent, holding })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Change, Limits};
    use super::*;

    fn held(names: &[&str]) -> Held {
        Held {
            client: "x\ny".to_owned(),
            group: GroupName::parse("g").unwrap(),
            parent: TopicName::parse("sessions").unwrap(),
            holding: Holding::of(names.iter().copied()).unwrap(),
        }
    }

    #[test]
    fn what_a_client_holds_comes_back_as_it_was() {
        for names in [&["a"][..], &["a", "b", "c"], &["*"], &["a", "*"]] {
            let held = held(names);
            assert_eq!(decode(&held.client, encode(&held).as_bytes()), Some(held));
        }
        for damaged in ["", "2\ng\nsessions\na", "1\ng", "1\ng\nsessions\na b", "1\n\nsessions\na"] {
            assert_eq!(decode("x", damaged.as_bytes()), None, "{damaged:?}");
        }
    }

    #[test]
    fn only_what_changes_is_written_and_what_is_held_no_more_is_removed() {
        let lite = Lite::new(Limits { max_topics: 9, idle: Duration::MAX });
        let Held { client, group, parent, .. } = held(&[]);
        let other = GroupName::parse("other").unwrap();
        let hold = |group: &GroupName, names: &[&str]| {
            let holding = Holding::of(names.iter().copied()).unwrap();
            lite.change(&client, group, &parent, Change::Replace(holding)).unwrap();
        };
        let rows = || lite.take_changed().into_iter().map(|row| row.value).collect::<Vec<_>>();
        let one = |value: Option<&str>| vec![value.map(str::to_owned)];
        hold(&group, &["a"]);
        assert_eq!(rows(), one(Some("1\ng\nsessions\na")));
        hold(&group, &["a"]);
        assert!(!lite.has_changed(), "it says again what it holds");
        hold(&group, &["*"]);
        hold(&group, &["*", "b"]);
        assert_eq!(rows(), one(Some("1\ng\nsessions\n*\nb")));
        hold(&other, &["b"]);
        assert_eq!(rows(), one(Some("1\nother\nsessions\nb")));
        hold(&group, &[]);
        assert_eq!(rows(), one(None));
        hold(&group, &["a"]);
        rows();
        lite.client_gone(&client);
        assert_eq!(rows(), one(None));
        hold(&group, &["a"]);
        rows();
        lite.group_gone(&group);
        assert_eq!(rows(), one(None));
        hold(&group, &["a"]);
        let lost = lite.take_changed();
        lite.not_written(&lost);
        assert_eq!(rows(), one(Some("1\ng\nsessions\na")));
    }

    #[test]
    fn what_was_read_is_not_written_again_unless_its_parent_is_no_more() {
        let lite = Lite::new(Limits { max_topics: 9, idle: Duration::MAX });
        lite.restore_held(held(&["a"]), 20, true);
        assert!(!lite.has_changed());
        assert_eq!(lite.held_by("x\ny"), Some(held(&["a"])));
        let stale = Held { client: "stale".to_owned(), ..held(&["a"]) };
        lite.restore_held(stale, 20, false);
        assert_eq!(lite.take_changed(), [Row { client: "stale".to_owned(), value: None }]);
    }

    #[test]
    fn there_is_a_bound_on_all_rows_and_what_goes_makes_room() {
        let mut book = Book::default();
        let mut row = |client: &str, value: Option<&str>| {
            let row = book.row(client.to_owned(), value.map(str::to_owned), 10);
            row.map(|row| row.value)
        };
        let some = |value: &str| Some(Some(value.to_owned()));
        assert_eq!(row("a", Some("1234")), some("1234"));
        assert_eq!(row("b", Some("123456")), None, "there is no room, and no row to remove");
        assert_eq!(row("b", Some("1234")), some("1234"));
        assert_eq!(row("b", Some("12345")), Some(None), "its old row would be wrong");
        assert_eq!(row("a", Some("123456789")), some("123456789"));
        assert_eq!(row("a", None), Some(None));
        assert_eq!(row("a", None), None);
        assert_eq!(book.bytes, 0);
    }
}
