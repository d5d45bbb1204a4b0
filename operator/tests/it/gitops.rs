//! What tools of GitOps make of our statuses: kstatus (Flux, kapp, `kubectl wait` in scripts) and the health script for Argo CD.
//!
//! The statuses are those that the operator writes in the scenarios of this binary. What was made of each lies in a golden table.

use std::{collections::BTreeSet, fs, path::Path};

use mlua::Lua;
use serde_json::{Value, json};

use crate::server::{self, statuses};
use crate::{consumer_groups, day_two, drift, namespaces, placement};

#[test]
fn statuses_mean_to_kstatus_and_argo_cd_what_they_mean_to_us() {
    let mut table = BTreeSet::new();
    for resource in written() {
        let kstatus = kstatus(&resource);
        let health = health(&resource).0;
        let kind = text(&resource["kind"]);
        let said: Vec<String> = conditions(&resource)
            .iter()
            .filter(|it| is_told(text(&it["type"]), text(&it["status"])))
            .map(|it| format!("{}={}/{}", text(&it["type"]), text(&it["status"]), text(&it["reason"])))
            .collect();
        table.insert(format!("{kind}: {} -> kstatus {kstatus}, Argo CD {health}", said.join(" ")));
    }
    insta::assert_snapshot!(table.into_iter().collect::<Vec<_>>().join("\n"));
}

/// What decides, and what else is bad.
fn is_told(type_: &str, status: &str) -> bool {
    match type_ {
        "Ready" | "Reconciling" | "Stalled" => true,
        "DataLossPossible" | "Drifted" => status == "True",
        _ => status == "False",
    }
}

#[test]
fn conditions_are_as_kstatus_wants_them() {
    for resource in written() {
        let told = serde_json::to_string_pretty(&resource).unwrap();
        assert_eq!(resource["status"]["observedGeneration"], resource["metadata"]["generation"], "{told}");
        let mut types = BTreeSet::new();
        for condition in conditions(&resource) {
            assert!(types.insert(text(&condition["type"]).to_owned()), "twice: {told}");
            assert!(["True", "False"].contains(&text(&condition["status"])), "{told}");
            assert_eq!(condition["observedGeneration"], resource["metadata"]["generation"], "{told}");
            assert!(
                !text(&condition["reason"]).is_empty() && !text(&condition["message"]).is_empty(),
                "{told}"
            );
            assert!(!text(&condition["lastTransitionTime"]).is_empty(), "{told}");
        }
        // What a tool asks for is always there, so that nobody waits for a condition that never comes.
        assert!(["Ready", "Reconciling", "Stalled"].iter().all(|it| types.contains(*it)), "{told}");
        let expected =
            match (holds(&resource, "Stalled"), holds(&resource, "Reconciling"), holds(&resource, "Ready")) {
                (true, ..) => "Failed",
                (false, true, _) | (false, false, false) => "InProgress",
                (false, false, true) => "Current",
            };
        assert_eq!(kstatus(&resource), expected, "{told}");
    }
}

#[test]
fn a_spec_that_nobody_looked_at_yet_is_in_progress() {
    let mut resource = written().into_iter().find(|it| kstatus(it) == "Current").unwrap();
    assert_eq!(health(&resource).0, "Healthy");
    resource["metadata"]["generation"] = json!(2);
    assert_eq!(kstatus(&resource), "InProgress");
    let not_yet = ("Progressing".to_owned(), "the operator has not looked at it yet".to_owned());
    assert_eq!(health(&resource), not_yet);
    resource["status"] = Value::Null;
    assert_eq!(health(&resource), not_yet);
}

#[test]
fn health_says_why_in_our_own_words() {
    let stalled = written().into_iter().find(|it| holds(it, "Stalled")).unwrap();
    let of = |type_: &str| conditions(&stalled).into_iter().find(|it| it["type"] == type_).unwrap();
    assert_eq!(health(&stalled), ("Degraded".to_owned(), text(&of("Stalled")["message"]).to_owned()));
}

