//! Topics: what makes them [`Declared`]. What brokers are asked and told is in `apply`, what to tell them in `plan`.

use crds::{
    BrokerGroup, DeletionPolicy, ManagementPolicy, NameServerRef, Topic, TopicGroupState, TopicGroupStatus,
    TopicSpec, TopicStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::reflector::Store;
use proto::control::{ChangeReport, TopicConfig};

use crate::{
    broker_group::drain,
    context::Context,
    declared::{
        Brought, Declared, Failure, Place, State, decide::Rules, names::Names, observe::Group, owner,
    },
    watch::Stores,
};

pub mod apply;
pub mod placement;
pub mod plan;
pub mod validate;

impl Declared for Topic {
    type Place = TopicGroupStatus;
    type Status = TopicStatus;

    const FINALIZER: &'static str = "mq.gantry.dev/topic";
    const WHAT: &'static str = "topic";
    const NAME_FIELD: &'static str = "topicName";

    fn name_server_ref(&self) -> &NameServerRef {
        &self.spec.name_server_ref
    }

    fn client_name(&self) -> String {
        Self::client_name(self)
    }

    fn is_retained(&self) -> bool {
        self.spec.deletion_policy == DeletionPolicy::Retain
            || self.spec.management_policy == ManagementPolicy::ObserveOnly
    }

    fn store(stores: &Stores) -> &Store<Self> {
        &stores.topics
    }

    fn names(stores: &Stores) -> &Names<Self> {
        &stores.topic_names
    }

    fn current(&self) -> Option<&TopicStatus> {
        self.status.as_ref()
    }

    fn parts(status: &TopicStatus) -> (Option<i64>, &[TopicGroupStatus], &[Condition]) {
        (status.observed_generation, &status.groups, &status.conditions)
    }

    fn new_status(
        &self,
        groups: Vec<TopicGroupStatus>,
        applied: String,
        conditions: Vec<Condition>,
    ) -> TopicStatus {
        TopicStatus {
            observed_generation: self.metadata.generation,
            topic_name: Some(self.client_name()),
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
        let TopicSpec { adoption, drift_policy: drift, management_policy: management, .. } = self.spec;
        Rules { adoption, drift, management }
    }

    async fn bring(
        &self,
        context: &Context,
        group: &str,
        address: &str,
        known: Option<State>,
    ) -> Result<Brought<TopicGroupStatus>, Failure> {
        let wanted = validate::wanted(self, self.client_name(), owner::stamp(self));
        apply::bring(&context.control, &wanted, self.rules(), group, address, known).await
    }

    fn chooses(&self, group: &BrokerGroup) -> bool {
        placement::chooses(self.spec.placement.as_ref(), group) && !drain::is_asked(group)
    }

    fn missing<'a>(&'a self, groups: &'a [Group]) -> impl Iterator<Item = &'a String> {
        let named = self.spec.placement.iter().flat_map(|placement| &placement.names).flatten();
        named.filter(move |name| groups.iter().all(|group| group.name != **name))
    }

    async fn withdraw(
        &self,
        context: &Context,
        group: &str,
        address: &str,
        arrived: bool,
    ) -> Result<Option<TopicGroupStatus>, Failure> {
        if self.spec.management_policy == ManagementPolicy::ObserveOnly {
            return Ok(None);
        }
        let (name, stamp) = (self.client_name(), owner::stamp(self));
        apply::withdraw(&context.control, group, address, &name, &stamp, arrived).await
    }

    async fn take_away(&self, context: &Context, address: &str) -> Result<(), String> {
        let drained_only = self.spec.deletion_policy == DeletionPolicy::DeleteWhenDrained;
        apply::take_away(&context.control, address, &self.client_name(), &owner::stamp(self), drained_only)
            .await
    }

    type Live = TopicConfig;

    fn name_of(live: &TopicConfig) -> &str {
        &live.name
    }

    fn changes(report: &ChangeReport) -> (&[TopicConfig], &[String]) {
        (&report.topics, &report.removed_topics)
    }

    fn is_strange(&self, live: &TopicConfig, known: Option<State>) -> bool {
        let wanted = validate::wanted(self, self.client_name(), owner::stamp(self));
        let wanted = plan::compared(&wanted, self.rules(), live);
        let left = u64::from(known == Some(State::Draining));
        plan::next(&wanted, Some(live), left) != *live
    }
}

impl Place for TopicGroupStatus {
    fn without(group: &str, state: State, message: String) -> Self {
        Self {
            name: group.to_owned(),
            read_queues: 0,
            write_queues: 0,
            permission: crds::Permission::None,
            state: match state {
                State::Applied => TopicGroupState::Applied,
                State::Draining => TopicGroupState::Draining,
                State::Drifted => TopicGroupState::Drifted,
                State::Unavailable => TopicGroupState::Unavailable,
                State::Foreign => TopicGroupState::Foreign,
                State::Rejected => TopicGroupState::Rejected,
            },
            message,
        }
    }

    fn group(&self) -> &str {
        &self.name
    }

    fn state(&self) -> State {
        match self.state {
            TopicGroupState::Applied => State::Applied,
            TopicGroupState::Draining => State::Draining,
            TopicGroupState::Drifted => State::Drifted,
            TopicGroupState::Unavailable => State::Unavailable,
            TopicGroupState::Foreign => State::Foreign,
            TopicGroupState::Rejected => State::Rejected,
        }
    }

    fn message(&self) -> &str {
        &self.message
    }
}
