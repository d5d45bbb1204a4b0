//! What pods were made from, kept on their StatefulSet, so that a newer operator makes the same again. Pure.
//!
//! An upgrade of the operator changes its defaults: the version of the image, a probe, a line of the configuration. Pods that
//! exist keep what they have until somebody changes what they asked for, or `update.profileVersion`.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{ConfigMap, PodTemplateSpec},
};
use kube::ResourceExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::template::{CONFIG_HASH, RESTARTED_AT};
use crate::covers::fingerprint;

/// The annotation of a StatefulSet with what its pods were made from.
const MADE_FROM: &str = "mq.gantry.dev/made-from";

/// What pods were made from.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MadeFrom {
    /// The version of Gantry whose defaults are in it.
    pub profile: String,
    /// Why it differs from what was before; empty at first.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The operator that made it.
    maker: String,
    /// What people asked for, and what was found around it.
    asked: String,
    template: PodTemplateSpec,
    /// The configuration, without its levels.
    file: String,
}

/// Who makes pods, and for whom.
#[derive(Clone, Copy, Debug)]
pub struct Maker<'a> {
    /// The version of Gantry that is the operator's default.
    pub version: &'a str,
    /// Where its images come from.
    pub prefix: &'a str,
    /// The fingerprint of what people asked for, and of what else the pods depend on that is not the operator's: see [`asked`].
    pub asked: &'a str,
    /// Whether what is there works, so that it is worth keeping.
    pub keeps: bool,
}

/// The fingerprint of what people ask for: of `spec` without the fields that pods are not made from, and of the restart that they
/// asked for.
///
/// It is compared with what an older operator wrote: where it becomes another for the same spec, the upgrade replaces every pod.
pub fn asked(spec: &impl Serialize, restarted_at: Option<&str>) -> String {
    let mut spec = serde_json::to_value(spec).expect("a spec of plain data is JSON");
    for path in [
        "/allowedNamespaces",
        "/logging/levels",
        "/update/strategy",
        "/update/paused",
        "/update/canary",
        "/update/minStableSeconds",
        "/update/windows",
        "/replicas",
        "/fencedMembers",
        "/preferredPrimary",
        "/failover/enabled",
        "/failover/maxPerHour",
        "/disruption",
        "/hibernate",
        "/deletionProtection",
        "/storage/commitLog/size",
        "/storage/retention",
        "/storage/autoGrow",
    ] {
        remove(&mut spec, path);
    }
    let listeners = spec.get_mut("listeners").and_then(Value::as_array_mut);
    for listener in listeners.into_iter().flatten() {
        // What only Services and clients know of it. One that takes a port of the machine has its type in the pod too.
        let of_services: &[&str] = match listener["type"].as_str() {
            Some("HostPort") => &["advertised"],
            _ => &["advertised", "annotations", "nodePort", "type"],
        };
        for field in of_services {
            remove(listener, &format!("/{field}"));
        }
    }
    fingerprint(&format!("{spec}{}", restarted_at.unwrap_or_default()))
}

/// Takes a field away, and what is empty without it.
fn remove(value: &mut Value, path: &str) {
    let Some((parent, field)) = path.rsplit_once('/') else { return };
    let Some(fields) = value.pointer_mut(parent).and_then(Value::as_object_mut) else { return };
    if fields.remove(field).is_some() && fields.is_empty() {
        remove(value, parent);
    }
}

/// Settles what the pods of `wanted` are made from, which is what they were made from where only the operator is another; and
/// writes it down. `file` is the configuration's key.
pub fn settle(
    maker: Maker<'_>,
    live: Option<&StatefulSet>,
    wanted: &mut StatefulSet,
    (config_map, file): (&mut ConfigMap, &str),
) -> MadeFrom {
    let before = live.and_then(read);
    let spec = wanted.spec.as_mut().expect("a StatefulSet that is made has a spec");
    let data = config_map.data.get_or_insert_default();
    let text = data.get(file).cloned().unwrap_or_default();
    let (text, levels) = without_levels(&text);
    let made = MadeFrom {
        profile: maker.version.to_owned(),
        reason: String::new(),
        maker: format!("{} {}{}", env!("CARGO_PKG_VERSION"), maker.prefix, maker.version),
        asked: maker.asked.to_owned(),
        template: spec.template.clone(),
        file: text,
    };
    let made = match before {
        None => made,
        Some(before) if before.maker != made.maker && before.asked == made.asked && maker.keeps => {
            spec.template = before.template.clone();
            data.insert(file.to_owned(), with_levels(&before.file, levels));
            before
        }
        Some(before) => MadeFrom { reason: reason(&before, &made), ..made },
    };
    let text = serde_json::to_string(&made).expect("plain data is JSON");
    wanted.annotations_mut().insert(MADE_FROM.to_owned(), text);
    made
}

