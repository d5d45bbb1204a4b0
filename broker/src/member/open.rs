//! What a member has open, and the rules over it.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use replication::{Epoch, Has, History, Lease, Member, MemberId, Now, Ordinal, Refusal, StoreId};
use store::{Keeper, LogOffset, Store};
use tokio::sync::{Notify, watch};
use tokio_util::task::TaskTracker;

use super::keeper::LikePrimary;
use super::metrics::{Behind, Counts};
use super::reigns::Reigns;
use crate::config::{Config, Replication};
use crate::local::Local;
use crate::log::Gate;
use crate::meta::Meta;
use crate::meta::journal::Journal;

/// What a member has open, and the rules over it.
pub(super) struct Open {
    pub(super) config: Arc<Config>,
    pub(super) settings: Replication,
    pub(super) local: Local,
    /// What is to end with the member.
    pub(super) tasks: TaskTracker,
    pub(super) me: MemberId,
    began: Instant,
    reigns: Mutex<Reigns>,
    member: Mutex<Member>,
    /// The rules may want something.
    pub(super) happened: Notify,
    /// The log ends further on. For those who send it to followers, and for what is confirmed.
    pub(super) appended: watch::Sender<LogOffset>,
    /// As far as this is known here.
    pub(super) confirmed: watch::Sender<LogOffset>,
    /// As a replica.
    pub(super) keeper: Arc<LikePrimary>,
    /// As a replica.
    pub(super) behind: Mutex<Behind>,
    pub(super) counts: Counts,
    /// As it was last seen.
    pub(super) lease: watch::Sender<Option<Lease>>,
    /// The present reign, if this is the primary.
    reign: Mutex<Option<Reigning>>,
}

/// As which primary.
#[derive(Clone)]
pub(super) struct Reigning {
    pub(super) epoch: Epoch,
    pub(super) journal: Arc<Journal>,
}

impl Open {
    #[expect(clippy::too_many_arguments, reason = "all that there is, once")]
    pub(super) fn new(
        config: Arc<Config>,
        settings: Replication,
        local: Local,
        tasks: TaskTracker,
        ordinal: Ordinal,
        reigns: Reigns,
        counts: Counts,
        began: Instant,
        make: impl FnOnce(MemberId, &Reigns, Has, Now) -> Member,
    ) -> Arc<Self> {
        let me = MemberId { ordinal, store: StoreId(local.store.id()) };
        let has = Has { end: local.store.durable(), state: 0 };
        let member = make(me, &reigns, has, Now(began.elapsed()));
        let open = Arc::new(Self {
            config,
            settings,
            tasks,
            me,
            began,
            reigns: Mutex::new(reigns),
            member: Mutex::new(member),
            happened: Notify::new(),
            appended: watch::Sender::new(has.end),
            confirmed: watch::Sender::new(local.store.confirmed()),
            keeper: Arc::default(),
            behind: Mutex::default(),
            counts,
            lease: watch::Sender::new(None),
            reign: Mutex::new(None),
            local,
        });
        open.store().ask_before_removal(Arc::clone(&open.keeper) as Arc<dyn Keeper>);
        let tells = Arc::downgrade(&open);
        open.store().on_appended(Box::new(move |end| {
            if let Some(open) = tells.upgrade() {
                open.appended.send_replace(end);
            }
        }));
        open
    }

    pub(super) fn store(&self) -> &Store {
        &self.local.store
    }

    pub(super) fn meta(&self) -> &Arc<Meta> {
        &self.local.meta
    }

    pub(super) fn now(&self) -> Now {
        Now(self.began.elapsed())
    }

    /// Tells the rules of something that happened.
    pub(super) fn tell<T>(&self, event: impl FnOnce(&mut Member, Now) -> T) -> T {
        let outcome = event(&mut self.member.lock(), self.now());
        self.happened.notify_one();
        outcome
    }

    /// The same of what happens with every message: nobody is called unless the rules want something.
    pub(super) fn tell_often<T>(&self, event: impl FnOnce(&mut Member, Now) -> T) -> T {
        let mut member = self.member.lock();
        let outcome = event(&mut member, self.now());
        let wants = member.wants_something();
        drop(member);
        if wants {
            self.happened.notify_one();
        }
        outcome
    }

    /// Asks the rules.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut Member) -> T) -> T {
        question(&mut self.member.lock())
    }

    /// The reigns of this log.
    pub(super) fn history(&self) -> History {
        let end = self.store().state().appended;
        self.ask_reigns(|reigns| reigns.history()).up_to(end)
    }

    pub(super) fn ask_reigns<T>(&self, question: impl FnOnce(&mut Reigns) -> T) -> T {
        question(&mut self.reigns.lock())
    }

    /// What it has, as the group's flush mode asks.
    pub(super) fn has(&self) -> Has {
        let state = self.reigning().map_or(0, |reign| reign.journal.last());
        Has { end: self.store().durable(), state }
    }

    pub(super) fn reigning(&self) -> Option<Reigning> {
        self.reign.lock().clone()
    }

    pub(super) fn set_reign(&self, reign: Option<Reigning>) {
        *self.reign.lock() = reign;
    }

    /// The Lease as it changes.
    pub(super) fn lease_changes(&self) -> watch::Receiver<Option<Lease>> {
        self.lease.subscribe()
    }

    /// As the primary: confirms whatever all who count have by now.
    pub(super) fn settle(&self) {
        let Some(reign) = self.reigning() else { return };
        let (has, last) = (self.has(), reign.epoch);
        let confirmed = {
            let mut member = self.member.lock();
            member.own(self.now(), last, has);
            if !matches!(member.role(), replication::Role::Primary(epoch) if epoch == reign.epoch) {
                return;
            }
            member.confirmed()
        };
        self.store().confirm_to(confirmed.end);
        reign.journal.replicated_to(confirmed.state);
        self.confirmed_to(confirmed.end);
    }

    /// Tells those who wait that so much is confirmed.
    pub(super) fn confirmed_to(&self, end: LogOffset) {
        self.confirmed.send_if_modified(|confirmed| {
            let more = end > *confirmed;
            *confirmed = (*confirmed).max(end);
            more
        });
    }
}

impl Gate for Open {
    fn may_send(&self) -> Result<(), Refusal> {
        self.member.lock().may_send(self.now())
    }
}
