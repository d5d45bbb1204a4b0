//! What is declared by a resource and kept by brokers under one name: Topics and ConsumerGroups.
//!
//! ```text
//!   observe (stores) → check (pure) → bring: each broker is asked, and told what differs → status (pure) → write
//! ```
//!
//! The oldest resource that asks for a name has it, and its owner's stamp is on what the broker keeps, so that neither two
//! resources nor two operators fight over one name.

use std::sync::Arc;

use crds::{BrokerGroup, NameServerRef};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    ResourceExt as _,
    runtime::{controller::Action, reflector::Store},
};
use proto::control::{ChangeReport, Outcome};
use serde::Serialize;
use tonic::{Code, Status};

use crate::{
    apply::Object,
    conditions::Reason,
    context::{Context, Error},
    control::explain,
    watch::Stores,
};

pub mod again;
pub mod carry_out;
pub mod check;
pub mod decide;
pub mod drift;
pub mod names;
pub mod observe;
pub mod owner;
pub mod places;
pub mod status;

use decide::Rules;
use names::Names;
use observe::{Group, Observed};
use places::Placed;

/// With this annotation a resource goes at once, whatever the brokers say.
const FORCE_DELETE: &str = "mq.gantry.dev/force-delete";

/// A kind of resource that brokers keep something for.
pub trait Declared: Object {
    /// What the status says of one broker group.
    type Place: Place;
    /// The status.
    type Status: Serialize + Clone + Default + PartialEq + Send + Sync;

    /// Keeps the resource until brokers have let go of it, where its deletion policy says that they do.
    const FINALIZER: &'static str;
    /// What it is, in messages.
    const WHAT: &'static str;
    /// The field of the spec that names it.
    const NAME_FIELD: &'static str;

    /// The cluster.
    fn name_server_ref(&self) -> &NameServerRef;
    /// The namespace of the cluster.
    fn set_namespace(&self) -> String {
        let named = self.name_server_ref().namespace.clone();
        named.or_else(|| self.namespace()).unwrap_or_default()
    }
    /// The name that clients use.
    fn client_name(&self) -> String;
    /// Whether brokers keep it when the resource goes.
    fn is_retained(&self) -> bool;
    /// All of this kind.
    fn store(stores: &Stores) -> &Store<Self>;
    /// Which of them ask for a name.
    fn names(stores: &Stores) -> &Names<Self>;

    /// The status as it is.
    fn current(&self) -> Option<&Self::Status>;
    /// The parts of a status: the generation that it speaks of, the broker groups, the conditions.
    fn parts(status: &Self::Status) -> (Option<i64>, &[Self::Place], &[Condition]);
    /// A status of these.
    fn new_status(
        &self,
        places: Vec<Self::Place>,
        applied: String,
        conditions: Vec<Condition>,
    ) -> Self::Status;

    /// Gives back room in lists.
    fn shrink(&mut self);
    /// What the spec allows.
    fn rules(&self) -> Rules;

    /// Makes it so on the broker, where the rules allow it. `known`: what the status says already of the spec of today.
    fn bring(
        &self,
        context: &Context,
        group: &str,
        address: &str,
        known: Option<State>,
    ) -> impl Future<Output = Result<Brought<Self::Place>, Failure>> + Send;
    /// Whether the group shall have it.
    fn chooses(&self, _: &BrokerGroup) -> bool {
        true
    }
    /// Names that the spec chooses, and no group has.
    fn missing<'a>(&'a self, _: &'a [Group]) -> impl Iterator<Item = &'a String> {
        std::iter::empty()
    }
    /// Lets it leave a group that shall not have it; nothing once it is not there. `arrived`: all that shall have it do.
    fn withdraw(
        &self,
        _: &Context,
        _group: &str,
        _address: &str,
        _arrived: bool,
    ) -> impl Future<Output = Result<Option<Self::Place>, Failure>> + Send {
        std::future::ready(Ok(None))
    }

    /// Takes it from the broker, if it is ours. An error says what is in the way.
    fn take_away(&self, context: &Context, address: &str) -> impl Future<Output = Result<(), String>> + Send;

    /// What brokers keep.
    type Live;
    /// Its name.
    fn name_of(live: &Self::Live) -> &str;
    /// What changed and what went, in a report.
    fn changes(report: &ChangeReport) -> (&[Self::Live], &[String]);
    /// Whether a change that a broker tells of needs a look. `known`: what the status says of this broker.
    fn is_strange(&self, live: &Self::Live, known: Option<State>) -> bool;
}

/// What came of it on one broker.
#[derive(Clone, Debug)]
pub struct Brought<P> {
    /// For the status.
    pub place: P,
    /// What somebody else had changed, and was put right.
    pub reverted: Option<String>,
}

