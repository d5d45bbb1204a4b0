//! Asking for changes of what runs: restart, another primary, a fence, sleep. They are annotations and fields of the resources, as anybody could
//! set them; the operator does the rest.

use std::collections::BTreeSet;

use crds::{BrokerGroup, NameServerSet};
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{Kubernetes, MANAGER, failure};
use crate::args::{DrainArgs, FenceArgs, LogsArgs, PromoteArgs};
use crate::failure::Failure;
use crate::output::{Paint, View};

/// What was asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Of whom: `BrokerGroup shop/main`.
    pub of: String,
    /// What.
    pub what: String,
    /// Where to look how it goes.
    pub next: String,
}

impl View for Asked {
    fn text(&self, paint: Paint) -> String {
        let Self { of, what, next } = self;
        format!("{of}: {what}\n{}", paint.faint(next))
    }
}

/// The resource that a name on the command line means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named<'a> {
    Group(&'a str),
    NameServers(&'a str),
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        match text.split_once('/') {
            None => Ok(Self::Group(text)),
            Some(("bg" | "brokergroup" | "brokergroups", name)) => Ok(Self::Group(name)),
            Some(("nss" | "nameserverset" | "nameserversets", name)) => Ok(Self::NameServers(name)),
            Some((kind, _)) => Err(Failure::usage(format!("there are no {kind} to operate"))
                .next("NAME or bg/NAME is a BrokerGroup, nss/NAME a NameServerSet")),
        }
    }
}

impl Named<'_> {
    /// The labels of its pods.
    fn selector(self, only_primary: bool) -> String {
        let pods = match self {
            Self::Group(name) => format!("mq.gantry.dev/broker-group={name}"),
            Self::NameServers(name) => {
                format!("mq.gantry.dev/name-server-set={name},app.kubernetes.io/component=namesrv")
            }
        };
        // The only broker of a group has no role, and is its primary.
        let role = if only_primary { ",mq.gantry.dev/role!=replica" } else { "" };
        format!("{pods}{role}")
    }
}

impl Kubernetes {
    /// Asks for a restart of all pods, one at a time.
    pub async fn restart(&self, name: &str) -> Result<Asked, Failure> {
        let patch = json!({"metadata": {"annotations": {"mq.gantry.dev/restarted-at": now()}}});
        let what = "restarts, one pod at a time";
        match Named::parse(name)? {
            Named::Group(name) => self.ask::<BrokerGroup>(name, &patch, what, "status.rollout").await,
            Named::NameServers(name) => self.ask::<NameServerSet>(name, &patch, what, "status.rollout").await,
        }
    }

    /// Asks for another primary.
    pub async fn promote(&self, args: &PromoteArgs) -> Result<Asked, Failure> {
        let request = format!("{}@{}", args.to, now());
        let patch = json!({"metadata": {"annotations": {"mq.gantry.dev/switchover-to": request}}});
        let what = format!("member {} is to be the primary", args.to);
        self.ask::<BrokerGroup>(&args.name, &patch, &what, "status.primary").await
    }

    /// Puts a group to sleep, or wakes it.
    pub async fn hibernate(&self, name: &str, sleeps: bool) -> Result<Asked, Failure> {
        let Named::Group(name) = Named::parse(name)? else {
            return Err(Failure::usage("only a BrokerGroup can sleep: name servers keep nothing"));
        };
        let patch = json!({"spec": {"hibernate": sleeps}});
        let what = if sleeps { "goes to sleep, and its volumes stay" } else { "wakes" };
        self.ask::<BrokerGroup>(name, &patch, what, "status.members").await
    }

    /// Lets topics leave a group, or use it again.
    pub async fn drain(&self, args: &DrainArgs) -> Result<Asked, Failure> {
        let DrainArgs { name, undo } = args;
        let request = (!undo).then(now);
        let patch = json!({"metadata": {"annotations": {"mq.gantry.dev/drain": request}}});
        let what = if *undo { "is used again" } else { "topics leave it, and nothing is lost" };
        let look = r#"status.conditions[?(@.type=="Drained")].message"#;
        self.ask::<BrokerGroup>(name, &patch, what, look).await
    }

