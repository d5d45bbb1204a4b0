//! What of a watched object is not kept: nobody here reads it, and there may be very many of them.

use kube::Resource;

use crate::declared::Declared;

/// What kubectl keeps for itself: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What users tell the operator.
const OURS: &str = "mq.gantry.dev/";

/// Of any object: who set which field, and kubectl's copy.
pub fn object<K: Resource>(object: &mut K) {
    keep_annotations(object, |key| key != LAST_APPLIED);
    object.meta_mut().managed_fields = None;
}

/// Of Topics and ConsumerGroups also labels, other annotations, and room in lists.
pub fn declared<K: Declared>(resource: &mut K) {
    object(resource);
    keep_annotations(resource, |key| key.starts_with(OURS));
    resource.meta_mut().labels = None;
    resource.shrink();
}

fn keep_annotations<K: Resource>(object: &mut K, keep: impl Fn(&str) -> bool) {
    let annotations = &mut object.meta_mut().annotations;
    if let Some(some) = annotations {
        some.retain(|key, _| keep(key));
        // An empty map has room for eleven.
        if some.is_empty() {
            *annotations = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use crds::Topic;
    use kube::ResourceExt as _;

    use super::*;

    #[test]
    fn what_the_operator_reads_of_a_topic_stays() {
        let mut topic: Topic = serde_yaml::from_str(
            r#"
            apiVersion: mq.gantry.dev/v1alpha1
            kind: Topic
            metadata:
              name: orders
              uid: u
              resourceVersion: "7"
              generation: 2
              finalizers: [mq.gantry.dev/topic]
              labels: {team: x}
              managedFields: [{manager: kubectl}]
              annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}", mq.gantry.dev/force-delete: "", other: y}
            spec: {nameServerRef: {name: main}, queues: 4}
            status: {observedGeneration: 2, topicName: orders, appliedGroups: 1/1}
            "#,
        )
        .unwrap();
        let before = topic.clone();
        declared(&mut topic);
        assert_eq!((&topic.spec, &topic.status), (&before.spec, &before.status));
        assert_eq!(topic.annotations().keys().collect::<Vec<_>>(), ["mq.gantry.dev/force-delete"]);
        assert_eq!((&topic.metadata.labels, &topic.metadata.managed_fields), (&None, &None));
        let kept = |topic: &Topic| {
            let meta = topic.metadata.clone();
            (meta.uid, meta.resource_version, meta.generation, meta.finalizers)
        };
        assert_eq!(kept(&topic), kept(&before));
    }
}
