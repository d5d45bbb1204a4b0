//! From a configuration to a running broker.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use access::http::{self, Pages};
use access::{logging, vital};
use anyhow::Context;
use store::disk::{Disk, RealDisk};

use crate::config::Config;
use crate::delivery::now_ms;
use crate::health::Standing;
use crate::local::Local;
use crate::member;
use crate::serve::{self, Ports, Process, Running};

/// Opens the store, binds the ports and begins to serve.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    start_on(config, Arc::new(RealDisk::default())).await
}

/// Like [`start`], with the log on this disk: for tests with a disk that fills up or fails.
pub async fn start_on(config: Config, disk: Arc<dyn Disk>) -> anyhow::Result<Running> {
    start_with(config, disk, None).await
}

async fn start_with(
    config: Config,
    disk: Arc<dyn Disk>,
    log_levels: Option<logging::Control>,
) -> anyhow::Result<Running> {
    let process = Process::new(config, log_levels);
    let tasks = vital::Tasks::default();
    let ports = Ports::bind(&process.config)?;
    // Before the store is opened, which can take a while: a broker that recovers is alive, and says how far it is.
    let http_addr = process.show_pages(&tasks).await?;
    let (config, standing) = (Arc::clone(&process.config), Arc::clone(&process.standing));
    let opening =
        tokio::task::spawn_blocking(move || Local::open(&config, config.store(), disk, &standing)).await;
    let local = match opening.context("opening the data directory").and_then(|opened| opened) {
        Ok(local) => local,
        Err(error) => {
            tasks.stop(Duration::ZERO).await;
            return Err(error);
        }
    };
    let mut running = serve::serve(&process, local, ports, tasks, None).await?;
    running.http_addr = http_addr;
    Ok(running)
}

impl Process {
    /// Nothing runs yet.
    pub(crate) fn new(config: Config, log_levels: Option<logging::Control>) -> Self {
        Self {
            config: Arc::new(config),
            standing: Arc::new(Standing::default()),
            shown: http::Shown::default(),
            log_levels,
            started_at_ms: now_ms(),
        }
    }

    /// Shows health and metrics until these tasks stop.
    pub(crate) async fn show_pages(
        &self,
        tasks: &vital::Tasks,
    ) -> anyhow::Result<Option<std::net::SocketAddr>> {
        let Some(addr) = self.config.http_listen else { return Ok(None) };
        let server = http::Server::bind(addr).await.context("httpListen")?;
        let bound = server.local_addr();
        let asked = Arc::clone(&self.standing);
        let pages = Pages { registry: self.shown.clone(), readiness: Arc::new(move || asked.not_ready()) };
        let stop = tasks.stop_token();
        tasks.spawn("the server for health and metrics", async move {
            server.serve(pages, stop).await;
            Ok::<(), std::convert::Infallible>(())
        });
        Ok(Some(bound))
    }
}

/// The process `broker --config FILE`, from its arguments to its end.
pub fn main(arguments: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let Some(file) = config_file(arguments)? else { return Ok(()) };
    let mut config = Config::read(&file)?;
    config.node_address = std::env::var("NODE_IP").ok();
    let log_levels = logging::init(&config.logging)?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = config.limits.worker_threads.map_or(cores, |threads| threads.min(cores));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async {
        if config.replication.is_some() {
            return member::run_in_kubernetes(config, log_levels).await;
        }
        let running = start_with(config, Arc::new(RealDisk::default()), Some(log_levels)).await?;
        tokio::select! {
            asked = vital::asked_to_stop() => asked.context("cannot listen for signals")?,
            reason = running.failed() => anyhow::bail!(reason),
        }
        tracing::info!("asked to stop");
        running.stop().await
    })
}

/// The file that the arguments name. `None`: they asked for something that is printed.
fn config_file(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<PathBuf>> {
    const USAGE: &str = "usage: broker --config FILE | --version";
    match (arguments.nth(1).as_deref(), arguments.next(), arguments.next()) {
        (Some("--config"), Some(file), None) => Ok(Some(file.into())),
        (Some("--version"), None, None) => {
            println!("broker {}", env!("CARGO_PKG_VERSION"));
            Ok(None)
        }
        _ => anyhow::bail!(USAGE),
    }
}
