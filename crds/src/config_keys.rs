//! The keys of `spec.config`: the knobs that brokers and name servers have, by name.
//!
//! The programs own the knobs; a test of the operator holds these lists against theirs. They are repeated here so that
//! a resource can be judged without linking a broker.

/// Keys of a BrokerGroup's `spec.config`.
pub const BROKER_CONFIG_KEYS: &[&str] =
    &["maxAttempts", "maxBodyBytes", "maxConnections", "maxInFlightPerQueue", "maxParkedPolls"];

/// Keys of a NameServerSet's `spec.config`.
pub const NAME_SERVER_CONFIG_KEYS: &[&str] = &["maxConnections"];
