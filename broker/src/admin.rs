//! The control plane of a broker: what operator and command line ask of it.
//!
//! Errors are gRPC statuses, as `control.proto` says.

mod changes;
mod clients;
mod messages;
mod offsets;

use std::sync::Arc;
use std::time::Duration;

use access::certificate::Shown;
use access::{GroupName, Refusal, TopicName, logging};
use proto::control::admin_server::Admin;
use proto::control::*;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::config::Config;
use crate::delivery::{Delivery, now_ms};
use crate::front::connections::Conflict;
use crate::health::Health;
use crate::log::Log;
use crate::registration::wire as shown;
use crate::schedule::Timers;
use crate::topics::{self, Changed, Registry, Topic, Wish};
use crate::transactions::Transactions;
use changes::Changes;

type Answer<T> = Result<Response<T>, Status>;
type Granted = Result<Changed, topics::Error>;

/// How long a change waits until every connected name server shows it.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);
/// So many damaged places are told with the state.
const MOST_DAMAGED: usize = 10;
/// Of filters that differ so many are told for a topic, with so many characters and clients of each.
const MOST_FILTERS: usize = 10;
const MOST_OF_A_FILTER: usize = 500;
const MOST_CLIENTS: usize = 10;
/// Topics of one request: with the longest names and owners they stay below the 4 MiB of a message.
const MOST_AT_ONCE: usize = 5000;

/// The service, and what it acts on.
pub(crate) struct AdminDoor {
    pub(crate) config: Arc<Config>,
    pub(crate) topics: Arc<Registry>,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) log: Arc<Log>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) transactions: Arc<Transactions>,
    pub(crate) health: Arc<Health>,
    pub(crate) certificate: Shown,
    pub(crate) log_levels: Option<logging::Control>,
    pub(crate) started_at_ms: i64,
    /// Of the reign, in a group of several members.
    pub(crate) epoch: u64,
    /// Who follows what changes.
    pub(crate) followers: Arc<Semaphore>,
    /// Ends their streams.
    pub(crate) stop: CancellationToken,
}

/// So many follow what changes: the operator, and some who look.
pub(crate) const MOST_FOLLOWERS: usize = 32;

impl AdminDoor {
    /// Changes topics or groups off the async workers, then waits until name servers show it.
    async fn change(
        &self,
        change: impl FnOnce(&Registry) -> Result<Changed, topics::Error> + Send + 'static,
    ) -> Result<Changed, Status> {
        let topics = Arc::clone(&self.topics);
        let outcome = tokio::task::spawn_blocking(move || change(&topics)).await;
        let changed = outcome.expect("changing topics does not panic").map_err(not_changed)?;
        // Also when nothing changed: whoever asks again wants to be sure.
        self.shown(changed.version).await;
        Ok(changed)
    }

    /// Grants many wishes, each by itself.
    async fn grant(&self, wishes: Vec<Wish>, dry_run: bool) -> Vec<Granted> {
        let topics = Arc::clone(&self.topics);
        let act = move || if dry_run { topics.would_change(wishes) } else { topics.change(wishes) };
        let answers = tokio::task::spawn_blocking(act).await.expect("changing topics does not panic");
        if let Some(version) = answers.iter().flatten().map(|changed| changed.version).max() {
            self.shown(version).await;
        }
        answers
    }

    /// Waits until name servers show this version.
    async fn shown(&self, version: u64) {
        if !self.health.registration.shown_everywhere(version, SHOWN_WITHIN).await {
            tracing::info!(version, "some name servers do not show a change yet");
        }
    }

    async fn blocking(
        &self,
        act: impl FnOnce(&Delivery) -> Result<(), crate::meta::Error> + Send + 'static,
    ) -> Result<(), Status> {
        let delivery = Arc::clone(&self.delivery);
        let outcome = tokio::task::spawn_blocking(move || act(&delivery)).await;
        outcome.expect("forgetting does not panic").map_err(|error| Status::unavailable(error.to_string()))
    }
}

#[tonic::async_trait]
impl Admin for AdminDoor {
    async fn upsert_topic(&self, request: Request<UpsertTopicRequest>) -> Answer<UpsertTopicResponse> {
        let UpsertTopicRequest { topic, only_if_unowned } = request.into_inner();
        let topic = topic.ok_or_else(|| Status::invalid_argument("the request holds no topic: set it"))?;
        let config = wire::topic(topic)?;
        let changed = self.change(move |topics| topics.upsert_topic(config, only_if_unowned)).await?;
        Ok(Response::new(UpsertTopicResponse { changed: changed.changed }))
    }

