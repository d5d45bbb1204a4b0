//! What the operator counts.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Labels of a reconcile.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reconcile {
    kind: &'static str,
    result: &'static str,
}

/// Labels of something about a kind of object.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: String,
}

/// What the operator counts.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Reconcile, Counter>,
    reconcile_seconds: Family<Kind, Histogram>,
    applies: Family<Kind, Counter>,
    status_writes: Family<Kind, Counter>,
    control_calls: Family<Reconcile, Counter>,
    events_dropped: Counter,
    watch_errors: Family<Kind, Counter>,
    leader: Gauge<i64, AtomicI64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.001, 2.0, 14));
        let mut metrics = Self {
            registry: Registry::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(seconds),
            applies: Family::default(),
            status_writes: Family::default(),
            control_calls: Family::default(),
            events_dropped: Counter::default(),
            watch_errors: Family::default(),
            leader: Gauge::default(),
        };
        let registry = metrics.registry.sub_registry_with_prefix("gantry_operator");
        registry.register("reconciles", "Reconciles by kind and result", metrics.reconciles.clone());
        registry.register("reconcile_seconds", "Time of a reconcile", metrics.reconcile_seconds.clone());
        registry.register("applies", "Objects written", metrics.applies.clone());
        registry.register("status_writes", "Statuses written", metrics.status_writes.clone());
        registry.register(
            "control_calls",
            "Calls to brokers and name servers",
            metrics.control_calls.clone(),
        );
        registry.register(
            "events_dropped",
            "Events that were not published because too many waited",
            metrics.events_dropped.clone(),
        );
        registry.register(
            "watch_errors",
            "Watches that broke and were made again",
            metrics.watch_errors.clone(),
        );
        registry.register("leader", "1 while this process leads", metrics.leader.clone());
        metrics
    }
}

impl Metrics {
    /// A reconcile ended.
    pub fn reconciled(&self, kind: &'static str, ok: bool, seconds: f64) {
        let result = if ok { "ok" } else { "error" };
        self.reconciles.get_or_create(&Reconcile { kind, result }).inc();
        self.reconcile_seconds.get_or_create(&Kind { kind: kind.to_owned() }).observe(seconds);
    }

    /// An object was written.
    pub fn applied(&self, kind: &str) {
        self.applies.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// A status was written.
    pub fn status_written(&self, kind: &str) {
        self.status_writes.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// A broker or a name server was called.
    pub fn called(&self, kind: &'static str, ok: bool) {
        self.control_calls.get_or_create(&Reconcile { kind, result: if ok { "ok" } else { "error" } }).inc();
    }

    /// An Event found no room in the queue.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A watch broke.
    pub fn watch_failed(&self, kind: &str) {
        self.watch_errors.get_or_create(&Kind { kind: kind.to_owned() }).inc();
    }

    /// Whether this process leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// Everything in the text form of OpenMetrics.
    pub fn text(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a String takes every write");
        page
    }
}
