//! What a process logs, and how.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What a process logs, and how.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    /// Form of a log line: `json` for machines, `text` for eyes. Unset: json. A change restarts the pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<LogFormat>,
    /// Level by target (a module path such as `broker` or `broker::front`): trace, debug, info, warn, error or off.
    /// The target `default` is everything else. Changes take effect at run time, without a restart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "levels")]
    #[x_kube(
        validation = Rule::new("self.all(target, target.matches('^[A-Za-z_][A-Za-z0-9_:]*$'))")
            .message("a target of logging.levels is a module path such as broker or broker::front, or default")
    )]
    pub levels: BTreeMap<String, String>,
}

/// Form of a log line.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

fn levels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 64,
        "additionalProperties": {"type": "string", "enum": ["trace", "debug", "info", "warn", "error", "off"]},
    })
}
