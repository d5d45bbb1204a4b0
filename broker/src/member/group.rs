//! A running member, as whoever started it has it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::serving::{self, AFTER_DRAIN, Bounds};
use access::vital;
use anyhow::Context as _;
use replication::{Ordinal, Role};
use store::disk::{Disk, RealDisk};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::clients::ClientDoor;
use super::coordinator::Coordinator;
use super::door::ReplicationDoor;
use super::late::Late;
use super::life::Life;
use super::metrics::Counts;
use crate::config::Config;
use crate::serve::{self, ClientPorts, Ports, Process};

/// For calls of other members and of the control plane that are under way at a stop.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// What a member is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it is; `None` while its log is opened.
    pub role: Option<Role>,
    /// Whether it does what its role asks: as the primary it serves clients, as a replica it copies.
    pub works: bool,
    /// Its clients' port, as the primary.
    pub clients: Option<SocketAddr>,
}

/// A running member.
pub struct Group {
    /// Where the other members reach it.
    pub control_addr: SocketAddr,
    tasks: vital::Tasks,
    asked_to_stop: CancellationToken,
    living: JoinHandle<anyhow::Result<()>>,
    failed: watch::Receiver<Option<String>>,
    standing: watch::Receiver<Standing>,
    door: ReplicationDoor,
    clients: Arc<ClientDoor>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("control_addr", &self.control_addr).finish_non_exhaustive()
    }
}

impl Group {
    /// Starts a member at this place, of a group that agrees over this Lease; `name` is its process, as the holder of it.
    pub async fn join(
        config: Config,
        ordinal: Ordinal,
        name: String,
        coordinator: Arc<dyn Coordinator>,
    ) -> anyhow::Result<Self> {
        let process = Process::new(config, None);
        Self::start(process, ordinal, name, coordinator, Arc::new(RealDisk::default())).await
    }

    /// The same for a process that has begun.
    pub(crate) async fn start(
        process: Process,
        ordinal: Ordinal,
        name: String,
        coordinator: Arc<dyn Coordinator>,
        disk: Arc<dyn Disk>,
    ) -> anyhow::Result<Self> {
        let settings = process.config.replication.clone().context("no replication is configured")?;
        let tasks = vital::Tasks::default();
        let listener = Ports::bind_control_plane(&process.config)?;
        let control_addr = listener.local_addr();
        let clients = ClientDoor::open(ClientPorts::addresses(&process.config), &settings.member_address)
            .context("clientListen or a listener")?;
        let clients = Arc::new(clients);
        process.show_pages(&tasks).await?;

        let late = Late::new(process.log_levels.clone());
        let door = ReplicationDoor::new(tasks.stop_token());
        let counts = Counts::default();
        process.shown.set_always(counts.registry(door.clone()));
        let routes = late.beside(Routes::new(serve::replication_service(door.clone())));
        let incoming = listener.accept(tasks.tracker(), tasks.stop_token());
        let bounds = Bounds { drain: STOP_GRACE, ..Bounds::default() };
        tasks.spawn(
            "the control plane",
            serving::serve(routes.prepare(), incoming, bounds, tasks.stop_token()),
        );

        let asked_to_stop = CancellationToken::new();
        let (fails, failed) = watch::channel(None);
        let (stands, standing) = watch::channel(Standing { role: None, works: false, clients: None });
        let life = Life {
            process,
            settings,
            ordinal,
            name,
            coordinator,
            disk,
            door: door.clone(),
            late,
            control_addr,
            asked_to_stop: asked_to_stop.clone(),
            tasks: tasks.tracker().clone(),
            counts,
            stands,
            clients: Arc::clone(&clients),
        };
        let living = tasks.tracker().spawn(async move {
            let outcome = life.run().await;
            if let Err(error) = &outcome {
                fails.send_replace(Some(format!("{error:#}")));
            }
            outcome
        });
        Ok(Self { control_addr, tasks, asked_to_stop, living, failed, standing, door, clients })
    }

    /// What it is, as that changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Waits until it cannot go on, and says why.
    pub async fn failed(&self) -> anyhow::Error {
        let mut failed = self.failed.clone();
        tokio::select! {
            reason = failed.wait_for(Option::is_some) => match reason {
                Ok(reason) => anyhow::anyhow!(reason.clone().unwrap_or_default()),
                Err(_) => anyhow::anyhow!("the member ended"),
            },
            reason = self.tasks.failed() => anyhow::anyhow!(reason),
        }
    }

    /// Hands over, if it is the primary, and stops.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.asked_to_stop.cancel();
        let outcome = self.living.await.context("the member died")?;
        self.tasks.stop(STOP_GRACE + AFTER_DRAIN).await;
        tracing::info!("member stopped");
        outcome
    }

    /// Is gone all at once for the others and for clients, as if the process were killed; only the files are closed well.
    pub async fn vanish(self) {
        self.living.abort();
        // It was asked to end.
        let _ = self.living.await;
        self.clients.close().await;
        self.tasks.stop(Duration::ZERO).await;
        self.door.end_streams();
        if let Some(open) = self.door.take() {
            let closing = tokio::task::spawn_blocking(move || {
                open.meta().close();
                open.store().close()
            });
            if let Ok(Err(error)) = closing.await {
                tracing::error!(%error, "the log did not close well");
            }
        }
    }
}
