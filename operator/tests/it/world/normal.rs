//! What two runs are compared by: all that lasts, without versions, times and uids; and where they differ.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::server::Objects;

/// Fields that tell one run from another and nothing else.
const PASSING: [&str; 9] = [
    "resourceVersion",
    "uid",
    "creationTimestamp",
    "lastTransitionTime",
    "firstServedAt",
    "at",
    "recent",
    "counted",
    "podIP",
];

/// The objects without what differs from run to run.
pub(crate) fn normal(mut objects: Objects) -> Objects {
    for object in objects.values_mut() {
        strip(object);
        let counts_writes = object["kind"] == "StatefulSet";
        if counts_writes {
            take(&mut object["metadata"], "generation");
            take(&mut object["status"], "observedGeneration");
        }
        let holder = object["spec"]["holderIdentity"].as_str().and_then(|holder| holder.split_once('/'));
        if let Some((pod, _)) = holder.map(|(pod, uid)| (pod.to_owned(), uid.to_owned())) {
            object["spec"]["holderIdentity"] = Value::String(pod);
        }
    }
    objects
}

fn take(value: &mut Value, field: &str) {
    if let Some(fields) = value.as_object_mut() {
        fields.remove(field);
    }
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| !PASSING.contains(&key.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(all) => all.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Where two sets of objects differ, a line each: `configmaps/a-broker-config /data/broker.yaml: "…" becomes "…"`.
pub(crate) fn differences(before: &Objects, after: &Objects) -> Vec<String> {
    let mut lines = Vec::new();
    for path in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        let name: Vec<&str> = path.rsplit('/').take(2).collect();
        let name = format!("{}/{}", name[1], name[0]);
        let null = Value::Null;
        let (before, after) = (before.get(path).unwrap_or(&null), after.get(path).unwrap_or(&null));
        compare(&name, "", before, after, &mut lines);
    }
    lines
}

fn compare(name: &str, at: &str, before: &Value, after: &Value, lines: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
                let null = Value::Null;
                let (old, new) = (old.get(key).unwrap_or(&null), new.get(key).unwrap_or(&null));
                compare(name, &format!("{at}/{key}"), old, new, lines);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (number, (old, new)) in old.iter().zip(new).enumerate() {
                compare(name, &format!("{at}/{number}"), old, new, lines);
            }
        }
        // A file is compared field by field.
        (Value::String(old), Value::String(new)) if old != new && at.ends_with(".yaml") => {
            let parse = |text: &str| serde_yaml::from_str::<Value>(text).expect("a file of YAML");
            compare(name, at, &parse(old), &parse(new), lines);
        }
        (old, new) if old != new => lines.push(format!("{name} {at}: {} becomes {}", short(old), short(new))),
        _ => {}
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() > 160 { text.chars().take(160).chain("…".chars()).collect() } else { text }
}
