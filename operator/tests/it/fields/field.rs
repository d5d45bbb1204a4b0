//! A field of a spec: values that it may have, such that it may not, and where each shows.

use serde_json::{Value, json};

/// A field.
#[derive(Clone)]
pub(super) struct Field {
    /// As the schema calls it: `listeners[].port`.
    pub(super) path: &'static str,
    /// What else the spec says meanwhile, from the beginning.
    pub(super) beside: Value,
    /// What else is changed together with it, so that it matters.
    pub(super) together: Value,
    /// Values that work, each with another outcome.
    pub(super) good: Vec<Value>,
    /// Values that the API server refuses.
    pub(super) bad: Vec<Value>,
    /// Values that it takes, and of which a condition tells, naming the field.
    pub(super) told: Vec<Value>,
    /// Values that it takes, and that cannot work: the resource is stalled until they are corrected.
    pub(super) stuck: Vec<Value>,
    /// A part of the line that tells of the difference.
    pub(super) shows: &'static str,
    pub(super) life: Life,
    /// What stays behind when the field is as before: parts of lines.
    pub(super) leaves: &'static [&'static str],
}

/// How a field may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// At any time, and back.
    Free,
    /// It is as it was made.
    Fixed,
    /// It never goes back.
    Grows,
    /// At any time; what it says matters when the resource is made.
    AtFirst,
    /// What it does is not seen in objects; it is tried there.
    Elsewhere(&'static str),
}

impl Field {
    pub(super) fn new(path: &'static str, shows: &'static str) -> Self {
        Self {
            path,
            beside: Value::Null,
            together: Value::Null,
            good: Vec::new(),
            bad: Vec::new(),
            told: Vec::new(),
            stuck: Vec::new(),
            shows,
            life: Life::Free,
            leaves: &[],
        }
    }

    pub(super) fn good<const N: usize>(self, good: [Value; N]) -> Self {
        Self { good: good.into(), ..self }
    }

    pub(super) fn bad<const N: usize>(self, bad: [Value; N]) -> Self {
        Self { bad: bad.into(), ..self }
    }

    pub(super) fn told<const N: usize>(self, told: [Value; N]) -> Self {
        Self { told: told.into(), ..self }
    }

    pub(super) fn stuck<const N: usize>(self, stuck: [Value; N]) -> Self {
        Self { stuck: stuck.into(), ..self }
    }

    pub(super) fn beside(self, beside: Value) -> Self {
        Self { beside, ..self }
    }

    pub(super) fn together(self, together: Value) -> Self {
        Self { together, ..self }
    }

    pub(super) fn life(self, life: Life) -> Self {
        Self { life, ..self }
    }

    pub(super) fn leaves(self, leaves: &'static [&'static str]) -> Self {
        Self { leaves, ..self }
    }

    /// `spec` with the field so; with a null it is not there.
    pub(super) fn set(&self, spec: &Value, value: &Value) -> Value {
        let mut spec = spec.clone();
        let mut at = &mut spec;
        let mut parts = self.path.split('.').peekable();
        while let Some(part) = parts.next() {
            let (name, is_list) = part.strip_suffix("[]").map_or((part, false), |name| (name, true));
            if parts.peek().is_none() {
                match value {
                    Value::Null => drop(at.as_object_mut().expect("fields").remove(name)),
                    value => at[name] = value.clone(),
                }
                break;
            }
            at = &mut at[name];
            if is_list {
                if at.is_null() {
                    *at = json!([{}]);
                }
                at = &mut at[0];
            }
        }
        spec
    }
}

/// One spec over another; a null takes a field away.
pub(super) fn over(spec: &Value, more: &Value) -> Value {
    match (spec, more) {
        (spec, Value::Null) => spec.clone(),
        (Value::Object(spec), Value::Object(more)) => {
            let mut all = spec.clone();
            for (key, value) in more {
                match (all.remove(key), value) {
                    (_, Value::Null) => {}
                    (under, value) => drop(all.insert(key.clone(), over(&under.unwrap_or_default(), value))),
                }
            }
            Value::Object(all)
        }
        (_, more) => more.clone(),
    }
}