    /// Keeps members from being primary, or lets them again.
    pub async fn fence(&self, args: &FenceArgs) -> Result<Asked, Failure> {
        let name = args.name.as_str();
        let api: Api<BrokerGroup> = self.api();
        let mut tries = 0;
        loop {
            let group = api.get(name).await;
            let group = group.map_err(|error| failure(&format!("read BrokerGroup {name}"), &error))?;
            let fenced = fenced(&group.spec.fenced_members, args);
            let none = fenced.is_empty();
            // Somebody else may change the list meanwhile.
            let patch = json!({
                "metadata": {"resourceVersion": group.resource_version()},
                "spec": {"fencedMembers": (!none).then_some(&fenced)},
            });
            tries += 1;
            match api.patch(name, &by_hand(), &Patch::Merge(&patch)).await {
                Ok(_) => {
                    let all: Vec<String> = fenced.iter().map(i32::to_string).collect();
                    let what = if none {
                        "no member is fenced".to_owned()
                    } else {
                        format!("fenced, and not to be the primary: member {}", all.join(", "))
                    };
                    return Ok(self.asked::<BrokerGroup>(name, &what, "status.primary"));
                }
                Err(kube::Error::Api(status)) if status.code == 409 && tries < 5 => {}
                Err(error) => return Err(failure(&format!("change BrokerGroup {name}"), &error)),
            }
        }
    }

    async fn ask<K>(&self, name: &str, patch: &Value, what: &str, look: &str) -> Result<Asked, Failure>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let api: Api<K> = self.api();
        let kind = K::kind(&());
        let patched = api.patch(name, &by_hand(), &Patch::Merge(patch)).await;
        patched.map_err(|error| failure(&format!("change {kind} {name}"), &error))?;
        Ok(self.asked::<K>(name, what, look))
    }

    fn asked<K: Resource<DynamicType = ()>>(&self, name: &str, what: &str, look: &str) -> Asked {
        let namespace = &self.namespace;
        Asked {
            of: format!("{} {namespace}/{name}", K::kind(&())),
            what: what.to_owned(),
            next: format!(
                "kubectl get {} {name} -n {namespace} -o jsonpath='{{.{look}}}' -w",
                K::plural(&())
            ),
        }
    }

    /// The last lines of each pod, by the pod's name, or why it has none.
    pub async fn logs(&self, args: &LogsArgs) -> Result<Vec<(String, Result<String, Failure>)>, Failure> {
        let selector = Named::parse(&args.name)?.selector(args.primary);
        let api: Api<Pod> = self.api();
        let pods = api.list(&ListParams::default().labels(&selector)).await;
        let pods = pods.map_err(|error| failure("list pods", &error))?;
        if pods.items.is_empty() {
            return Err(Failure::not_found(format!(
                "{} has no pods in namespace {}",
                args.name, self.namespace
            ))
            .next(format!("gantry status -n {}", self.namespace)));
        }
        let parameters =
            LogParams { tail_lines: Some(args.tail), previous: args.previous, ..LogParams::default() };
        let mut logs = Vec::new();
        for pod in pods {
            let name = pod.name_any();
            let text = api.logs(&name, &parameters).await;
            let text = text.map_err(|error| failure(&format!("read the log of {name}"), &error));
            logs.push((name, text));
        }
        Ok(logs)
    }
}

fn by_hand() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

/// Who is fenced when these are as well, or no more.
fn fenced(present: &[i32], args: &FenceArgs) -> BTreeSet<i32> {
    let FenceArgs { name: _, members, undo } = args;
    let present = present.iter().copied();
    if *undo {
        present.filter(|ordinal| !members.is_empty() && !members.contains(ordinal)).collect()
    } else {
        present.chain(members.iter().copied()).collect()
    }
}

/// The time, as an id that was not used before.
fn now() -> String {
    Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_group_unless_it_says_otherwise() {
        assert_eq!(Named::parse("main"), Ok(Named::Group("main")));
        assert_eq!(Named::parse("bg/main"), Ok(Named::Group("main")));
        assert_eq!(Named::parse("nss/main"), Ok(Named::NameServers("main")));
        assert!(Named::parse("pod/main").is_err());
    }

    #[test]
    fn members_are_fenced_beside_those_that_are_and_let_go_one_by_one_or_all() {
        let after = |present: &[i32], members: &[i32], undo| {
            let args = FenceArgs { name: "main".to_owned(), members: members.to_vec(), undo };
            fenced(present, &args).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(after(&[2], &[1, 2], false), [1, 2]);
        assert_eq!(after(&[1, 2], &[1, 0], true), [2]);
        assert_eq!(after(&[1, 2], &[], true), [0; 0]);
    }

    #[test]
    fn the_primary_is_whoever_is_no_replica() {
        let selector = Named::Group("main").selector(true);
        assert_eq!(selector, "mq.gantry.dev/broker-group=main,mq.gantry.dev/role!=replica");
        assert_eq!(Named::Group("main").selector(false), "mq.gantry.dev/broker-group=main");
    }
}
