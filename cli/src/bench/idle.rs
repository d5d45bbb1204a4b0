//! Clients that do nothing: what a server holds for each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use proto::v2;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Routes};
use super::plan::Plan;
use super::receive::receive_request;
use crate::args::IdleLoad;
use crate::client::session::REQUEST_TIMEOUT;
use crate::client::{self, Dialer, Error};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::progress::Teller;
use crate::units;

/// Clients that connect at a time.
const CONNECT_AT_A_TIME: usize = 64;
/// A client whose poll failed asks again after this.
const PAUSE: Duration = Duration::from_secs(1);

/// All clients are there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Parked {
    clients: u32,
    /// How long it took, in seconds.
    seconds: f64,
}

impl View for Parked {
    fn text(&self, _: Paint) -> String {
        format!(
            "{} clients after {:.1} s, each with a telemetry stream and a poll",
            self.clients, self.seconds
        )
    }
}

/// Connects them, says so, holds them, and lets them go.
pub(crate) async fn run(
    args: &IdleLoad,
    plan: &Plan,
    dialer: &Dialer,
    access_point: &str,
    out: Printer,
) -> Result<(), Failure> {
    allow_descriptors(args.clients)?;
    let started = Instant::now();
    let routes = Routes::find(dialer, access_point, plan).await?;
    let failure = |error| client::failure(&error, &args.topic);
    let routes = Arc::new(routes);
    let mut teller = Teller::new();
    let connections = futures::stream::iter(0..args.clients)
        .map(|_| Connection::consumer(dialer, access_point, &routes, &args.group))
        .buffer_unordered(CONNECT_AT_A_TIME);
    let clients = connections.inspect_ok({
        let mut count = 0;
        move |_| {
            count += 1;
            teller.tell(|_| format!("{count} of {} clients", args.clients));
        }
    });
    let stop = CancellationToken::new();
    let failed = Arc::new(AtomicU64::new(0));
    let mut polls = JoinSet::new();
    let mut clients = std::pin::pin!(clients);
    while let Some(client) = clients.try_next().await.map_err(failure)? {
        let (routes, failed, stop) = (Arc::clone(&routes), Arc::clone(&failed), stop.clone());
        let (group, wait) = (args.group.clone(), args.poll);
        polls.spawn(async move {
            tokio::select! {
                () = poll(&client, &routes, &group, wait, &failed) => {}
                () = stop.cancelled() => {}
            }
        });
    }
    out.print_next(&Parked { clients: args.clients, seconds: started.elapsed().as_secs_f64() })?;
    tokio::select! {
        () = tokio::time::sleep(args.duration) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    // They go without a word, all at once: as when a node fails.
    stop.cancel();
    while polls.join_next().await.is_some() {}
    match failed.load(Relaxed) {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{} failed", units::counted(failed, "poll")))),
    }
}

/// One poll after the other; what it brings comes again to somebody else.
async fn poll(client: &Connection, routes: &Routes, group: &str, wait: Duration, failed: &AtomicU64) {
    let Some((place, queue)) = routes.topics.first().and_then(|topic| topic.brokers.first()) else { return };
    let mut stub = client.stub(*place);
    loop {
        let request = receive_request(group, queue, 1, REQUEST_TIMEOUT + Duration::from_secs(30), wait);
        let outcome = async {
            let transport = |status: tonic::Status| Error::transport("", &status);
            let mut answers = stub.receive_message(request).await.map_err(transport)?.into_inner();
            while let Some(answer) = answers.message().await.map_err(transport)? {
                match answer.content {
                    Some(v2::receive_message_response::Content::Status(status))
                        if !matches!(status.code(), v2::Code::Ok | v2::Code::MessageNotFound) =>
                    {
                        return Err(Error::refused(status));
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        if let Err(error) = outcome.await {
            if failed.fetch_add(1, Relaxed) == 0 {
                eprintln!("a poll failed: {error}");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Each client has a descriptor: as many as this user may have are allowed to this process.
fn allow_descriptors(clients: u32) -> Result<(), Failure> {
    let needed = u64::from(clients) + 64;
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    limit.current = limit.maximum;
    let enough = limit.maximum.is_none_or(|maximum| maximum >= needed);
    if enough && setrlimit(Resource::Nofile, limit).is_ok() {
        return Ok(());
    }
    Err(Failure::failed(format!("{clients} clients need {needed} open files, more than this user may have"))
        .next("raise the limit: ulimit -n"))
}
