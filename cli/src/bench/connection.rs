//! Routes of the topics, and clients with a connection to each of their brokers.

use futures::{StreamExt as _, TryStreamExt as _};
use proto::v2;

use super::plan::{Kind, Plan};
use crate::client::session::{self, Link, REQUEST_TIMEOUT, broker_address, resource};
use crate::client::{self, Dialer, Error, Identity, Stub, by_tags};
use crate::failure::Failure;

/// Routes that are asked for at a time.
const ROUTES_UNDER_WAY: usize = 32;
/// A producer names so many of its topics: settings are for a few, whatever is sent to.
const MOST_NAMED_TOPICS: usize = 64;

/// Where the topics are.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// As in the plan.
    pub(crate) topics: Vec<TopicRoute>,
    /// The brokers, `HOST:PORT`.
    pub(crate) addresses: Vec<String>,
}

/// Where one topic is.
#[derive(Debug)]
pub(crate) struct TopicRoute {
    /// Its name.
    pub(crate) name: String,
    /// Its queues: their number in their broker, and the place of the broker among the addresses.
    pub(crate) queues: Vec<(i32, usize)>,
    /// A queue of each broker, for polls: those concern all of its queues.
    pub(crate) brokers: Vec<(usize, v2::MessageQueue)>,
}

impl Routes {
    /// Asks the access point for all of them.
    pub(crate) async fn find(dialer: &Dialer, access_point: &str, plan: &Plan) -> Result<Self, Failure> {
        let kind = plan.sending.as_ref().map(|sending| sending.kind);
        let missing = |error: Error, topic: &str| match (&error, kind) {
            (Error::Refused { code: v2::Code::TopicNotFound, .. }, Some(kind)) => {
                Failure::not_found(format!("topic {topic} does not exist"))
                    .next(format!("gantry topic create {topic} --type {}", kind.topic_type()))
            }
            _ => client::failure(&error, topic),
        };
        let first = plan.topics.first().map_or("", String::as_str);
        let access = dialer.dial(access_point, &Identity::generate()).await;
        let access = access.map_err(|error| missing(error, first))?;
        let (usable, wanted): (fn(v2::Permission) -> bool, _) = match kind {
            Some(_) => (|is| matches!(is, v2::Permission::Write | v2::Permission::ReadWrite), "written to"),
            None => (|is| matches!(is, v2::Permission::Read | v2::Permission::ReadWrite), "read from"),
        };
        let found = futures::stream::iter(&plan.topics).map(|topic| {
            let route = session::route(access.clone(), access_point, topic, usable, wanted);
            async move { route.await.map(|queues| (topic, queues)).map_err(|error| missing(error, topic)) }
        });
        let mut found = found.buffered(ROUTES_UNDER_WAY);
        let mut routes = Self::default();
        while let Some((topic, queues)) = found.try_next().await? {
            if let Some(kind) = kind {
                check_type(topic, kind, &queues)?;
            }
            routes.add(topic, queues);
        }
        Ok(routes)
    }

    /// How many brokers there are to poll, counted for each topic.
    pub(crate) fn places(&self) -> usize {
        self.topics.iter().map(|topic| topic.brokers.len()).sum()
    }

    /// Where poll `number` goes, in turn: topic, place of the broker, queue.
    pub(crate) fn place(&self, number: usize) -> (&TopicRoute, usize, &v2::MessageQueue) {
        let mut number = number % self.places().max(1);
        for topic in &self.topics {
            if let Some((place, queue)) = topic.brokers.get(number) {
                return (topic, *place, queue);
            }
            number -= topic.brokers.len();
        }
        unreachable!("every topic has a queue, and so a broker")
    }

    fn add(&mut self, name: &str, route: Vec<v2::MessageQueue>) {
        let (mut queues, mut brokers) = (Vec::new(), Vec::new());
        for queue in route {
            let address = broker_address(&queue);
            let known = self.addresses.iter().position(|known| *known == address);
            let place = known.unwrap_or_else(|| {
                self.addresses.push(address);
                self.addresses.len() - 1
            });
            queues.push((queue.id, place));
            if brokers.iter().all(|(known, _)| *known != place) {
                brokers.push((place, queue));
            }
        }
        self.topics.push(TopicRoute { name: name.to_owned(), queues, brokers });
    }
}

/// A topic says which types it takes; older servers say nothing.
fn check_type(topic: &str, kind: Kind, queues: &[v2::MessageQueue]) -> Result<(), Failure> {
    let taken = |queue: &v2::MessageQueue| {
        let types = &queue.accept_message_types;
        types.is_empty() || types.contains(&kind.message_type().into())
    };
    if queues.iter().all(taken) {
        return Ok(());
    }
    let types = queues.first().into_iter().flat_map(v2::MessageQueue::accept_message_types);
    let types: Vec<_> = types.map(|is| is.as_str_name().to_lowercase()).collect();
    let wanted = kind.topic_type();
    Err(Failure::failed(format!(
        "topic {topic} takes {} messages, and {wanted} ones are sent",
        types.join(", ")
    ))
    .next(format!("gantry topic create ANOTHER --type {wanted}")))
}

/// A client: what it told every broker of itself, and a connection to each.
pub(crate) struct Connection {
    links: Vec<Link>,
    group: Option<String>,
}

