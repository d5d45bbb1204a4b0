//! Being primary: first everything that there was is confirmed, then clients are served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access::vital;
use anyhow::Context as _;
use replication::{Epoch, Ordinal};
use store::LogOffset;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::clients::ClientDoor;
use super::coordinator::Coordinator;
use super::late::Late;
use super::open::{Open, Reigning};
use crate::health::Health;
use crate::log::{Acknowledge, Gate};
use crate::schedule::Foreseen;
use crate::serve::{self, ClientPorts, Control, Ports, Primary, Process, Running};

/// For calls under way when a reign ends: nothing that they wait for comes.
const STOP_GRACE: Duration = Duration::from_secs(1);

/// A reign, from the order to begin it.
pub(super) struct Reign {
    stop: CancellationToken,
    state: State,
    late: Late,
}

enum State {
    /// Clients are not served yet.
    Opening(JoinHandle<anyhow::Result<Option<Running>>>),
    Serving(Box<Running>),
    Failed,
}

impl Reign {
    /// Writes down that it begins, and begins. An error: this member cannot.
    pub(super) async fn begin(epoch: Epoch, needs: Needs) -> anyhow::Result<Self> {
        let open = &needs.open;
        let noting = Arc::clone(open);
        let start = tokio::task::spawn_blocking(move || {
            let end = noting.store().state().appended;
            // Nobody of the in-sync set has more, or it would not have been elected.
            if noting.store().was_interrupted() {
                noting.store().trust_end()?;
            }
            noting.ask_reigns(|reigns| reigns.begin(epoch, end)).map(|()| end)
        });
        let start = start.await.context("beginning a reign")?.context("the epoch cannot be written down")?;
        let journal = open.meta().begin_journal();
        open.set_reign(Some(Reigning { epoch, journal }));
        tracing::info!(epoch = epoch.0, log_end = start.0, "this member is the primary");
        let stop = CancellationToken::new();
        let (open, late) = (Arc::clone(&needs.open), needs.late.clone());
        let state = State::Opening(open.tasks.spawn(serve(needs, epoch, start, stop.clone())));
        Ok(Self { stop, state, late })
    }

    /// Writes down how far consumers are, so that whoever takes over knows.
    pub(super) async fn persist(&self) {
        if let State::Serving(running) = &self.state
            && let Err(error) = running.persist().await
        {
            tracing::warn!(%error, "whoever takes over knows less of the consumers' progress");
        }
    }

    /// Ends it: clients are let go, and what is above the log is closed.
    pub(super) async fn end(mut self, open: &Open) {
        open.set_reign(None);
        self.late.set(None);
        self.stop.cancel();
        let running = match std::mem::replace(&mut self.state, State::Failed) {
            State::Opening(opening) => match opening.await {
                Ok(Ok(running)) => running,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the reign had failed");
                    None
                }
                Err(error) => {
                    tracing::error!(%error, "the reign died");
                    None
                }
            },
            State::Serving(running) => Some(*running),
            State::Failed => None,
        };
        if let Some(running) = running
            && let Err(error) = running.stop().await
        {
            tracing::warn!(%error, "the reign did not end well");
        }
    }

    /// Where clients are served, once they are.
    pub(super) fn clients(&self) -> Option<SocketAddr> {
        match &self.state {
            State::Serving(running) => Some(running.client_addr),
            State::Opening(_) | State::Failed => None,
        }
    }

    /// How it stands with clients, once they are served.
    pub(super) fn health(&self) -> Option<Arc<Health>> {
        match &self.state {
            State::Serving(running) => Some(running.health()),
            State::Opening(_) | State::Failed => None,
        }
    }

    /// Waits until it fails, and says why.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        if let State::Opening(opening) = &mut self.state {
            self.state = match opening.await {
                Ok(Ok(Some(running))) => State::Serving(Box::new(running)),
                Ok(Ok(None)) => return std::future::pending().await,
                Ok(Err(error)) => {
                    self.state = State::Failed;
                    return error;
                }
                Err(error) => {
                    self.state = State::Failed;
                    return error.into();
                }
            };
        }
        match &self.state {
            State::Serving(running) => anyhow::anyhow!(running.failed().await),
            State::Opening(_) | State::Failed => std::future::pending().await,
        }
    }
}

impl Drop for Reign {
    fn drop(&mut self) {
        self.stop.cancel();
        if let State::Serving(running) = &self.state {
            running.abandon();
        }
    }
}

/// What a reign needs.
pub(super) struct Needs {
    pub(super) open: Arc<Open>,
    pub(super) ordinal: Ordinal,
    pub(super) process: Process,
    /// Where the control plane is served.
    pub(super) late: Late,
    pub(super) control_addr: SocketAddr,
    pub(super) coordinator: Arc<dyn Coordinator>,
    pub(super) clients: Arc<ClientDoor>,
    /// What it knew of delayed messages as a replica.
    pub(super) foreseen: Option<Foreseen>,
}

/// `None`: it was stopped before.
async fn serve(
    needs: Needs,
    epoch: Epoch,
    start: LogOffset,
    stop: CancellationToken,
) -> anyhow::Result<Option<Running>> {
    let Needs { open, ordinal, process, late, control_addr, coordinator, clients, foreseen } = needs;
    // What the views, cursors and transactions are opened from is what everybody has.
    let mut confirmed = open.confirmed.subscribe();
    open.settle();
    let everybody_has = confirmed.wait_for(|confirmed| *confirmed >= start);
    if stop.run_until_cancelled(everybody_has).await.is_none() {
        return Ok(None);
    }
    let tasks = vital::Tasks::default();
    let primary = Primary {
        ordinal: ordinal.0,
        epoch: epoch.0,
        acknowledge: Acknowledge::Replicated(Arc::clone(&open) as Arc<dyn Gate>),
        foreseen,
        stop_grace: STOP_GRACE,
    };
    let ports = Ports {
        clients: ClientPorts::new(&process.config, clients.lead_here())?,
        control: Control::Within(late, control_addr),
    };
    let running = serve::serve(&process, open.local.clone(), ports, tasks.clone(), Some(primary)).await?;
    let announcing = async move {
        while let Err(error) = coordinator.announce().await {
            tracing::warn!(%error, "clients cannot be told where the primary is");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        std::future::pending::<()>().await;
    };
    let until = tasks.stop_token();
    tasks.spawn("telling clients where the primary is", async move {
        until.run_until_cancelled(announcing).await;
        Ok::<(), std::convert::Infallible>(())
    });
    Ok(Some(running))
}
