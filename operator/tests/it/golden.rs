//! Whole object sets: `tests/golden/<case>/in.yaml` is a resource and what is observed, `out.yaml` what is made for it.
//!
//! Reading an out.yaml is reading what the operator does. `INSTA_UPDATE=always` writes them anew.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crds::{BrokerGroup, BrokerGroupStatus, NameServerSet};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    coordination::v1::Lease,
    core::v1::{PersistentVolumeClaim, Service},
};
use kube::ResourceExt as _;
use operator::{broker_group, broker_group::desired::Advertised, name_server_set, pods::template::Images};
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct In {
    resource: Value,
    #[serde(default)]
    observed: Seen,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Seen {
    address: Option<String>,
    primary_addresses: Option<[String; 2]>,
    lease: Option<Lease>,
    services: Vec<Service>,
    status: BrokerGroupStatus,
    groups: Vec<BrokerGroup>,
    claims: Vec<PersistentVolumeClaim>,
    stateful_set: Option<StatefulSet>,
}

fn images() -> Images {
    Images { prefix: "registry.example.com/".to_owned(), version: "0.1.0".to_owned() }
}

/// The objects in the order in which they are applied.
fn made(input: In) -> Vec<Value> {
    match input.resource["kind"].as_str() {
        Some("NameServerSet") => name_servers(input),
        Some("BrokerGroup") => brokers(input),
        other => panic!("no pods are made for {other:?}"),
    }
}

fn name_servers(input: In) -> Vec<Value> {
    let set: NameServerSet = serde_yaml::from_value(input.resource).expect("a NameServerSet");
    let observed = name_server_set::observe::Observed {
        groups: input.observed.groups.iter().map(name_server_set::observe::Group::of).collect(),
        ..Default::default()
    };
    let validated = name_server_set::validate::validate(&set, &images());
    let name_server_set::desired::Desired { service_account, services, config_map, budget, stateful_set } =
        name_server_set::desired::desired(&validated, &observed);
    let mut objects = vec![value(&service_account)];
    objects.extend(services.iter().map(value));
    objects.push(value(&config_map));
    objects.extend(budget.iter().map(value));
    objects.push(value(&stateful_set));
    objects
}

fn brokers(input: In) -> Vec<Value> {
    let group: BrokerGroup = serde_yaml::from_value(input.resource).expect("a BrokerGroup");
    let Seen { address, primary_addresses, groups: _, claims, stateful_set, lease, services: there, status } =
        input.observed;
    let observed = broker_group::observe::Observed {
        claims: claims.into_iter().map(Into::into).collect(),
        stateful_set: stateful_set.map(Into::into),
        reign: lease.as_ref().map(broker_group::reign::Reign::of),
        ..Default::default()
    };
    let validated =
        broker_group::validate::validate(&group, &observed, &images()).expect("a sound BrokerGroup");
    let broker_group::desired::Network { service_account, services, agreement } =
        broker_group::desired::network(&validated);
    let mut objects = vec![value(&service_account)];
    objects.extend(services.iter().map(value));
    if let Some(broker_group::desired::Agreement { role, role_binding, endpoints }) = agreement {
        objects.extend([value(&role), value(&role_binding)]);
        objects.extend(endpoints.iter().map(value));
        objects.extend(lease.is_none().then(|| value(&broker_group::reign::lease(&validated, &status))));
    }
    let advertised = address.map(Advertised::Member).or_else(|| primary_addresses.map(Advertised::Primary));
    let service = |name: &str| there.iter().find(|service| service.name_any() == name);
    let told = validated.listeners.told(&validated.identity, validated.replicas, service);
    if let Some(hosts) = advertised {
        let broker_group::desired::Workload { config_map, budget, stateful_set } =
            broker_group::desired::workload(&validated, &hosts, &told);
        objects.push(value(&config_map));
        objects.extend(budget.iter().map(value));
        objects.push(value(&stateful_set));
    }
    objects
}

fn value(object: &impl Serialize) -> Value {
    serde_yaml::to_value(object).expect("an object of plain data is YAML")
}

fn cases() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(all).expect("the golden files").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    cases
}

#[test]
fn what_is_made_is_what_the_golden_files_show() {
    let cases = cases();
    assert!(cases.len() >= 6, "golden files are missing");
    let mut wrong = Vec::new();
    for case in cases {
        let input = fs::read_to_string(case.join("in.yaml")).expect("in.yaml");
        let input: In =
            serde_yaml::from_str(&input).unwrap_or_else(|error| panic!("{}: {error}", case.display()));
        let documents: Vec<String> =
            made(input).iter().map(|object| serde_yaml::to_string(object).expect("YAML")).collect();
        let made = documents.join("---\n");
        let out = case.join("out.yaml");
        if env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
            fs::write(&out, &made).expect("out.yaml can be written");
        }
        let golden = fs::read_to_string(&out).unwrap_or_default();
        if let Some(line) = first_difference(&golden, &made) {
            wrong.push(format!("{}:{line}", out.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\naccept with INSTA_UPDATE=always", wrong.join("\n"));
}

fn first_difference(golden: &str, made: &str) -> Option<String> {
    if golden == made {
        return None;
    }
    let (golden, made): (Vec<&str>, Vec<&str>) = (golden.lines().collect(), made.lines().collect());
    let at = (0..).find(|at| golden.get(*at) != made.get(*at)).unwrap_or_default();
    let show = |lines: &[&str]| lines.get(at).map_or("(end)".to_owned(), |line| (*line).to_owned());
    Some(format!("{}\n  golden: {}\n  made:   {}", at + 1, show(&golden), show(&made)))
}
