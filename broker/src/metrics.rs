//! What a broker counts. RocketMQ's names where it has one; limits and waits of our own begin with `gantry_`.

use std::sync::Arc;

use access::{GroupName, TopicName};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::delivery::Delivery;
use crate::front::connections::Clients;
use crate::log::Log;
use crate::schedule::Timers;
use crate::transactions::Transactions;

/// Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) messages_in: Counter,
    pub(crate) bytes_in: Counter,
    pub(crate) messages_out: Counter,
    pub(crate) refused_sends: Counter,
    pub(crate) acks: Counter,
    pub(crate) dead_letters: Counter,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self { messages_in, bytes_in, messages_out, refused_sends, acks, dead_letters } = self.clone();
        registry.register("rocketmq_messages_in", "Messages stored for producers", messages_in);
        registry.register_with_unit(
            "rocketmq_throughput_in",
            "Bodies stored for producers",
            Unit::Bytes,
            bytes_in,
        );
        registry.register("rocketmq_messages_out", "Messages handed to consumers", messages_out);
        registry.register("rocketmq_send_to_dlq_messages", "Messages that clients gave up", dead_letters);
        registry.register(
            "gantry_sends_refused",
            "SendMessage requests answered with an error",
            refused_sends,
        );
        registry.register("gantry_acknowledgements", "Entries of AckMessage requests", acks);
    }
}

/// What delayed messages come to. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Delayed {
    pub(crate) enqueued: Counter,
    pub(crate) dequeued: Counter,
    pub(crate) lost: Counter,
    late_seconds: Histogram,
}

impl Default for Delayed {
    fn default() -> Self {
        let bounds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0];
        Self {
            enqueued: Counter::default(),
            dequeued: Counter::default(),
            lost: Counter::default(),
            late_seconds: Histogram::new(bounds),
        }
    }
}

impl Delayed {
    /// Messages were delivered so long after they were due.
    pub(crate) fn late(&self, ms: i64) {
        self.late_seconds.observe(ms as f64 / 1000.0);
    }

    /// Shows them, and how many wait.
    pub(crate) fn register(&self, registry: &mut Registry, timers: Arc<Timers>) {
        let Self { enqueued, dequeued, lost, late_seconds } = self.clone();
        registry.register("rocketmq_timer_enqueue", "Messages that began to wait for their time", enqueued);
        registry.register("rocketmq_timer_dequeue", "Messages delivered at their time", dequeued);
        registry.register(
            "gantry_delayed_messages_lost",
            "Messages that waited and cannot be read any more",
            lost,
        );
        registry.register_with_unit(
            "gantry_delayed_message_late",
            "From when the first of a batch was due until it was delivered",
            Unit::Seconds,
            late_seconds,
        );
        registry.register_collector(Box::new(Waiting(timers)));
    }
}

/// Asks at each scrape.
struct Waiting(Arc<Timers>);

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Waiting").finish_non_exhaustive()
    }
}

impl Collector for Waiting {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let family = Family::<TopicLabel, Gauge>::default();
        for (topic, count) in self.0.all_waiting() {
            let gauge = family.get_or_create_owned(&TopicLabel { topic });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let help = "Messages that wait for their time";
        family.encode(encoder.encode_descriptor(
            "rocketmq_timing_messages",
            help,
            None,
            family.metric_type(),
        )?)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    consumer_group: String,
}

/// For each group, the messages that retention deleted before it was done with them. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Skipped(Family<GroupLabel, Counter>);

impl Skipped {
    fn label(group: &GroupName) -> GroupLabel {
        GroupLabel { consumer_group: group.to_string() }
    }

    pub(crate) fn inc_by(&self, group: &GroupName, messages: u64) {
        self.0.get_or_create(&Self::label(group)).inc_by(messages);
    }

