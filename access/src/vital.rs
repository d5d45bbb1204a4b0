//! The tasks without which a process is useless: waited for at a stop, heard of when one ends before.
//!
//! A vital task that dies silently leaves a process that looks alive and serves nobody.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Owns tasks from start to stop. Clones own the same tasks.
#[derive(Debug, Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: watch::Sender<Option<String>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), failed: watch::Sender::new(None) }
    }
}

impl Tasks {
    /// Cancelled when the process is to stop; every task heeds it.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// For tasks that may come and go; they are waited for, too.
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// Runs a task that must last until the stop.
    pub fn spawn<E: Display + Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let running = self.tracker.spawn(task);
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        self.tracker.spawn(async move {
            let outcome = match running.await {
                Ok(Ok(())) if stop.is_cancelled() => return,
                Ok(Ok(())) => format!("{name} ended"),
                Ok(Err(error)) => format!("{name} failed: {error}"),
                Err(error) => format!("{name} died: {error}"),
            };
            tracing::error!(outcome, "a vital task is gone");
            // The first reason wins.
            failed.send_if_modified(|reason| {
                let first = reason.is_none();
                reason.get_or_insert(outcome);
                first
            });
        });
    }

    /// Waits until a vital task is gone, and says which and why.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.subscribe();
        let reason = failed.wait_for(Option::is_some).await.map(|reason| reason.clone());
        reason.ok().flatten().unwrap_or_else(|| "nobody is left to say".to_owned())
    }

    /// Asks all tasks to end and waits, at most `grace`. False: some did not end.
    pub async fn stop(&self, grace: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        tokio::time::timeout(grace, self.tracker.wait()).await.is_ok()
    }
}

/// Waits for SIGTERM or SIGINT.
pub async fn asked_to_stop() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_vital_task_to_die_is_named() {
        let tasks = Tasks::default();
        tasks.spawn("front door", async { Err::<(), _>("port gone") });
        assert_eq!(tasks.failed().await, "front door failed: port gone");
        tasks.spawn("clock", async { panic!("tick") as Result<(), String> });
        assert_eq!(tasks.failed().await, "front door failed: port gone");
        tasks.stop(Duration::from_secs(5)).await;

        let tasks = Tasks::default();
        tasks.spawn("clock", async { Ok::<(), String>(()) });
        assert_eq!(tasks.failed().await, "clock ended");
    }

    #[tokio::test]
    async fn a_stop_asks_and_waits_but_not_for_ever() {
        let tasks = Tasks::default();
        let stop = tasks.stop_token();
        tasks.spawn("good", async move {
            stop.cancelled().await;
            Ok::<(), String>(())
        });
        assert!(tasks.stop(Duration::from_secs(5)).await);
        assert!(tasks.failed.borrow().is_none());

        let tasks = Tasks::default();
        tasks.spawn("deaf", std::future::pending::<Result<(), String>>());
        assert!(!tasks.stop(Duration::from_millis(10)).await);
    }
}
