//! What to do about a topic on one broker. Pure.
//!
//! Queues shrink in two phases: the last ones take no more messages at once, and go when what they hold has been
//! consumed.

use std::borrow::Cow;

use crds::{ManagementPolicy, Permission};
use proto::control::{DescribeGroupResponse, QueueState, TopicConfig};

use super::validate::Wanted;
use crate::declared::decide::Rules;

/// What `live` is compared with. Who only looks has no stamp on it.
pub fn compared<'a>(wanted: &'a Wanted, rules: Rules, live: &TopicConfig) -> Cow<'a, Wanted> {
    match rules.management {
        ManagementPolicy::Full => Cow::Borrowed(wanted),
        ManagementPolicy::ObserveOnly => Cow::Owned(Wanted { owner: live.owner.clone(), ..wanted.clone() }),
    }
}

/// Whether `live` is as we left it on the way that a status calls draining: to fewer queues, or away from a group that is chosen
/// again by now.
pub fn is_on_the_way(wanted: &Wanted, live: &TopicConfig) -> bool {
    let open = TopicConfig { writable: wanted.writable, ..live.clone() };
    next(wanted, Some(&open), 1) == open
}

/// A topic in words.
pub fn in_words(live: &TopicConfig) -> String {
    let TopicConfig { name, read_queues, write_queues, readable, writable, message_type: _, owner } = live;
    let permission = Permission::of(*readable, *writable);
    let managed = if owner.is_empty() { "nobody" } else { owner };
    format!(
        "topic {name} with {read_queues} read queues, {write_queues} write queues, {permission:?}, {:?}, managed by {managed}",
        live.message_type()
    )
}

/// Whether queues are to go, so that what they hold must be known.
pub fn shrinks(wanted: &Wanted, live: Option<&TopicConfig>) -> bool {
    live.is_some_and(|live| live.read_queues > wanted.queues)
}

/// The topic as it shall be now. `left` is how many messages wait in queues that are to go.
pub fn next(wanted: &Wanted, live: Option<&TopicConfig>, left: u64) -> TopicConfig {
    let read_queues = match live {
        Some(live) if live.read_queues > wanted.queues && left > 0 => live.read_queues,
        _ => wanted.queues,
    };
    TopicConfig {
        name: wanted.name.clone(),
        read_queues,
        write_queues: wanted.queues,
        readable: wanted.readable,
        writable: wanted.writable,
        message_type: wanted.message_type.into(),
        owner: wanted.owner.clone(),
    }
}

/// How many messages wait in the queues from `first` on: what the slowest group has not consumed. Where no group has
/// ever read the topic, everything waits, for the next group begins at the beginning.
pub fn left(topic: &str, first: u32, queues: &[QueueState], groups: &[DescribeGroupResponse]) -> u64 {
    let readers: Vec<&DescribeGroupResponse> =
        groups.iter().filter(|group| group.queues.iter().any(|queue| queue.topic == topic)).collect();
    let waits = |queue: &QueueState| {
        let stored = queue.max_offset.saturating_sub(queue.min_offset);
        let unread = readers.iter().map(|group| {
            let progress = group.queues.iter().find(|at| at.topic == topic && at.queue_id == queue.queue_id);
            progress.map_or(stored, |at| {
                queue.max_offset.saturating_sub(at.cursor.max(queue.min_offset)) + at.in_flight
            })
        });
        unread.max().unwrap_or(stored).min(stored)
    };
    queues.iter().filter(|queue| queue.queue_id >= first).map(waits).sum()
}

#[cfg(test)]
mod tests {
    use proto::control::{GroupQueueState, MessageType};

    use super::*;

    fn wanted(queues: u32) -> Wanted {
        Wanted {
            name: "orders".to_owned(),
            queues,
            readable: true,
            writable: true,
            message_type: MessageType::Normal,
            owner: "shop/orders/uid-1".to_owned(),
        }
    }

    fn live(read_queues: u32, write_queues: u32) -> TopicConfig {
        TopicConfig { read_queues, write_queues, ..TopicConfig::default() }
    }

    #[track_caller]
    fn check_queues(now: Option<(u32, u32)>, wanted_queues: u32, left: u64, expected: (u32, u32)) {
        let now = now.map(|(read, write)| live(read, write));
        let next = next(&wanted(wanted_queues), now.as_ref(), left);
        assert_eq!((next.read_queues, next.write_queues), expected);
    }

    #[test]
    fn queues_grow_at_once_and_shrink_in_two_phases() {
        check_queues(None, 8, 0, (8, 8));
        check_queues(Some((8, 8)), 16, 0, (16, 16));
        check_queues(Some((8, 8)), 4, 7, (8, 4));
        check_queues(Some((8, 4)), 4, 7, (8, 4));
        check_queues(Some((8, 4)), 4, 0, (4, 4));
        check_queues(Some((8, 4)), 6, 7, (8, 6));
        check_queues(Some((8, 4)), 8, 7, (8, 8));
    }

    fn queue(queue_id: u32, min_offset: u64, max_offset: u64) -> QueueState {
        QueueState { queue_id, min_offset, max_offset, last_stored_at_ms: 0 }
    }

    fn group(topic: &str, queues: &[(u32, u64, u64)]) -> DescribeGroupResponse {
        let queues = queues.iter().map(|(queue_id, cursor, in_flight)| GroupQueueState {
            topic: topic.to_owned(),
            queue_id: *queue_id,
            cursor: *cursor,
            in_flight: *in_flight,
            max_offset: 0,
        });
        DescribeGroupResponse { queues: queues.collect(), ..DescribeGroupResponse::default() }
    }

    #[test]
    fn what_waits_is_what_the_slowest_group_has_not_consumed() {
        let queues = [queue(0, 0, 100), queue(1, 0, 10), queue(2, 5, 20)];
        // Nobody has read: everything waits, but for the queues that stay.
        assert_eq!(left("t", 1, &queues, &[]), 10 + 15);
        // A group of another topic is no reader.
        assert_eq!(left("t", 1, &queues, &[group("u", &[(1, 10, 0)])]), 25);
        let fast = group("t", &[(1, 10, 0), (2, 20, 0)]);
        assert_eq!(left("t", 1, &queues, std::slice::from_ref(&fast)), 0);
        let slow = group("t", &[(1, 4, 0), (2, 20, 3)]);
        assert_eq!(left("t", 1, &queues, &[fast.clone(), slow]), 6 + 3);
        // A group that has not reached a queue has everything of it before it.
        assert_eq!(left("t", 1, &queues, &[fast, group("t", &[(0, 1, 0)])]), 25);
        // What retention took waits for nobody.
        assert_eq!(left("t", 0, &[queue(0, 50, 50)], &[group("t", &[(0, 1, 0)])]), 0);
    }
}
