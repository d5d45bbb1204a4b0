//! `bench-topics`: from the creation of Topic resources to Ready.

#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bench::figures::{Sorted, ms};
use clap::Parser;
use crds::{NameServerRef, Topic, TopicSpec};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};

const LABEL: &str = "mq.gantry.dev/bench=topics";
const LIMIT: Duration = Duration::from_secs(300);

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
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let api: Api<Topic> = Api::namespaced(Client::try_default().await?, &args.namespace);
    clear(&api).await?;

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
    clear(&api).await
}

/// Creates Topics of these names at once, and watches until each is Ready.
async fn ready_after(api: &Api<Topic>, args: &Args, names: &[String]) -> anyhow::Result<Vec<Duration>> {
    let mut changes = pin!(watcher(api.clone(), watcher::Config::default().labels(LABEL)).applied_objects());
    let started = Instant::now();
    let creating = futures::stream::iter(names)
        .map(|name| async { api.create(&PostParams::default(), &topic(name, args)).await.map(|_| ()) })
        .buffer_unordered(32)
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
    match tokio::time::timeout(LIMIT, both).await {
        Ok(done) => done.map(|_| lengths),
        Err(_) => bail!("not all Ready after {LIMIT:?}"),
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
async fn clear(api: &Api<Topic>) -> anyhow::Result<()> {
    let ours = ListParams::default().labels(LABEL);
    let _started = api.delete_collection(&DeleteParams::default(), &ours).await?;
    let began = Instant::now();
    while !api.list(&ours).await?.items.is_empty() {
        if began.elapsed() > LIMIT {
            bail!("old Topics do not go");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
