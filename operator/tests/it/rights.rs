//! The rights that the chart gives the operator are those that it uses: none lacks, and none is too many.
//!
//! What is used is what the API server in memory is asked for: by a whole operator that starts as the chart's Deployment says, and by
//! scenarios that write whatever the operator writes. What is given is what the chart's golden renders bind to its ServiceAccount.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use clap::{CommandFactory as _, Parser as _};
use crds::Topic;
use kube::{Resource as _, ResourceExt as _};
use operator::{Options, events, metrics::Metrics};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::server::{
    Server,
    asked::{self, Asked, granted},
};
use crate::{consumer_groups, day_two, namespaces, placement, server};

#[test]
fn the_operator_has_the_rights_that_it_uses_and_no_others() {
    let written = asked::while_running(write_whatever_is_written);
    for case in ["default", "everything", "all-namespaces", "chosen-namespaces"] {
        let install = Install::read(case);
        let asked = asked::while_running(|| start(&install));
        let used: BTreeSet<Asked> = asked.into_iter().chain(install.applied_to(&written)).collect();

        let lacking = used.iter().filter(|asked| !install.grants.iter().any(|grant| covers(grant, asked)));
        assert_eq!(in_words(lacking), "", "{case}: used, and not granted");
        let unused = install.grants.iter().filter(|grant| !used.iter().any(|asked| covers(grant, asked)));
        assert_eq!(in_words(unused), "", "{case}: granted, and not used");
    }
}

/// Whether the right is enough for what was asked.
fn covers(grant: &Asked, asked: &Asked) -> bool {
    (&grant.verb, &grant.group, &grant.resource) == (&asked.verb, &asked.group, &asked.resource)
        && (grant.namespace.is_none() || grant.namespace == asked.namespace)
        && (grant.name.is_none() || grant.name == asked.name)
}

fn in_words<'a>(rights: impl Iterator<Item = &'a Asked>) -> String {
    let each = rights.map(|Asked { verb, group, resource, namespace, name }| {
        let (namespace, name) = (namespace.as_deref().unwrap_or("*"), name.as_deref().unwrap_or("*"));
        format!("{verb} {group}/{resource} {namespace}/{name}\n")
    });
    each.collect()
}

/// Scenarios of this binary that together write whatever is ever written. Each has a runtime of its own, on this thread.
fn write_whatever_is_written() {
    server::a_broker_group_is_made_in_order_and_then_not_written_again();
    server::a_stateful_set_whose_fixed_fields_differ_is_replaced_and_its_pods_stay();
    server::a_replicated_group_is_made_in_order_and_what_members_write_stays();
    server::a_slice_of_the_primary_that_was_deleted_is_made_again();
    server::a_roll_ends_with_a_switchover_and_the_former_primary();
    server::one_broker_becomes_three_and_one_again();
    server::a_group_without_a_first_primary_becomes_one_broker_without_a_lease_to_hold();
    server::a_disruption_budget_goes_when_one_name_server_is_left();
    server::name_servers_stay_while_broker_groups_refer_to_them();
    server::listeners::ports_of_nodes_are_told_as_they_were_given_and_go_with_their_listener();
    day_two::a_volume_that_may_not_grow_is_asked_for_once_in_a_while_and_no_event_says_that_it_grows();
    namespaces::a_namespace_that_ends_waits_for_no_broker_of_another();
    placement::a_topic_that_goes_waits_for_no_broker_that_cannot_have_it();
    consumer_groups::a_group_is_made_on_every_broker_with_its_owner_and_then_not_written_again();
    consumer_groups::deletion_keeps_the_group_unless_the_policy_says_that_it_goes();
    an_event_that_is_told_twice_is_counted();
}

