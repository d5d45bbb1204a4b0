//! `bench-topics`: from the creation of Topic resources to Ready.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bench::figures::{Sorted, ms};
use clap::Parser;
use crds::{NameServerRef, Topic, TopicSpec};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};

const LABEL: &str = "mq.gantry.dev/bench=topics";
/// Calls to the API server at once.
const AT_ONCE: usize = 32;

/// What so many Topics may take at most.
fn limit(topics: usize) -> Duration {
    Duration::from_secs(300 + topics as u64 / 25)
}

/// Creates Topics, one after another and then many at once, and measures until each is Ready
#[derive(Debug, Parser)]
struct Args {
    /// Namespace with a NameServerSet and a BrokerGroup that are Ready
    #[arg(short, long)]
    namespace: String,
    /// The NameServerSet
    #[arg(long)]
    name_server_set: String,
    /// Topics one after another
    #[arg(long, default_value_t = 20)]
    single: usize,
    /// Topics at once
    #[arg(long, default_value_t = 500)]
    many: usize,
    /// Leaves the Topics there; the next run removes them first
    #[arg(long)]
    keep: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = Client::try_default().await?;
    let api: Api<Topic> = Api::namespaced(client.clone(), &args.namespace);
    let metadata = Api::namespaced(client, &args.namespace);
    clear(&metadata).await?;

    let mut lengths = Vec::new();
    for index in 0..args.single {
        lengths.extend(ready_after(&api, &args, &[format!("bench-single-{index}")]).await?);
    }
    let sorted = Sorted::new(lengths);
    println!(
        "one Topic to Ready: p50 {} ms, worst {} ms of {}",
        ms(sorted.at(0.5)),
        ms(sorted.max()),
        args.single
    );

    let names: Vec<String> = (0..args.many).map(|index| format!("bench-many-{index}")).collect();
    let started = Instant::now();
    ready_after(&api, &args, &names).await?;
    println!("{} Topics at once to all Ready: {:.1} s", args.many, started.elapsed().as_secs_f64());
    if args.keep { Ok(()) } else { clear(&metadata).await }
}

/// Creates Topics of these names at once, and watches until each is Ready.
async fn ready_after(api: &Api<Topic>, args: &Args, names: &[String]) -> anyhow::Result<Vec<Duration>> {
    let mut changes = pin!(watcher(api.clone(), watcher::Config::default().labels(LABEL)).applied_objects());
    let started = Instant::now();
    let creating = futures::stream::iter(names)
        .map(|name| async { api.create(&PostParams::default(), &topic(name, args)).await.map(|_| ()) })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>();
    let mut waiting: HashMap<&str, ()> = names.iter().map(|name| (name.as_str(), ())).collect();
    let mut lengths = Vec::new();
    let watching = async {
        while !waiting.is_empty() {
            let topic = changes.try_next().await?.context("the watch ended")?;
            if is_ready(&topic) && waiting.remove(topic.name_any().as_str()).is_some() {
                lengths.push(started.elapsed());
            }
        }
        anyhow::Ok(())
    };
    let both = async { tokio::try_join!(async { anyhow::Ok(creating.await?) }, watching) };
    let limit = limit(names.len());
    match tokio::time::timeout(limit, both).await {
        Ok(done) => done.map(|_| lengths),
        Err(_) => bail!("{} of {} are not Ready after {limit:?}", waiting.len(), names.len()),
    }
}

fn topic(name: &str, args: &Args) -> Topic {
    let name_server_ref = NameServerRef { name: args.name_server_set.clone(), namespace: None };
    let spec = TopicSpec {
        name_server_ref,
        queues: 8,
        deletion_policy: crds::DeletionPolicy::Delete,
        ..Default::default()
    };
    let mut topic = Topic::new(name, spec);
    let (key, value) = LABEL.split_once('=').expect("a label is a key and a value");
    topic.labels_mut().insert(key.to_owned(), value.to_owned());
    topic
}

fn is_ready(topic: &Topic) -> bool {
    let Some(status) = &topic.status else { return false };
    let ready =
        status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && status.observed_generation == topic.metadata.generation
}

/// Removes the Topics of this program, also those of a run that was broken off.
async fn clear(topics: &Api<PartialObjectMeta<Topic>>) -> anyhow::Result<()> {
    let started = Instant::now();
    let names: Vec<String> = {
        let ours = ListParams::default().labels(LABEL);
        topics.list(&ours).await?.items.iter().map(|topic| topic.name_any()).collect()
    };
    if names.is_empty() {
        return Ok(());
    }
    let mut left = names.iter().map(String::as_str).collect::<HashSet<_>>();
    let mut events = pin!(watcher(topics.clone(), watcher::Config::default().labels(LABEL)));
    let deleting = futures::stream::iter(&names)
        .map(|name| async { topics.delete(name, &DeleteParams::default()).await.map(|_| ()) })
        .buffer_unordered(AT_ONCE)
        .for_each(|_| async {});
    let watching = async {
        let mut there = HashSet::new();
        while !left.is_empty() {
            match events.try_next().await?.context("the watch ended")? {
                watcher::Event::Init => there.clear(),
                watcher::Event::InitApply(topic) => drop(there.insert(topic.name_any())),
                watcher::Event::InitDone => left.retain(|name| there.contains(*name)),
                watcher::Event::Delete(topic) => drop(left.remove(topic.name_any().as_str())),
                watcher::Event::Apply(_) => {}
            }
        }
        anyhow::Ok(())
    };
    let limit = limit(names.len());
    let both = futures::future::join(deleting, watching);
    tokio::time::timeout(limit, both)
        .await
        .with_context(|| format!("old Topics are there after {limit:?}"))?
        .1?;
    println!("{} Topics deleted: {:.1} s", names.len(), started.elapsed().as_secs_f64());
    Ok(())
}
