//! How the state of one group on one queue lies in `meta.redb`.
//!
//! ```text
//!   key    group/topic/queue            neither name can hold a slash
//!   value  format 1 │ cursor │ clients: n × (length, text) │ ahead: n × gap │ flights: n × flight
//!   flight gap │ attempt │ stamp │ change │ visible_at │ lane │ poll │ flags │ [client, until]
//! ```
//!
//! Numbers are LEB128; a gap is the distance from the offset before it, the first from the start.

use std::ops::Range;
use std::sync::Arc;

use access::{GroupName, TopicName};

use super::queue::{Flight, Millis, Queue, Renewal};
use crate::meta::{Definition, Error, Meta, Transaction};

const DELIVERY: Definition = Definition::new("delivery");
const FORMAT: u64 = 1;
const SUSPENDED: u64 = 1;
const RENEWED: u64 = 2;

/// What changed, ready to be written.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
}

pub(super) fn row(group: &str, topic: &str, id: u32, queue: &Queue) -> Row {
    Row { key: format!("{group}/{topic}/{id}"), value: encode(queue) }
}

/// Writes them within a transaction of the caller.
pub(super) fn write(transaction: &Transaction, rows: &[Row]) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(DELIVERY)?;
    for row in rows {
        table.insert(row.key.as_str(), row.value.as_slice())?;
    }
    Ok(())
}

/// Writes the row that was noted.
pub(super) fn write_one(transaction: &Transaction, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    transaction.open_table(DELIVERY)?.insert(key, value)
}

/// Removes the rows of a group and a topic, given as `group/topic/`.
pub(super) fn remove_beginning(transaction: &Transaction, beginning: &str) -> Result<(), redb::Error> {
    // '0' follows the slash.
    let end = format!("{}0", beginning.trim_end_matches('/'));
    transaction.open_table(DELIVERY)?.retain_in(beginning..end.as_str(), |_| false)
}

/// Removes the rows for which `gone` holds, given group and topic.
pub(super) fn remove(meta: &Meta, gone: impl Fn(&str, &str) -> bool) -> Result<(), Error> {
    meta.write(|transaction| {
        let mut table = transaction.open_table(DELIVERY)?;
        table.retain(|key| split(key).is_none_or(|(group, topic, _)| !gone(group, topic)))?;
        Ok(())
    })
}

/// Removes what groups did with topics. Touches no other rows.
pub(super) fn remove_pairs(meta: &Meta, pairs: &[(GroupName, TopicName)]) -> Result<(), Error> {
    if pairs.is_empty() {
        return Ok(());
    }
    meta.write(|transaction| {
        pairs
            .iter()
            .try_for_each(|(group, topic)| remove_beginning(transaction, &format!("{group}/{topic}/")))
    })
}

/// Every row as (group, topic, queue id, state); `bounds` says how far a queue reaches and whether the group is ordered.
pub(super) fn read_all(
    meta: &Meta,
    bounds: impl Fn(&str, &str, u32) -> (Range<u64>, bool),
) -> Result<Vec<(String, String, u32, Queue)>, Error> {
    meta.read_all(DELIVERY, |key, value| {
        let damaged = || Error::Damaged(format!("the delivery state {key}"));
        let (group, topic, id) = split(key).ok_or_else(damaged)?;
        let (bounds, ordered) = bounds(group, topic, id);
        let queue = decode(value, &bounds, ordered).ok_or_else(damaged)?;
        Ok((group.to_owned(), topic.to_owned(), id, queue))
    })
}

/// How a group stands on a queue, in numbers that any broker understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) group: String,
    pub(crate) topic: String,
    pub(crate) queue: u32,
    /// The next offset that was never delivered.
    pub(crate) cursor: u64,
    /// Delivered, and to be delivered again; below the cursor, each offset once.
    pub(crate) again: Vec<Again>,
}

/// A message that a group is to get again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) offset: u64,
    /// How often it was delivered, from 1.
    pub(crate) attempt: u32,
    /// Not before this.
    pub(crate) visible_at: Millis,
}

/// How groups stand. Handles that clients hold are not part of it.
pub(crate) fn standings(meta: &Meta) -> Result<Vec<Standing>, Error> {
    let everywhere = |_: &str, _: &str, _: u32| (0..u64::MAX, false);
    let rows = read_all(meta, everywhere)?.into_iter();
    Ok(rows
        .map(|(group, topic, id, queue)| {
            let again = queue.flights().map(|(offset, flight)| Again {
                offset,
                attempt: flight.attempt,
                visible_at: flight.visible_at,
            });
            Standing { group, topic, queue: id, cursor: queue.cursor(), again: again.collect() }
        })
        .collect())
}

/// Puts groups where they stood with another broker, within a transaction of the caller; replaces what was known.
pub(crate) fn put_standings(transaction: &Transaction, standings: &[Standing]) -> Result<(), redb::Error> {
    let mut table = transaction.open_table(DELIVERY)?;
    for standing in standings {
        let Standing { group, topic, queue: id, cursor, again } = standing;
        let flights = again.iter().zip(1..).map(|(again, stamp)| {
            let &Again { offset, attempt, visible_at } = again;
            (offset, Flight { attempt: attempt.max(1), stamp, visible_at, ..Flight::default() })
        });
        let queue = Queue::load(*cursor, flights, [], &(0..u64::MAX), false);
        let row = row(group, topic, *id, &queue);
        table.insert(row.key.as_str(), row.value.as_slice())?;
    }
    Ok(())
}

fn split(key: &str) -> Option<(&str, &str, u32)> {
    let mut parts = key.split('/');
    let (group, topic, id) = (parts.next()?, parts.next()?, parts.next()?);
    Some((group, topic, id.parse().ok()?))
}

