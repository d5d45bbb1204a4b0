//! What goes: deleted resources that nobody holds up, and what was made for them.

use super::World;

impl World {
    pub(super) fn collect_garbage(&self) {
        let objects = self.objects();
        let is_there =
            |uid: &serde_json::Value| objects.values().any(|object| object["metadata"]["uid"] == *uid);
        for (path, object) in &objects {
            let metadata = &object["metadata"];
            let is_held = metadata["finalizers"].as_array().is_some_and(|all| !all.is_empty());
            let is_deleted = !metadata["deletionTimestamp"].is_null() && object["kind"] != "Namespace";
            let owners = metadata["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_orphan = !owners.is_empty() && owners.iter().all(|owner| !is_there(&owner["uid"]));
            if !is_held && (is_deleted || is_orphan) {
                self.server.remove(path);
            }
        }
        self.end_namespace();
    }

    /// A namespace that ends deletes all that is in it.
    fn end_namespace(&self) {
        let ends =
            self.of_kind("Namespace").iter().any(|(_, it)| !it["metadata"]["deletionTimestamp"].is_null());
        for (path, object) in self.objects() {
            let is_first = object["metadata"]["deletionTimestamp"].is_null();
            if ends && is_first && object["kind"] != "Namespace" {
                self.delete(&path);
            }
        }
    }
}
