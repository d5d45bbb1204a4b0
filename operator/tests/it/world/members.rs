//! Brokers of a replicated group, as far as they write: they agree by the Lease who is primary, and record who is in sync.

use serde_json::{Value, json};

use super::{
    World,
    pods::{is_ready, ordinal},
    text,
};

const IN_SYNC: &str = "mq.gantry.dev/in-sync";
const PRIMARY: &str = "mq.gantry.dev/primary";
const WISHED: &str = "mq.gantry.dev/wished-primary";
const FENCED: &str = "mq.gantry.dev/fenced";

/// A broker that runs.
struct Member {
    ordinal: i64,
    identity: String,
}

impl World {
    /// One change of each Lease at most.
    pub(super) fn agree(&self) {
        for (path, lease) in self.of_kind("Lease") {
            let group = text(&lease["metadata"]["labels"]["mq.gantry.dev/broker-group"]).to_owned();
            let members = self.members(&group);
            if let Some(next) = next(&lease, &members) {
                self.server.put(&path, next);
            }
        }
    }

    /// Those that take part, by ordinal.
    fn members(&self, group: &str) -> Vec<Member> {
        let mut members = Vec::new();
        for (_, pod) in self.of_kind("Pod") {
            let mut variables = pod["spec"]["containers"][0]["env"].as_array().into_iter().flatten();
            let takes_part = variables.any(|variable| variable["name"] == "POD_UID");
            let metadata = &pod["metadata"];
            if metadata["labels"]["mq.gantry.dev/broker-group"] == *group && takes_part && is_ready(&pod) {
                let name = text(&metadata["name"]);
                let identity = format!("{name}/{}", text(&metadata["uid"]));
                members.push(Member { ordinal: ordinal(name), identity });
            }
        }
        members.sort_by_key(|member| member.ordinal);
        members
    }
}

fn ordinals(lease: &Value, key: &str) -> Vec<i64> {
    let all = text(&lease["metadata"]["annotations"][key]).split(',');
    all.filter_map(|member| member.split(':').next()?.parse().ok()).collect()
}

/// What becomes of the Lease next.
fn next(lease: &Value, members: &[Member]) -> Option<Value> {
    let (in_sync, fenced) = (ordinals(lease, IN_SYNC), ordinals(lease, FENCED));
    let wished = ordinals(lease, WISHED).first().copied();
    let holder = text(&lease["spec"]["holderIdentity"]);
    let primary = members.iter().find(|member| member.identity == holder);
    let able = |member: &&Member| in_sync.contains(&member.ordinal) && !fenced.contains(&member.ordinal);
    let is_wished = |member: &&Member| wished == Some(member.ordinal);
    let successor = match primary {
        Some(primary) => {
            members.iter().filter(able).find(is_wished).filter(|next| next.ordinal != primary.ordinal)
        }
        None => members.iter().filter(able).find(is_wished).or_else(|| members.iter().find(able)),
    };
    let mut lease = lease.clone();
    if let Some(successor) = successor {
        let epoch = lease["spec"]["leaseTransitions"].as_i64().unwrap_or_default();
        lease["spec"]["leaseTransitions"] = json!(epoch + 1);
        lease["spec"]["holderIdentity"] = json!(successor.identity);
        lease["metadata"]["annotations"][PRIMARY] = json!(successor.ordinal.to_string());
        return Some(lease);
    }
    primary?;
    // The primary records who is there, and everybody follows at once.
    let now: Vec<String> = members.iter().map(|member| format!("{0}:s{0}", member.ordinal)).collect();
    let now = json!(now.join(","));
    if lease["metadata"]["annotations"][IN_SYNC] == now {
        return None;
    }
    lease["metadata"]["annotations"][IN_SYNC] = now;
    Some(lease)
}
