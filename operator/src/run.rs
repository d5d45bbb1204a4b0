//! The life of the process: health pages, definitions, lead, watches, controllers, and a graceful end.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use futures::FutureExt as _;
use kube::Client;
use tokio::{sync::watch::Sender, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    apply::Applier,
    broker_group,
    context::{self, Context},
    control::ControlPlane,
    events::{self, Events},
    http::{self, WaitsFor},
    leader::{self, Elector, KubernetesLease, Timing},
    metrics::Metrics,
    name_server_set,
    options::{Options, Scope},
    pods::template::Images,
    schemas, topic, watch,
};

/// The name of the Lease.
const LEASE: &str = "gantry-operator";
/// What is under way may take so long when the process ends.
const GRACE: Duration = Duration::from_secs(10);
/// NameServerSets or BrokerGroups that are reconciled at the same time.
const WORKLOADS_AT_ONCE: u16 = 16;
/// Topics that are reconciled at the same time. Each is mostly waiting for brokers and the API server.
const TOPICS_AT_ONCE: u16 = 64;

/// Runs until `stop`, or until something vital ends.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let (waits_for, seen) = tokio::sync::watch::channel(Some("starting".to_owned()));
    let listener = http::bind(options.http_listen).await?;
    let pages_stop = CancellationToken::new();
    let mut vital = JoinSet::new();
    vital.spawn(http::serve(listener, Arc::clone(&metrics), seen, pages_stop.clone()));

    let config = kube::Config::infer()
        .await
        .context("no cluster: run in a pod with a ServiceAccount, or set KUBECONFIG")?;
    let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the cluster's configuration cannot be used")?;

    let lead = lead(&options, &client, &namespace, &metrics, &waits_for, &mut vital, &stop);
    let outcome = lead.await;
    pages_stop.cancel();
    outcome
}

async fn lead(
    options: &Options,
    client: &Client,
    namespace: &str,
    metrics: &Arc<Metrics>,
    waits_for: &Sender<WaitsFor>,
    vital: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    if stop.run_until_cancelled(schemas::wait(client, waits_for)).await.is_none() {
        return Ok(());
    }
    // Whoever stands by is as ready as it gets.
    waits_for.send_replace(None);
    let timing = Timing::default();
    let identity = options.identity();
    let store = KubernetesLease::new(client.clone(), namespace, LEASE, timing);
    let mut elector = Elector::new(&identity, timing);
    tracing::info!(identity, namespace, lease = LEASE, "waiting to lead");
    if stop.run_until_cancelled(leader::acquire(&mut elector, &store)).await.is_none() {
        return Ok(());
    }
    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "leading");
    metrics.set_leader(true);

    let (events, publisher) = events::channel(client.clone(), &identity, Arc::clone(metrics));
    let mut publishing = JoinSet::new();
    publishing.spawn(publisher.run());
    let stop_controllers = CancellationToken::new();
    let mut controllers = JoinSet::new();
    for scope in options.scopes() {
        start(options, client, &scope, metrics, &events, vital, &mut controllers, &stop_controllers);
    }
    drop(events);

    // From here on the work and the lead live and die together.
    let ended = tokio::select! {
        lost = leader::keep(&mut elector, &store) => Err(anyhow!(lost)),
        ended = vital.join_next() => Err(match ended {
            Some(Ok(Err(error))) => error,
            other => anyhow!("a vital task ended: {other:?}"),
        }),
        ended = controllers.join_next() => Err(match ended {
            Some(Ok(Err(error))) => error,
            other => anyhow!("a controller ended: {other:?}"),
        }),
        () = stop.cancelled() => Ok(()),
    };
    metrics.set_leader(false);
    // Without the lead nothing more may be written: what is under way is dropped with its tasks.
    ended?;

    tracing::info!("stopping");
    stop_controllers.cancel();
    let finished = timeout(GRACE, async { while controllers.join_next().await.is_some() {} });
    if finished.await.is_err() {
        tracing::warn!("reconciles still under way are dropped");
    }
    controllers.shutdown().await;
    timeout(GRACE, leader::release(&elector, &store)).await.ok();
    timeout(Duration::from_secs(2), async { while publishing.join_next().await.is_some() {} }).await.ok();
    Ok(())
}

/// One scope: its own watches, stores and controllers. References stay within a namespace, so scopes
/// need nothing of each other.
#[expect(clippy::too_many_arguments, reason = "the one place where everything comes together")]
fn start(
    options: &Options,
    client: &Client,
    scope: &Scope,
    metrics: &Arc<Metrics>,
    events: &Events,
    vital: &mut JoinSet<anyhow::Result<()>>,
    controllers: &mut JoinSet<anyhow::Result<()>>,
    stop: &CancellationToken,
) {
    let (stores, queues) = watch::start(client, scope, metrics, vital);
    let context = Arc::new(Context {
        stores: stores.clone(),
        applier: Applier::new(client.clone(), Arc::clone(metrics)),
        control: ControlPlane::new(Arc::clone(metrics)),
        events: events.clone(),
        metrics: Arc::clone(metrics),
        images: Images { prefix: options.image_prefix.clone(), version: options.image_version.clone() },
        levels_told: std::sync::Mutex::default(),
    });
    let (stop, scope) = (stop.clone(), scope.clone());
    controllers.spawn(async move {
        if stop.run_until_cancelled(stores.ready()).await.transpose()?.is_none() {
            return Ok(());
        }
        tracing::info!(?scope, "everything listed, reconciling");
        let watch::Queues { name_server_sets, broker_groups, topics } = queues;
        let sets = context::run(
            Arc::clone(&context),
            stores.name_server_sets,
            name_server_sets,
            WORKLOADS_AT_ONCE,
            stop.clone(),
            |set, context| name_server_set::reconcile(set, context).boxed(),
        );
        let groups = context::run(
            Arc::clone(&context),
            stores.broker_groups,
            broker_groups,
            WORKLOADS_AT_ONCE,
            stop.clone(),
            |group, context| broker_group::reconcile(group, context).boxed(),
        );
        let topics =
            context::run(context, stores.topics, topics, TOPICS_AT_ONCE, stop.clone(), |topic, context| {
                topic::reconcile(topic, context).boxed()
            });
        futures::join!(sets, groups, topics);
        if stop.is_cancelled() { Ok(()) } else { Err(anyhow!("a queue of the controllers ended")) }
    });
}
