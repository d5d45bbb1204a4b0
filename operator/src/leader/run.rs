//! Carries out what the [`Elector`] decides.

use std::fmt::Display;

use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{Elector, Record, Step};

/// Where the Lease is kept.
pub trait LeaseStore {
    /// Why a call failed.
    type Error: Display;

    /// The Lease, if there is one.
    fn read(&self) -> impl Future<Output = Result<Option<Record>, Self::Error>> + Send;

    /// Makes the Lease ours where there is none. `Ok(false)`: there is one by now.
    fn create(&self, holder: &str) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// Writes the Lease if it still has `resource_version`. `Ok(false)`: it has another.
    fn write(
        &self,
        holder: &str,
        resource_version: &str,
        transitions: i32,
        renewal: bool,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// Leadership is over.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    /// No renewal worked in time.
    #[error("the lease was not renewed in time: {0}")]
    Deadline(String),
    /// Somebody else has it.
    #[error("another process leads")]
    Taken,
}

/// Waits until we lead.
pub async fn acquire(elector: &mut Elector, store: &impl LeaseStore) {
    loop {
        match attempt(elector, store).await {
            Ok(()) if elector.leads_until().is_some_and(|until| until > Instant::now()) => return,
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "lease not reachable, trying again"),
        }
        sleep(elector.timing().retry).await;
    }
}

/// Keeps leading, and returns when that is over. Whoever calls must stop all work then.
pub async fn keep(elector: &mut Elector, store: &impl LeaseStore) -> Lost {
    let mut trouble = String::from("no answer");
    loop {
        let Some(until) = elector.leads_until() else { return Lost::Taken };
        let retry = Instant::now() + elector.timing().retry;
        sleep_until(retry.min(until)).await;
        // An attempt may hang for longer than we may lead.
        match timeout_at(until, attempt(elector, store)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(%error, "lease not renewed, trying again");
                trouble = error;
            }
            Err(_) => return Lost::Deadline(trouble),
        }
        if elector.leads_until().is_some_and(|until| until <= Instant::now()) {
            return Lost::Deadline(trouble);
        }
    }
}

/// Gives the Lease back, so that the next need not wait.
pub async fn release(elector: &Elector, store: &impl LeaseStore) {
    let freed = async {
        match store.read().await {
            Ok(Some(record)) if record.holder == elector.me() => {
                store.write("", &record.resource_version, record.transitions, false).await
            }
            other => other.map(|_| false),
        }
    };
    if let Err(error) = freed.await {
        tracing::warn!(%error, "lease not released, the next leader waits for its end");
    }
}

async fn attempt(elector: &mut Elector, store: &impl LeaseStore) -> Result<(), String> {
    let record = store.read().await.map_err(|error| error.to_string())?;
    let asked = Instant::now();
    let written = match elector.read(asked, record) {
        Step::Create => store.create(elector.me()).await,
        Step::Write { resource_version, transitions, renewal } => {
            store.write(elector.me(), &resource_version, transitions, renewal).await
        }
        Step::Wait => return Ok(()),
    };
    if written.map_err(|error| error.to_string())? {
        elector.written(asked);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{sync::Mutex, time::Duration};

    use super::*;
    use crate::leader::Timing;

    /// A Lease in memory, and an API server that can be away or hang.
    #[derive(Default)]
    struct Memory {
        record: Mutex<Option<Record>>,
        away: Mutex<bool>,
        hangs: Mutex<bool>,
    }

    impl Memory {
        async fn answer(&self) -> Result<(), String> {
            if *self.hangs.lock().unwrap() {
                std::future::pending::<()>().await;
            }
            if *self.away.lock().unwrap() { Err("connection refused".to_owned()) } else { Ok(()) }
        }

        fn put(&self, holder: &str, transitions: i32) {
            let mut record = self.record.lock().unwrap();
            let next =
                record.as_ref().map_or(1, |old| old.resource_version.parse::<u64>().unwrap() + 1).to_string();
            let (holder, renewed) = (holder.to_owned(), next.clone());
            let duration = Timing::default().lease;
            *record = Some(Record { holder, duration, renewed, transitions, resource_version: next });
        }

        fn holder(&self) -> String {
            self.record.lock().unwrap().as_ref().map_or_else(String::new, |record| record.holder.clone())
        }
    }

    impl LeaseStore for Memory {
        type Error = String;

        async fn read(&self) -> Result<Option<Record>, String> {
            self.answer().await?;
            Ok(self.record.lock().unwrap().clone())
        }

        async fn create(&self, holder: &str) -> Result<bool, String> {
            self.answer().await?;
            let free = self.record.lock().unwrap().is_none();
            if free {
                self.put(holder, 0);
            }
            Ok(free)
        }

        async fn write(
            &self,
            holder: &str,
            version: &str,
            transitions: i32,
            _: bool,
        ) -> Result<bool, String> {
            self.answer().await?;
            let same =
                self.record.lock().unwrap().as_ref().is_some_and(|record| record.resource_version == version);
            if same {
                self.put(holder, transitions);
            }
            Ok(same)
        }
    }

    fn elector(me: &str) -> Elector {
        Elector::new(me, Timing::default())
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_takes_over_at_once_when_the_first_releases() {
        let store = Memory::default();
        let (mut first, mut second) = (elector("first"), elector("second"));
        acquire(&mut first, &store).await;
        assert_eq!(store.holder(), "first");
        let begun = Instant::now();
        release(&first, &store).await;
        acquire(&mut second, &store).await;
        assert_eq!(store.holder(), "second");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_waits_out_a_first_that_died() {
        let store = Memory::default();
        let (mut first, mut second) = (elector("first"), elector("second"));
        acquire(&mut first, &store).await;
        let begun = Instant::now();
        acquire(&mut second, &store).await;
        assert!(begun.elapsed() >= Timing::default().lease, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_reach_the_server_stops_before_another_may_begin() {
        for hang in [false, true] {
            let store = Memory::default();
            let mut leader = elector("leader");
            acquire(&mut leader, &store).await;
            let begun = Instant::now();
            *store.away.lock().unwrap() = true;
            *store.hangs.lock().unwrap() = hang;
            assert!(matches!(keep(&mut leader, &store).await, Lost::Deadline(_)));
            assert_eq!(begun.elapsed(), Timing::default().deadline);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_finds_another_in_its_place_stops_at_once() {
        let store = Memory::default();
        let mut leader = elector("leader");
        acquire(&mut leader, &store).await;
        store.put("usurper", 1);
        assert!(matches!(keep(&mut leader, &store).await, Lost::Taken));
        assert_eq!(store.holder(), "usurper");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_goes_on_leading_through_a_short_outage() {
        let store = Memory::default();
        let mut leader = elector("leader");
        acquire(&mut leader, &store).await;
        *store.away.lock().unwrap() = true;
        assert!(tokio::time::timeout(Duration::from_secs(5), keep(&mut leader, &store)).await.is_err());
        *store.away.lock().unwrap() = false;
        assert!(tokio::time::timeout(Duration::from_secs(60), keep(&mut leader, &store)).await.is_err());
        assert_eq!(store.holder(), "leader");
    }
}
