//! The keys of `spec.config`: the knobs that brokers and name servers have, and what each may be.
//!
//! The programs own the knobs; a test of the operator holds these tables against theirs. They are repeated here so that
//! a resource can be judged without linking a broker.

/// A key of `spec.config`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigKey {
    /// Its name.
    pub name: &'static str,
    /// What it may be.
    pub allowed: Allowed,
}

/// What the value of a key may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// A whole number, both ends included.
    Whole {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
}

impl Allowed {
    /// Whether `value` is allowed; otherwise what to write instead.
    pub fn check(self, value: &str) -> Result<(), String> {
        match self {
            Self::Whole { min, max } => match value.parse::<u64>() {
                Ok(number) if (min..=max).contains(&number) => Ok(()),
                _ => Err(format!("write a whole number from {min} to {max}")),
            },
            Self::OneOf(words) if words.contains(&value) => Ok(()),
            Self::OneOf(words) => Err(format!("choose one of {}", words.join(", "))),
        }
    }
}

const fn whole(name: &'static str, min: u64, max: u64) -> ConfigKey {
    ConfigKey { name, allowed: Allowed::Whole { min, max } }
}

const fn names<const N: usize>(keys: &[ConfigKey; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut at = 0;
    while at < N {
        names[at] = keys[at].name;
        at += 1;
    }
    names
}

const TLS_MODES: &[&str] = &["permissive", "required", "off"];

/// Keys of a BrokerGroup's `spec.config`.
pub const BROKER_CONFIG: [ConfigKey; 19] = [
    whole("maxBodyBytes", 1, 64 << 20),
    whole("maxConnections", 1, 1 << 20),
    whole("maxParkedPolls", 1, 1 << 24),
    whole("maxInFlightPerQueue", 1, 1 << 20),
    whole("maxAttempts", 1, 10_000),
    whole("persistIntervalMs", 10, 60_000),
    whole("stopGraceMs", 0, 600_000),
    whole("workerThreads", 1, 1024),
    whole("scrubIntervalHours", 0, 8760),
    whole("transactionTimeoutMs", 100, 3_600_000),
    whole("transactionCheckIntervalMs", 100, 3_600_000),
    whole("transactionCheckMax", 1, 10_000),
    whole("maxPendingTransactions", 1, 1 << 24),
    whole("timerMaxDelaySec", 1, 366 * 24 * 3600),
    ConfigKey { name: "tls", allowed: Allowed::OneOf(TLS_MODES) },
    whole("maxLiteTopics", 1, 1 << 24),
    whole("liteTopicIdleMinutes", 1, 1 << 24),
    ConfigKey { name: "logWarmUp", allowed: Allowed::OneOf(&["window", "segment", "locked"]) },
    ConfigKey { name: "messageIndexEnable", allowed: Allowed::OneOf(&["true", "false"]) },
];

/// Names of [`BROKER_CONFIG`].
pub const BROKER_CONFIG_KEYS: [&str; BROKER_CONFIG.len()] = names(&BROKER_CONFIG);

/// Keys of a NameServerSet's `spec.config`.
pub const NAME_SERVER_CONFIG: [ConfigKey; 2] =
    [whole("maxConnections", 1, 1 << 20), ConfigKey { name: "tls", allowed: Allowed::OneOf(TLS_MODES) }];

/// Names of [`NAME_SERVER_CONFIG`].
pub const NAME_SERVER_CONFIG_KEYS: [&str; NAME_SERVER_CONFIG.len()] = names(&NAME_SERVER_CONFIG);
