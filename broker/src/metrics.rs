//! What a broker counts. RocketMQ's names where it has one; limits and waits of our own begin with `gantry_`.

use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Registry, Unit};

use crate::log::Log;

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

/// Shows how many polls wait and how the log stands.
pub(crate) fn register_state(registry: &mut Registry, parked_polls: Gauge, log: Arc<Log>) {
    registry.register("gantry_parked_polls", "Long polls that wait for messages", parked_polls);
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
            ("gantry_disk_total_bytes", "Size of the volume", state.disk_total_bytes),
            ("gantry_disk_free_bytes", "Free space of the volume", state.disk_free_bytes),
            ("gantry_log_refuses", "1 while the log takes no messages", u64::from(state.refusing.is_some())),
        ];
        for (name, help, value) in values {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}