    async fn upsert_topics(&self, request: Request<UpsertTopicsRequest>) -> Answer<UpsertTopicsResponse> {
        let UpsertTopicsRequest { topics, only_if_unowned, only_new, dry_run } = request.into_inner();
        not_too_many("topics", topics.len())?;
        // What is no topic at all is refused here, and the others go on.
        let parsed: Vec<_> = topics.into_iter().map(wire::topic).collect();
        let wishes = parsed.iter().flatten().cloned();
        let wishes = wishes.map(|config| Wish::Topic { config, only_if_unowned, only_new }).collect();
        let answers = self.grant(wishes, dry_run).await;
        Ok(Response::new(UpsertTopicsResponse { outcomes: outcomes(parsed, answers) }))
    }

    async fn delete_topic(&self, request: Request<DeleteTopicRequest>) -> Answer<DeleteTopicResponse> {
        let DeleteTopicRequest { name, owner, only_if_drained } = request.into_inner();
        let name = topic_name(&name)?;
        if only_if_drained && let Some((group, left)) = self.delivery.undrained(&name) {
            return Err(Status::failed_precondition(format!(
                "consumer group {group} has {left} messages or more to consume from topic {name}: wait, or delete the group first"
            )));
        }
        let gone = name.clone();
        let changed = self.change(move |topics| topics.delete_topic(&gone, &owner)).await?;
        if changed.changed {
            self.transactions.forget_topic(&name);
            let store = self.log.store().clone();
            self.blocking(move |delivery| {
                store.delete_topic(name.as_str());
                delivery.forget_topic(&name)
            })
            .await?;
        }
        Ok(Response::new(DeleteTopicResponse { existed: changed.changed }))
    }

    async fn list_topics(&self, request: Request<ListTopicsRequest>) -> Answer<ListTopicsResponse> {
        let ListTopicsRequest { include_system, after, limit } = request.into_inner();
        let mut topics = self.topics.listing().topics;
        topics.retain(|topic| {
            let name = &topic.config.name;
            (include_system || !name.is_of_a_group()) && name.as_str() > after.as_str()
        });
        let by_name = |a: &Arc<Topic>, b: &Arc<Topic>| a.config.name.cmp(&b.config.name);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        if limit > 0 && limit < topics.len() {
            // A page costs a look at every topic, and no more sorting than its own.
            topics.select_nth_unstable_by(limit, by_name);
            topics.truncate(limit);
        }
        topics.sort_unstable_by(by_name);
        let topics = topics.iter().map(|topic| shown::topic(&topic.config)).collect();
        Ok(Response::new(ListTopicsResponse { topics }))
    }

    async fn get_topics(&self, request: Request<GetTopicsRequest>) -> Answer<GetTopicsResponse> {
        let names = request.into_inner().names;
        not_too_many("names", names.len())?;
        let topics = names.iter().filter_map(|name| self.topics.topic(name));
        let topics = topics.map(|topic| shown::topic(&topic.config)).collect();
        Ok(Response::new(GetTopicsResponse { topics }))
    }

    async fn describe_topic(&self, request: Request<DescribeTopicRequest>) -> Answer<DescribeTopicResponse> {
        let name = topic_name(&request.get_ref().name)?;
        let topic = self
            .topics
            .topic(name.as_str())
            .ok_or_else(|| Status::not_found(format!("there is no topic {name}")))?;
        let lite_topics = self.delivery.lite_topics(&name) as u64;
        let queues = 0..topic.config.read_queues.max(topic.config.write_queues);
        let waiting = self.timers.waiting(name.as_str());
        let delivery = Arc::clone(&self.delivery);
        let look = move || {
            queues
                .map(|id| {
                    let bounds = delivery.queue_bounds(&name, id);
                    QueueState {
                        queue_id: id,
                        min_offset: bounds.start,
                        max_offset: bounds.end,
                        last_stored_at_ms: delivery.last_stored_at(&name, id).unwrap_or(0),
                    }
                })
                .collect()
        };
        let queues = tokio::task::spawn_blocking(look).await.expect("looking at queues does not panic");
        let topic = Some(shown::topic(&topic.config));
        Ok(Response::new(DescribeTopicResponse { topic, queues, waiting, lite_topics }))
    }

