//! The topics of a broker, by name.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};

use proto::control::TopicConfig;

/// Equal to whatever has the same name: so the name is kept once.
#[derive(Debug, Clone)]
struct ByName(TopicConfig);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for ByName {}

/// What routes need of topics: who manages them is not kept.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topics(HashSet<ByName>);

impl FromIterator<TopicConfig> for Topics {
    fn from_iter<I: IntoIterator<Item = TopicConfig>>(topics: I) -> Self {
        let mut all = Self::default();
        for topic in topics {
            all.put(topic);
        }
        all.0.shrink_to_fit();
        all
    }
}

impl Topics {
    /// The topic of this name.
    pub fn get(&self, name: &str) -> Option<&TopicConfig> {
        self.0.get(name).map(|found| &found.0)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|topic| topic.0.name.as_str())
    }

    /// Puts a topic in, over one of the same name. Returns whether there was none.
    pub fn put(&mut self, mut topic: TopicConfig) -> bool {
        topic.owner = String::new();
        topic.name.shrink_to_fit();
        self.0.replace(ByName(topic)).is_none()
    }

    /// Takes a topic out. Returns whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.0.remove(name)
    }
}
