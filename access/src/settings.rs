//! The answer to a client's settings on Telemetry: its own words, and the server's values.
//!
//! Clients wait for this answer at start-up and some of them break on a wrong one, so everything
//! in it is deliberate:
//!
//! | value | why |
//! |---|---|
//! | status OK | the Python client ignores settings without it |
//! | exponential back-off for producers | Java and C# refuse any other, Node dies of it |
//! | a customized back-off for consumers in Python | its push consumer understands no other |
//! | an exponential back-off for consumers in Node | its push consumer understands no other |
//! | whole seconds in back-off and long poll | Python drops fractions |
//! | `max_body_size` never 0 | Java, Node and C# would refuse every message |
//! | `receive_batch_size`, `long_polling_timeout` never 0 | empty and busy polls |
//! | quotas for lite consumers | Java and Python begin with a quota of 0 |
//! | names, namespaces and access point unchanged | C++ adopts a namespace that differs |
//! | metric off | clients would start exporters |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::control;
use proto::v2::{
    ClientType, Code, CustomizedBackoff, ExponentialBackoff, Metric, RetryPolicy, Settings, Subscription,
    TelemetryCommand, retry_policy::Strategy, settings::PubSub, telemetry_command::Command,
};

use crate::client::{ClientIdentity, Language};
use crate::filter::{Filter, Filters};
use crate::names::{GroupName, LONGEST_LITE_TOPIC, TopicName};
use crate::status::{self, Refusal};

const RECEIVE_BATCH_SIZE: i32 = 32;
const LONG_POLL_S: i64 = 20;
/// Lite topics that one client may subscribe.
pub const LITE_SUBSCRIPTION_QUOTA: u16 = 1200;

/// What the server knows that the client does not.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The largest body of a message.
    pub max_body_bytes: u32,
    /// Of the client's group; the defaults where it has none yet.
    pub group: GroupFacts,
}

/// How a group is consumed.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupFacts {
    /// In order, message group by message group.
    pub ordered: bool,
    /// Deliveries before the dead letter topic.
    pub max_attempts: u32,
    /// How long a message stays away after a delivery failed.
    pub backoff: Backoff,
}

/// How long a message stays away after delivery attempt n failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Backoff {
    /// Each time longer by a factor, up to a maximum.
    Exponential {
        /// After the first attempt.
        initial: Duration,
        /// Never longer than this.
        max: Duration,
        /// The factor.
        multiplier: f64,
    },
    /// A list; the last one repeats.
    Custom(Vec<Duration>),
}

impl Default for GroupFacts {
    fn default() -> Self {
        Self { ordered: false, max_attempts: 17, backoff: Backoff::default() }
    }
}

impl Default for Backoff {
    /// RocketMQ's delay levels.
    fn default() -> Self {
        const SECONDS: [u64; 18] =
            [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];
        Self::Custom(SECONDS.into_iter().map(Duration::from_secs).collect())
    }
}

impl From<&control::GroupConfig> for GroupFacts {
    fn from(group: &control::GroupConfig) -> Self {
        let default = Self::default();
        Self {
            ordered: group.ordered,
            max_attempts: if group.max_attempts == 0 { default.max_attempts } else { group.max_attempts },
            backoff: group.backoff.as_ref().and_then(Backoff::of).unwrap_or(default.backoff),
        }
    }
}

impl Backoff {
    fn of(wire: &control::Backoff) -> Option<Self> {
        match wire.kind.as_ref()? {
            control::backoff::Kind::Exponential(exponential) => Some(Self::Exponential {
                initial: Duration::from_millis(exponential.initial_ms),
                max: Duration::from_millis(exponential.max_ms),
                multiplier: exponential.multiplier,
            }),
            control::backoff::Kind::Custom(custom) if custom.delays_ms.is_empty() => None,
            control::backoff::Kind::Custom(custom) => {
                Some(Self::Custom(custom.delays_ms.iter().copied().map(Duration::from_millis).collect()))
            }
        }
    }

    /// The same curve as a list of at most `steps` delays.
    fn listed(&self, steps: u32) -> Vec<Duration> {
        match self {
            Self::Custom(delays) => delays.clone(),
            Self::Exponential { initial, max, multiplier } => {
                let mut delays = vec![(*initial).min(*max)];
                while delays.len() < steps.clamp(1, 64) as usize && delays.last() != Some(max) {
                    let last = delays.last().expect("a list that begins with one delay").as_secs_f64();
                    let next = Duration::try_from_secs_f64(last * multiplier.max(1.0)).unwrap_or(*max);
                    delays.push(next.min(*max));
                }
                delays
            }
        }
    }

    /// About the same curve as (initial, max, factor).
    fn exponential(&self) -> (Duration, Duration, f64) {
        match self {
            Self::Exponential { initial, max, multiplier } => (*initial, *max, *multiplier),
            Self::Custom(delays) => {
                let first =
                    delays.first().copied().unwrap_or(Duration::from_secs(1)).max(Duration::from_millis(1));
                let max = delays.iter().max().copied().unwrap_or(first).max(first);
                let steps = delays.len().saturating_sub(1).max(1);
                let multiplier = (max.as_secs_f64() / first.as_secs_f64()).powf(1.0 / steps as f64);
                (first, max, multiplier.max(1.0))
            }
        }
    }
}

/// The group that the settings name, for looking up its facts. `None` for producers.
pub fn group_of(client: &ClientIdentity, settings: &Settings) -> Result<Option<GroupName>, Refusal> {
    match &settings.pub_sub {
        Some(PubSub::Subscription(Subscription { group: Some(group), .. })) => {
            GroupName::of(Some(group), client).map(Some)
        }
        _ => Ok(None),
    }
}