#[tokio::test]
async fn an_event_that_is_told_twice_is_counted() {
    let server = Server::default();
    let (client, _task) = server.start();
    let (events, publisher) = events::channel(client, "test", Arc::new(Metrics::default()));
    let mut about = Topic::new("orders", crds::TopicSpec::default());
    about.metadata.namespace = Some("shop".to_owned());
    for _ in 0..2 {
        events.tell(&about.object_ref(&()), true, "Reverted", "somebody changed it");
    }
    drop(events);
    publisher.run().await;
    let writes: Vec<String> =
        server.writes().iter().map(|write| write.split('/').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(writes, ["POST shop", "PATCH events"]);
}

/// What the chart makes of a case's values.
struct Install {
    options: Options,
    namespace: String,
    /// What its ServiceAccount may do.
    grants: BTreeSet<Asked>,
}

impl Install {
    fn read(case: &str) -> Self {
        let path = format!("../charts/gantry-operator/tests/golden/{case}.yaml");
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let objects: Vec<Value> =
            serde_yaml::Deserializer::from_str(&text).map(|one| Value::deserialize(one).unwrap()).collect();
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let pod = &deployment["spec"]["template"]["spec"];
        let mut grants = BTreeSet::new();
        for binding in objects.iter().filter(|object| text_of(&object["kind"]).ends_with("RoleBinding")) {
            let is_ours = |subject: &Value| subject["name"] == pod["serviceAccountName"];
            assert!(binding["subjects"].as_array().unwrap().iter().all(is_ours));
            let namespace = binding["metadata"]["namespace"].as_str();
            let is_named = |role: &&Value| {
                role["kind"] == binding["roleRef"]["kind"]
                    && role["metadata"]["name"] == binding["roleRef"]["name"]
                    && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
            };
            grants.extend(granted(objects.iter().find(is_named).expect("a role"), namespace));
        }
        Self { options: options(pod), namespace: text_of(&deployment["metadata"]["namespace"]), grants }
    }

    /// What is asked where the same happens in each namespace that is served.
    fn applied_to(&self, asked: &BTreeSet<Asked>) -> Vec<Asked> {
        let mut all = Vec::new();
        for scope in self.options.scopes() {
            all.extend(asked.iter().cloned().map(|one| match scope.namespace() {
                Some(namespace) => one.in_namespace(namespace),
                None => one,
            }));
        }
        all
    }
}

/// As the variables of the Deployment's container say.
fn options(pod: &Value) -> Options {
    let variables = pod["containers"][0]["env"].as_array().unwrap();
    let mut arguments = vec!["operator".to_owned(), "--http-listen=127.0.0.1:0".to_owned()];
    for argument in Options::command().get_arguments() {
        let name = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
        let variable = variables.iter().find(|variable| variable["name"] == name);
        if let (Some(value), Some(flag)) = (variable.and_then(|it| it["value"].as_str()), argument.get_long())
        {
            arguments.push(format!("--{flag}={value}"));
        }
    }
    Options::parse_from(arguments)
}

/// A whole operator starts, takes the lead, looks at everything, finds a Topic in each namespace, and stops.
#[tokio::main(flavor = "current_thread")]
async fn start(install: &Install) {
    let server = Server::default();
    for (_, crd) in crds::all() {
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{}", crd.name_any());
        server.put(&path, serde_json::to_value(crd).unwrap());
    }
    let mut topics = Vec::new();
    for scope in install.options.scopes() {
        let namespace = scope.namespace().unwrap_or("shop");
        server.put(&format!("/api/v1/namespaces/{namespace}"), json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": {"messaging": "gantry"}},
        }));
        let path = format!("/apis/mq.gantry.dev/v1alpha1/namespaces/{namespace}/topics/orders");
        server.put(
            &path,
            json!({
                "apiVersion": "mq.gantry.dev/v1alpha1", "kind": "Topic",
                "metadata": {"name": "orders", "namespace": namespace, "uid": "u", "generation": 1},
                "spec": {"nameServerRef": {"name": "main"}},
            }),
        );
        topics.push(path);
    }

    let (client, _task) = server.start();
    let stop = CancellationToken::new();
    let look = async {
        server
            .until("the topics are looked at, and all is watched that is listed", |objects| {
                let asked = asked::so_far();
                let mut listed = asked.iter().filter(|one| one.verb == "list");
                topics.iter().all(|path| objects[path]["status"]["observedGeneration"] == 1)
                    && listed.all(|one| asked.contains(&Asked { verb: "watch".to_owned(), ..one.clone() }))
            })
            .await;
        stop.cancel();
    };
    let run = operator::run_by(&install.options, &client, &install.namespace, &stop);
    let (ended, ()) = futures::join!(run, look);
    ended.unwrap();
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
