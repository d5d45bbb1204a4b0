//! What the consumers of each group filter by, and where they differ.
//!
//! Each consumer is served by the filter of its own poll, but what a filter skips is gone for the whole group: consumers
//! with different filters take messages from each other. Counted as they come and go, so that a change costs
//! the same however many consumers there are. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use access::{GroupName, TopicName};

/// The filter of each topic that a consumer subscribes.
pub(crate) type Filters = BTreeMap<TopicName, Arc<str>>;

/// What a client said in its settings, and since then with its polls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The group that it consumes for.
    pub(crate) group: Option<GroupName>,
    /// What it filters by.
    pub(crate) filters: Filters,
}

/// The filters of one topic, and how many consumers have each.
type Counted = BTreeMap<Arc<str>, usize>;

/// A topic's filters in a group have become other ones, and there were or are several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) group: GroupName,
    pub(crate) topic: TopicName,
    /// One: they agree again. None: nobody is left.
    pub(crate) filters: Vec<Arc<str>>,
}

/// The filters in use, of all groups.
#[derive(Debug)]
pub(super) struct Subscriptions {
    by_group: HashMap<GroupName, BTreeMap<TopicName, Counted>>,
    /// Of all different texts.
    bytes: usize,
    most_bytes: usize,
}

impl Subscriptions {
    /// Remembers texts of at most so many bytes.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self { by_group: HashMap::new(), bytes: 0, most_bytes }
    }

    /// A consumer says something else than before; nothing before it came, and nothing when it goes.
    pub(super) fn settle(&mut self, old: &Said, new: &mut Said) -> Vec<Change> {
        let mut changes = Vec::new();
        let none = Filters::new();
        if let Some(group) = old.group.as_ref().filter(|group| new.group.as_ref() != Some(group)) {
            changes.extend(self.replace(group, &old.filters, &mut Filters::new()));
        }
        if let Some(group) = &new.group {
            let old = if old.group.as_ref() == Some(group) { &old.filters } else { &none };
            changes.extend(self.replace(group, old, &mut new.filters));
        }
        changes
    }

    /// A consumer of a group has other filters than before. What there is no room for goes from `new`.
    pub(super) fn replace(&mut self, group: &GroupName, old: &Filters, new: &mut Filters) -> Vec<Change> {
        let topics: BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
        let mut changes = Vec::new();
        for topic in topics {
            let (before, after) = (old.get(&topic), new.get(&topic));
            if before == after {
                continue;
            }
            let known = self.filters(group, &topic);
            let after = after.cloned();
            if let Some(filter) = before {
                self.remove(group, &topic, filter);
            }
            let kept = after.and_then(|filter| self.add(group, &topic, &filter));
            match kept {
                Some(filter) => new.insert(topic.clone(), filter),
                None => new.remove(&topic),
            };
            let filters = self.filters(group, &topic);
            if known != filters && (known.len() > 1 || filters.len() > 1) {
                changes.push(Change { group: group.clone(), topic, filters });
            }
        }
        changes
    }

    /// The topics of a group that its consumers filter differently.
    pub(super) fn conflicts(&self, group: &GroupName) -> Vec<(&TopicName, Vec<Arc<str>>)> {
        let topics = self.by_group.get(group).into_iter().flatten();
        let several = topics.filter(|(_, counted)| counted.len() > 1);
        several.map(|(topic, counted)| (topic, counted.keys().cloned().collect())).collect()
    }

    fn filters(&self, group: &GroupName, topic: &TopicName) -> Vec<Arc<str>> {
        let counted = self.by_group.get(group).and_then(|topics| topics.get(topic));
        counted.into_iter().flat_map(|counted| counted.keys().cloned()).collect()
    }

    /// The text as all share it; nothing if there is no room for it.
    fn add(&mut self, group: &GroupName, topic: &TopicName, filter: &Arc<str>) -> Option<Arc<str>> {
        let counted = self.by_group.get(group).and_then(|topics| topics.get(topic));
        let shared = match counted.and_then(|counted| counted.get_key_value(filter)) {
            Some((shared, _)) => Arc::clone(shared),
            None if self.bytes + filter.len() > self.most_bytes => return None,
            None => {
                self.bytes += filter.len();
                Arc::clone(filter)
            }
        };
        let topics = self.by_group.entry(group.clone()).or_default();
        *topics.entry(topic.clone()).or_default().entry(Arc::clone(&shared)).or_default() += 1;
        Some(shared)
    }

    fn remove(&mut self, group: &GroupName, topic: &TopicName, filter: &Arc<str>) {
        let Some(topics) = self.by_group.get_mut(group) else { return };
        let Some(counted) = topics.get_mut(topic) else { return };
        let Some(count) = counted.get_mut(filter) else { return };
        *count -= 1;
        if *count == 0 {
            counted.remove(filter);
            self.bytes -= filter.len();
        }
        if counted.is_empty() {
            topics.remove(topic);
        }
        if topics.is_empty() {
            self.by_group.remove(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupName {
        GroupName::parse(name).unwrap()
    }

    /// `orders: a || b, bills: *`
    fn filters(text: &str) -> Filters {
        let pairs = text.split(", ").filter_map(|pair| pair.split_once(": "));
        pairs.map(|(topic, filter)| (TopicName::parse(topic).unwrap(), filter.into())).collect()
    }

    /// What changed, as `orders: a | b`.
    fn replace(subscriptions: &mut Subscriptions, old: &str, new: &str) -> Vec<String> {
        let changes = subscriptions.replace(&group("g"), &filters(old), &mut filters(new));
        changes.iter().map(|change| format!("{}: {}", change.topic, change.filters.join(" | "))).collect()
    }

    #[test]
    fn only_what_becomes_or_was_a_conflict_is_a_change() {
        let mut subscriptions = Subscriptions::new(99);
        for (old, new, changes) in [
            ("", "orders: a, bills: *", &[][..]),
            ("", "orders: a", &[]),
            ("", "orders: b", &["orders: a | b"]),
            ("", "orders: b, bills: *", &[]),
            ("", "orders: c, bills: x", &["bills: * | x", "orders: a | b | c"]),
            ("orders: c, bills: x", "bills: *", &["bills: *", "orders: a | b"]),
            ("orders: b", "orders: a", &[]),
            ("orders: b, bills: *", "orders: a, bills: *", &["orders: a"]),
            ("orders: a", "orders: b", &["orders: a | b"]),
            ("orders: b", "", &["orders: a"]),
        ] {
            assert_eq!(replace(&mut subscriptions, old, new), changes, "{old} -> {new}");
        }
        assert!(subscriptions.conflicts(&group("g")).is_empty());
    }

    #[test]
    fn groups_do_not_disturb_each_other_and_nothing_is_left_of_those_that_go() {
        let mut subscriptions = Subscriptions::new(99);
        assert!(subscriptions.replace(&group("g"), &filters(""), &mut filters("orders: a")).is_empty());
        assert!(subscriptions.replace(&group("h"), &filters(""), &mut filters("orders: b")).is_empty());
        assert!(subscriptions.replace(&group("g"), &filters("orders: a"), &mut filters("")).is_empty());
        assert!(subscriptions.replace(&group("h"), &filters("orders: b"), &mut filters("")).is_empty());
        assert!(subscriptions.by_group.is_empty() && subscriptions.bytes == 0);
    }

    #[test]
    fn what_there_is_no_room_for_is_not_remembered() {
        let mut subscriptions = Subscriptions::new(3);
        let mut new = filters("a: xx, b: yy, c: z");
        subscriptions.replace(&group("g"), &filters(""), &mut new);
        assert_eq!(new, filters("a: xx, c: z"));
        let mut shared = filters("a: xx");
        subscriptions.replace(&group("g"), &filters(""), &mut shared);
        assert!(Arc::ptr_eq(new.values().next().unwrap(), shared.values().next().unwrap()));
        subscriptions.replace(&group("g"), &new, &mut filters(""));
        let mut room = filters("b: y");
        subscriptions.replace(&group("g"), &filters(""), &mut room);
        assert_eq!(room, filters("b: y"), "what others gave back is free");
    }
}