/// The topics that a producer's settings name, those with bad names left out.
pub fn topics_of(client: &ClientIdentity, settings: &Settings) -> BTreeSet<TopicName> {
    match &settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            publishing.topics.iter().filter_map(|topic| TopicName::of(Some(topic), client).ok()).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Good settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The answer.
    pub command: TelemetryCommand,
    /// What a consumer filters each topic by.
    pub filters: BTreeMap<TopicName, Filter>,
}

/// The answer to `settings` of `client`. `filters` compiles what it filters by.
pub fn answer(
    client: &ClientIdentity,
    settings: Settings,
    facts: &Facts,
    filters: &Filters,
) -> Result<Answered, Refusal> {
    check_client_properties(&settings)?;
    let client_type = settings.client_type();
    let mut settings = settings;
    let mut filters_of = BTreeMap::new();
    settings.metric = Some(Metric { on: false, endpoints: None });
    match &mut settings.pub_sub {
        Some(PubSub::Publishing(publishing)) => {
            for topic in &publishing.topics {
                TopicName::of(Some(topic), client)?;
            }
            publishing.max_body_size = facts.max_body_bytes.clamp(1, i32::MAX as u32) as i32;
            publishing.validate_message_type = true;
            settings.backoff_policy = Some(producer_backoff());
        }
        Some(PubSub::Subscription(subscription)) => {
            if let Some(group) = &subscription.group {
                GroupName::of(Some(group), client)?;
            }
            for entry in &subscription.subscriptions {
                let topic = TopicName::of(entry.topic.as_ref(), client)?;
                filters_of.insert(topic, filters.of(entry.expression.as_ref())?);
            }
            subscription.fifo = Some(facts.group.ordered);
            subscription.receive_batch_size = Some(RECEIVE_BATCH_SIZE);
            subscription.long_polling_timeout =
                Some(prost_types::Duration { seconds: LONG_POLL_S, nanos: 0 });
            if matches!(client_type, ClientType::LitePushConsumer | ClientType::LiteSimpleConsumer) {
                subscription.lite_subscription_quota = Some(i32::from(LITE_SUBSCRIPTION_QUOTA));
                subscription.max_lite_topic_size = i32::try_from(LONGEST_LITE_TOPIC).ok();
            }
            settings.backoff_policy = Some(consumer_backoff(client.language, &facts.group));
        }
        None => {
            return Err(Refusal::new(
                Code::BadRequest,
                "the settings say neither publishing nor subscription: set one of them",
            ));
        }
    }
    let command = TelemetryCommand { status: Some(status::ok()), command: Some(Command::Settings(settings)) };
    Ok(Answered { command, filters: filters_of })
}

fn producer_backoff() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 3,
        strategy: Some(Strategy::ExponentialBackoff(ExponentialBackoff {
            initial: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
            max: Some(prost_types::Duration { seconds: 1, nanos: 0 }),
            multiplier: 2.0,
        })),
    }
}

fn consumer_backoff(language: Language, group: &GroupFacts) -> RetryPolicy {
    let exponential = match language {
        Language::Python => false,
        Language::Node => true,
        _ => matches!(group.backoff, Backoff::Exponential { .. }),
    };
    let strategy = if exponential {
        let (initial, max, multiplier) = group.backoff.exponential();
        Strategy::ExponentialBackoff(ExponentialBackoff {
            initial: Some(whole_seconds(initial)),
            max: Some(whole_seconds(max)),
            multiplier: multiplier as f32,
        })
    } else {
        let next = group
            .backoff
            .listed(group.max_attempts.saturating_sub(1))
            .into_iter()
            .map(whole_seconds)
            .collect();
        Strategy::CustomizedBackoff(CustomizedBackoff { next })
    };
    RetryPolicy {
        max_attempts: group.max_attempts.clamp(1, i32::MAX as u32) as i32,
        strategy: Some(strategy),
    }
}

/// At least one second, rounded up.
fn whole_seconds(duration: Duration) -> prost_types::Duration {
    let seconds = duration.as_secs().saturating_add(u64::from(duration.subsec_nanos() > 0));
    prost_types::Duration { seconds: seconds.clamp(1, 315_576_000_000) as i64, nanos: 0 }
}

fn check_client_properties(settings: &Settings) -> Result<(), Refusal> {
    let refuse = |sentence: String| Err(Refusal::new(Code::InvalidClientProperties, sentence));
    let properties = &settings.client_properties;
    if properties.len() > 32 {
        return refuse(format!("there are {} client properties: send at most 32", properties.len()));
    }
    for (key, value) in properties {
        let mut letters = key.chars();
        let begins_well = letters.next().is_some_and(|c| c.is_ascii_alphabetic());
        let goes_on_well = letters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if key.len() > 64 || !begins_well || !goes_on_well {
            return refuse(format!(
                "the client property {key:?} is named wrongly: begin with a letter, go on with letters, digits, '_', \
                 '.' and '-', at most 64 in all"
            ));
        }
        if value.len() > 256 {
            return refuse(format!(
                "the value of client property {key} is longer than 256 bytes: shorten it"
            ));
        }
    }
    let total: usize = properties.iter().map(|(key, value)| key.len() + value.len()).sum();
    if total > 4096 {
        return refuse(format!("the client properties have {total} bytes in all: send at most 4096"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
