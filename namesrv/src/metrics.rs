//! What a name server counts.

use access::client::Language;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use proto::v2::Status;

/// Who asked for a route, and the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Query {
    language: String,
    code: i32,
}

/// Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    brokers: Gauge,
    topics: Gauge,
    telemetry: Gauge,
    route_queries: Family<Query, Counter>,
    assignment_queries: Family<Query, Counter>,
}

impl Metrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self { brokers, topics, telemetry, route_queries, assignment_queries } = self.clone();
        registry.register("gantry_namesrv_brokers", "Registered members of broker groups", brokers);
        registry.register("gantry_namesrv_topics", "Topics, each counted once", topics);
        registry.register("gantry_namesrv_telemetry_streams", "Open Telemetry streams", telemetry);
        registry.register("gantry_namesrv_route_queries", "QueryRoute by language and code", route_queries);
        let help = "QueryAssignment by language and code";
        registry.register("gantry_namesrv_assignment_queries", help, assignment_queries);
    }

    pub(crate) fn show_table(&self, members: usize, topics: usize) {
        self.brokers.set(members.try_into().unwrap_or(i64::MAX));
        self.topics.set(topics.try_into().unwrap_or(i64::MAX));
    }

    pub(crate) fn count_route(&self, language: Language, status: Option<&Status>) {
        self.route_queries.get_or_create(&query(language, status)).inc();
    }

    pub(crate) fn count_assignment(&self, language: Language, status: Option<&Status>) {
        self.assignment_queries.get_or_create(&query(language, status)).inc();
    }

    /// Counts a Telemetry stream until the guard is dropped.
    pub(crate) fn telemetry_opened(&self) -> Open {
        self.telemetry.inc();
        Open(self.telemetry.clone())
    }
}

fn query(language: Language, status: Option<&Status>) -> Query {
    Query { language: language.to_string(), code: status.map_or(0, |status| status.code) }
}

/// Something open that is counted.
#[derive(Debug)]
pub(crate) struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
