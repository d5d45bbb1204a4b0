//! A NameServerSet with everything settled. After this nobody looks at the spec. Pure.

use crds::{NAME_SERVER_CONFIG, NameServerSet, PodSettings, Update};
use k8s_openapi::api::core::v1::ResourceRequirements;
use kube::ResourceExt as _;

use super::observe;
use crate::{
    config::{Knobs, LoggingFile},
    identity::{Identity, Role},
    listeners::Listeners,
    pods::{
        keeps_pods, pinned,
        template::{ImageRef, Images, RESTARTED_AT},
    },
};

/// A NameServerSet with everything settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Names and labels.
    pub identity: Identity,
    /// Pods.
    pub replicas: i32,
    /// The image.
    pub image: ImageRef,
    /// The user's resources.
    pub resources: Option<ResourceRequirements>,
    /// The user's settings.
    pub pod: PodSettings,
    /// `spec.config`, judged.
    pub knobs: Knobs,
    /// Where clients come.
    pub listeners: Listeners,
    /// What is logged.
    pub logging: LoggingFile,
    /// Whether a single pod of several may be evicted at a time.
    pub has_budget: bool,
    /// How pods are replaced.
    pub update: Update,
    /// What a person asked a restart by.
    pub restarted_at: Option<String>,
    /// The fingerprint of what people asked for of the pods.
    pub asked: String,
}

/// Settles what the spec leaves open. The schema leaves nothing that could be wrong.
pub fn validate(set: &NameServerSet, images: &Images) -> Validated {
    let spec = &set.spec;
    let restarted_at = set.annotations().get(RESTARTED_AT);
    let knobs = Knobs::judge(&NAME_SERVER_CONFIG, &spec.config);
    Validated {
        identity: observe::identity(set),
        replicas: spec.replicas,
        image: images.settle(Role::NameServer, spec.version.as_deref(), spec.image.as_ref()),
        resources: spec.resources.clone(),
        pod: spec.pod.clone().unwrap_or_default(),
        listeners: Listeners::settle(&spec.listeners, spec.tls.as_ref(), &knobs.accepted),
        knobs,
        logging: LoggingFile::of(spec.logging.as_ref()),
        has_budget: keeps_pods(spec.replicas, spec.disruption.as_ref()),
        update: spec.update.clone().unwrap_or_default(),
        asked: pinned::asked(spec, restarted_at.map(String::as_str)),
        restarted_at: restarted_at.cloned(),
    }
}