/// Every resource whose status the operator writes in these scenarios.
fn written() -> Vec<Value> {
    let written = statuses::while_running(|| {
        server::a_broker_group_is_made_in_order_and_then_not_written_again();
        server::an_object_of_somebody_else_is_left_alone_and_named();
        server::a_roll_ends_with_a_switchover_and_the_former_primary();
        server::name_servers_stay_while_broker_groups_refer_to_them();
        day_two::a_single_broker_that_lacks_its_image_is_replaced_when_the_spec_is_corrected();
        day_two::name_servers_stay_as_they_are_under_a_newer_operator_also_while_none_is_ready();
        day_two::a_paused_update_replaces_nothing_and_says_so();
        day_two::a_group_that_hibernates_has_no_pods_and_keeps_what_it_needs_to_wake();
        day_two::a_group_that_is_paused_is_looked_at_and_left_alone();
        day_two::a_volume_that_may_not_grow_is_asked_for_once_in_a_while_and_no_event_says_that_it_grows();
        namespaces::a_topic_of_another_namespace_is_made_with_the_name_servers_consent_only();
        placement::a_topic_that_moves_is_made_there_first_and_leaves_when_it_is_consumed();
        drift::what_is_only_reported_stays_until_the_spec_changes();
        consumer_groups::a_group_is_made_on_every_broker_with_its_owner_and_then_not_written_again();
        consumer_groups::a_group_of_somebody_else_is_left_alone_and_named();
        consumer_groups::a_broker_that_is_away_is_named_and_does_not_undo_what_was_done();
    });
    let kinds: BTreeSet<&str> = written.iter().map(|it| text(&it["kind"])).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["BrokerGroup", "ConsumerGroup", "NameServerSet", "Topic"]
    );
    written
}

/// The rules of kstatus (sigs.k8s.io/cli-utils, pkg/kstatus) for kinds that it does not know: the generation, then Reconciling and
/// Stalled, whichever is first in the list, then Ready.
fn kstatus(resource: &Value) -> &'static str {
    if resource["metadata"]["deletionTimestamp"].is_string() && resource["status"]["conditions"].is_null() {
        return "Terminating";
    }
    let observed = &resource["status"]["observedGeneration"];
    if observed.is_i64() && *observed != resource["metadata"]["generation"] {
        return "InProgress";
    }
    for condition in conditions(resource).iter().filter(|it| it["status"] == "True") {
        match text(&condition["type"]) {
            "Reconciling" => return "InProgress",
            "Stalled" => return "Failed",
            _ => {}
        }
    }
    match conditions(resource).iter().find(|it| it["type"] == "Ready") {
        Some(ready) if ready["status"] != "True" => "InProgress",
        _ => "Current",
    }
}

/// What the script that we ship says, as Argo CD runs it: health, and the message beside it.
fn health(resource: &Value) -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/argocd/argocd-cm.yaml");
    let config_map: Value = serde_yaml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let key = format!("resource.customizations.health.mq.gantry.dev_{}", text(&resource["kind"]));
    let script = text(&config_map["data"][key.as_str()]);
    assert!(!script.is_empty(), "{key} is not there");
    let lua = Lua::new();
    lua.globals().set("obj", as_lua(&lua, resource)).unwrap();
    let health: mlua::Table = lua.load(script).eval().unwrap();
    let (status, message): (String, String) = (health.get("status").unwrap(), health.get("message").unwrap());
    assert!(["Healthy", "Progressing", "Degraded", "Suspended"].contains(&status.as_str()), "{status}");
    (status, message)
}

fn as_lua(lua: &Lua, value: &Value) -> mlua::Value {
    match value {
        Value::Null => mlua::Value::Nil,
        Value::Bool(bool) => mlua::Value::Boolean(*bool),
        Value::Number(number) => mlua::Value::Number(number.as_f64().unwrap()),
        Value::String(text) => mlua::Value::String(lua.create_string(text).unwrap()),
        Value::Array(list) => {
            let list = list.iter().map(|one| as_lua(lua, one));
            mlua::Value::Table(lua.create_sequence_from(list).unwrap())
        }
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, one)| (name.as_str(), as_lua(lua, one)));
            mlua::Value::Table(lua.create_table_from(fields).unwrap())
        }
    }
}

fn conditions(resource: &Value) -> Vec<Value> {
    resource["status"]["conditions"].as_array().cloned().unwrap_or_default()
}

fn holds(resource: &Value, type_: &str) -> bool {
    conditions(resource).iter().any(|it| it["type"] == type_ && it["status"] == "True")
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