/// What the pods of a StatefulSet are made from.
pub fn read(stateful_set: &StatefulSet) -> Option<MadeFrom> {
    serde_json::from_str(stateful_set.annotations().get(MADE_FROM)?).ok()
}

impl MadeFrom {
    /// The image.
    pub fn image(&self) -> Option<&str> {
        image(&self.template)
    }
}

fn image(template: &PodTemplateSpec) -> Option<&str> {
    template.spec.as_ref()?.containers.first()?.image.as_deref()
}

/// What is new, for people.
fn reason(before: &MadeFrom, made: &MadeFrom) -> String {
    let (old, new) = (&before.template, &made.template);
    if old == new {
        return before.reason.clone();
    }
    let note = |template: &PodTemplateSpec, key: &str| {
        template.metadata.as_ref()?.annotations.as_ref()?.get(key).cloned()
    };
    let mut news = Vec::new();
    let mut rest = old.clone();
    if let (Some(old), Some(new)) = (image(old), image(new))
        && old != new
    {
        news.push(format!("image {old} becomes {new}"));
    }
    if note(old, RESTARTED_AT) != note(new, RESTARTED_AT) {
        news.push(format!("restart asked for: {}", note(new, RESTARTED_AT).unwrap_or_default()));
    }
    if note(old, CONFIG_HASH) != note(new, CONFIG_HASH) {
        news.push("configuration".to_owned());
    }
    if let (Some(old), Some(new)) = (container(&mut rest), new.spec.as_ref()) {
        let new = new.containers.first();
        if new.is_some_and(|new| new.resources != old.resources) {
            news.push("resources".to_owned());
        }
        old.image = new.and_then(|new| new.image.clone());
        old.resources = new.and_then(|new| new.resources.clone());
    }
    let notes = rest.metadata.get_or_insert_default().annotations.get_or_insert_default();
    for key in [RESTARTED_AT, CONFIG_HASH] {
        match note(new, key) {
            Some(value) => notes.insert(key.to_owned(), value),
            None => notes.remove(key),
        };
    }
    if rest != *new {
        news.push("settings of the pod".to_owned());
    }
    news.join(", ")
}

fn container(template: &mut PodTemplateSpec) -> Option<&mut k8s_openapi::api::core::v1::Container> {
    template.spec.as_mut()?.containers.first_mut()
}

/// A configuration file without its levels, which change at run time, and these.
fn without_levels(text: &str) -> (String, serde_yaml::Value) {
    let mut file: serde_yaml::Value = serde_yaml::from_str(text).unwrap_or_default();
    let logging = file.get_mut("logging").and_then(serde_yaml::Value::as_mapping_mut);
    let levels = logging.and_then(|logging| logging.insert("levels".into(), no_levels()));
    (write(&file), levels.unwrap_or_else(no_levels))
}

fn with_levels(text: &str, levels: serde_yaml::Value) -> String {
    let mut file: serde_yaml::Value = serde_yaml::from_str(text).unwrap_or_default();
    if let Some(logging) = file.get_mut("logging").and_then(serde_yaml::Value::as_mapping_mut) {
        logging.insert("levels".into(), levels);
    }
    write(&file)
}

fn no_levels() -> serde_yaml::Value {
    serde_yaml::Value::Mapping(serde_yaml::Mapping::new())
}

