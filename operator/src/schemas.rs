//! Whether the CustomResourceDefinitions in the cluster are as new as the operator needs.

use std::time::Duration;

use crds::{SCHEMA_ANNOTATION, SCHEMA_GENERATION};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt as _};
use tokio::{sync::watch, time::sleep};

use crate::http::WaitsFor;

const RETRY: Duration = Duration::from_secs(2);

/// Waits until the definitions are there and new enough. Meanwhile the process is not ready and says why, in its log and
/// on `/readyz`: nothing would work, and to say so beats to fail in parts.
pub async fn wait(client: &Client, waits_for: &watch::Sender<WaitsFor>) {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    loop {
        let mut problems = Vec::new();
        for (_, crd) in crds::all() {
            let name = crd.name_any();
            match api.get_opt(&name).await {
                Ok(installed) => problems.extend(judge(&name, installed.as_ref())),
                // Without the right to look, the watches will tell.
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    tracing::warn!(name, "no right to read the definition, so its age is unknown");
                }
                Err(error) => problems.push(format!("{name} cannot be read: {error}")),
            }
        }
        if problems.is_empty() {
            return;
        }
        let problem =
            format!("the custom resource definitions do not fit this operator: {}", problems.join("; "));
        let is_news = waits_for.send_if_modified(|waits_for| {
            let is_news = waits_for.as_ref() != Some(&problem);
            *waits_for = Some(problem.clone());
            is_news
        });
        if is_news {
            tracing::error!(problem, "waiting for custom resource definitions");
        }
        sleep(RETRY).await;
    }
}

fn judge(name: &str, installed: Option<&CustomResourceDefinition>) -> Option<String> {
    let Some(installed) = installed else {
        return Some(format!("{name} is not installed: install the chart gantry-crds or apply crds/"));
    };
    let generation = installed.annotations().get(SCHEMA_ANNOTATION).and_then(|text| text.parse::<u32>().ok());
    let generation = generation.unwrap_or_default();
    (generation < SCHEMA_GENERATION).then(|| {
        format!(
            "{name} is of generation {generation}, at least {SCHEMA_GENERATION} is needed: upgrade the chart gantry-crds or apply the crds/ of this version"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_ship_fits_and_what_is_missing_or_older_does_not() {
        for (_, mut crd) in crds::all() {
            assert_eq!(judge("x", Some(&crd)), None);
            crd.annotations_mut().insert(SCHEMA_ANNOTATION.to_owned(), (SCHEMA_GENERATION + 1).to_string());
            assert_eq!(judge("x", Some(&crd)), None);
            crd.annotations_mut().insert(SCHEMA_ANNOTATION.to_owned(), (SCHEMA_GENERATION - 1).to_string());
            assert!(judge("x", Some(&crd)).is_some_and(|problem| problem.contains("upgrade")));
            crd.annotations_mut().clear();
            assert!(judge("x", Some(&crd)).is_some());
        }
        assert!(judge("x", None).is_some_and(|problem| problem.contains("not installed")));
    }
}
