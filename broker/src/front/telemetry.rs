//! Telemetry, Heartbeat, NotifyClientTermination: the calls by which a broker knows its clients.

use std::sync::Arc;
use std::time::Instant;

use access::client::ClientIdentity;
use access::filter::Filters;
use access::settings::{self, Answered, Backoff, Facts, GroupFacts};
use access::telemetry::{self, Desk};
use access::{GroupName, Refusal, status};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use proto::v2::{
    HeartbeatRequest, HeartbeatResponse, NotifyClientTerminationRequest, NotifyClientTerminationResponse,
    Settings, Status, TelemetryCommand,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Streaming};

use super::connections::{Clients, Gone, Said};
use crate::topics;

/// The stream of answers and commands to a client.
pub(crate) type Stream = BoxStream<'static, Result<TelemetryCommand, tonic::Status>>;

/// Answers these calls.
#[derive(Debug, Clone)]
pub(crate) struct Telemetry {
    /// Who is there.
    pub(crate) clients: Clients,
    /// What groups are like.
    pub(crate) topics: Arc<topics::Registry>,
    /// Compiles what consumers filter by.
    pub(crate) filters: Filters,
    /// The largest body of a message.
    pub(crate) max_body_bytes: u32,
    /// Streams end at a stop, so that clients connect elsewhere.
    pub(crate) stop: CancellationToken,
}

impl Telemetry {
    /// Opens a client's stream.
    pub(crate) fn open(
        &self,
        request: Request<Streaming<TelemetryCommand>>,
    ) -> Result<Stream, tonic::Status> {
        let client = ClientIdentity::named(request.metadata()).map_err(|refusal| refusal.on_stream())?;
        let (commands, goodbye) = self.clients.attach(Instant::now(), &client);
        let desk = Arc::new(self.clone());
        let session = telemetry::session(client, request.into_inner(), commands, desk, self.stop.clone(), ());
        Ok(Box::pin(session.take_until(goodbye.cancelled_owned())))
    }

    /// A sign of life.
    #[must_use]
    pub(crate) fn heartbeat(&self, request: &Request<HeartbeatRequest>) -> HeartbeatResponse {
        let status = match ClientIdentity::of_heartbeat(request.metadata(), request.get_ref()) {
            Ok(Some(client)) => self.hear(&client, request.get_ref()),
            Ok(None) => status::ok(),
            Err(refusal) => refusal.status(&ClientIdentity::of(request.metadata())),
        };
        HeartbeatResponse { status: Some(status) }
    }

    fn hear(&self, client: &ClientIdentity, beat: &HeartbeatRequest) -> Status {
        let named = beat.group.as_ref().filter(|group| !group.name.is_empty());
        match named.map(|group| GroupName::of(Some(group), client)) {
            None => self.clients.heard(Instant::now(), client),
            Some(Ok(group)) => self.clients.heard_of_group(Instant::now(), client, group),
            Some(Err(refusal)) => return refusal.status(client),
        }
        status::ok()
    }

    /// A goodbye. What the client kept by being online is for the caller to release.
    #[must_use]
    pub(crate) fn terminate(
        &self,
        request: &Request<NotifyClientTerminationRequest>,
    ) -> (NotifyClientTerminationResponse, Option<Gone>) {
        let (status, gone) = match ClientIdentity::named(request.metadata()) {
            Ok(client) => (status::ok(), self.clients.leave(&client.id)),
            Err(refusal) => (refusal.status(&ClientIdentity::of(request.metadata())), None),
        };
        (NotifyClientTerminationResponse { status: Some(status) }, gone)
    }
}

impl Desk for Telemetry {
    fn settings(&self, client: &ClientIdentity, settings: Settings) -> Result<TelemetryCommand, Refusal> {
        let group = settings::group_of(client, &settings)?;
        let publishes = settings::topics_of(client, &settings);
        let facts = Facts {
            max_body_bytes: self.max_body_bytes,
            group: group.as_ref().map(|group| self.facts_of(group)).unwrap_or_default(),
        };
        let Answered { command, filters } = settings::answer(client, settings, &facts, &self.filters)?;
        let filters = filters.into_iter().map(|(topic, filter)| (topic, filter.text().into())).collect();
        self.clients.said(Instant::now(), client, Said { group, filters });
        self.clients.publishes_only(client, publishes);
        Ok(command)
    }

    fn reported(&self, client: &ClientIdentity, command: TelemetryCommand) {
        self.clients.questions.answered(&client.id, command);
    }
}

