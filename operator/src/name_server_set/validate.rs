//! A NameServerSet with everything settled. After this nobody looks at the spec. Pure.

use crds::{NAME_SERVER_CONFIG, NameServerSet, PodSettings};
use k8s_openapi::api::core::v1::ResourceRequirements;

use super::observe;
use crate::{
    config::{Knobs, LoggingFile},
    identity::{Identity, Role},
    pods::template::{ImageRef, Images},
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
    /// What is logged.
    pub logging: LoggingFile,
}

/// Settles what the spec leaves open. The schema leaves nothing that could be wrong.
pub fn validate(set: &NameServerSet, images: &Images) -> Validated {
    let spec = &set.spec;
    Validated {
        identity: observe::identity(set),
        replicas: spec.replicas,
        image: images.settle(Role::NameServer, spec.version.as_deref(), spec.image.as_ref()),
        resources: spec.resources.clone(),
        pod: spec.pod.clone().unwrap_or_default(),
        knobs: Knobs::judge(&NAME_SERVER_CONFIG, &spec.config),
        logging: LoggingFile::of(spec.logging.as_ref()),
    }
}
