//! Keeps the walls between the rooms: which crate may depend on which.
//!
//! A new arrow is a change of the architecture; it belongs in `ARCHITECTURE.md` as well as here.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::run::output;

/// A room and the rooms that it may know, tests included.
const ARROWS: &[(&str, &[&str])] = &[
    ("store", &[]),
    ("replication", &["store"]),
    ("sim", &["replication", "store"]),
    ("proto", &[]),
    ("crds", &[]),
    ("access", &["proto"]),
    ("fuzz", &["proto"]),
    ("namesrv", &["access", "proto", "fuzz"]),
    ("broker", &["store", "replication", "access", "proto", "fuzz"]),
    ("operator", &["crds", "proto", "broker"]),
    ("cli", &["broker", "namesrv", "store", "access", "crds", "proto"]),
    ("bench", &["crds", "proto", "store"]),
    ("trials", &["store", "proto"]),
    ("e2e", &["proto", "trials"]),
    ("xtask", &[]),
];

/// What must not be reachable from a room at all, however it would get in.
const ABSENT: &[(&str, &[&str])] = &[
    ("store", &["tokio", "tonic", "prost", "kube"]),
    ("replication", &["tokio", "tonic", "prost", "kube"]),
    ("proto", &["kube", "k8s-openapi", "redb"]),
    ("crds", &["tonic", "redb"]),
    ("namesrv", &["kube", "k8s-openapi", "redb"]),
    // Only its tests know a broker.
    ("operator", &["redb"]),
];

/// What `cargo metadata` tells of the packages.
#[derive(Deserialize)]
pub(crate) struct Metadata {
    /// Every package of the build, ours and others'.
    pub(crate) packages: Vec<Package>,
    /// Who depends on whom after resolution.
    pub(crate) resolve: Resolve,
}

/// One package.
#[derive(Deserialize)]
pub(crate) struct Package {
    /// As cargo tells it from every other.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
    /// An SPDX expression, where its author gave one.
    pub(crate) license: Option<String>,
    /// A registry, or nothing for our own.
    pub(crate) source: Option<String>,
    /// What its Cargo.toml asks for.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line under `[dependencies]` or its kin.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// The package's name, not what it is renamed to.
    pub(crate) name: String,
    /// Set for one of our own.
    pub(crate) path: Option<String>,
}

/// The resolved graph.
#[derive(Deserialize)]
pub(crate) struct Resolve {
    /// A node for each package.
    pub(crate) nodes: Vec<Node>,
}

/// A package's place in the graph.
#[derive(Deserialize)]
pub(crate) struct Node {
    /// Its package's id.
    pub(crate) id: String,
    /// What it depends on, and as what.
    pub(crate) deps: Vec<Edge>,
}

/// One resolved dependency.
#[derive(Deserialize)]
pub(crate) struct Edge {
    /// The id of the package depended on.
    pub(crate) pkg: String,
    /// Normal, build or dev, a row for each way it is used.
    pub(crate) dep_kinds: Vec<Kind>,
}

/// How a dependency is used.
#[derive(Deserialize)]
pub(crate) struct Kind {
    /// `None` is a normal dependency.
    pub(crate) kind: Option<String>,
}

/// Asks cargo; works without a network because everything is locked and vendored or cached.
pub(crate) fn metadata(root: &Path) -> Result<Metadata> {
    let text = output(Command::new("cargo").current_dir(root).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--all-features",
    ]))?;
    serde_json::from_str(&text).context("cargo metadata printed something unexpected")
}

/// Every broken wall, in words.
pub(crate) fn check(metadata: &Metadata) -> Vec<String> {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut broken = Vec::new();
    for room in metadata.packages.iter().filter(|p| p.source.is_none()) {
        let Some(may) = arrows.get(room.name.as_str()) else {
            broken
                .push(format!("{}: a new room; say in xtask/src/walls.rs what it may depend on", room.name));
            continue;
        };
        for d in room.dependencies.iter().filter(|d| d.path.is_some() && d.name != room.name) {
            if !may.contains(&d.name.as_str()) {
                broken.push(format!("{} must not depend on {}: see ARCHITECTURE.md", room.name, d.name));
            }
        }
    }
    for (room, absent) in ABSENT {
        for name in reachable(metadata, room) {
            if absent.contains(&name) {
                broken.push(format!("{room} must not reach {name}, not even through another crate"));
            }
        }
    }
    broken
}

/// The names of all packages that end up in a room's library or binary.
fn reachable<'a>(metadata: &'a Metadata, room: &str) -> Vec<&'a str> {
    let packages: BTreeMap<_, _> = metadata.packages.iter().map(|p| (p.id.as_str(), p)).collect();
    let nodes: BTreeMap<_, _> = metadata.resolve.nodes.iter().map(|n| (n.id.as_str(), n)).collect();
    let mut todo: Vec<&str> = metadata
        .packages
        .iter()
        .filter(|p| p.name == room && p.source.is_none())
        .map(|p| p.id.as_str())
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = todo.pop() {
        if seen.insert(id) {
            let normal = nodes[id].deps.iter().filter(|d| d.dep_kinds.iter().any(|k| k.kind.is_none()));
            todo.extend(normal.map(|d| d.pkg.as_str()));
        }
    }
    seen.into_iter().map(|id| packages[id].name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, ours: bool, needs: &[&str]) -> serde_json::Value {
        serde_json::json!({
            "id": name, "name": name, "version": "1.0.0", "license": null,
            "source": if ours { None } else { Some("registry") },
            "dependencies": needs.iter().map(|n| serde_json::json!({"name": n, "path": ours.then_some("x")})).collect::<Vec<_>>(),
        })
    }

    fn node(name: &str, needs: &[&str]) -> serde_json::Value {
        let edge = |n: &&str| serde_json::json!({"pkg": n, "dep_kinds": [{"kind": null}]});
        serde_json::json!({"id": name, "deps": needs.iter().map(edge).collect::<Vec<_>>()})
    }

    fn broken(packages: &[serde_json::Value], nodes: &[serde_json::Value]) -> Vec<String> {
        let all = serde_json::json!({"packages": packages, "resolve": {"nodes": nodes}});
        check(&serde_json::from_value(all).unwrap())
    }

    #[test]
    fn an_arrow_that_is_drawn_passes() {
        let found = broken(
            &[package("access", true, &["proto"]), package("proto", true, &[])],
            &[node("access", &["proto"]), node("proto", &[])],
        );
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_new_arrow_is_named() {
        let found = broken(
            &[package("store", true, &["proto"]), package("proto", true, &[])],
            &[node("store", &["proto"]), node("proto", &[])],
        );
        assert!(found[0].contains("store must not depend on proto"), "{found:?}");
    }

    #[test]
    fn what_must_be_absent_is_found_behind_another_crate() {
        let found = broken(
            &[package("store", true, &[]), package("mid", false, &[]), package("tokio", false, &[])],
            &[node("store", &["mid"]), node("mid", &["tokio"]), node("tokio", &[])],
        );
        assert!(found[0].contains("store must not reach tokio"), "{found:?}");
    }

    #[test]
    fn a_new_room_must_be_placed() {
        let found = broken(&[package("attic", true, &[])], &[node("attic", &[])]);
        assert!(found[0].contains("a new room"), "{found:?}");
    }
}
