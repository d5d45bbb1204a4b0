//! The stream of what changes in topics and groups, for whoever keeps them as declared.
//!
//! It tells names with what they have now, so that who made a change sees it as done, and who did not sees a stranger's hand. A stream
//! that broke goes on where it ended, unless that is too long ago or the broker started again.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use proto::control::broker_report::Report;
use proto::control::{ChangeReport, WatchChangesResponse};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::registration::telling::Telling;
use crate::topics::Registry;

pub(super) type Changes = Pin<Box<dyn Stream<Item = Result<WatchChangesResponse, Status>> + Send>>;

/// Follows from `since` on, a life and a version, or from now.
pub(super) fn follow(
    topics: Arc<Registry>,
    since: Option<(u64, u64)>,
    place: OwnedSemaphorePermit,
    stop: CancellationToken,
) -> Changes {
    // Watched before it is read: what changes in between is told.
    let changed = topics.watch();
    let now = topics.version();
    let known = since.filter(|(life, version)| *life == topics.life() && *version <= now);
    let follower = Follower {
        told: known.map_or(now, |(_, version)| version),
        missed: since.is_some() && known.is_none(),
        begun: false,
        telling: None,
        topics,
        changed,
        stop,
        _place: place,
    };
    Box::pin(futures::stream::unfold(follower, Follower::next))
}

struct Follower {
    topics: Arc<Registry>,
    changed: watch::Receiver<u64>,
    /// Everything up to this version was told.
    told: u64,
    /// What is being told now.
    telling: Option<Telling>,
    missed: bool,
    begun: bool,
    stop: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<WatchChangesResponse, Status>, Self)> {
        loop {
            if self.telling.is_none() {
                self.look();
            }
            if let Some(answer) = self.answer() {
                return Some((Ok(answer), self));
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                changed = self.changed.changed() => changed.ok()?,
            }
        }
    }

    /// Begins to tell what changed since the last time, if anything did.
    fn look(&mut self) {
        match self.topics.changes_since(self.told) {
            Some(changes) if changes.version == self.told => {}
            Some(changes) => self.telling = Some(Telling::changed(changes)),
            None => {
                self.told = self.topics.version();
                self.missed = true;
            }
        }
    }

    /// The next answer, if there is something to say.
    fn answer(&mut self) -> Option<WatchChangesResponse> {
        let mut changes = ChangeReport::default();
        let mut says_something = !self.begun || self.missed;
        if let Some(telling) = &mut self.telling {
            says_something = true;
            let (report, more) = telling.next_report();
            if let Report::Change(report) = report {
                changes = report;
            }
            if !more {
                self.told = telling.version();
                self.telling = None;
            }
        }
        self.begun = true;
        says_something.then(|| WatchChangesResponse {
            life: self.topics.life(),
            version: self.told,
            changes: Some(changes),
            missed: std::mem::take(&mut self.missed),
        })
    }
}
