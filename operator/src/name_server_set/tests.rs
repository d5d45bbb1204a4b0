use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    observe::{Group, Observed, Routes},
    validate::validate,
    *,
};
use crate::pods::template::Images;

fn set(more: &str) -> NameServerSet {
    serde_yaml::from_str(&format!(
        "metadata: {{name: shop, namespace: shop, uid: u{more}}}\nspec: {{replicas: 3}}"
    ))
    .expect("a NameServerSet")
}

/// Three pods of the newest revision, so many of them ready.
fn observed(ready: usize) -> Observed {
    let pod = |ordinal: usize| {
        let status = if ordinal < ready { "True" } else { "False" };
        let yaml = format!(
            "metadata: {{name: shop-namesrv-{ordinal}, labels: {{controller-revision-hash: r}}}}\n\
             status: {{conditions: [{{type: Ready, status: '{status}'}}]}}"
        );
        Arc::new(serde_yaml::from_str(&yaml).expect("a Pod"))
    };
    let stateful_set = "metadata: {generation: 1}\nspec: {selector: {}, template: {}}\n\
                        status: {replicas: 3, observedGeneration: 1, updateRevision: r}";
    Observed {
        stateful_set: Some(Arc::new(serde_yaml::from_str(stateful_set).expect("a StatefulSet"))),
        pods: (0..3).map(pod).collect(),
        ..Observed::default()
    }
}

fn routes(registered: &[(&str, &[&str])], missing: &[&str]) -> Routes {
    let paths =
        |paths: &[&str]| -> BTreeSet<String> { paths.iter().map(|path| (*path).to_owned()).collect() };
    let registered: BTreeMap<String, BTreeSet<String>> =
        registered.iter().map(|(pod, has)| ((*pod).to_owned(), paths(has))).collect();
    Routes { registered, missing: paths(missing), ..Routes::default() }
}

fn status_of(set: &NameServerSet, observed: &Observed, routes: &Routes) -> crds::NameServerSetStatus {
    let images = Images { prefix: "localhost/".to_owned(), version: "0.1.0".to_owned() };
    status::status(
        set,
        &validate(set, &images),
        observed,
        routes,
        &apply::Outcome::default(),
        Timestamp::UNIX_EPOCH,
    )
}

fn read(status: &crds::NameServerSetStatus) -> Vec<String> {
    status.conditions.iter().map(|it| format!("{}={}/{}", it.type_, it.status, it.reason)).collect()
}

#[test]
fn all_must_answer_at_first_and_later_all_but_one() {
    let mut set = set("");
    for (ready, expected) in [
        (0, "Ready=False/NotEnoughReady"),
        (2, "Ready=False/NotEnoughReady"),
        (3, "Ready=True/Serving"),
        (2, "Ready=True/Serving"),
        (1, "Ready=False/NotEnoughReady"),
        (2, "Ready=False/NotEnoughReady"),
    ] {
        let status = status_of(&set, &observed(ready), &Routes::default());
        assert_eq!(read(&status)[0], expected, "{ready} ready");
        set.status = Some(status);
    }
}

#[test]
fn what_name_servers_wait_for_is_named() {
    let status = status_of(&set(""), &observed(1), &routes(&[], &["c/a", "c/b"]));
    assert_eq!(status.conditions[0].reason, "Warming");
    assert!(status.conditions[0].message.ends_with("c/a, c/b"), "{}", status.conditions[0].message);
}

#[test]
fn routes_are_compared_and_the_difference_is_named() {
    let same = status_of(&set(""), &observed(3), &routes(&[("p-0", &["c/a"]), ("p-1", &["c/a"])], &[]));
    assert!(read(&same).contains(&"RoutesConsistent=True/Consistent".to_owned()));
    assert_eq!(same.registered_groups, 1);
    let differ =
        status_of(&set(""), &observed(3), &routes(&[("p-0", &["c/a", "c/b"]), ("p-1", &["c/a"])], &[]));
    let condition = differ.conditions.last().expect("a condition");
    assert_eq!(condition.reason, "Differing");
    assert!(condition.message.contains("p-1 lacks c/b"), "{}", condition.message);
    assert_eq!(differ.registered_groups, 2);
    // Nobody could be asked: nothing is said.
    assert!(
        !read(&status_of(&set(""), &observed(3), &Routes::default()))
            .iter()
            .any(|it| it.starts_with("Routes"))
    );
}

#[test]
fn a_deletion_that_waits_says_for_whom() {
    let set = set(", deletionTimestamp: '2026-01-01T00:00:00Z'");
    let group = Group { name: "a".to_owned(), path: "c/a".to_owned(), served: true };
    let observed = Observed { groups: vec![group], ..observed(3) };
    let status = status_of(&set, &observed, &Routes::default());
    let stalled = status.conditions.iter().find(|it| it.type_ == "Stalled").expect("a condition");
    assert_eq!((stalled.status.as_str(), stalled.reason.as_str()), ("True", "DeletionBlocked"));
    assert!(stalled.message.contains("delete a first"), "{}", stalled.message);
}