    async fn upsert_group(&self, request: Request<UpsertGroupRequest>) -> Answer<UpsertGroupResponse> {
        let UpsertGroupRequest { group, only_if_unowned } = request.into_inner();
        let group = group.ok_or_else(|| Status::invalid_argument("the request holds no group: set it"))?;
        let config = wire::group(group, self.config.limits.max_attempts)?;
        let changed = self.change(move |topics| topics.upsert_group(config, only_if_unowned)).await?;
        Ok(Response::new(UpsertGroupResponse { changed: changed.changed }))
    }

    async fn upsert_groups(&self, request: Request<UpsertGroupsRequest>) -> Answer<UpsertGroupsResponse> {
        let UpsertGroupsRequest { groups, only_if_unowned } = request.into_inner();
        not_too_many("groups", groups.len())?;
        let default_attempts = self.config.limits.max_attempts;
        let parsed: Vec<_> = groups.into_iter().map(|group| wire::group(group, default_attempts)).collect();
        let wishes = parsed.iter().flatten().cloned();
        let wishes = wishes.map(|config| Wish::Group { config, only_if_unowned }).collect();
        let answers = self.grant(wishes, false).await;
        Ok(Response::new(UpsertGroupsResponse { outcomes: outcomes(parsed, answers) }))
    }

    async fn delete_group(&self, request: Request<DeleteGroupRequest>) -> Answer<DeleteGroupResponse> {
        let DeleteGroupRequest { name, owner } = request.into_inner();
        let name = group_name(&name)?;
        let gone = name.clone();
        let changed = self.change(move |topics| topics.delete_group(&gone, &owner)).await?;
        self.blocking(move |delivery| delivery.forget_group(&name)).await?;
        Ok(Response::new(DeleteGroupResponse { existed: changed.changed }))
    }