/// What a status says of one broker group.
pub trait Place: Clone + Send + Sync {
    /// Where it cannot be had.
    fn without(group: &str, state: State, message: String) -> Self;
    /// The BrokerGroup.
    fn group(&self) -> &str;
    /// How far it is.
    fn state(&self) -> State;
    /// What is in the way, and what to do.
    fn message(&self) -> &str;
}

/// How far it is on one broker group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As the spec says.
    Applied,
    /// Something of it waits to be consumed before it goes.
    Draining,
    /// It differs, and is left so.
    Drifted,
    /// The broker cannot be reached.
    Unavailable,
    /// The broker has one of this name that is someone else's.
    Foreign,
    /// The broker refused.
    Rejected,
}

/// Why a broker does not have it.
#[derive(Debug)]
pub enum Failure {
    /// Not now.
    Unavailable(String),
    /// What it has is somebody else's.
    Foreign(String),
    /// It does not take it so.
    Rejected(String),
}

impl Failure {
    /// What a broker answered to something that was to be so.
    pub fn check(outcome: Outcome) -> Result<(), Self> {
        match outcome.refused {
            refused if refused.is_empty() => Ok(()),
            refused if outcome.try_again => Err(Self::Unavailable(refused)),
            refused => Err(Self::Rejected(refused)),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let message = explain(&status);
        match status.code() {
            Code::InvalidArgument | Code::FailedPrecondition | Code::AlreadyExists | Code::Unimplemented => {
                Self::Rejected(message)
            }
            _ => Self::Unavailable(message),
        }
    }
}

/// Brings one resource to what its spec says.
pub async fn reconcile<K: Declared>(resource: Arc<K>, context: Arc<Context>) -> Result<Action, Error> {
    let observed = observe::observe(&*resource, &context.stores);
    if resource.meta().deletion_timestamp.is_some() {
        return delete(&*resource, &context, &observed).await;
    }
    // Before the first broker has it, so that none is ever left behind. The change brings the reconcile that goes on:
    // it sees what this one wrote.
    if context.applier.finalizer(&*resource, K::FINALIZER, !resource.is_retained()).await? {
        return Ok(Action::await_change());
    }

    let invalid = check::check(&*resource, &observed).err();
    let (places, findings, look_again) = match &invalid {
        None => {
            let Placed { places, reverted, look_again } =
                places::bring(&context, &*resource, &observed).await;
            if !reverted.is_empty() {
                let note = reverted.join("; ");
                context.events.tell(&resource.object_ref(&()), true, Reason::Reverted.as_str(), &note);
            }
            let mut findings = status::found(K::WHAT, &observed, &places);
            findings.push(status::drift(&*resource, &places, &reverted));
            (places, findings, look_again)
        }
        // What is in the way is a resource, and its change brings the next reconcile.
        Some(invalid) => (Vec::new(), status::impossible(invalid), false),
    };
    let status = status::status(&*resource, &observed, places, findings, Timestamp::now());
    write(&*resource, &context, &status).await?;
    // Brokers tell what changes there, so none of what may be many waits in a queue of timers.
    Ok(if look_again { Action::requeue(context.again.wait()) } else { Action::await_change() })
}

async fn delete<K: Declared>(resource: &K, context: &Context, observed: &Observed) -> Result<Action, Error> {
    if !resource.finalizers().iter().any(|finalizer| finalizer == K::FINALIZER) {
        return Ok(Action::await_change());
    }
    let forced = resource.annotations().contains_key(FORCE_DELETE);
    let left = if forced || resource.is_retained() {
        Vec::new()
    } else {
        places::take_away(context, resource, observed).await
    };
    // A namespace that ends waits for nobody: what is in the way then stays on the brokers.
    if left.is_empty() || context.applier.namespace_ends(&resource.namespace().unwrap_or_default()).await {
        context.applier.finalizer(resource, K::FINALIZER, false).await?;
        return Ok(Action::await_change());
    }
    let places = resource.current().map(|status| K::parts(status).1.to_vec()).unwrap_or_default();
    let findings = status::deleting(K::WHAT, &left);
    let status = status::status(resource, observed, places, findings, Timestamp::now());
    write(resource, context, &status).await?;
    Ok(Action::requeue(context.again.wait()))
}

async fn write<K: Declared>(resource: &K, context: &Context, status: &K::Status) -> Result<(), Error> {
    let old = resource.current().cloned().unwrap_or_default();
    if *status != old {
        context.applier.status(resource, status).await?;
        context.events.tell_news(&resource.object_ref(&()), K::parts(&old).2, K::parts(status).2);
    }
    Ok(())
}
