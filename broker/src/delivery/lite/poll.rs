//! A poll of a parent topic: takes messages from the lite topics that its client holds and that may have some.

use std::sync::Arc;

use access::LiteTopic;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::Hub;
use crate::delivery::Delivery;
use crate::delivery::poll::{Ask, Attempt, Batch, DISK_PATIENCE, NotReceived, Parked, Shape};
use crate::delivery::source::Shelf;

/// So many lite topics that have nothing are looked at before others get their turn.
const LOOKS: usize = 64;

/// A poll under way.
struct Polling<'a> {
    hub: &'a Hub,
    ask: &'a Ask,
    /// Where something was taken.
    found: Vec<LiteTopic>,
}

impl<'a> Polling<'a> {
    fn new(hub: &'a Hub, ask: &'a Ask) -> Self {
        hub.0.lock().enter(&ask.client, ask.poll());
        Self { hub, ask, found: Vec::new() }
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        self.hub.0.lock().exit(&self.ask.client, self.ask.poll(), std::mem::take(&mut self.found));
    }
}

/// A lite topic that was taken off the lists for a look. It is put on again unless the look comes to an end.
struct Taken<'a> {
    hub: &'a Hub,
    lite: &'a LiteTopic,
    looked: bool,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.looked {
            self.hub.ready(self.lite.as_str());
        }
    }
}

impl Delivery {
    /// Takes messages for a client; waits for some if there are none. An empty batch: time is up.
    pub(in crate::delivery) async fn receive_lite(self: &Arc<Self>, ask: &Ask) -> Result<Batch, NotReceived> {
        let hub = self.lite.hub(&ask.group, &ask.topic);
        let mut polling = Polling::new(&hub, ask);
        let deadline = Instant::now() + ask.wait;
        let mut parked = None;
        loop {
            self.consumable(&ask.group, &ask.topic)?;
            let (own, for_all) = hub.0.lock().bells(&ask.client);
            // Before the look, so that nothing that is ready in between is missed.
            let own = own.notified();
            tokio::pin!(own);
            own.as_mut().enable();
            let for_all = for_all.as_ref().map(|bell| Box::pin(bell.notified()));
            let mut for_all = for_all;
            if let Some(for_all) = &mut for_all {
                for_all.as_mut().enable();
            }
            let batch = self.look_at_lite(&mut polling, deadline).await?;
            if !batch.is_empty() || ask.wait.is_zero() || hub.0.lock().is_closed() {
                return Ok(batch);
            }
            if parked.is_none() {
                parked = Some(Parked::new(self)?);
            }
            tokio::select! {
                biased;
                () = self.needs.stopping.cancelled() => return Ok(batch),
                () = own => {}
                () = heard(for_all) => {}
                () = tokio::time::sleep_until(deadline) => return Ok(batch),
            }
        }
    }

    /// Looks at what is ready, until the batch is full.
    async fn look_at_lite(
        self: &Arc<Self>,
        polling: &mut Polling<'_>,
        deadline: Instant,
    ) -> Result<Batch, NotReceived> {
        let (hub, ask) = (polling.hub, polling.ask);
        let mut batch = Batch::empty();
        let mut again = Vec::new();
        let mut looks = 0;
        while batch.len() < ask.max {
            let Some(lite) = hub.0.lock().next(&ask.client) else { break };
            if polling.found.contains(&lite) {
                // What it has left is for the next poll: to this one it would look like a lost answer.
                again.push(lite);
                continue;
            }
            let mut taken = Taken { hub, lite: &lite, looked: false };
            // Held and never sent to: its first message makes it ready.
            if self.lite.is_known(ask.topic.as_str(), lite.as_str()) {
                let room = ask.max - batch.len();
                let Some(found) = self.look_at_one(&lite, ask, room, batch.is_empty(), deadline).await?
                else {
                    break;
                };
                if !found.is_empty() {
                    batch.join(found);
                    polling.found.push(lite.clone());
                }
            }
            taken.looked = true;
            looks += 1;
            if looks % LOOKS == 0 {
                tokio::task::yield_now().await;
            }
        }
        again.iter().for_each(|lite| hub.ready(lite.as_str()));
        Ok(batch)
    }

    /// What one lite topic has, at most `max`. `None`: it must be looked at again; only if `may_wait`, which is for the disk.
    async fn look_at_one(
        self: &Arc<Self>,
        lite: &LiteTopic,
        ask: &Ask,
        max: usize,
        may_wait: bool,
        deadline: Instant,
    ) -> Result<Option<Batch>, NotReceived> {
        let topic = ask.topic.of_lite(lite);
        let subscription = self.subscription(&ask.group, &topic);
        let mut shelf = Shelf::default();
        loop {
            let attempt = self.attempt(&subscription, Shape::LITE, max, ask, &shelf);
            // So that it is ready again when a delivery falls due.
            self.arm(&subscription);
            match attempt {
                Attempt::Messages(batch) => return Ok(Some(batch)),
                Attempt::Nothing { capped: _ } => return Ok(Some(Batch::empty())),
                Attempt::GoOn | Attempt::Away(_) if !may_wait => return Ok(None),
                Attempt::GoOn => tokio::task::yield_now().await,
                Attempt::Away(needs) => {
                    let patience = deadline.max(Instant::now() + DISK_PATIENCE);
                    tokio::select! {
                        biased;
                        () = self.needs.stopping.cancelled() => return Ok(None),
                        fetched = self.fetch(&topic, &ask.filter, needs, &mut shelf) => fetched?,
                        () = tokio::time::sleep_until(patience) => return Ok(None),
                    }
                }
            }
        }
    }
}

async fn heard(bell: Option<std::pin::Pin<Box<Notified<'_>>>>) {
    match bell {
        Some(bell) => bell.await,
        None => std::future::pending().await,
    }
}
