//! Whether a live object already is what is wanted. Pure.
//!
//! Two questions together decide that nothing need be written: everything wanted is there ([`covers`]), and
//! nothing that was wanted before is left over (the [`fingerprint`] of what was applied last, kept as an annotation,
//! is that of what is wanted now).

use serde_json::Value;

/// Whether each field of `wanted` is in `live` with the same value. What the server or others added does not matter.
pub fn covers(wanted: &Value, live: &Value) -> bool {
    at(wanted, live, "")
}

fn at(wanted: &Value, live: &Value, field: &str) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            wanted.iter().all(|(key, wanted)| match live.get(key) {
                Some(live) => at(wanted, live, key),
                None => is_empty(wanted),
            })
        }
        (Value::Array(wanted), Value::Array(live)) => list(wanted, live, field),
        (Value::String(wanted), Value::String(live)) => wanted == live || same_quantity(field, wanted, live),
        _ => wanted == live,
    }
}

/// Elements with names are found by name, wherever they stand; others by position.
fn list(wanted: &[Value], live: &[Value], field: &str) -> bool {
    let name = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    if !wanted.is_empty() && wanted.iter().all(|value| name(value).is_some()) {
        return wanted
            .iter()
            .all(|wanted| live.iter().any(|live| name(live) == name(wanted) && at(wanted, live, field)));
    }
    wanted.len() == live.len() && wanted.iter().zip(live).all(|(wanted, live)| at(wanted, live, field))
}

/// The server drops what is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The server writes quantities its own way: 1024Mi comes back as 1Gi.
fn same_quantity(field: &str, wanted: &str, live: &str) -> bool {
    let holds_quantity =
        matches!(field, "cpu" | "memory" | "storage" | "ephemeral-storage" | "sizeLimit" | "divisor")
            || field.starts_with("hugepages-");
    holds_quantity
        && matches!((crate::quantity::millis(wanted), crate::quantity::millis(live)), (Some(a), Some(b)) if a == b)
}

/// A number that is the same for the same text, on every machine and in every version (FNV-1a, 64 bits).
pub fn fingerprint(text: &str) -> String {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(expected: bool, wanted: Value, live: Value) {
        assert_eq!(covers(&wanted, &live), expected, "{wanted} in {live}");
    }

    #[test]
    fn what_the_server_adds_does_not_matter() {
        check(true, json!({"a": 1}), json!({"a": 1, "b": 2}));
        check(true, json!({"a": {"b": "x"}}), json!({"a": {"b": "x", "c": null}}));
        check(
            true,
            json!({"list": [{"name": "x"}]}),
            json!({"list": [{"name": "w"}, {"name": "x", "y": 1}]}),
        );
        check(true, json!({"empty": {}, "none": null}), json!({}));
    }

    #[test]
    fn what_differs_is_seen_at_every_depth() {
        check(false, json!({"a": 1}), json!({"a": 2}));
        check(false, json!({"a": 1}), json!({}));
        check(false, json!({"list": [{"name": "x", "y": 1}]}), json!({"list": [{"name": "x", "y": 2}]}));
        check(false, json!({"list": ["a", "b"]}), json!({"list": ["b", "a"]}));
        check(false, json!({"list": ["a"]}), json!({"list": ["a", "b"]}));
    }

    #[test]
    fn a_quantity_is_compared_by_value_and_other_text_by_letter() {
        check(true, json!({"limits": {"memory": "1024Mi"}}), json!({"limits": {"memory": "1Gi"}}));
        check(true, json!({"limits": {"cpu": "0.5"}}), json!({"limits": {"cpu": "500m"}}));
        check(false, json!({"limits": {"cpu": "0.5"}}), json!({"limits": {"cpu": "501m"}}));
        check(false, json!({"labels": {"x": "1000m"}}), json!({"labels": {"x": "1"}}));
    }

    #[test]
    fn a_fingerprint_stays_the_same_between_versions() {
        assert_eq!(fingerprint("gantry"), "8dac2f73fe0f956a");
    }
}
