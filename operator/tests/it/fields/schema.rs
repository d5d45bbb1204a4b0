//! What the API server takes: the structure that a schema describes, and its rules in CEL.

use std::collections::BTreeSet;

use kube_cel::{Validator, apply_defaults};
use serde_json::{Value, json};

/// Types of Kubernetes that are handed on whole.
const WHOLE: [&str; 5] = ["affinity", "resources", "selector", "tolerations", "topologySpreadConstraints"];

/// The schema of a kind.
pub(super) struct Schema(Value);

impl Schema {
    pub(super) fn of(kind: &str) -> Self {
        let all = crds::all();
        let (_, crd) = all.iter().find(|(_, crd)| crd.spec.names.kind == kind).expect("a kind of ours");
        let schema = crd.spec.versions[0].schema.as_ref().and_then(|it| it.open_api_v3_schema.as_ref());
        Self(serde_json::to_value(schema.expect("a schema")).expect("JSON"))
    }

    /// Every field of the spec that has no fields of its own: `storage.commitLog.size`, `listeners[].port`.
    pub(super) fn fields(&self) -> BTreeSet<String> {
        let mut fields = BTreeSet::new();
        collect(&self.0["properties"]["spec"], "", &mut fields);
        fields
    }

    /// What the API server keeps of a spec that it is given.
    pub(super) fn completed(&self, spec: &Value) -> Value {
        apply_defaults(&self.0["properties"]["spec"], spec)
    }

    /// Why the API server refuses it, after `old`.
    pub(super) fn check(&self, old: Option<&Value>, new: &Value) -> Result<(), String> {
        structure(&self.0["properties"]["spec"], new, "spec")?;
        let object = |spec: &Value| json!({"metadata": {"name": "a"}, "spec": spec});
        let checked = Validator::new().validate(&self.0, &object(new), old.map(object).as_ref());
        checked.map_err(|errors| errors.to_string())
    }
}

fn collect(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let is_whole = WHOLE.contains(&name.as_str());
        if !is_whole && field["properties"].is_object() {
            collect(field, &path, fields);
        } else if !is_whole && field["items"]["properties"].is_object() {
            collect(&field["items"], &format!("{path}[]"), fields);
        } else {
            fields.insert(path);
        }
    }
}

/// What kubectl and the API server refuse before any rule is asked.
fn structure(schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let no = |why: &str| Err(format!("{at} is {value}: {why}"));
    let is_of_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        _ => true,
    };
    if !is_of_type {
        return no(&format!("not of type {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|words| !words.contains(value)) {
        return no(&format!("none of {}", schema["enum"]));
    }
    let size = match value {
        Value::String(text) => i64::try_from(text.chars().count()).ok(),
        Value::Array(items) => i64::try_from(items.len()).ok(),
        Value::Object(fields) => i64::try_from(fields.len()).ok(),
        _ => None,
    };
    for (bound, is_least) in [
        ("minimum", true),
        ("maximum", false),
        ("minLength", true),
        ("maxLength", false),
        ("minItems", true),
        ("maxItems", false),
        ("maxProperties", false),
    ] {
        let (Some(bound_value), Some(measure)) =
            (schema[bound].as_f64(), size.map(|it| it as f64).or(value.as_f64()))
        else {
            continue;
        };
        if (is_least && measure < bound_value) || (!is_least && measure > bound_value) {
            return no(&format!("{bound} is {bound_value}"));
        }
    }
    if schema["x-kubernetes-list-type"] == "set" {
        let items: BTreeSet<String> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
        if Some(items.len()) != value.as_array().map(Vec::len) {
            return no("the same twice");
        }
    }
    for item in value.as_array().into_iter().flatten() {
        structure(&schema["items"], item, &format!("{at}[]"))?;
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        if value.get(name.as_str().unwrap_or_default()).is_none() {
            return no(&format!("{name} is required"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(known), _) => structure(known, field, &at)?,
            (None, Value::Object(of_any)) => structure(&Value::Object(of_any.clone()), field, &at)?,
            (None, _) if schema["type"] == "object" => return Err(format!("{at} is no field")),
            (None, _) => {}
        }
    }
    Ok(())
}
