//! The broker killed under load, again and again: nothing acknowledged may be lost, nothing may come altered.
//!
//! Senders and a consumer run through all kills; every time the broker has acknowledged some hundred more messages, it
//! gets SIGKILL and is started again. At the end a new group reads the whole log as an auditor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::dev::Dev;
use crate::ledger::{Ledger, Note, Verdict, What};
use crate::wire::{Refusal, Wire};

const TOPIC: &str = "ledger";
const SENDERS: usize = 8;
/// Acknowledged messages between two kills, at least.
const ACKNOWLEDGED: usize = 200;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After an error a client waits this long before it tries again, as clients do.
const BACK_OFF: Duration = Duration::from_millis(20);
/// How long a poll waits.
const POLL: Duration = Duration::from_secs(5);

/// What the live consumer saw, and what the auditor found.
pub struct Outcome {
    /// The group that consumed through all kills.
    pub live: Verdict,
    /// The group that read the log afterwards.
    pub audit: Verdict,
}

/// Kills a broker so many times and says what became of the messages.
pub fn kill_under_load(times: usize) -> Result<Outcome> {
    let data = TempDir::new()?;
    let mut dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", TOPIC])?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let book = Book::default();
    let mut clients = JoinSet::new();
    let stop_sending = CancellationToken::new();
    for sender in 0..SENDERS {
        let wire = runtime.block_on(async { Wire::new(&dev.endpoint(), &format!("sender-{sender}")) })?;
        clients.spawn_on(send(wire, sender, book.clone(), stop_sending.clone()), runtime.handle());
    }
    let stop_receiving = CancellationToken::new();
    let wire = runtime.block_on(async { Wire::new(&dev.endpoint(), "receiver") })?;
    let receiver = runtime.spawn(receive(wire, "live", book.clone(), stop_receiving.clone()));

    for time in 0..times {
        // Not always at the same place of a batch, a flush or a segment.
        let enough = book.lock().acknowledged_count() + ACKNOWLEDGED + time * 37 % ACKNOWLEDGED;
        runtime.block_on(book.until("more acknowledged", |ledger| ledger.acknowledged_count() >= enough))?;
        dev.kill()?;
        dev.start_again().with_context(|| format!("kill {} of {times}", time + 1))?;
    }
    stop_sending.cancel();
    runtime.block_on(async {
        while clients.join_next().await.transpose()?.is_some() {}
        anyhow::Ok(())
    })?;
    let waited = runtime.block_on(book.until("all delivered", |ledger| ledger.missing() == 0));
    stop_receiving.cancel();
    runtime.block_on(receiver)?;
    let live = book.lock().verdict();
    waited.with_context(|| live.to_string())?;

    book.lock().forget_deliveries();
    let stop_audit = CancellationToken::new();
    let wire = runtime.block_on(async { Wire::new(&dev.endpoint(), "auditor") })?;
    let auditor = runtime.spawn(receive(wire, "audit", book.clone(), stop_audit.clone()));
    let waited = runtime.block_on(book.until("all audited", |ledger| ledger.missing() == 0));
    stop_audit.cancel();
    runtime.block_on(auditor)?;
    let audit = book.lock().verdict();
    waited.with_context(|| audit.to_string())?;
    dev.stop()?;
    ensure!(live.acknowledged >= times * ACKNOWLEDGED, "there was no load: {live}");
    Ok(Outcome { live, audit })
}

/// The ledger, shared, with news of every entry.
#[derive(Clone)]
struct Book {
    ledger: Arc<Mutex<Ledger>>,
    news: watch::Sender<()>,
}

impl Default for Book {
    fn default() -> Self {
        Self { ledger: Arc::default(), news: watch::Sender::new(()) }
    }
}

impl Book {
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, name: &str, what: What) {
        self.lock().note(&Note::now(name, what));
        self.news.send_replace(());
    }

    async fn until(&self, what: &str, condition: impl Fn(&Ledger) -> bool) -> Result<()> {
        let mut news = self.news.subscribe();
        let wait = async {
            while !condition(&self.lock()) {
                news.changed().await.expect("the book holds the sender itself");
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.with_context(|| format!("{what}: not within {PATIENCE:?}"))
    }
}

async fn send(mut wire: Wire, sender: usize, book: Book, stop: CancellationToken) {
    for number in 0_usize.. {
        if stop.is_cancelled() {
            break;
        }
        let name = format!("{sender}-{number}");
        let body = body(&name, number);
        book.note(&name, What::attempt(TOPIC, &body));
        match wire.send(TOPIC, &name, body).await {
            Ok(place) => book.note(&name, What::Acknowledged(place)),
            Err(refusal) => {
                book.note(&name, refusal.outcome());
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn receive(mut wire: Wire, group: &'static str, book: Book, stop: CancellationToken) {
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => break,
            received = wire.receive(TOPIC, group, POLL) => received,
        };
        let Ok(messages) = received else {
            tokio::time::sleep(BACK_OFF).await;
            continue;
        };
        messages.iter().for_each(|message| book.note(&message.id, message.note()));
        // An acknowledgement that the kill swallowed only makes the message come again.
        let _: Result<(), Refusal> = wire.acknowledge(TOPIC, group, &messages).await;
    }
}

/// Bodies of many lengths, each different from all others in every part.
fn body(name: &str, number: usize) -> Vec<u8> {
    let length = 1 + number * 131 % 2048;
    name.bytes().chain(*b" ").cycle().take(length.max(name.len())).collect()
}
