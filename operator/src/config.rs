//! What users say in `spec.config`, `spec.logging` and `spec.messageRetention`, judged. Pure.

use std::collections::BTreeMap;

use crds::{ConfigKey, LogFormat, Logging};
use k8s_openapi::api::core::v1::ConfigMap;
use serde::{Deserialize, Serialize};

use crate::conditions::{Finding, Reason, Type};

/// `spec.config`, judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Knobs {
    /// What is handed on.
    pub accepted: BTreeMap<String, String>,
    /// What is not, and why.
    pub problems: Vec<(Reason, String)>,
}

impl Knobs {
    /// Judges `config` by the keys that exist.
    pub fn judge(known: &[ConfigKey], config: &BTreeMap<String, String>) -> Self {
        let mut knobs = Self::default();
        for (name, value) in config {
            match known.iter().find(|key| key.name == name).map(|key| key.allowed.check(value)) {
                Some(Ok(())) => {
                    knobs.accepted.insert(name.clone(), value.clone());
                }
                Some(Err(expected)) => {
                    knobs
                        .problems
                        .push((Reason::Rejected, format!("config.{name} is {value:?}: {expected}")));
                }
                None => {
                    let names: Vec<&str> = known.iter().map(|key| key.name).collect();
                    let message =
                        format!("config has no key {name}: remove it; known are {}", names.join(", "));
                    knobs.problems.push((Reason::UnknownKey, message));
                }
            }
        }
        knobs
    }

    /// The condition ConfigApplied.
    pub fn finding(&self) -> Finding {
        match self.problems.first() {
            None => {
                Finding::yes(Type::ConfigApplied, Reason::Applied, "the configuration is as the spec says")
            }
            Some((reason, _)) => {
                let all: Vec<&str> = self.problems.iter().map(|(_, message)| message.as_str()).collect();
                Finding::no(Type::ConfigApplied, *reason, all.join("; "))
            }
        }
    }
}

/// `spec.logging`, settled, as it stands in configuration files.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct LoggingFile {
    /// `json` or `text`.
    pub format: &'static str,
    /// Level by target.
    pub levels: BTreeMap<String, String>,
}

impl LoggingFile {
    /// Settles what is left open.
    pub fn of(logging: Option<&Logging>) -> Self {
        let unset = Logging::default();
        let Logging { format, levels } = logging.unwrap_or(&unset);
        Self {
            format: match format.unwrap_or_default() {
                LogFormat::Json => "json",
                LogFormat::Text => "text",
            },
            levels: levels.clone(),
        }
    }
}

/// The levels in a configuration file that was applied before.
pub fn levels_in(config_map: &ConfigMap, key: &str) -> BTreeMap<String, String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct File {
        logging: Section,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Section {
        levels: BTreeMap<String, String>,
    }
    let text = config_map.data.as_ref().and_then(|data| data.get(key));
    text.and_then(|text| serde_yaml::from_str::<File>(text).ok()).unwrap_or_default().logging.levels
}

#[cfg(test)]
mod tests {
    use crds::NAME_SERVER_CONFIG;

    use super::*;

    #[track_caller]
    fn check(key: &str, value: &str, expected: Option<Reason>) {
        let knobs = Knobs::judge(&NAME_SERVER_CONFIG, &BTreeMap::from([(key.to_owned(), value.to_owned())]));
        assert_eq!(knobs.problems.first().map(|(reason, _)| *reason), expected, "{key}={value}");
        assert_eq!(knobs.accepted.contains_key(key), expected.is_none());
        assert_eq!(knobs.finding().holds, expected.is_none());
    }

    #[test]
    fn only_known_keys_with_sound_values_are_handed_on() {
        check("maxConnections", "100", None);
        check("tls", "off", None);
        check("maxConnection", "100", Some(Reason::UnknownKey));
        check("maxConnections", "0", Some(Reason::Rejected));
        check("maxConnections", "many", Some(Reason::Rejected));
        check("tls", "maybe", Some(Reason::Rejected));
    }

    #[test]
    fn the_message_names_each_key_and_those_that_exist() {
        let config = BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())]);
        let message = Knobs::judge(&NAME_SERVER_CONFIG, &config).finding().message;
        for part in ["no key a", "no key b", "maxConnections, tls"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
