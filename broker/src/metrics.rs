//! What a broker counts. RocketMQ's names where it has one; limits and waits of our own begin with `gantry_`.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::{Registry, Unit};

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
