//! Clients of a real broker, and the ledger that they keep.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::dice::Dice;
use crate::ledger::{Ledger, Note, What};
use crate::wire::{Refusal, Wire};

/// The topic of all messages.
pub const TOPIC: &str = "ledger";
/// Queues of it.
pub const QUEUES: u32 = 4;
/// How long a poll waits for messages.
const POLL: Duration = Duration::from_secs(1);

/// The ledger, shared by all clients.
#[derive(Clone, Default)]
pub struct Book {
    ledger: Arc<Mutex<Ledger>>,
    next: Arc<AtomicU64>,
}

impl Book {
    /// The ledger itself.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a message of at most so many bytes, and notes what came of it.
    pub async fn send(&self, wire: &mut Wire, dice: &mut Dice, most: u64) -> Result<(), Refusal> {
        let name = format!("m-{}", self.next.fetch_add(1, Ordering::Relaxed));
        let len = name.len() + dice.below(most) as usize;
        let body: Vec<u8> = name.bytes().chain(*b" ").cycle().take(len).collect();
        self.lock().note(&Note::now(&name, What::attempt(TOPIC, &body)));
        let (what, result) = match wire.send(TOPIC, &name, body).await {
            Ok(place) => (What::Acknowledged(place), Ok(())),
            Err(refusal) => (refusal.outcome(), Err(refusal)),
        };
        self.lock().note(&Note::now(&name, what));
        result
    }

    /// Receives once for a group, notes and acknowledges what came.
    pub async fn receive(&self, wire: &mut Wire, group: &str) -> Result<usize, Refusal> {
        let messages = wire.receive(TOPIC, group, POLL).await?;
        for message in &messages {
            self.lock().note(&Note::now(&message.id, message.note()));
        }
        // What is not acknowledged comes again, which the ledger allows.
        let _: Result<(), Refusal> = wire.acknowledge(TOPIC, group, &messages).await;
        Ok(messages.len())
    }

    /// Reads everything as a group of its own; an error unless all that was acknowledged is there, once and unaltered.
    pub async fn audit(&self, wire: &mut Wire, group: &str, limit: Duration) -> Result<()> {
        self.lock().forget_deliveries();
        let end = Instant::now() + limit;
        let mut last = Ok(0);
        // A few that nobody acknowledged may come behind the last that somebody did.
        while self.lock().missing() > 0 || last != Ok(0) {
            if Instant::now() > end {
                bail!(
                    "not all was read within {limit:?}, the last poll: {last:?}; {}",
                    self.lock().verdict()
                );
            }
            last = self.receive(wire, group).await;
        }
        let verdict = self.lock().verdict();
        ensure!(verdict.is_clean(), "{verdict}");
        Ok(())
    }
}