impl Connection {
    /// A producer.
    pub(crate) async fn producer(
        dialer: &Dialer,
        access_point: &str,
        routes: &Routes,
    ) -> Result<Self, Error> {
        let mut settings = session::settings(v2::ClientType::Producer, access_point);
        let topics = routes.topics.iter().take(MOST_NAMED_TOPICS);
        settings.pub_sub = Some(v2::settings::PubSub::Publishing(v2::Publishing {
            topics: topics.map(|topic| resource(&topic.name)).collect(),
            max_body_size: 0,
            validate_message_type: true,
        }));
        Self::open(dialer, routes, settings, None).await
    }

    /// A simple consumer of all topics.
    pub(crate) async fn consumer(
        dialer: &Dialer,
        access_point: &str,
        routes: &Routes,
        group: &str,
    ) -> Result<Self, Error> {
        let mut settings = session::settings(v2::ClientType::SimpleConsumer, access_point);
        let subscription = |topic: &TopicRoute| v2::SubscriptionEntry {
            topic: Some(resource(&topic.name)),
            expression: Some(by_tags("*")),
        };
        settings.pub_sub = Some(v2::settings::PubSub::Subscription(v2::Subscription {
            group: Some(resource(group)),
            subscriptions: routes.topics.iter().map(subscription).collect(),
            ..Default::default()
        }));
        Self::open(dialer, routes, settings, Some(group.to_owned())).await
    }

    async fn open(
        dialer: &Dialer,
        routes: &Routes,
        settings: v2::Settings,
        group: Option<String>,
    ) -> Result<Self, Error> {
        let identity = Identity::generate();
        let mut links = Vec::new();
        for address in &routes.addresses {
            links.push(Link::open(dialer, &identity, address, settings.clone()).await?);
        }
        Ok(Self { links, group })
    }

    /// For calls to a broker, by its place among the addresses.
    pub(crate) fn stub(&self, place: usize) -> Stub {
        self.links[place].stub.clone()
    }

    /// Whether every broker says that the group is delivered in order.
    pub(crate) fn is_ordered(&self) -> bool {
        let ordered = |link: &Link| match link.settings.as_ref().and_then(|told| told.pub_sub.as_ref()) {
            Some(v2::settings::PubSub::Subscription(subscription)) => subscription.fifo(),
            Some(v2::settings::PubSub::Publishing(_)) | None => false,
        };
        self.links.iter().all(ordered)
    }

    /// Tells every broker that the client lives. Trouble shows at the next call that matters.
    pub(crate) async fn heartbeat(&self) {
        let client_type = match self.group {
            Some(_) => v2::ClientType::SimpleConsumer,
            None => v2::ClientType::Producer,
        };
        let group = self.group.as_deref().map(resource);
        let request = v2::HeartbeatRequest { group, client_type: client_type.into() };
        for link in &self.links {
            let mut request = tonic::Request::new(request.clone());
            request.set_timeout(REQUEST_TIMEOUT);
            let _unheard = link.stub.clone().heartbeat(request).await;
        }
    }

    /// Tells every broker that the client goes; one that does not hear it expires the client.
    pub(crate) async fn close(&self) {
        for link in &self.links {
            let group = self.group.as_deref().map(resource);
            let mut request = tonic::Request::new(v2::NotifyClientTerminationRequest { group });
            request.set_timeout(REQUEST_TIMEOUT);
            let _unheard = link.stub.clone().notify_client_termination(request).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(host: &str, id: i32, types: &[v2::MessageType]) -> v2::MessageQueue {
        let address = v2::Address { host: host.to_owned(), port: 1 };
        let endpoints = v2::Endpoints { addresses: vec![address], ..Default::default() };
        v2::MessageQueue {
            id,
            broker: Some(v2::Broker { endpoints: Some(endpoints), ..Default::default() }),
            accept_message_types: types.iter().map(|is| (*is).into()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_broker_has_one_place_whatever_its_topics() {
        let mut routes = Routes::default();
        routes.add("one", vec![queue("a", 0, &[]), queue("b", 0, &[]), queue("a", 1, &[])]);
        routes.add("two", vec![queue("b", 0, &[])]);
        assert_eq!(routes.addresses, ["a:1", "b:1"]);
        assert_eq!(routes.topics[0].queues, [(0, 0), (0, 1), (1, 0)]);
        assert_eq!(routes.topics[0].brokers.len(), 2);
        assert_eq!(routes.topics[1].brokers[0].0, 1);
        let polled = [0, 1, 2, 3].map(|number| routes.place(number)).map(|at| (at.0.name.as_str(), at.1));
        assert_eq!(polled, [("one", 0), ("one", 1), ("two", 1), ("one", 0)]);
    }

    #[test]
    fn a_topic_of_another_type_is_told_before_anything_is_sent() {
        let fifo = [queue("a", 0, &[v2::MessageType::Fifo])];
        assert!(check_type("t", Kind::Fifo, &fifo).is_ok());
        let failure = check_type("t", Kind::Normal, &fifo).unwrap_err().to_string();
        assert!(failure.contains("topic t takes fifo messages, and normal ones are sent"), "{failure}");
        assert!(check_type("t", Kind::Normal, &[queue("a", 0, &[])]).is_ok());
    }
}
