//! `gantry report`: what somebody needs who helps from afar. Objects and logs of one namespace, and no Secret.

use std::fmt::Debug;
use std::fs;
use std::path::Path;

use crds::{BrokerGroup, ConsumerGroup, NameServerSet, Topic};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ListParams, LogParams};
use kube::{Api, Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};

use super::Kubernetes;
use crate::args::ReportArgs;
use crate::control::root_cause;
use crate::failure::Failure;
use crate::output::{Paint, View};

/// The label that everything of ours has.
const OURS: &str = "app.kubernetes.io/managed-by=gantry-operator";

/// What was written.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Where.
    pub directory: String,
    /// The files in it.
    pub files: Vec<String>,
    /// What could not be read, and why.
    pub lacking: Vec<String>,
}

impl View for Report {
    fn text(&self, paint: Paint) -> String {
        let mut lines = vec![format!("{} files in {}", self.files.len(), self.directory)];
        lines.extend(self.lacking.iter().map(|lacking| paint.bad(&format!("not in it: {lacking}"))));
        lines.join("\n")
    }
}

impl Kubernetes {
    /// Writes objects and logs into a new directory. What cannot be read is named, and the rest is written.
    pub async fn report(&self, args: &ReportArgs) -> Result<Report, Failure> {
        let unwritable = |error: std::io::Error| {
            Failure::failed(format!("cannot write {}: {error}", args.to.display()))
                .next("--to names a directory that is not there yet")
        };
        fs::create_dir(&args.to).map_err(unwritable)?;
        let mut report = Report { directory: args.to.display().to_string(), ..Report::default() };
        let (all, ours) = (ListParams::default(), ListParams::default().labels(OURS));
        self.objects::<NameServerSet>(&all, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<BrokerGroup>(&all, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<Topic>(&all, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<ConsumerGroup>(&all, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<StatefulSet>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<ConfigMap>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<Service>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<EndpointSlice>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<Lease>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<PodDisruptionBudget>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<PersistentVolumeClaim>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        self.objects::<Event>(&all, &args.to, &mut report).await.map_err(unwritable)?;
        let pods = self.objects::<Pod>(&ours, &args.to, &mut report).await.map_err(unwritable)?;
        for pod in pods {
            self.log(&pod, args, &mut report).await.map_err(unwritable)?;
        }
        Ok(report)
    }

    async fn objects<K>(&self, which: &ListParams, to: &Path, report: &mut Report) -> std::io::Result<Vec<K>>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + Serialize
            + Debug,
    {
        let api: Api<K> = self.api();
        let kind = K::plural(&());
        let mut found = match api.list(which).await {
            Ok(list) => list.items,
            Err(error) => {
                report.lacking.push(format!("{kind}: {}", root_cause(&error)));
                return Ok(Vec::new());
            }
        };
        for object in &mut found {
            object.managed_fields_mut().clear();
        }
        let text = serde_yaml::to_string(&found).map_err(std::io::Error::other)?;
        write(to, format!("{kind}.yaml"), &text, report)?;
        Ok(found)
    }

    /// The log of a pod, and that of its container before the last restart.
    async fn log(&self, pod: &Pod, args: &ReportArgs, report: &mut Report) -> std::io::Result<()> {
        let name = pod.name_any();
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let restarted = containers.into_iter().flatten().any(|container| container.restart_count > 0);
        for previous in [false, true].into_iter().filter(|previous| restarted || !previous) {
            let parameters = LogParams { tail_lines: Some(args.tail), previous, ..LogParams::default() };
            let which = if previous { "previous.log" } else { "log" };
            match self.api::<Pod>().logs(&name, &parameters).await {
                Ok(text) => write(&args.to, format!("{name}.{which}"), &text, report)?,
                Err(error) => report.lacking.push(format!("{name}.{which}: {}", root_cause(&error))),
            }
        }
        Ok(())
    }
}

fn write(to: &Path, file: String, text: &str, report: &mut Report) -> std::io::Result<()> {
    fs::write(to.join(&file), text)?;
    report.files.push(file);
    Ok(())
}
