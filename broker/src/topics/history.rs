//! What was touched at which version, as far as it is remembered.

use std::collections::VecDeque;

use access::{GroupName, TopicName};

/// How many past changes are remembered one by one; a watcher that is further behind gets everything.
const REMEMBERED_CHANGES: usize = 16_384;

#[derive(Clone, Debug)]
pub(super) enum Touched {
    Topic(TopicName),
    Group(GroupName),
}

/// The last changes.
#[derive(Debug, Default)]
pub(super) struct History {
    version: u64,
    /// Of versions behind this everything is in `touched`.
    complete_after: u64,
    /// In order of their versions.
    touched: VecDeque<(u64, Touched)>,
}

impl History {
    /// Adds changes that are seen together; the version at which they are.
    pub(super) fn add(&mut self, touched: impl Iterator<Item = Touched>) -> u64 {
        self.version += 1;
        self.touched.extend(touched.map(|touched| (self.version, touched)));
        let surplus = self.touched.len().saturating_sub(REMEMBERED_CHANGES);
        if let Some((version, _)) = self.touched.drain(..surplus).next_back() {
            self.complete_after = version;
        }
        self.version
    }

    /// The version now, and the names touched behind `version`, sorted; `None` if they are not remembered.
    pub(super) fn since(&self, version: u64) -> Option<(u64, Vec<TopicName>, Vec<GroupName>)> {
        if version < self.complete_after {
            return None;
        }
        let (mut topics, mut groups) = (Vec::new(), Vec::new());
        let first = self.touched.partition_point(|(at, _)| *at <= version);
        for (_, touched) in self.touched.range(first..) {
            match touched {
                Touched::Topic(name) => topics.push(name.clone()),
                Touched::Group(name) => groups.push(name.clone()),
            }
        }
        topics.sort_unstable();
        topics.dedup();
        groups.sort_unstable();
        groups.dedup();
        Some((self.version, topics, groups))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(n: usize) -> Touched {
        Touched::Topic(TopicName::parse(&format!("t-{n:05}")).unwrap())
    }

    #[test]
    fn a_watcher_that_is_far_behind_is_told_to_take_everything() {
        let mut history = History::default();
        assert_eq!(history.add([topic(0), topic(1)].into_iter()), 1);
        assert_eq!(history.add((0..REMEMBERED_CHANGES - 2).map(topic)), 2);
        assert_eq!(
            history.since(0).unwrap().1.len(),
            REMEMBERED_CHANGES - 2,
            "two of them were touched twice"
        );
        // One of two that were changed together is forgotten: nobody can tell any more which.
        assert_eq!(history.add([topic(7)].into_iter()), 3);
        assert!(history.since(0).is_none());
        assert_eq!(history.since(1).unwrap().1.len(), REMEMBERED_CHANGES - 2);
        assert_eq!(history.since(2).unwrap().1.len(), 1);
        assert_eq!(history.since(3).unwrap().1.len(), 0);
    }
}
