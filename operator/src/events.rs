//! Events: what changed for a resource, for `kubectl describe`.
//!
//! Reconciles never wait for them: they go through a bounded queue to one task, and are counted where the queue is full.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{
    Client,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::mpsc;

use crate::{conditions, metrics::Metrics};

const QUEUE: usize = 1024;
/// Longest note that Kubernetes takes.
const NOTE_BYTES: usize = 1024;

/// Where reconciles leave Events.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(Event, ObjectReference)>,
    metrics: Arc<Metrics>,
}

/// Publishes what reconciles left.
pub struct Publisher {
    recorder: Recorder,
    queue: mpsc::Receiver<(Event, ObjectReference)>,
}

/// The two ends of the queue.
pub fn channel(client: Client, identity: &str, metrics: Arc<Metrics>) -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let reporter = Reporter { controller: "gantry-operator".to_owned(), instance: Some(identity.to_owned()) };
    (
        Events { queue: sender, metrics },
        Publisher { recorder: Recorder::new(client, reporter), queue: receiver },
    )
}

impl Events {
    /// Something happened to `about`.
    pub fn tell(&self, about: &ObjectReference, bad: bool, reason: &str, note: &str) {
        let event = Event {
            type_: if bad { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(shorten(note)),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if self.queue.try_send((event, about.clone())).is_err() {
            self.metrics.event_dropped();
        }
    }

    /// Tells what differs between the conditions of two statuses.
    pub fn tell_news(&self, about: &ObjectReference, old: &[Condition], new: &[Condition]) {
        for condition in conditions::news(old, new) {
            self.tell(about, conditions::is_bad(condition), &condition.reason, &condition.message);
        }
    }
}

impl Publisher {
    /// Publishes until all [`Events`] are gone.
    pub async fn run(mut self) {
        while let Some((event, about)) = self.queue.recv().await {
            if let Err(error) = self.recorder.publish(&event, &about).await {
                tracing::debug!(reason = event.reason, %error, "event not published");
            }
        }
    }
}

fn shorten(note: &str) -> String {
    let mut end = note.len().min(NOTE_BYTES);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    note[..end].to_owned()
}