    async fn list_groups(&self, _: Request<ListGroupsRequest>) -> Answer<ListGroupsResponse> {
        let mut groups: Vec<GroupConfig> =
            self.topics.listing().groups.iter().map(|group| shown::group(group)).collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(ListGroupsResponse { groups }))
    }

    async fn get_groups(&self, request: Request<GetGroupsRequest>) -> Answer<GetGroupsResponse> {
        let names = request.into_inner().names;
        not_too_many("names", names.len())?;
        let groups = names.iter().filter_map(|name| self.topics.group(name));
        Ok(Response::new(GetGroupsResponse { groups: groups.map(|group| shown::group(&group)).collect() }))
    }

    async fn describe_group(&self, request: Request<DescribeGroupRequest>) -> Answer<DescribeGroupResponse> {
        let name = group_name(&request.get_ref().name)?;
        let group = self
            .topics
            .group(name.as_str())
            .ok_or_else(|| Status::not_found(format!("there is no group {name}")))?;
        let queues = self.delivery.describe_group(&name).into_iter().map(|queue| GroupQueueState {
            topic: queue.topic.to_string(),
            queue_id: queue.queue_id,
            cursor: queue.cursor,
            in_flight: queue.in_flight,
            max_offset: queue.end,
        });
        let consumers = self.health.clients.consumers_of(&name);
        Ok(Response::new(DescribeGroupResponse {
            group: Some(shown::group(&group)),
            queues: queues.collect(),
            client_ids: consumers.iter().map(|consumer| consumer.id.clone()).collect(),
            clients: consumers.into_iter().map(clients::shown).collect(),
            subscription_conflicts: self
                .health
                .clients
                .conflicts_of(&name)
                .into_iter()
                .map(conflict)
                .collect(),
        }))
    }

    type WatchChangesStream = Changes;

    async fn watch_changes(&self, request: Request<WatchChangesRequest>) -> Answer<Changes> {
        let WatchChangesRequest { life, version } = request.into_inner();
        let place = Arc::clone(&self.followers).try_acquire_owned().map_err(|_| {
            let most = MOST_FOLLOWERS;
            Status::resource_exhausted(format!("{most} follow what changes already: end a stream first"))
        })?;
        let since = (life != 0).then_some((life, version));
        Ok(Response::new(changes::follow(Arc::clone(&self.topics), since, place, self.stop.clone())))
    }

    async fn reset_offsets(&self, request: Request<ResetOffsetsRequest>) -> Answer<ResetOffsetsResponse> {
        self.reset(request.into_inner()).await.map(Response::new)
    }

    async fn find_messages(&self, request: Request<FindMessagesRequest>) -> Answer<FindMessagesResponse> {
        self.found(request.into_inner()).await.map(Response::new)
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Answer<GetMessageResponse> {
        self.message_at(request.into_inner()).await.map(Response::new)
    }

    async fn trace_message(&self, request: Request<TraceMessageRequest>) -> Answer<TraceMessageResponse> {
        self.trace(request.get_ref()).map(Response::new)
    }

    async fn print_thread_stack_trace(
        &self,
        request: Request<PrintThreadStackTraceRequest>,
    ) -> Answer<PrintThreadStackTraceResponse> {
        self.stack_of(request.into_inner()).await.map(Response::new)
    }

    async fn verify_message(&self, request: Request<VerifyMessageRequest>) -> Answer<VerifyMessageResponse> {
        self.verify(request.into_inner()).await.map(Response::new)
    }

    async fn reconnect_clients(
        &self,
        request: Request<ReconnectClientsRequest>,
    ) -> Answer<ReconnectClientsResponse> {
        self.reconnect(request.get_ref()).map(Response::new)
    }

    async fn get_state(&self, _: Request<GetStateRequest>) -> Answer<GetStateResponse> {
        let store = self.log.store().clone();
        let (state, damaged) =
            tokio::task::spawn_blocking(move || (store.state(), store.damaged(MOST_DAMAGED)))
                .await
                .expect("asking the store does not panic");
        let too_few = || self.log.may_append().err().map(|refusal| refusal.to_string());
        let refusing = state.refusing.or_else(too_few);
        let (topics, groups) = self.topics.counts();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Response::new(GetStateResponse {
            cluster_name: self.config.cluster_name.clone(),
            broker_name: self.config.broker_name.clone(),
            broker_id: self.config.broker_id,
            epoch: self.epoch,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at_ms: self.started_at_ms,
            accepts_writes: refusing.is_none(),
            reason: refusing.unwrap_or_default(),
            log_min_offset: state.min.0,
            log_end_offset: state.appended.0,
            log_flushed_offset: state.flushed.0,
            disk_total_bytes: state.disk_total_bytes,
            disk_free_bytes: state.disk_free_bytes,
            topics: count(topics),
            groups: count(groups),
            connections: self.health.connections(),
            parked_polls: u32::try_from(self.delivery.parked_polls().get()).unwrap_or(0),
            name_servers: self.health.name_servers(),
            damaged_places: state.damaged.places,
            damaged_bytes: state.damaged.bytes,
            damaged: damaged.into_iter().map(damaged_place).collect(),
            scrubbed_at_ms: state.scrubbed.ended_ms,
            certificate: self.certificate.state(),
        }))
    }

    async fn set_log_levels(&self, request: Request<SetLogLevelsRequest>) -> Answer<SetLogLevelsResponse> {
        set_log_levels(self.log_levels.as_ref(), request.into_inner()).map(Response::new)
    }
}

/// The process logs by these levels from now on.
pub(crate) fn set_log_levels(
    control: Option<&logging::Control>,
    SetLogLevelsRequest { levels }: SetLogLevelsRequest,
) -> Result<SetLogLevelsResponse, Status> {
    let Some(control) = control else {
        return Err(Status::failed_precondition("this process has not set up logging itself"));
    };
    control.set(levels.iter()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    tracing::info!(?levels, at_ms = now_ms(), "log levels changed");
    Ok(SetLogLevelsResponse {})
}

fn damaged_place(place: store::DamagedPlace) -> DamagedPlace {
    let store::DamagedPlace { start, bytes, reason, found_at_ms } = place;
    DamagedPlace { log_offset: start.0, bytes, reason, found_at_ms }
}

fn conflict(conflict: Conflict) -> SubscriptionConflict {
    let Conflict { topic, filters } = conflict;
    let filters = filters.into_iter().map(|(filter, client_ids)| SubscriptionFilter {
        filter: filter.chars().take(MOST_OF_A_FILTER).collect(),
        clients: u32::try_from(client_ids.len()).unwrap_or(u32::MAX),
        client_ids: client_ids.into_iter().take(MOST_CLIENTS).collect(),
    });
    SubscriptionConflict { topic: topic.to_string(), filters: filters.take(MOST_FILTERS).collect() }
}

fn topic_name(name: &str) -> Result<TopicName, Status> {
    // Also dead letter topics, which may be longer than a user may write.
    TopicName::parse(name)
        .or_else(|refusal| TopicName::internal(name).ok().filter(TopicName::is_of_a_group).ok_or(refusal))
        .map_err(illegal)
}

fn group_name(name: &str) -> Result<GroupName, Status> {
    GroupName::parse(name).map_err(illegal)
}

fn illegal(refusal: Refusal) -> Status {
    Status::invalid_argument(refusal.sentence)
}

fn not_too_many(what: &str, count: usize) -> Result<(), Status> {
    if count <= MOST_AT_ONCE {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "the request holds {count} {what}: send at most {MOST_AT_ONCE} at once"
    )))
}