fn write(file: &serde_yaml::Value) -> String {
    serde_yaml::to_string(file).expect("plain data is YAML")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    const FILE: &str = "broker.yaml";

    /// What is made of these for a StatefulSet that is there: image, configuration, and why.
    fn made(
        live: Option<&StatefulSet>,
        maker: Maker<'_>,
        image: &str,
        text: &str,
    ) -> (StatefulSet, String, MadeFrom) {
        let mut set: StatefulSet = serde_json::from_value(json!({
            "metadata": {"name": "x"},
            "spec": {"selector": {}, "template": {"metadata": {"annotations": {CONFIG_HASH: fingerprint(text)}},
                "spec": {"containers": [{"name": "c", "image": image}]}}},
        }))
        .expect("a StatefulSet");
        let mut config_map = ConfigMap {
            data: Some(BTreeMap::from([(FILE.to_owned(), text.to_owned())])),
            ..ConfigMap::default()
        };
        let made = settle(maker, live, &mut set, (&mut config_map, FILE));
        (set, config_map.data.expect("it has data")[FILE].clone(), made)
    }

    const OLD: Maker<'_> = Maker { version: "1", prefix: "r/", asked: "a", keeps: true };
    const NEW: Maker<'_> = Maker { version: "2", ..OLD };
    const TEXT: &str = "name: a\nlogging:\n  format: json\n  levels: {}\n";

    #[test]
    fn another_operator_makes_what_was_made_before_until_people_ask_for_something_else() {
        let (live, ..) = made(None, OLD, "r/x:1", TEXT);
        let newer =
            TEXT.replace("name: a", "name: a\nmore: b").replace("levels: {}", "levels:\n    broker: debug");
        let (set, text, kept) = made(Some(&live), NEW, "r/x:2", &newer);
        assert_eq!(set, live);
        assert_eq!(
            text,
            TEXT.replace("levels: {}", "levels:\n    broker: debug"),
            "levels change at run time"
        );
        assert_eq!((kept.image(), kept.profile.as_str()), (Some("r/x:1"), "1"));

        let (set, text, made_now) = made(Some(&live), Maker { asked: "b", ..NEW }, "r/x:2", &newer);
        assert_ne!(set.spec, live.spec);
        assert_eq!(text, newer);
        assert_eq!((made_now.image(), made_now.profile.as_str()), (Some("r/x:2"), "2"));
        assert_eq!(made_now.reason, "image r/x:1 becomes r/x:2, configuration");
    }

    #[test]
    fn what_does_not_work_is_not_kept_and_what_the_same_operator_finds_changed_is_taken() {
        let (live, ..) = made(None, OLD, "r/x:1", TEXT);
        let (set, ..) = made(Some(&live), Maker { keeps: false, ..NEW }, "r/x:2", TEXT);
        assert_ne!(set.spec, live.spec);
        let (set, ..) = made(Some(&live), OLD, "r/x:2", TEXT);
        assert_ne!(set.spec, live.spec);
    }

    #[test]
    fn what_pods_are_not_made_from_is_not_asked_for() {
        let of = |spec: Value| asked(&spec, None);
        let bare = json!({
            "image": {"tag": "1"}, "storage": {"commitLog": {"storageClassName": "x"}},
            "listeners": [{"name": "a", "port": 8082}, {"name": "b", "port": 8083, "type": "HostPort"}],
        });
        let more = json!({
            "image": {"tag": "1"}, "replicas": 3,
            "storage": {"commitLog": {"storageClassName": "x", "size": "1Gi"}, "retention": {"onDelete": "Delete"}},
            "logging": {"levels": {"broker": "debug"}}, "update": {"paused": true, "canary": 1},
            "allowedNamespaces": {"from": "All"},
            "failover": {"enabled": false, "maxPerHour": 1}, "fencedMembers": [1], "preferredPrimary": 0,
            "listeners": [
                {"name": "a", "port": 8082, "type": "NodePort", "nodePort": 30100, "annotations": {"x": "y"}},
                {"name": "b", "port": 8083, "type": "HostPort", "advertised": {"host": "x"}},
            ],
        });
        assert_eq!(of(bare.clone()), of(more));
        assert_ne!(of(bare.clone()), of(json!({"image": {"tag": "2"}})));
        let mut newer = bare.clone();
        newer["update"] = json!({"profileVersion": "2"});
        assert_ne!(of(bare.clone()), of(newer));
        let mut moved = bare.clone();
        moved["listeners"][1]["type"] = json!("NodePort");
        assert_ne!(of(bare.clone()), of(moved), "the pod has that port of its machine no more");
        assert_ne!(asked(&bare, None), asked(&bare, Some("2026-11-30T08:00:00Z")));
    }

    /// Should one of these change, then every cluster's pods are replaced by the upgrade that brings it.
    #[test]
    fn what_was_asked_for_has_the_same_fingerprint_in_every_version() {
        let spec = "{nameServerRef: {name: shop}, storage: {commitLog: {size: 1Gi}, autoGrow: {increment: 1Gi, max: 5Gi}}, \
             replicas: 3, version: '1', flush: Sync, replication: {mode: Sync}, failover: {leaseDurationSeconds: 9}, \
             messageRetention: {time: 24h}, resources: {limits: {memory: 1Gi}}, pod: {labels: {a: b}}, \
             config: {maxAttempts: '5'}, logging: {format: text, levels: {broker: debug}}, \
             tls: {mode: Required, secretName: s}, update: {profileVersion: '2', canary: 1}, \
             listeners: [{name: out, type: NodePort, port: 8082, tls: Disabled, nodePort: 30100}]}";
        let group: crds::BrokerGroupSpec = serde_yaml::from_str(spec).expect("a BrokerGroup's spec");
        assert_eq!(asked(&group, Some("now")), "aaf387fe243f884a");
        let set: crds::NameServerSetSpec =
            serde_yaml::from_str("{replicas: 3, image: {tag: '1'}, config: {tls: 'off'}}")
                .expect("a NameServerSet's spec");
        assert_eq!(asked(&set, None), "b0e89f1efca62bcf");
    }
}