pub(super) fn encode(queue: &Queue) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + queue.len() * 24);
    put(&mut out, FORMAT);
    put(&mut out, queue.cursor());

    let mut clients: Vec<&Arc<str>> = Vec::new();
    for (_, flight) in queue.flights() {
        if let Some(renewal) = &flight.renewal
            && !clients.contains(&&renewal.client)
        {
            clients.push(&renewal.client);
        }
    }
    put(&mut out, clients.len() as u64);
    for client in &clients {
        put(&mut out, client.len() as u64);
        out.extend_from_slice(client.as_bytes());
    }

    put(&mut out, queue.ahead().len() as u64);
    let mut before = 0;
    for offset in queue.ahead() {
        put(&mut out, offset - before);
        before = offset;
    }

    put(&mut out, queue.len() as u64);
    let mut before = 0;
    for (offset, flight) in queue.flights() {
        let Flight { attempt, stamp, change, visible_at, lane, poll, renewal, suspended } = flight;
        put(&mut out, offset - before);
        before = offset;
        put(&mut out, u64::from(*attempt));
        put(&mut out, *stamp);
        put(&mut out, u64::from(*change));
        put(&mut out, u64::try_from(*visible_at).unwrap_or(0));
        put(&mut out, *lane);
        put(&mut out, *poll);
        put(&mut out, if *suspended { SUSPENDED } else { 0 } | if renewal.is_some() { RENEWED } else { 0 });
        if let Some(Renewal { client, until }) = renewal {
            let index = clients.iter().position(|known| *known == client).expect("it was listed above");
            put(&mut out, index as u64);
            put(&mut out, u64::try_from(*until).unwrap_or(0));
        }
    }
    out
}

pub(super) fn decode(mut rest: &[u8], bounds: &Range<u64>, ordered: bool) -> Option<Queue> {
    let rest = &mut rest;
    if take(rest)? != FORMAT {
        return None;
    }
    let cursor = take(rest)?;

    let mut clients: Vec<Arc<str>> = Vec::new();
    for _ in 0..take(rest)? {
        let length = usize::try_from(take(rest)?).ok()?;
        let (text, behind) = rest.split_at_checked(length)?;
        *rest = behind;
        clients.push(std::str::from_utf8(text).ok()?.into());
    }

    let mut ahead = Vec::new();
    let mut before = 0_u64;
    for _ in 0..take(rest)? {
        before = before.checked_add(take(rest)?)?;
        ahead.push(before);
    }

    let mut flights = Vec::new();
    let mut before = 0_u64;
    for _ in 0..take(rest)? {
        before = before.checked_add(take(rest)?)?;
        let mut flight = Flight {
            attempt: u32::try_from(take(rest)?).ok()?,
            stamp: take(rest)?,
            change: u16::try_from(take(rest)?).ok()?,
            visible_at: i64::try_from(take(rest)?).ok()?,
            lane: take(rest)?,
            poll: take(rest)?,
            ..Flight::default()
        };
        let flags = take(rest)?;
        flight.suspended = flags & SUSPENDED != 0;
        if flags & RENEWED != 0 {
            let client = clients.get(usize::try_from(take(rest)?).ok()?)?.clone();
            flight.renewal = Some(Renewal { client, until: i64::try_from(take(rest)?).ok()? });
        }
        flights.push((before, flight));
    }
    rest.is_empty().then(|| Queue::load(cursor, flights, ahead, bounds, ordered))
}

fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flight() -> impl Strategy<Value = Flight> {
        let renewal = proptest::option::of(("[a-c]", 0..i64::MAX))
            .prop_map(|renewal| renewal.map(|(client, until)| Renewal { client: client.into(), until }));
        let numbers = (any::<u32>(), any::<u64>(), any::<u16>(), 0..i64::MAX, any::<u64>(), any::<u64>());
        (numbers, renewal, any::<bool>()).prop_map(
            |((attempt, stamp, change, visible_at, lane, poll), renewal, suspended)| Flight {
                attempt,
                stamp,
                change,
                visible_at,
                lane,
                poll,
                renewal,
                suspended,
            },
        )
    }

    proptest! {
        #[test]
        fn the_state_of_a_queue_comes_back_as_it_was(
            cursor in 0..1_000_u64,
            flights in proptest::collection::btree_map(0..1_000_u64, flight(), 0..20),
            ahead in proptest::collection::btree_set(1_000..2_000_u64, 0..20),
            ordered: bool,
        ) {
            let bounds = 0..2_000;
            let queue = Queue::load(cursor, flights.clone(), ahead.clone(), &bounds, ordered);
            let again = decode(&encode(&queue), &bounds, ordered).unwrap();
            prop_assert_eq!(again.cursor(), cursor);
            prop_assert_eq!(again.flights().map(|(o, f)| (o, f.clone())).collect::<Vec<_>>(), flights.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(again.ahead().collect::<Vec<_>>(), ahead.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(again.first_due(), queue.first_due());
        }

        #[test]
        fn damaged_bytes_are_refused_and_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            decode(&bytes, &(0..10), false);
        }
    }

    #[test]
    fn what_lies_beyond_a_log_that_lost_its_tail_is_forgotten() {
        let flights = [(3, Flight::default()), (7, Flight::default())];
        let queue = Queue::load(9, flights, [8, 9], &(2..5), false);
        assert_eq!(queue.cursor(), 5);
        assert_eq!(queue.flights().map(|(offset, _)| offset).collect::<Vec<_>>(), [3]);
        assert_eq!(queue.ahead().len(), 0);
        assert!(queue.existed_at_load(4) && !queue.existed_at_load(5));
    }
}
