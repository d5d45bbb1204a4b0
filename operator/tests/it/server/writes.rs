//! What a write makes of an object: as much of the API server's ways as the operator and its tests need.

use serde_json::{Value, json};

use super::Objects;

/// What is sent replaces what was, field by field; a null takes a field away.
pub(super) fn merge(object: &mut Value, sent: &Value) {
    match (&mut *object, sent) {
        (Value::Object(object), Value::Object(sent)) => {
            for (key, value) in sent {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
            object.retain(|_, value| !value.is_null());
        }
        (object, sent) => {
            *object = sent.clone();
            drop_nulls(object);
        }
    }
}

fn drop_nulls(object: &mut Value) {
    if let Value::Object(fields) = object {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

/// Whoever applies no longer what he applied before gives it up.
pub(super) fn take_back(object: &mut Value, before: &Value, now: &Value) {
    let (Some(fields), Some(before)) = (object.as_object_mut(), before.as_object()) else { return };
    for (key, before) in before {
        match (now.get(key), before) {
            (None | Some(Value::Null), Value::Object(_)) if fields.contains_key(key) => {
                let rest = fields.get_mut(key).expect("it is there");
                take_back(rest, before, &Value::Null);
                if rest.as_object().is_none_or(serde_json::Map::is_empty) {
                    fields.remove(key);
                }
            }
            (None | Some(Value::Null), _) => {
                fields.remove(key);
            }
            (Some(now), before) => {
                if let Some(field) = fields.get_mut(key) {
                    take_back(field, before, now);
                }
            }
        }
    }
}

/// Whether a write that is meant for another object, or for an older version of it.
pub(super) fn conflicts(wanted: &Value, metadata: &Value) -> bool {
    let differs = |field: &str| {
        let (wanted, there) = (&wanted[field], &metadata[field]);
        !wanted.is_null() && !there.is_null() && wanted != there
    };
    differs("uid") || differs("resourceVersion")
}

/// Why the server does not take an object: some of the rules that its own kinds have.
pub(super) fn invalid(object: &Value) -> Option<String> {
    let port = object["spec"]["ports"][0]["nodePort"].as_i64().filter(|_| object["kind"] == "Service");
    if let Some(port) = port.filter(|port| !(30000..=32767).contains(port)) {
        return Some(format!(
            "spec.ports[0].nodePort: Invalid value: {port}: not in the valid range 30000-32767"
        ));
    }
    let labels = object["spec"]["template"]["metadata"]["labels"].as_object();
    let mut values = labels.into_iter().flatten().filter_map(|(_, value)| value.as_str());
    let bad = values.find(|value| !value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)))?;
    Some(format!("spec.template.labels: Invalid value: {bad:?}"))
}

/// Nobody owns any more what this one owned.
pub(super) fn orphan(objects: &mut Objects, owner: &Value) {
    for object in objects.values_mut() {
        if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
            owners.retain(|reference| reference["uid"] != *owner);
        }
    }
}

/// What the server adds by itself.
pub(super) fn complete(object: &mut Value, before: Option<&Value>) {
    if object["kind"] == "Service" && object["spec"]["clusterIP"].is_null() {
        object["spec"]["clusterIP"] = json!("10.96.0.10");
        object["spec"]["sessionAffinity"] = json!("None");
    }
    if object["kind"] == "Service" && object["spec"]["type"] == "NodePort" {
        let port = &mut object["spec"]["ports"][0]["nodePort"];
        if port.is_null() {
            *port = json!(31000);
        }
    }
    if object["metadata"]["uid"].is_null() {
        object["metadata"]["uid"] = json!(format!("uid-of-{}", object["metadata"]["name"]));
    }
    if object["kind"] == "StatefulSet" {
        let generation =
            before.map_or(0, |before| before["metadata"]["generation"].as_i64().unwrap_or_default());
        let is_other = before.is_none_or(|before| before["spec"] != object["spec"]);
        object["metadata"]["generation"] = json!(generation + i64::from(is_other));
    }
    // The version stays where nothing changes.
    let stays = before.map(|before| before["metadata"]["resourceVersion"].clone());
    object["metadata"]["resourceVersion"] = stays.unwrap_or_default();
    if object["metadata"]["resourceVersion"].is_null() {
        object["metadata"].as_object_mut().expect("metadata").remove("resourceVersion");
    }
}
