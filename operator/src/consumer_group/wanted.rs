//! What brokers shall have for a ConsumerGroup. Pure.

use crds::{Backoff, ConsumerGroup, ExponentialBackoff, duration};
use proto::control::{self, GroupConfig, backoff};

/// RocketMQ's steps, in seconds: what a group has whose resource says nothing.
const STEPS: [u64; 18] =
    [1, 5, 10, 30, 60, 120, 180, 240, 300, 360, 420, 480, 540, 600, 1200, 1800, 3600, 7200];

/// Settles what the spec leaves open. The broker answers the same, so that a difference is seen.
pub fn wanted(group: &ConsumerGroup, name: String, owner: String) -> GroupConfig {
    let spec = &group.spec;
    GroupConfig {
        name,
        consume_enabled: spec.consume_enabled,
        ordered: spec.ordered,
        max_attempts: u32::try_from(spec.retry.max_attempts).unwrap_or(1),
        backoff: Some(control::Backoff { kind: Some(kind(spec.retry.backoff.as_ref())) }),
        owner,
    }
}

/// A consumer group in words.
pub fn in_words(live: &GroupConfig) -> String {
    let GroupConfig { name, consume_enabled, ordered, max_attempts, backoff, owner } = live;
    let consumes = if *consume_enabled { "consuming" } else { "paused" };
    let order = if *ordered { ", ordered" } else { "" };
    let managed = if owner.is_empty() { "nobody" } else { owner };
    let backoff = match backoff.as_ref().and_then(|backoff| backoff.kind.as_ref()) {
        Some(backoff::Kind::Exponential(backoff::Exponential { initial_ms, max_ms, multiplier })) => {
            format!(
                "backoff {} × {multiplier} up to {}",
                duration::text(*initial_ms),
                duration::text(*max_ms)
            )
        }
        Some(backoff::Kind::Custom(custom)) if custom.delays_ms == steps() => "RocketMQ's backoff".to_owned(),
        Some(backoff::Kind::Custom(custom)) => {
            let delays: Vec<String> = custom.delays_ms.iter().map(|delay| duration::text(*delay)).collect();
            format!("backoff {}", delays.join(" "))
        }
        None => "no backoff".to_owned(),
    };
    format!(
        "consumer group {name}, {consumes}{order}, {max_attempts} attempts, {backoff}, managed by {managed}"
    )
}

fn steps() -> Vec<u64> {
    STEPS.iter().map(|seconds| seconds * 1000).collect()
}

fn kind(wanted: Option<&Backoff>) -> backoff::Kind {
    let custom = |delays_ms| backoff::Kind::Custom(backoff::Custom { delays_ms });
    match wanted {
        Some(Backoff { exponential: Some(exponential), custom: _ }) => {
            let ExponentialBackoff { initial, max, multiplier } = exponential;
            backoff::Kind::Exponential(backoff::Exponential {
                initial_ms: millis(initial),
                max_ms: millis(max),
                multiplier: f64::from(*multiplier),
            })
        }
        Some(Backoff { exponential: None, custom: Some(delays) }) => {
            custom(delays.iter().map(|delay| millis(delay)).collect())
        }
        // The schema lets through no backoff that says nothing.
        Some(Backoff { exponential: None, custom: None }) | None => custom(steps()),
    }
}

fn millis(text: &str) -> u64 {
    duration::millis(text).expect("the schema lets through durations only")
}

#[cfg(test)]
mod tests {
    use crds::ConsumerGroupSpec;

    use super::*;

    #[track_caller]
    fn check(spec: &str, expected: &str) {
        let spec = format!("{{nameServerRef: {{name: x}}, {spec}}}");
        let spec: ConsumerGroupSpec = serde_yaml::from_str(&spec).unwrap();
        let wanted =
            wanted(&ConsumerGroup::new("billing", spec), "billing".to_owned(), "ns/billing/1".to_owned());
        let backoff = match wanted.backoff.and_then(|backoff| backoff.kind).unwrap() {
            backoff::Kind::Exponential(it) => format!("{}..{} x{}", it.initial_ms, it.max_ms, it.multiplier),
            backoff::Kind::Custom(it) => format!("{:?}", it.delays_ms),
        };
        let (consumes, ordered) = (wanted.consume_enabled, wanted.ordered);
        assert_eq!(format!("{consumes} {ordered} {} {backoff}", wanted.max_attempts), expected);
    }

    #[test]
    fn what_the_spec_leaves_open_is_what_rocketmq_does() {
        check("", &format!("true false 17 {:?}", steps()));
        check("retry: {backoff: {exponential: {}}}", "true false 17 5000..7200000 x2");
    }

    #[test]
    fn groups_that_differ_in_their_backoff_alone_are_told_apart() {
        let custom = |delays_ms| backoff::Kind::Custom(backoff::Custom { delays_ms });
        let exponential = backoff::Exponential { initial_ms: 1000, max_ms: 600_000, multiplier: 1.5 };
        for (kind, expected) in [
            (custom(steps()), "RocketMQ's backoff"),
            (custom(vec![1000, 500, 90_000]), "backoff 1s 500ms 90s"),
            (custom(vec![1000, 500, 91_000]), "backoff 1s 500ms 91s"),
            (backoff::Kind::Exponential(exponential), "backoff 1s × 1.5 up to 10m"),
        ] {
            let backoff = Some(control::Backoff { kind: Some(kind) });
            let group = GroupConfig {
                name: "billing".to_owned(),
                max_attempts: 17,
                backoff,
                ..GroupConfig::default()
            };
            let expected =
                format!("consumer group billing, paused, 17 attempts, {expected}, managed by nobody");
            assert_eq!(in_words(&group), expected);
        }
    }

    #[test]
    fn everything_that_the_spec_says_reaches_the_broker() {
        check(
            "consumeEnabled: false, ordered: true, retry: {maxAttempts: 3, backoff: {custom: [1s, 500ms, 2m, 1h, 1d]}}",
            "false true 3 [1000, 500, 120000, 3600000, 86400000]",
        );
        check(
            "retry: {backoff: {exponential: {initial: 1s, max: 10m, multiplier: 3}}}",
            "true false 17 1000..600000 x3",
        );
    }
}
