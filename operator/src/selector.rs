//! Choosing by labels, as Kubernetes does. Pure.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use serde::Deserialize;

/// A selector as it is written, with nothing in it that nobody knows: what is misspelt would choose too much.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    match_labels: BTreeMap<String, String>,
    match_expressions: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    key: String,
    operator: Operator,
    #[serde(default)]
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A selector that chooses by something, from YAML or JSON.
pub fn parse(text: &str) -> Result<LabelSelector, String> {
    let written: Written = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let Written { match_labels, match_expressions } = written;
    if match_labels.is_empty() && match_expressions.is_empty() {
        return Err("it chooses everything: name a label in matchLabels or matchExpressions".to_owned());
    }
    for Requirement { key, operator, values } in &match_expressions {
        let compares = matches!(operator, Operator::In | Operator::NotIn);
        if compares == values.is_empty() {
            let what = if compares { "needs values" } else { "takes no values" };
            return Err(format!("{operator:?} of {key} {what}"));
        }
    }
    let requirements = match_expressions.into_iter().map(|it| LabelSelectorRequirement {
        key: it.key,
        operator: format!("{:?}", it.operator),
        values: (!it.values.is_empty()).then_some(it.values),
    });
    let requirements: Vec<_> = requirements.collect();
    Ok(LabelSelector {
        match_labels: (!match_labels.is_empty()).then_some(match_labels),
        match_expressions: (!requirements.is_empty()).then_some(requirements),
    })
}

/// Whether something with these labels is chosen.
pub fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let LabelSelector { match_labels, match_expressions } = selector;
    let alike = match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    alike && match_expressions.iter().flatten().all(|requirement| fulfils(requirement, labels))
}

fn fulfils(requirement: &LabelSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    let value = labels.get(key);
    let listed = value.is_some_and(|value| values.iter().flatten().any(|listed| listed == value));
    match operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        // Nothing is chosen by what nobody knows.
        _ => false,
    }
}