/// What came of each thing that was asked for: what could not be `parsed` has no answer.
fn outcomes<T>(parsed: Vec<Result<T, Status>>, answers: Vec<Granted>) -> Vec<Outcome> {
    let mut answers = answers.into_iter();
    let outcome = |parsed: Result<T, Status>| match parsed.map(|_| answers.next()) {
        Ok(Some(Ok(Changed { changed, version: _ }))) => Outcome { changed, ..Outcome::default() },
        Ok(Some(Err(error))) => Outcome {
            changed: false,
            refused: error.to_string(),
            try_again: matches!(error, topics::Error::Kept(_)),
        },
        Ok(None) => unreachable!("each wish has an answer"),
        Err(status) => Outcome { changed: false, refused: status.message().to_owned(), try_again: false },
    };
    parsed.into_iter().map(outcome).collect()
}

fn not_changed(error: topics::Error) -> Status {
    match error {
        topics::Error::Invalid(_) => Status::invalid_argument(error.to_string()),
        topics::Error::Owned { .. } => Status::failed_precondition(error.to_string()),
        topics::Error::Differs { .. } => Status::already_exists(error.to_string()),
        topics::Error::TooMany(_) => Status::resource_exhausted(error.to_string()),
        topics::Error::Kept(_) => Status::unavailable(error.to_string()),
    }
}

/// Topics and groups as the control plane asks for them.
mod wire {
    use proto::control;
    use tonic::Status;

    use super::{group_name, topic_name};
    use crate::topics::{Backoff, GroupConfig, MessageType, TopicConfig};

    pub(super) fn topic(wire: control::TopicConfig) -> Result<TopicConfig, Status> {
        let control::TopicConfig { name, read_queues, write_queues, readable, writable, message_type, owner } =
            wire;
        let message_type = match control::MessageType::try_from(message_type) {
            Ok(control::MessageType::Normal | control::MessageType::Unspecified) => MessageType::Normal,
            Ok(control::MessageType::Fifo) => MessageType::Fifo,
            Ok(control::MessageType::Delay) => MessageType::Delay,
            Ok(control::MessageType::Transaction) => MessageType::Transaction,
            Ok(control::MessageType::Lite) => MessageType::Lite,
            Ok(control::MessageType::Priority) => MessageType::Priority,
            Ok(control::MessageType::Mixed) => MessageType::Mixed,
            Err(_) => {
                return Err(Status::invalid_argument(format!(
                    "the message type {message_type} of topic {name} is unknown: use one of control.proto"
                )));
            }
        };
        let name = topic_name(&name)?;
        Ok(TopicConfig { name, read_queues, write_queues, readable, writable, message_type, owner })
    }

    pub(super) fn group(
        wire: control::GroupConfig,
        default_max_attempts: u32,
    ) -> Result<GroupConfig, Status> {
        use control::backoff::Kind;
        let control::GroupConfig { name, consume_enabled, ordered, max_attempts, backoff, owner } = wire;
        let backoff = match backoff.and_then(|backoff| backoff.kind) {
            None => Backoff::default(),
            Some(Kind::Exponential(exponential)) => Backoff::Exponential {
                initial_ms: exponential.initial_ms,
                max_ms: exponential.max_ms,
                multiplier: exponential.multiplier,
            },
            Some(Kind::Custom(custom)) => Backoff::Custom { delays_ms: custom.delays_ms },
        };
        let max_attempts = if max_attempts == 0 { default_max_attempts } else { max_attempts };
        let name = group_name(&name)?;
        Ok(GroupConfig { name, consume_enabled, ordered, max_attempts, backoff, owner })
    }
}