impl Telemetry {
    fn facts_of(&self, group: &GroupName) -> GroupFacts {
        let group = self.topics.group_or_default(group);
        let ms = std::time::Duration::from_millis;
        GroupFacts {
            ordered: group.ordered,
            max_attempts: group.max_attempts,
            backoff: match &group.backoff {
                topics::Backoff::Exponential { initial_ms, max_ms, multiplier } => Backoff::Exponential {
                    initial: ms(*initial_ms),
                    max: ms(*max_ms),
                    multiplier: *multiplier,
                },
                topics::Backoff::Custom { delays_ms } => {
                    Backoff::Custom(delays_ms.iter().copied().map(ms).collect())
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::v2::settings::PubSub;
    use proto::v2::telemetry_command::Command;
    use proto::v2::{
        Code, FilterExpression, FilterType, Publishing, Resource, Subscription, SubscriptionEntry,
    };

    use super::*;
    use crate::meta::Meta;
    use crate::topics::GroupConfig;

    fn telemetry() -> (Telemetry, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let topics = Arc::new(
            topics::Registry::open(Arc::new(Meta::open(folder.path(), Arc::default()).unwrap()), 17).unwrap(),
        );
        let telemetry = Telemetry {
            clients: Clients::new(9),
            topics,
            filters: Filters::new(9),
            max_body_bytes: 1000,
            stop: CancellationToken::new(),
        };
        (telemetry, folder)
    }

    fn resource(name: &str) -> Resource {
        Resource { resource_namespace: String::new(), name: name.to_owned() }
    }

    fn client() -> ClientIdentity {
        ClientIdentity { id: "client".to_owned(), ..ClientIdentity::default() }
    }

    fn from_client<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("x-mq-client-id", "client".parse().unwrap());
        request
    }

    fn consumer(group: &str) -> Settings {
        let subscription = Subscription { group: Some(resource(group)), ..Subscription::default() };
        Settings { pub_sub: Some(PubSub::Subscription(subscription)), ..Settings::default() }
    }

    #[test]
    fn settings_make_a_client_known_and_tell_it_how_its_group_is() {
        let (telemetry, _folder) = telemetry();
        let group = GroupName::parse("billing").unwrap();
        let config = GroupConfig { ordered: true, ..GroupConfig::new(group.clone(), 5) };
        telemetry.topics.upsert_group(config, false).unwrap();
        let answer = telemetry.settings(&client(), consumer("billing")).unwrap();
        let Some(Command::Settings(settings)) = answer.command else { panic!("no settings") };
        assert_eq!(settings.backoff_policy.map(|policy| policy.max_attempts), Some(5));
        let Some(PubSub::Subscription(subscription)) = settings.pub_sub else { panic!("no subscription") };
        assert_eq!(subscription.fifo, Some(true));
        assert_eq!(telemetry.clients.consumers_of(&group).len(), 1);

        let publishing = Publishing { topics: vec![resource("orders")], ..Publishing::default() };
        let settings = Settings { pub_sub: Some(PubSub::Publishing(publishing)), ..Settings::default() };
        let answer = telemetry.settings(&client(), settings).unwrap();
        let Some(Command::Settings(settings)) = answer.command else { panic!("no settings") };
        let Some(PubSub::Publishing(publishing)) = settings.pub_sub else { panic!("no publishing") };
        assert_eq!(publishing.max_body_size, 1000);
        assert!(telemetry.clients.consumers_of(&group).is_empty(), "the newest settings count");
    }

    #[test]
    fn refused_settings_make_nobody_known() {
        let (telemetry, _folder) = telemetry();
        let refusal = telemetry.settings(&client(), consumer("a b")).unwrap_err();
        assert_eq!(refusal.code, Code::IllegalConsumerGroup);
        assert!(telemetry.settings(&client(), Settings::default()).is_err());
        let mut filtering = consumer("billing");
        let Some(PubSub::Subscription(subscription)) = &mut filtering.pub_sub else { panic!("a consumer") };
        let expression =
            Some(FilterExpression { r#type: FilterType::Sql as i32, expression: "price >".to_owned() });
        subscription.subscriptions = vec![SubscriptionEntry { topic: Some(resource("orders")), expression }];
        let refusal = telemetry.settings(&client(), filtering).unwrap_err();
        assert_eq!(refusal.code, Code::IllegalFilterExpression);
        assert!(refusal.sentence.starts_with("column 8: "), "{}", refusal.sentence);
        assert!(!telemetry.clients.is_online("client"));
    }

    #[test]
    fn a_heartbeat_makes_known_whoever_was_not_heard_before() {
        let (telemetry, _folder) = telemetry();
        let beat = |group: Option<&str>| {
            let beat = HeartbeatRequest { group: group.map(resource), ..HeartbeatRequest::default() };
            telemetry.heartbeat(&from_client(beat)).status.unwrap().code()
        };
        assert_eq!(beat(Some("a b")), Code::IllegalConsumerGroup);
        assert_eq!(beat(None), Code::Ok);
        assert!(telemetry.clients.is_online("client"));
        assert_eq!(beat(Some("billing")), Code::Ok);
        let (answer, gone) =
            telemetry.terminate(&from_client(NotifyClientTerminationRequest { group: None }));
        assert_eq!(answer.status.unwrap().code(), Code::Ok);
        assert_eq!(gone.unwrap().group.unwrap().as_str(), "billing");
        let mut long = Request::new(HeartbeatRequest::default());
        long.metadata_mut().insert("x-mq-client-id", "x".repeat(256).parse().unwrap());
        assert_eq!(telemetry.heartbeat(&long).status.unwrap().code(), Code::ClientIdRequired);
        let nameless = telemetry.heartbeat(&Request::new(HeartbeatRequest::default()));
        assert_eq!(nameless.status.unwrap().code(), Code::Ok);
        let unknown = HeartbeatRequest { client_type: 99, ..HeartbeatRequest::default() };
        let unknown = telemetry.heartbeat(&from_client(unknown));
        assert_eq!(unknown.status.unwrap().code(), Code::UnrecognizedClientType);
        let (nameless, gone) = telemetry.terminate(&Request::new(NotifyClientTerminationRequest::default()));
        assert_eq!((nameless.status.unwrap().code(), gone), (Code::ClientIdRequired, None));
    }
}
