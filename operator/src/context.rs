//! What every reconcile is given, and how a controller runs.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures::{
    FutureExt as _, StreamExt as _, TryFutureExt as _,
    future::{BoxFuture, ready},
    stream,
};
use kube::{
    Resource, ResourceExt as _,
    runtime::{
        controller::{self, Action, applier},
        reflector::{ObjectRef, Store},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::{self, Applier},
    conditions::Reason,
    control::ControlPlane,
    declared::{again::Again, drift::Followers},
    events::Events,
    identity::{CONTROL_PORT, Role},
    metrics::Metrics,
    pending::Pending,
    pods::{self, template::Images},
    refusals::Refusals,
    watch::Stores,
};

/// What every reconcile is given.
pub struct Context {
    /// What is known of the cluster.
    pub stores: Stores,
    /// Writes.
    pub applier: Applier,
    /// Asks brokers and name servers.
    pub control: Arc<ControlPlane>,
    /// Follows what changes on brokers.
    pub followers: Followers,
    /// When declared resources are looked at again of which nobody will tell.
    pub again: Again,
    /// Tells users.
    pub events: Events,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Where images come from.
    pub images: Images,
    /// The levels that each process was told, by incarnation of its pod.
    pub levels_told: Mutex<HashMap<String, BTreeMap<String, String>>>,
    /// Larger volumes that were asked for and refused.
    pub growth_refused: Refusals,
    /// Since when a resource has had fewer pods than it should, by its uid.
    pub lacks_since: Mutex<HashMap<String, Instant>>,
}

impl Context {
    /// How long a resource has had fewer pods than it should. A pod that is being replaced is away for a moment only.
    pub fn lacking_for(&self, uid: &str, pods: usize, wanted: i32) -> Duration {
        let mut all = self.lacks_since.lock().expect("no panic while the lock is held");
        if pods >= usize::try_from(wanted).unwrap_or_default() {
            all.remove(uid);
            return Duration::ZERO;
        }
        all.entry(uid.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// Tells running processes what to log, without a restart. A process that cannot be told reads it from its file
    /// when it starts again; until then the next reconcile tries again.
    ///
    /// It comes before `wanted` is written into the file, which says `before`: an operator that is killed between the two finds the
    /// difference again.
    pub async fn tell_levels(
        &self,
        role: Role,
        pods: &[Arc<k8s_openapi::api::core::v1::Pod>],
        before: &BTreeMap<String, String>,
        wanted: &BTreeMap<String, String>,
    ) {
        for pod in pods.iter().filter(|pod| pods::runs(pod)) {
            let incarnation = pods::incarnation(pod);
            let told = {
                let told = self.levels_told.lock().expect("no panic while the lock is held");
                told.get(&incarnation).cloned()
            };
            let difference = match &told {
                Some(told) => level_changes(told, wanted),
                // What an operator before this one told it, nobody knows.
                None => all_levels(before, wanted),
            };
            let Some(address) = pods::address(pod, CONTROL_PORT) else { continue };
            if !difference.is_empty() {
                if let Err(status) = self.control.set_log_levels(role, &address, difference).await {
                    tracing::warn!(pod = pod.name_any(), %status, "log levels not changed");
                    let mut all = self.levels_told.lock().expect("no panic while the lock is held");
                    all.entry(incarnation).or_insert_with(|| before.clone());
                    continue;
                }
                tracing::info!(pod = pod.name_any(), "log levels changed");
            }
            let mut all = self.levels_told.lock().expect("no panic while the lock is held");
            // Earlier lives of the pod are over.
            let uid = pod.uid().unwrap_or_default();
            all.retain(|known, _| !known.starts_with(&uid));
            all.insert(incarnation, wanted.clone());
        }
    }
}

/// What to tell a process that logs by `told` so that it logs by `wanted`. A target that is no longer named goes back to
/// the level of all others.
fn level_changes(
    told: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let others = wanted.get("default").map_or("info", String::as_str);
    let mut changes: BTreeMap<String, String> = wanted
        .iter()
        .filter(|(target, level)| told.get(*target) != Some(level))
        .map(|(t, l)| (t.clone(), l.clone()))
        .collect();
    for target in told.keys().filter(|target| !wanted.contains_key(*target)) {
        changes.insert(target.clone(), others.to_owned());
    }
    changes
}

/// What to tell a process that logs by some of `before` and `wanted` so that it logs by `wanted`.
fn all_levels(
    before: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut changes = level_changes(before, wanted);
    changes.extend(wanted.clone());
    changes
}

/// The annotation of a resource that the operator is to leave alone.
const PAUSED: &str = "mq.gantry.dev/paused";

/// Whether the operator is to leave a resource alone.
pub fn is_paused(resource: &impl Resource) -> bool {
    resource.annotations().get(PAUSED).is_some_and(|value| value != "false")
}

/// What is to be said of a resource that is left alone.
pub fn paused() -> (Reason, String) {
    (Reason::Paused, format!("the operator changes nothing: remove the annotation {PAUSED} to go on"))
}

/// Why a reconcile must be done again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something could not be written.
    #[error(transparent)]
    Apply(#[from] apply::Error),
}

/// A controller: reconciles what comes out of `queue`, each resource one at a time, `concurrency` of them together.
/// Runs until `stop`, and then until what is under way is done.
pub async fn run<K, R>(
    context: Arc<Context>,
    store: Store<K>,
    queue: Pending<ObjectRef<K>>,
    concurrency: u16,
    stop: CancellationToken,
    reconcile: R,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    R: Fn(Arc<K>, Arc<Context>) -> BoxFuture<'static, Result<Action, Error>>,
{
    let everything: Vec<ObjectRef<K>> =
        store.state().iter().map(|resource| ObjectRef::from_obj(&**resource)).collect();
    let requests = stream::iter(everything).chain(queue.stream()).map(Ok::<_, std::convert::Infallible>);
    let failures: Arc<Mutex<HashMap<ObjectRef<K>, u32>>> = Arc::default();

    let measured = {
        let failures = Arc::clone(&failures);
        move |resource: Arc<K>, context: Arc<Context>| {
            let reference = ObjectRef::from_obj(&*resource);
            let metrics = Arc::clone(&context.metrics);
            let failures = Arc::clone(&failures);
            let begun = Instant::now();
            let ended = move |ok: bool| {
                metrics.reconciled(kind::<K>(), ok, begun.elapsed().as_secs_f64());
                if ok {
                    failures.lock().expect("no panic while the lock is held").remove(&reference);
                }
            };
            let ended_well = ended.clone();
            // A namespace may come to be served, or be so no more, at any time; then all in it comes by here.
            let reconciled = match context.stores.serves(&resource.namespace().unwrap_or_default()) {
                true => reconcile(resource, context),
                false => ready(Ok(Action::await_change())).boxed(),
            };
            reconciled.inspect_ok(move |_| ended_well(true)).inspect_err(move |_| ended(false))
        }
    };
    let again = move |resource: Arc<K>, error: &Error, _: Arc<Context>| {
        let mut failures = failures.lock().expect("no panic while the lock is held");
        let count = failures.entry(ObjectRef::from_obj(&*resource)).or_default();
        *count = count.saturating_add(1);
        tracing::warn!(kind = kind::<K>(), name = resource.name_any(), %error, "reconcile failed, trying again");
        Action::requeue(backoff(*count))
    };
    let config = controller::Config::default().concurrency(concurrency);
    applier(measured, again, context, store, Box::pin(requests.take_until(stop.cancelled_owned())), config)
        // Failures are told where they happen; a resource that is gone needs nothing.
        .for_each(|_| async {})
        .await;
}

fn kind<K: Resource<DynamicType = ()>>() -> &'static str {
    // Kinds of derived resources are constants.
    match K::kind(&()) {
        std::borrow::Cow::Borrowed(kind) => kind,
        std::borrow::Cow::Owned(_) => "other",
    }
}

/// One second, two, four, up to a minute.
fn backoff(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels<const N: usize>(levels: [(&str, &str); N]) -> BTreeMap<String, String> {
        levels.map(|(target, level)| (target.to_owned(), level.to_owned())).into()
    }

    #[test]
    fn only_changed_levels_are_told_and_forgotten_ones_go_back() {
        let told = levels([("a", "debug"), ("b", "warn")]);
        assert_eq!(level_changes(&told, &told), levels([]));
        assert_eq!(level_changes(&told, &levels([("a", "trace"), ("b", "warn")])), levels([("a", "trace")]));
        assert_eq!(level_changes(&told, &levels([("b", "warn")])), levels([("a", "info")]));
        assert_eq!(
            level_changes(&told, &levels([("default", "error"), ("b", "warn")])),
            levels([("a", "error"), ("default", "error")])
        );
    }

    #[test]
    fn waiting_grows_to_a_minute() {
        assert_eq!([1, 2, 3, 6, 7, 99].map(|count| backoff(count).as_secs()), [1, 2, 4, 32, 60, 60]);
    }
}