    /// There is no such group any more.
    pub(crate) fn forget(&self, group: &GroupName) {
        self.0.remove(&Self::label(group));
    }
}

/// For each group that has any, the topics that its consumers filter differently. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct SubscriptionConflicts(Family<GroupLabel, Gauge>);

impl SubscriptionConflicts {
    pub(crate) fn set(&self, group: &GroupName, topics: usize) {
        let label = GroupLabel { consumer_group: group.to_string() };
        if topics == 0 {
            self.0.remove(&label);
        } else {
            self.0.get_or_create(&label).set(i64::try_from(topics).unwrap_or(i64::MAX));
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TopicLabel {
    topic: String,
}

impl TopicLabel {
    fn of(topic: &TopicName) -> Self {
        Self { topic: topic.to_string() }
    }
}

/// How transactions ended, by topic. Clones count together.
#[derive(Clone, Debug, Default)]
pub(crate) struct TransactionMetrics {
    committed: Family<TopicLabel, Counter>,
    rolled_back: Family<TopicLabel, Counter>,
    given_up: Family<TopicLabel, Counter>,
}

impl TransactionMetrics {
    pub(crate) fn committed(&self, topic: &TopicName) {
        self.committed.get_or_create(&TopicLabel::of(topic)).inc();
    }

    pub(crate) fn rolled_back(&self, topic: &TopicName) {
        self.rolled_back.get_or_create(&TopicLabel::of(topic)).inc();
    }

    pub(crate) fn given_up(&self, topic: &TopicName) {
        self.given_up.get_or_create(&TopicLabel::of(topic)).inc();
    }

    /// There is no such topic any more.
    pub(crate) fn forget(&self, topic: &TopicName) {
        let Self { committed, rolled_back, given_up } = self;
        for family in [committed, rolled_back, given_up] {
            family.remove(&TopicLabel::of(topic));
        }
    }

    fn register(&self, registry: &mut Registry) {
        let Self { committed, rolled_back, given_up } = self.clone();
        registry.register("rocketmq_commit_messages", "Transactions that were committed", committed);
        registry.register("rocketmq_rollback_messages", "Transactions that were rolled back", rolled_back);
        registry.register("gantry_given_up_messages", "Transactions that no producer ended", given_up);
    }
}

/// Asks at each scrape how many transactions wait.
struct HalfMessages(Arc<Transactions>);

impl std::fmt::Debug for HalfMessages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("HalfMessages").finish_non_exhaustive()
    }
}

impl Collector for HalfMessages {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Messages whose transaction has not ended";
        let mut family =
            encoder.encode_descriptor("rocketmq_half_messages", help, None, MetricType::Gauge)?;
        for (topic, count) in self.0.waiting_by_topic() {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&TopicLabel::of(&topic))?)?;
        }
        Ok(())
    }
}

/// Asks at each scrape how many lite topics there are.
struct LiteTopics(Arc<Delivery>);

impl std::fmt::Debug for LiteTopics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LiteTopics").finish_non_exhaustive()
    }
}

impl Collector for LiteTopics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Lite topics below a topic of type LITE; config.maxLiteTopics bounds them";
        let mut family = encoder.encode_descriptor("gantry_lite_topics", help, None, MetricType::Gauge)?;
        for (topic, count) in self.0.lite_topics_by_parent() {
            let gauge = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&TopicLabel::of(&topic))?)?;
        }
        Ok(())
    }
}

/// Shows how clients, delivery, transactions and the log stand.
pub(crate) fn register_state(
    registry: &mut Registry,
    clients: &Clients,
    delivery: &Arc<Delivery>,
    transactions: Arc<Transactions>,
    log: Arc<Log>,
) {
    transactions.metrics().register(registry);
    registry.register_collector(Box::new(HalfMessages(transactions)));
    registry.register_collector(Box::new(LiteTopics(Arc::clone(delivery))));
    registry.register(
        "gantry_group_subscription_conflicts",
        "Topics that consumers of the group filter differently, so that they take messages from each other",
        clients.subscription_conflicts().0,
    );
    let parked = delivery.parked_polls();
    registry.register("gantry_parked_polls", "Long polls that wait for messages", parked);
    registry.register(
        "gantry_messages_skipped_by_retention",
        "Messages that retention deleted before the group was done with them",
        delivery.skipped().0,
    );
    registry.register_collector(Box::new(LogState(log)));
}

/// Asks the store at each scrape.
struct LogState(Arc<Log>);

impl std::fmt::Debug for LogState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("LogState").finish_non_exhaustive()
    }
}

impl Collector for LogState {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let state = self.0.store().state();
        let values = [
            ("gantry_log_min_offset", "First byte of the log that is left", state.min.0),
            ("gantry_log_end_offset", "End of what is written to the log", state.appended.0),
            ("gantry_log_flushed_offset", "End of what is on the disk", state.flushed.0),
            ("gantry_log_flushes", "How often the log was flushed since it was opened", state.flushes),
            ("gantry_cold_read_bytes", "Bytes read from files for readers far behind", state.cold_read_bytes),
            ("gantry_disk_total_bytes", "Size of the volume", state.disk_total_bytes),
            ("gantry_disk_free_bytes", "Free space of the volume", state.disk_free_bytes),
            (
                "gantry_log_damaged_places",
                "Places of the log where no valid record lies",
                state.damaged.places,
            ),
            ("gantry_log_damaged_bytes", "Bytes of all damaged places", state.damaged.bytes),
            ("gantry_log_damaged_found", "Damaged places that were ever listed", state.damaged.found),
            (
                "gantry_log_damaged_beyond",
                "Reports of damaged places for which the list had no room",
                state.damaged.beyond,
            ),
            ("gantry_scrub_offset", "So far the scrub has come", state.scrubbed.at.0),
            ("gantry_scrub_end_offset", "Where its pass ends", state.scrubbed.end.0),
            ("gantry_scrub_read_bytes", "Bytes it has read since the start", state.scrubbed.read_bytes),
            (
                "gantry_scrub_last_end_seconds",
                "When the log was last read through, Unix seconds; 0: not yet",
                u64::try_from(state.scrubbed.ended_ms / 1000).unwrap_or(0),
            ),
            ("gantry_log_refuses", "1 while the log takes no messages", u64::from(state.refusing.is_some())),
        ];
        for (name, help, value) in values {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
