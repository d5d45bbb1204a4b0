//! Which clients produce for which topics: they are asked what became of their transactions.

use std::collections::{BTreeSet, HashMap};

use access::TopicName;

/// Topics of one producer that are remembered.
const MOST_TOPICS: usize = 1024;

/// What producers said in their settings, and for which topics they began transactions.
#[derive(Debug, Default)]
pub(super) struct Producers {
    by_topic: HashMap<TopicName, BTreeSet<String>>,
    by_client: HashMap<String, BTreeSet<TopicName>>,
    /// Who was asked last.
    turn: usize,
}

impl Producers {
    /// The client produces for these topics, and no others that it named before.
    pub(super) fn replace(&mut self, client: &str, topics: BTreeSet<TopicName>) {
        self.forget(client);
        topics.into_iter().for_each(|topic| self.add(client, topic));
    }

    /// The client produces for this topic too.
    pub(super) fn add(&mut self, client: &str, topic: TopicName) {
        let topics = self.by_client.entry(client.to_owned()).or_default();
        if topics.len() < MOST_TOPICS && topics.insert(topic.clone()) {
            self.by_topic.entry(topic).or_default().insert(client.to_owned());
        }
    }

    /// The client is gone.
    pub(super) fn forget(&mut self, client: &str) {
        for topic in self.by_client.remove(client).unwrap_or_default() {
            let Some(producers) = self.by_topic.get_mut(&topic) else { continue };
            producers.remove(client);
            if producers.is_empty() {
                self.by_topic.remove(&topic);
            }
        }
    }

    /// Whoever produces for a topic.
    pub(super) fn of(&self, topic: &TopicName) -> impl Iterator<Item = &str> {
        self.by_topic.get(topic).into_iter().flatten().map(String::as_str)
    }

    /// Whoever produces for a topic, another one first each time.
    pub(super) fn in_turn(&mut self, topic: &TopicName) -> impl Iterator<Item = &str> {
        self.turn = self.turn.wrapping_add(1);
        let producers = self.by_topic.get(topic);
        let first = producers.map_or(0, |producers| self.turn % producers.len());
        let from = |skip, take| producers.into_iter().flatten().skip(skip).take(take);
        from(first, usize::MAX).chain(from(0, first)).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::parse(name).unwrap()
    }

    #[test]
    fn producers_of_a_topic_come_in_turn_as_long_as_they_are_there() {
        let mut producers = Producers::default();
        let orders = topic("orders");
        assert_eq!(producers.in_turn(&orders).count(), 0);
        producers.add("a", orders.clone());
        producers.replace("b", [orders.clone(), topic("bills")].into());
        let first: Vec<String> =
            (0..4).map(|_| producers.in_turn(&orders).next().unwrap().to_owned()).collect();
        assert!(first == ["b", "a", "b", "a"] || first == ["a", "b", "a", "b"], "{first:?}");
        assert_eq!(producers.in_turn(&orders).count(), 2);
        producers.replace("b", [topic("bills")].into());
        assert_eq!(producers.in_turn(&orders).collect::<Vec<_>>(), ["a"]);
        producers.forget("a");
        producers.forget("b");
        assert!(producers.by_topic.is_empty() && producers.by_client.is_empty());
    }

    #[test]
    fn of_one_producer_only_so_many_topics_are_remembered() {
        let mut producers = Producers::default();
        (0..=MOST_TOPICS).for_each(|n| producers.add("a", topic(&format!("t{n}"))));
        assert_eq!(producers.by_topic.len(), MOST_TOPICS);
    }
}
