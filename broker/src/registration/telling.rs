//! What a name server is told at one version, cut into reports that fit a message.

use std::sync::Arc;
use std::vec::IntoIter;

use access::{GroupName, TopicName};
use proto::control::broker_report::Report;
use proto::control::{ChangeReport, FullReport, FullReportPart};

use super::wire;
use crate::topics::{Changes, GroupConfig, Listing, Topic, TopicConfig};

/// Names in a report: with the longest names and owners it stays below the 4 MiB of a message.
const MOST_IN_A_REPORT: usize = 5000;

/// The reports of one version, made one by one.
pub(crate) enum Telling {
    /// Everything there is. The head goes with the first part of it.
    Everything {
        version: u64,
        head: Option<Box<FullReport>>,
        topics: IntoIter<Arc<Topic>>,
        groups: IntoIter<Arc<GroupConfig>>,
    },
    /// What changed.
    Changed {
        version: u64,
        topics: IntoIter<TopicConfig>,
        removed_topics: IntoIter<TopicName>,
        groups: IntoIter<GroupConfig>,
        removed_groups: IntoIter<GroupName>,
    },
}

impl Telling {
    pub(super) fn everything(head: FullReport, listing: Listing) -> Self {
        let Listing { version, topics, groups } = listing;
        let (topics, groups) = (topics.into_iter(), groups.into_iter());
        Self::Everything { version, head: Some(Box::new(head)), topics, groups }
    }

    pub(crate) fn changed(changes: Changes) -> Self {
        let Changes { version, topics, removed_topics, groups, removed_groups } = changes;
        Self::Changed {
            version,
            topics: topics.into_iter(),
            removed_topics: removed_topics.into_iter(),
            groups: groups.into_iter(),
            removed_groups: removed_groups.into_iter(),
        }
    }

    pub(crate) fn version(&self) -> u64 {
        let (Self::Everything { version, .. } | Self::Changed { version, .. }) = self;
        *version
    }

    /// The next report, and whether there are more. The last one is acknowledged for all.
    pub(crate) fn next_report(&mut self) -> (Report, bool) {
        let mut room = MOST_IN_A_REPORT;
        match self {
            Self::Everything { version: _, head, topics, groups } => {
                let some_topics = take(topics, &mut room).map(|topic| wire::topic(&topic.config)).collect();
                let some_groups = take(groups, &mut room).map(|group| wire::group(&group)).collect();
                let more = topics.len() + groups.len() > 0;
                let report = match head.take() {
                    Some(head) => {
                        Report::Full(FullReport { topics: some_topics, groups: some_groups, more, ..*head })
                    }
                    None => Report::Part(FullReportPart { topics: some_topics, groups: some_groups, more }),
                };
                (report, more)
            }
            Self::Changed { version: _, topics, removed_topics, groups, removed_groups } => {
                let report = ChangeReport {
                    topics: take(topics, &mut room).map(|topic| wire::topic(&topic)).collect(),
                    removed_topics: take(removed_topics, &mut room).map(|name| name.to_string()).collect(),
                    groups: take(groups, &mut room).map(|group| wire::group(&group)).collect(),
                    removed_groups: take(removed_groups, &mut room).map(|name| name.to_string()).collect(),
                };
                let left = topics.len() + removed_topics.len() + groups.len() + removed_groups.len();
                (Report::Change(report), left > 0)
            }
        }
    }
}

/// As many as there is room for.
fn take<'a, T>(from: &'a mut IntoIter<T>, room: &mut usize) -> impl Iterator<Item = T> + use<'a, T> {
    let count = from.len().min(*room);
    *room -= count;
    from.take(count)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::topics::TopicConfig;

    fn topics(count: usize) -> Vec<TopicConfig> {
        let longest = |n: usize| TopicName::parse(&format!("{n:0>127}")).unwrap();
        let owner = "o".repeat(512);
        (0..count)
            .map(|n| TopicConfig { owner: owner.clone(), ..TopicConfig::new(longest(n), 1024) })
            .collect()
    }

    #[test]
    fn every_report_fits_a_message_and_all_is_told_once() {
        let listing = |count| Listing {
            version: 7,
            topics: topics(count).into_iter().map(|config| Arc::new(Topic::new(config))).collect(),
            groups: Vec::new(),
        };
        for (count, expected) in [(0, 1), (1, 1), (MOST_IN_A_REPORT, 1), (12_345, 3)] {
            let mut telling = Telling::everything(FullReport::default(), listing(count));
            let (mut reports, mut told) = (0, 0);
            loop {
                let (report, more) = telling.next_report();
                reports += 1;
                told += match report {
                    Report::Full(full) if reports == 1 => {
                        assert!(full.encoded_len() < 4 << 20 && full.more == more);
                        full.topics.len()
                    }
                    Report::Part(part) if reports > 1 => {
                        assert!(part.encoded_len() < 4 << 20 && part.more == more);
                        part.topics.len()
                    }
                    other => panic!("{other:?}"),
                };
                if !more {
                    break;
                }
            }
            assert_eq!((reports, told, telling.version()), (expected, count, 7));
        }
    }

    #[test]
    fn many_changes_are_told_in_several_reports() {
        let topics = topics(MOST_IN_A_REPORT - 1);
        let removed_topics = topics.iter().map(|topic| topic.name.clone()).take(3).collect();
        let mut telling =
            Telling::changed(Changes { version: 9, topics, removed_topics, ..Changes::default() });
        let mut counts = Vec::new();
        loop {
            let (Report::Change(change), more) = telling.next_report() else { panic!("not a change") };
            counts.push((change.topics.len(), change.removed_topics.len()));
            if !more {
                break;
            }
        }
        assert_eq!(counts, [(MOST_IN_A_REPORT - 1, 1), (0, 2)]);
    }
}
