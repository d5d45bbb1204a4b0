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
    declared::{self, again::Again},
    events::{self, Events},
    http::{self, WaitsFor},
    leader::{self, Elector, KubernetesLease, Timing},
    metrics::Metrics,
    name_server_set,
    options::{Options, Scope},
    pods::template::Images,
    refusals::Refusals,
    schemas, watch,
};

/// The name of the Lease.
const LEASE: &str = "gantry-operator";
/// What is under way may take so long when the process ends.
const GRACE: Duration = Duration::from_secs(10);
/// NameServerSets or BrokerGroups that are reconciled at the same time.
const WORKLOADS_AT_ONCE: u16 = 16;
/// Topics that are reconciled at the same time, and ConsumerGroups. Each is mostly waiting for brokers and the API server.
const DECLARED_AT_ONCE: u16 = 64;

/// Runs in the cluster that the environment names, until `stop` or until something vital ends.
pub async fn run(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let config = kube::Config::infer()
        .await
        .context("no cluster: run in a pod with a ServiceAccount, or set KUBECONFIG")?;
    let namespace = options.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config).context("the cluster's configuration cannot be used")?;
    run_by(&options, &client, &namespace, &stop).await
}

/// Runs by `client`, with its own Lease in `namespace`, until `stop` or until something vital ends.
pub async fn run_by(
    options: &Options,
    client: &Client,
    namespace: &str,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let (waits_for, seen) = tokio::sync::watch::channel(Some("starting".to_owned()));
    let listener = http::bind(options.http_listen).await?;
    let pages_stop = CancellationToken::new();
    let mut vital = JoinSet::new();
    vital.spawn(http::serve(listener, Arc::clone(&metrics), seen, pages_stop.clone()));
    let outcome = lead(options, client, namespace, &metrics, &waits_for, &mut vital, stop).await;
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

/// One scope: its own watches, stores and controllers. Scopes know nothing of each other: a reference into another namespace
/// counts only in the scope of all namespaces.
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
    let (stores, queues) = watch::start(client, scope, options.watch_nodes, metrics, vital);
    let control = Arc::new(ControlPlane::new(Arc::clone(metrics)));
    let (followers, following) = declared::drift::channel();
    let context = Arc::new(Context {
        stores: stores.clone(),
        applier: Applier::new(client.clone(), Arc::clone(metrics)),
        control: Arc::clone(&control),
        followers,
        again: Again::default(),
        events: events.clone(),
        metrics: Arc::clone(metrics),
        images: Images { prefix: options.image_prefix.clone(), version: options.image_version.clone() },
        levels_told: std::sync::Mutex::default(),
        growth_refused: Refusals::default(),
        lacks_since: std::sync::Mutex::default(),
    });
    let (stop, scope) = (stop.clone(), scope.clone());
    controllers.spawn(async move {
        if stop.run_until_cancelled(stores.ready()).await.transpose()?.is_none() {
            return Ok(());
        }
        tracing::info!(?scope, "everything listed, reconciling");
        let (watched, waiting) = (stores.clone(), queues.clone());
        let watch::Queues { name_server_sets, broker_groups, topics, consumer_groups } = queues;
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
        let topics = context::run(
            Arc::clone(&context),
            stores.topics,
            topics,
            DECLARED_AT_ONCE,
            stop.clone(),
            |topic, context| declared::reconcile(topic, context).boxed(),
        );
        let consumer_groups = context::run(
            context,
            stores.consumer_groups,
            consumer_groups,
            DECLARED_AT_ONCE,
            stop.clone(),
            |group, context| declared::reconcile(group, context).boxed(),
        );
        let reconciling = async { futures::join!(sets, groups, topics, consumer_groups) };
        // What is followed only feeds the queues, and ends with whoever reads them.
        tokio::select! {
            _ = reconciling => {}
            () = following.run(&control, &watched, &waiting) => {}
        }
        if stop.is_cancelled() { Ok(()) } else { Err(anyhow!("a queue of the controllers ended")) }
    });
}
