//! The controller of StatefulSets, kubelets, and volumes.

use operator::covers::fingerprint;
use serde_json::{Value, json};

use super::{NAMESPACE, World, text};

/// Long ago, so that whatever waits for a pod to be Ready for a while has waited.
const READY_SINCE: &str = "2026-01-01T00:00:00Z";

pub(super) fn path(pod: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods/{pod}")
}

fn claim_path(claim: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/{claim}")
}

/// The number at the end.
pub(super) fn ordinal(name: &str) -> i64 {
    name.rsplit('-').next().and_then(|number| number.parse().ok()).expect("a number at the end of the name")
}

/// A reference to an owner.
fn owner(object: &Value) -> Value {
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"], "name": object["metadata"]["name"],
        "uid": object["metadata"]["uid"], "controller": true,
    })
}

pub(super) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

impl World {
    /// Kubelets: pods that can be, are.
    pub(super) fn get_ready(&self) {
        for (path, mut pod) in self.of_kind("Pod") {
            let status = self.status(&pod);
            if pod["status"] != status {
                pod["status"] = status;
                self.server.put(&path, pod);
            }
        }
    }

    fn status(&self, pod: &Value) -> Value {
        let name = text(&pod["metadata"]["name"]);
        let container = &pod["spec"]["containers"][0];
        let has_image = !text(&container["image"]).ends_with(":missing");
        let has_node = pod["spec"]["nodeSelector"]["disk"] != "nowhere";
        let is_ready = has_image && has_node && !self.is_lost(name);
        let condition = |type_: &str, holds: bool| json!({"type": type_, "status": if holds { "True" } else { "False" }, "lastTransitionTime": READY_SINCE});
        let mut status =
            json!({"conditions": [condition("Ready", is_ready), condition("PodScheduled", has_node)]});
        if !has_image {
            status["containerStatuses"] = json!([{
                "name": container["name"], "image": container["image"], "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}},
            }]);
        }
        let group = text(&pod["metadata"]["labels"]["mq.gantry.dev/broker-group"]);
        if let Some(broker) = self.brokers.get(group) {
            status["podIP"] = json!(broker.ip);
        }
        if let Some(name_server) = self.name_server.as_ref().filter(|_| container["name"] == "namesrv") {
            status["podIP"] = json!(name_server.ip);
            status["containerStatuses"] = json!([{
                "name": "namesrv", "image": "x", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {}},
            }]);
        }
        status
    }

    /// Pods and claims as their StatefulSets say.
    pub(super) fn make_pods(&self) {
        for (path, mut set) in self.of_kind("StatefulSet") {
            let name = text(&set["metadata"]["name"]).to_owned();
            let wanted = set["spec"]["replicas"].as_i64().unwrap_or(1);
            let revision = fingerprint(&set["spec"]["template"].to_string());
            for ordinal in 0..wanted {
                self.make_pod(&set, &name, ordinal, &revision);
            }
            self.remove_pods(&set, &name, wanted);
            let pods = self.pods_of(&name).len();
            let status = json!({
                "replicas": pods, "observedGeneration": set["metadata"]["generation"], "updateRevision": revision,
            });
            if set["status"] != status {
                set["status"] = status;
                self.server.put(&path, set);
            }
        }
    }

    fn pods_of(&self, set: &str) -> Vec<(String, Value)> {
        let mut pods = self.of_kind("Pod");
        pods.retain(|(_, pod)| {
            text(&pod["metadata"]["name"]).rsplit_once('-').is_some_and(|(of, _)| of == set)
        });
        pods
    }

    fn make_pod(&self, set: &Value, name: &str, ordinal: i64, revision: &str) {
        let pod = format!("{name}-{ordinal}");
        for template in set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten() {
            self.make_claim(set, template, &pod);
        }
        if let Some(mut there) = self.get(&path(&pod)) {
            // One whose former owner is gone is taken over.
            if there["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty) {
                there["metadata"]["ownerReferences"] = json!([owner(set)]);
                self.server.put(&path(&pod), there);
            }
            return;
        }
        let template = &set["spec"]["template"];
        let mut metadata = template["metadata"].clone();
        metadata["labels"]["controller-revision-hash"] = json!(revision);
        metadata["name"] = json!(pod);
        metadata["namespace"] = json!(NAMESPACE);
        metadata["ownerReferences"] = json!([owner(set)]);
        let mut made = self.made.lock().unwrap();
        *made += 1;
        metadata["uid"] = json!(format!("life-{made}"));
        let object =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]});
        self.server.put(&path(&pod), object);
    }

    fn make_claim(&self, set: &Value, template: &Value, pod: &str) {
        let claim = format!("{}-{pod}", text(&template["metadata"]["name"]));
        let goes = set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenDeleted"] == "Delete";
        let owners = if goes { json!([owner(set)]) } else { json!([]) };
        let there = self.get(&claim_path(&claim));
        if there.as_ref().is_some_and(|there| there["metadata"]["ownerReferences"] == owners) {
            return;
        }
        let mut object = there.unwrap_or_else(|| {
            let mut metadata = template["metadata"].clone();
            metadata["name"] = json!(claim);
            metadata["namespace"] = json!(NAMESPACE);
            metadata["uid"] = json!(format!("uid-{claim}"));
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template["spec"]})
        });
        object["metadata"]["ownerReferences"] = owners;
        self.server.put(&claim_path(&claim), object);
    }

    fn remove_pods(&self, set: &Value, name: &str, wanted: i64) {
        let goes = set["spec"]["persistentVolumeClaimRetentionPolicy"]["whenScaled"] == "Delete";
        for (path, pod) in self.pods_of(name) {
            let pod = text(&pod["metadata"]["name"]);
            if ordinal(pod) < wanted {
                continue;
            }
            self.server.remove(&path);
            for template in
                set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten().filter(|_| goes)
            {
                self.server.remove(&claim_path(&format!("{}-{pod}", text(&template["metadata"]["name"]))));
            }
        }
    }

    /// Volumes have the size that is asked for.
    pub(super) fn grow_volumes(&self) {
        for (path, mut claim) in self.of_kind("PersistentVolumeClaim") {
            let asked = claim["spec"]["resources"]["requests"]["storage"].clone();
            if claim["status"]["capacity"]["storage"] != asked {
                claim["status"]["capacity"]["storage"] = asked;
                self.server.put(&path, claim);
            }
        }
    }
}
