//! QueryRoute and QueryAssignment at a broker: asked of a name server. Also the way of calls that are for another broker.
//!
//! A name server knows all brokers, so its answer is the right one. When none can be reached the broker
//! answers with what it has itself: a client can then work with this broker at least.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use access::client::ClientIdentity;
use access::hop::{self, Door};
use access::{GroupName, ListenerName, Refusal, TopicName, route};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::{
    self, Code, QueryAssignmentRequest, QueryAssignmentResponse, QueryRouteRequest, QueryRouteResponse,
    Status,
};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response};

use crate::registration::{Registration, wire};
use crate::topics;

/// Name servers asked before the broker answers itself.
const HOPS: usize = 2;

/// Answers these calls.
#[derive(Debug, Clone)]
pub(crate) struct Routes {
    registration: Registration,
    topics: Arc<topics::Registry>,
    own: v2::Broker,
    /// By which listener calls come; `None`: by `internal`.
    via: Option<ListenerName>,
    turn: Arc<AtomicUsize>,
}

impl Routes {
    /// `own`: this broker as clients see it.
    #[must_use]
    pub(crate) fn new(registration: Registration, topics: Arc<topics::Registry>, own: v2::Broker) -> Self {
        Self { registration, topics, own, via: None, turn: Arc::default() }
    }

    /// The same for calls that come by this listener.
    pub(crate) fn seen_from(&self, listener: ListenerName) -> Self {
        Self { via: Some(listener), ..self.clone() }
    }

    /// The topic, and this broker as whoever calls sees it. Otherwise there is no such topic, or this broker has no address at
    /// the listener by which the call came.
    fn here(&self, topic: &TopicName) -> Result<(Arc<topics::Topic>, v2::Broker), Option<&ListenerName>> {
        let topic = self.topics.topic(topic.as_str()).ok_or(None)?;
        let Some(listener) = &self.via else { return Ok((topic, self.own.clone())) };
        let address = self.registration.address_at(listener);
        // Addresses that are none were refused by every name server, and are not told here either.
        let endpoints = address.and_then(|address| route::endpoints_for_clients(&address).ok());
        let endpoints = endpoints.ok_or(Some(listener))?;
        Ok((topic, v2::Broker { endpoints: Some(endpoints), ..self.own.clone() }))
    }

    /// Which queues a topic has, and where.
    pub(crate) async fn query_route(&self, request: Request<QueryRouteRequest>) -> QueryRouteResponse {
        let (metadata, _, request) = request.into_parts();
        let client = ClientIdentity::of(&metadata);
        let answer = async {
            let client = ClientIdentity::named(&metadata)?;
            let topic = TopicName::of(request.topic.as_ref(), &client)?;
            if let Some(answer) = self.ask_for_route(&client, &metadata, &request).await {
                return Ok(answer);
            }
            let asked = request.topic.unwrap_or_default();
            let (queues, hidden_at) = match self.here(&topic) {
                Ok((own, me)) => (route::queues(&asked, &me, &wire::topic(&own.config)), None),
                Err(hidden_at) => (Vec::new(), hidden_at),
            };
            Ok(route::route_answer(&client, &topic, queues, hidden_at))
        };
        answer.await.unwrap_or_else(|refusal: Refusal| QueryRouteResponse {
            status: Some(refusal.status(&client)),
            message_queues: Vec::new(),
        })
    }

    /// What a consumer polls.
    pub(crate) async fn query_assignment(
        &self,
        request: Request<QueryAssignmentRequest>,
    ) -> QueryAssignmentResponse {
        let (metadata, _, request) = request.into_parts();
        let client = ClientIdentity::of(&metadata);
        let answer = async {
            let client = ClientIdentity::named(&metadata)?;
            let topic = TopicName::of(request.topic.as_ref(), &client)?;
            let group = GroupName::of(request.group.as_ref(), &client)?;
            if let Some(answer) = self.ask_for_assignment(&client, &metadata, &request).await {
                return Ok(answer);
            }
            let asked = request.topic.unwrap_or_default();
            let ordered = self.topics.group_or_default(&group).ordered;
            let (exists, assignments, hidden_at) = match self.here(&topic) {
                Ok((own, me)) => {
                    (true, route::assignments(&asked, &me, &wire::topic(&own.config), ordered), None)
                }
                Err(hidden_at) => (false, Vec::new(), hidden_at),
            };
            Ok(route::assignment_answer(&client, &topic, exists, assignments, hidden_at))
        };
        answer.await.unwrap_or_else(|refusal: Refusal| QueryAssignmentResponse {
            status: Some(refusal.status(&client)),
            assignments: Vec::new(),
        })
    }

    async fn ask_for_route(
        &self,
        client: &ClientIdentity,
        metadata: &MetadataMap,
        request: &QueryRouteRequest,
    ) -> Option<QueryRouteResponse> {
        let call = async |mut server: MessagingServiceClient<Channel>, hop| server.query_route(hop).await;
        let answer = self.ask_a_name_server(client, metadata, request, call).await;
        answer.filter(|answer| is_final(answer.status.as_ref()))
    }

    async fn ask_for_assignment(
        &self,
        client: &ClientIdentity,
        metadata: &MetadataMap,
        request: &QueryAssignmentRequest,
    ) -> Option<QueryAssignmentResponse> {
        let call =
            async |mut server: MessagingServiceClient<Channel>, hop| server.query_assignment(hop).await;
        let answer = self.ask_a_name_server(client, metadata, request, call).await;
        answer.filter(|answer| is_final(answer.status.as_ref()))
    }

    /// What a name server makes of the call, which it may pass on to the broker that it is for. Nothing where none
    /// answers, or where the call came over another door. A call may reach that broker more than once.
    pub(super) async fn ask_a_name_server<Q: Clone, A>(
        &self,
        client: &ClientIdentity,
        metadata: &MetadataMap,
        request: &Q,
        call: impl AsyncFn(MessagingServiceClient<Channel>, Request<Q>) -> Result<Response<A>, tonic::Status>,
    ) -> Option<A> {
        for channel in self.whom_to_ask(metadata) {
            let hop = hop::request(Door::Broker, self.via.as_ref(), client, metadata, request.clone());
            match call(MessagingServiceClient::new(channel), hop).await {
                Ok(answer) => return Some(answer.into_inner()),
                Err(error) => tracing::debug!(%error, "a name server does not answer"),
            }
        }
        None
    }

    /// Name servers in their turn; nobody, if the call was forwarded already.
    fn whom_to_ask(&self, metadata: &MetadataMap) -> impl Iterator<Item = Channel> + use<> {
        let mut channels =
            if hop::came_over(metadata).is_some() { Vec::new() } else { self.registration.channels() };
        if !channels.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % channels.len();
            channels.rotate_left(first);
        }
        channels.into_iter().take(HOPS)
    }
}

/// A name server that has just started may not know yet what this broker has told it: then it is the broker's turn.
fn is_final(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.code() != Code::TopicNotFound)
}

#[cfg(test)]
mod tests;
