//! ConsumerGroups: what makes them [`Declared`]. What brokers shall have is in `wanted`.

use crds::{
    ConsumerGroup, ConsumerGroupPlace, ConsumerGroupSpec, ConsumerGroupState, ConsumerGroupStatus,
    GroupDeletionPolicy, ManagementPolicy, NameServerRef,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::Store;
use proto::control::{ChangeReport, GroupConfig};

use crate::{
    context::Context,
    control::explain,
    declared::{
        Brought, Declared, Failure, Place, State,
        carry_out::{Done, carry_out},
        decide::{Live, Rules, Told},
        names::Names,
        owner,
    },
    watch::Stores,
};

pub mod wanted;

impl Declared for ConsumerGroup {
    type Place = ConsumerGroupPlace;
    type Status = ConsumerGroupStatus;

    const FINALIZER: &'static str = "mq.gantry.dev/consumer-group";
    const WHAT: &'static str = "consumer group";
    const NAME_FIELD: &'static str = "groupName";

    fn name_server_ref(&self) -> &NameServerRef {
        &self.spec.name_server_ref
    }

    fn client_name(&self) -> String {
        Self::client_name(self)
    }

    fn is_retained(&self) -> bool {
        self.spec.deletion_policy == GroupDeletionPolicy::Retain
            || self.spec.management_policy == ManagementPolicy::ObserveOnly
    }

    fn store(stores: &Stores) -> &Store<Self> {
        &stores.consumer_groups
    }

    fn names(stores: &Stores) -> &Names<Self> {
        &stores.consumer_group_names
    }

    fn current(&self) -> Option<&ConsumerGroupStatus> {
        self.status.as_ref()
    }

    fn parts(status: &ConsumerGroupStatus) -> (Option<i64>, &[ConsumerGroupPlace], &[Condition]) {
        (status.observed_generation, &status.groups, &status.conditions)
    }

    fn new_status(
        &self,
        groups: Vec<ConsumerGroupPlace>,
        applied: String,
        conditions: Vec<Condition>,
    ) -> ConsumerGroupStatus {
        ConsumerGroupStatus {
            observed_generation: self.metadata.generation,
            group_name: Some(self.client_name()),
            applied_groups: Some(applied),
            groups,
            conditions,
        }
    }

    fn shrink(&mut self) {
        if let Some(status) = &mut self.status {
            status.groups.shrink_to_fit();
            status.conditions.shrink_to_fit();
        }
    }

    fn rules(&self) -> Rules {
        let ConsumerGroupSpec { adoption, drift_policy: drift, management_policy: management, .. } =
            self.spec;
        Rules { adoption, drift, management }
    }

    async fn bring(
        &self,
        context: &Context,
        group: &str,
        address: &str,
        known: Option<State>,
    ) -> Result<Brought<ConsumerGroupPlace>, Failure> {
        let control = &context.control;
        let wanted = wanted::wanted(self, self.client_name(), owner::stamp(self));
        let live = control.group(address, &wanted.name).await?;
        let seen = match &live {
            None => Live::Absent,
            Some(live) if !self.is_strange(live, known) => Live::Same,
            Some(live) => Live::Differs(owner::owner(&wanted.owner, &live.owner)),
        };
        let write = |only_if_unowned| control.upsert_group(address, wanted, only_if_unowned);
        let found = live.as_ref().map(wanted::in_words);
        let done = carry_out((self.rules(), seen, Told::of(known)), found, write).await?;
        let (state, message, reverted) = match done {
            Done::AsDeclared { reverted } => (State::Applied, String::new(), reverted),
            Done::Drifted(message) => (State::Drifted, message, None),
        };
        Ok(Brought { place: ConsumerGroupPlace::without(group, state, message), reverted })
    }

    async fn take_away(&self, context: &Context, address: &str) -> Result<(), String> {
        let (name, stamp) = (self.client_name(), owner::stamp(self));
        let live = context.control.group(address, &name).await.map_err(|status| explain(&status))?;
        // What is not stamped as ours is not ours to delete.
        if live.is_none_or(|live| live.owner != stamp) {
            return Ok(());
        }
        context.control.delete_group(address, &name, &stamp).await.map_err(|status| explain(&status))
    }

    type Live = GroupConfig;

    fn name_of(live: &GroupConfig) -> &str {
        &live.name
    }

    fn changes(report: &ChangeReport) -> (&[GroupConfig], &[String]) {
        (&report.groups, &report.removed_groups)
    }

    fn is_strange(&self, live: &GroupConfig, _: Option<State>) -> bool {
        let owner = match self.spec.management_policy {
            ManagementPolicy::Full => owner::stamp(self),
            // Who only looks has no stamp on it.
            ManagementPolicy::ObserveOnly => live.owner.clone(),
        };
        wanted::wanted(self, self.client_name(), owner) != *live
    }
}

impl Place for ConsumerGroupPlace {
    fn without(group: &str, state: State, message: String) -> Self {
        let state = match state {
            // Nothing of a consumer group drains.
            State::Applied | State::Draining => ConsumerGroupState::Applied,
            State::Drifted => ConsumerGroupState::Drifted,
            State::Unavailable => ConsumerGroupState::Unavailable,
            State::Foreign => ConsumerGroupState::Foreign,
            State::Rejected => ConsumerGroupState::Rejected,
        };
        Self { name: group.to_owned(), state, message }
    }

    fn group(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        match self.state {
            ConsumerGroupState::Applied => State::Applied,
            ConsumerGroupState::Drifted => State::Drifted,
            ConsumerGroupState::Unavailable => State::Unavailable,
            ConsumerGroupState::Foreign => State::Foreign,
            ConsumerGroupState::Rejected => State::Rejected,
        }
    }

    fn message(&self) -> &str {
        &self.message
    }
}
