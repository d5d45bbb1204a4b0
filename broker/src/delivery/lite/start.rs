//! Where a group begins to read a lite topic that is new to it.

use std::ops::Range;
use std::sync::Arc;

use access::{GroupName, TopicName};
use store::{QueueId, ReadError};

use crate::delivery::Delivery;

/// What a client says about lite topics that are new to its group. Without it they begin at the first message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the next message that comes.
    Next,
    /// At this offset.
    Offset(u64),
    /// With the last so many messages.
    Tail(u64),
    /// With the first message stored at this time or later, Unix milliseconds.
    Time(i64),
}

impl Start {
    /// The offset. `at_time` finds the first one that was stored at a time or later.
    fn offset(
        self,
        bounds: &Range<u64>,
        at_time: impl FnOnce(i64) -> Result<u64, ReadError>,
    ) -> Result<u64, ReadError> {
        let offset = match self {
            Self::Next => bounds.end,
            Self::Offset(offset) => offset,
            Self::Tail(count) => bounds.end.saturating_sub(count),
            Self::Time(at_ms) => at_time(at_ms)?,
        };
        Ok(offset.clamp(bounds.start, bounds.end))
    }
}

impl Delivery {
    /// The group begins there with those of these topics that are new to it.
    pub(super) async fn begin_at(self: &Arc<Self>, group: &GroupName, topics: Vec<TopicName>, start: Start) {
        let (delivery, group) = (Arc::clone(self), group.clone());
        let act = move || {
            for topic in topics {
                if delivery.progress(&group, &topic, 0).is_some() {
                    continue;
                }
                let at_time = |at_ms| {
                    Ok(delivery.needs.log.store().offset_at_time(topic.as_str(), QueueId(0), at_ms)?.0)
                };
                match start.offset(&delivery.bounds(&topic, 0), at_time) {
                    Ok(offset) => {
                        // Outside only if retention was at work just now: then it begins at what is left.
                        let _ = delivery.set_progress(&group, &topic, 0, offset);
                    }
                    Err(error) => {
                        tracing::warn!(%topic, %group, %error, "cannot find where a lite topic is to be begun, it is read from its start");
                    }
                }
            }
        };
        tokio::task::spawn_blocking(act).await.expect("looking for an offset does not panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_lies_within_what_there_is() {
        let check = |start: Start, expected: u64| {
            assert_eq!(start.offset(&(10..20), |_| Ok(15)).unwrap(), expected, "{start:?}");
        };
        check(Start::Next, 20);
        check(Start::Offset(12), 12);
        check(Start::Offset(3), 10);
        check(Start::Offset(99), 20);
        check(Start::Tail(3), 17);
        check(Start::Tail(11), 10);
        check(Start::Tail(u64::MAX), 10);
        check(Start::Time(0), 15);
    }
}
