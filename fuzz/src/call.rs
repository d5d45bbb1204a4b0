//! A call drawn from bytes: whom it says it is from, and what it asks.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use prost::Message as _;
use proto::v2::*;

use crate::draw::Draw;
use crate::known::{Given, Kind, Known};

/// A call of `apache.rocketmq.v2.MessagingService`. Its text is what a report of a find needs.
#[derive(Clone)]
pub struct Call {
    /// Which one.
    pub rpc: Rpc,
    /// Names, and values that may be any bytes of a header.
    pub headers: Vec<(&'static str, Vec<u8>)>,
    /// One request, encoded; of Telemetry any number.
    pub messages: Vec<Vec<u8>>,
}

macro_rules! rpcs {
    ($($rpc:ident($request:ident)),* $(,)?) => {
        /// The calls of the service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "as the protocol names them")]
        pub enum Rpc {
            $($rpc,)*
        }

        impl Rpc {
            /// All of them.
            pub const ALL: [Self; 17] = [$(Self::$rpc),*];

            /// Where it is called.
            #[must_use]
            pub fn path(self) -> &'static str {
                match self {
                    $(Self::$rpc => concat!("/apache.rocketmq.v2.MessagingService/", stringify!($rpc)),)*
                }
            }

            /// What these bytes ask for.
            fn said(self, bytes: &[u8]) -> String {
                match self {
                    $(Self::$rpc => format!("{:?}", $request::decode(bytes)),)*
                }
            }

            /// Whether these bytes are a request of this call.
            #[must_use]
            pub fn decodes(self, bytes: &[u8]) -> bool {
                match self {
                    $(Self::$rpc => $request::decode(bytes).is_ok(),)*
                }
            }
        }
    };
}

rpcs! {
    SendMessage(SendMessageRequest),
    ReceiveMessage(ReceiveMessageRequest),
    AckMessage(AckMessageRequest),
    ChangeInvisibleDuration(ChangeInvisibleDurationRequest),
    ForwardMessageToDeadLetterQueue(ForwardMessageToDeadLetterQueueRequest),
    EndTransaction(EndTransactionRequest),
    RecallMessage(RecallMessageRequest),
    SyncLiteSubscription(SyncLiteSubscriptionRequest),
    Telemetry(TelemetryCommand),
    PullMessage(PullMessageRequest),
    UpdateOffset(UpdateOffsetRequest),
    GetOffset(GetOffsetRequest),
    QueryOffset(QueryOffsetRequest),
    QueryRoute(QueryRouteRequest),
    QueryAssignment(QueryAssignmentRequest),
    Heartbeat(HeartbeatRequest),
    NotifyClientTermination(NotifyClientTerminationRequest),
}

/// Calls that change nothing are drawn less often than those that do.
const BY_WEIGHT: [Rpc; 26] = [
    Rpc::SendMessage,
    Rpc::SendMessage,
    Rpc::SendMessage,
    Rpc::SendMessage,
    Rpc::SendMessage,
    Rpc::ReceiveMessage,
    Rpc::ReceiveMessage,
    Rpc::ReceiveMessage,
    Rpc::AckMessage,
    Rpc::AckMessage,
    Rpc::ChangeInvisibleDuration,
    Rpc::ChangeInvisibleDuration,
    Rpc::ForwardMessageToDeadLetterQueue,
    Rpc::EndTransaction,
    Rpc::EndTransaction,
    Rpc::RecallMessage,
    Rpc::SyncLiteSubscription,
    Rpc::Telemetry,
    Rpc::PullMessage,
    Rpc::UpdateOffset,
    Rpc::GetOffset,
    Rpc::QueryOffset,
    Rpc::QueryRoute,
    Rpc::QueryAssignment,
    Rpc::Heartbeat,
    Rpc::NotifyClientTermination,
];

/// A poll waits no longer than the answer to its caller takes: long enough for a busy machine, short for a test.
const POLL_TIMEOUT: &[u8] = b"150m";
/// The largest body that brokers take unless configured otherwise.
const LARGEST_BODY: usize = 4 << 20;

impl Call {
    /// The call that these bytes make, of what is known.
    #[must_use]
    pub fn draw(draw: &mut Draw<'_>, known: &Known) -> Self {
        let mut world = World { draw, known };
        let rpc = *world.draw.pick(&BY_WEIGHT);
        let headers = world.headers(rpc);
        let count = if rpc == Rpc::Telemetry { world.draw.below(4) } else { 1 };
        let messages = (0..count).map(|_| world.message(rpc)).collect();
        Self { rpc, headers, messages }
    }

    /// A header's value, as far as it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.iter().find(|(found, _)| *found == name);
        value.and_then(|(_, value)| std::str::from_utf8(value).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 4000;
        writeln!(f, "{:?}", self.rpc)?;
        for (name, value) in &self.headers {
            writeln!(f, "  {name}: {:?}", String::from_utf8_lossy(value))?;
        }
        for message in &self.messages {
            // Numbers of a body are the most of it, and say least.
            let said: String =
                self.rpc.said(&message[..message.len().min(MOST)]).chars().take(MOST).collect();
            let hex: String = message.iter().take(MOST).map(|byte| format!("{byte:02x}")).collect();
            writeln!(f, "  {} bytes: {said}\n  {hex}", message.len())?;
        }
        Ok(())
    }
}

/// What is drawn from.
struct World<'a, 'b> {
    draw: &'a mut Draw<'b>,
    known: &'a Known,
}

impl World<'_, '_> {
    fn headers(&mut self, rpc: Rpc) -> Vec<(&'static str, Vec<u8>)> {
        let mut headers: Vec<(&'static str, Vec<u8>)> = Vec::new();
        let ids: [&[u8]; 4] = [b"fuzzed@1@0@a", b"fuzzed@2@0@b", b"producer#1", b"consumer#1"];
        let id = match self.draw.below(40) {
            1 => None,
            2 => Some(self.header_bytes()),
            3 => Some(vec![b'x'; *self.draw.pick(&[255, 256, 2000])]),
            _ => Some(self.draw.pick(&ids).to_vec()),
        };
        headers.extend(id.map(|id| ("x-mq-client-id", id)));
        let clients: [(&str, &str); 8] = [
            ("JAVA", "5.2.0"),
            ("GO", "5.1.4"),
            ("PYTHON", "5.1.2"),
            ("HTTP", "1.0.8"),
            ("RUST", "5.0.0"),
            ("DOTNET", "5.2.1"),
            ("CPP", "5.1.1"),
            ("", "99999999999999999999.-1.é"),
        ];
        let (language, version) = *self.draw.pick(&clients);
        headers.push(("x-mq-language", language.into()));
        headers.push(("x-mq-client-version", version.into()));
        if self.draw.rarely(8) {
            let odd = [
                "x-mq-namespace",
                "x-mq-date-time",
                "authorization",
                "x-mq-session-token",
                "x-mq-request-id",
            ];
            let name = *self.draw.pick(&odd);
            let value = if self.draw.rarely(2) { b"ns".to_vec() } else { self.header_bytes() };
            headers.push((name, value));
        }
        if self.draw.rarely(24) {
            headers.push(("x-gantry-forwarded", self.header_bytes()));
        }
        let timeouts: [&[u8]; 10] =
            [b"", b"S", b"-1S", b"1n", b"0S", b"49m", b"99999999H", b"123456789S", b"9\xffS", b"525600H"];
        let polls = matches!(rpc, Rpc::ReceiveMessage | Rpc::PullMessage);
        if polls {
            let timeout = if self.draw.rarely(16) { *self.draw.pick(&timeouts[3..6]) } else { POLL_TIMEOUT };
            headers.push(("grpc-timeout", timeout.to_vec()));
        } else if self.draw.rarely(16) {
            headers.push(("grpc-timeout", self.draw.pick(&timeouts).to_vec()));
        }
        headers
    }

    /// Anything that HTTP lets through.
    fn header_bytes(&mut self) -> Vec<u8> {
        let mut bytes = self.draw.bytes(32);
        bytes.iter_mut().filter(|byte| **byte < 0x20 || **byte == 0x7F).for_each(|byte| *byte = b' ');
        bytes
    }

    fn message(&mut self, rpc: Rpc) -> Vec<u8> {
        if self.draw.rarely(16) {
            return self.draw.bytes(64);
        }
        let mut bytes = match rpc {
            Rpc::SendMessage => self.send().encode_to_vec(),
            Rpc::ReceiveMessage => self.receive().encode_to_vec(),
            Rpc::AckMessage => self.ack().encode_to_vec(),
            Rpc::ChangeInvisibleDuration => self.change_invisible().encode_to_vec(),
            Rpc::ForwardMessageToDeadLetterQueue => self.forward().encode_to_vec(),
            Rpc::EndTransaction => self.end_transaction().encode_to_vec(),
            Rpc::RecallMessage => {
                let given = self.given(Kind::Recall);
                RecallMessageRequest { topic: self.topic_of(&given), recall_handle: given.token }
                    .encode_to_vec()
            }
            Rpc::SyncLiteSubscription => self.sync_lite().encode_to_vec(),
            Rpc::Telemetry => self.telemetry().encode_to_vec(),
            Rpc::PullMessage => {
                let request = PullMessageRequest {
                    group: self.group(),
                    message_queue: self.queue(),
                    offset: self.draw.number(),
                    batch_size: self.draw.small(),
                    filter_expression: self.filter(),
                    long_polling_timeout: self.duration(),
                };
                request.encode_to_vec()
            }
            Rpc::UpdateOffset => {
                let (group, message_queue) = (self.group(), self.queue());
                UpdateOffsetRequest { group, message_queue, offset: self.draw.number() }.encode_to_vec()
            }
            Rpc::GetOffset => {
                GetOffsetRequest { group: self.group(), message_queue: self.queue() }.encode_to_vec()
            }
            Rpc::QueryOffset => {
                let request = QueryOffsetRequest {
                    message_queue: self.queue(),
                    query_offset_policy: self.draw.variant(3),
                    timestamp: self.timestamp(),
                };
                request.encode_to_vec()
            }
            Rpc::QueryRoute => {
                QueryRouteRequest { topic: self.topic(), endpoints: self.endpoints() }.encode_to_vec()
            }
            Rpc::QueryAssignment => {
                let (topic, group) = (self.topic(), self.group());
                QueryAssignmentRequest { topic, group, endpoints: self.endpoints() }.encode_to_vec()
            }
            Rpc::Heartbeat => {
                HeartbeatRequest { group: self.group(), client_type: self.draw.variant(7) }.encode_to_vec()
            }
            Rpc::NotifyClientTermination => {
                NotifyClientTerminationRequest { group: self.group() }.encode_to_vec()
            }
        };
        if self.draw.rarely(12) {
            self.draw.damage(&mut bytes);
        }
        bytes
    }

    fn send(&mut self) -> SendMessageRequest {
        let count = if self.draw.rarely(4) { self.draw.below(5) } else { 1 };
        // Messages of one request are for one topic, or else none is stored.
        let topic = self.topic();
        let messages = (0..count).map(|_| {
            let topic = if self.draw.rarely(12) { self.topic() } else { topic.clone() };
            self.sent(topic)
        });
        SendMessageRequest { messages: messages.collect() }
    }

    fn sent(&mut self, topic: Option<Resource>) -> Message {
        let mut properties = BTreeMap::new();
        if self.draw.rarely(3) {
            for _ in 0..self.draw.below(4) {
                properties.insert(self.short_or_odd(), self.draw.text());
            }
        }
        if self.draw.rarely(16) {
            // Read by the broker, though a client may write it.
            properties.insert("CHECK_IMMUNITY_TIME_IN_SECONDS".to_owned(), self.draw.number().to_string());
        }
        if self.draw.rarely(24) {
            let count = *self.draw.pick(&[127, 128, 129]);
            properties.extend((0..count).map(|n| (format!("p{n}"), "v".to_owned())));
        }
        let body = match self.draw.below(64) {
            1 => Vec::new(),
            2 => vec![7; *self.draw.pick(&[LARGEST_BODY, LARGEST_BODY + 1])],
            3 => vec![0x1F, 0x8B, 8, 0],
            _ => [b"a body of ".to_vec(), self.draw.bytes(40)].concat(),
        };
        let name = topic.as_ref().map_or("", |topic| &topic.name);
        let system_properties = if self.draw.rarely(32) { None } else { Some(self.system(name)) };
        Message { topic, user_properties: properties, system_properties, body: body.into() }
    }

    fn system(&mut self, topic: &str) -> SystemProperties {
        let mut system = SystemProperties {
            message_id: if self.draw.rarely(16) {
                self.draw.text()
            } else {
                format!("id-{}", self.draw.number())
            },
            body_encoding: if self.draw.rarely(8) { self.draw.small() } else { 1 },
            ..SystemProperties::default()
        };
        self.type_for(topic, &mut system);
        if self.draw.rarely(8) {
            let odd = *self.draw.pick(&["fifo", "lite", "priority", "delay", "transaction"]);
            self.type_for(odd, &mut system);
        }
        if !self.draw.rarely(3) {
            return system;
        }
        match self.draw.below(12) {
            0 => system.tag = Some(self.short_or_odd()),
            1 => system.keys = (0..self.draw.below(4)).map(|_| self.short_or_odd()).collect(),
            2 => system.born_timestamp = self.timestamp(),
            3 => system.born_host = self.draw.text(),
            4 => system.trace_context = Some(self.draw.text()),
            5 => system.orphaned_transaction_recovery_duration = self.duration(),
            6 => {
                let checksum = self.draw.text();
                system.body_digest = Some(Digest { r#type: self.draw.variant(4), checksum });
            }
            7 => {
                system.queue_id = self.draw.small();
                system.queue_offset = Some(self.draw.number());
                system.delivery_attempt = Some(self.draw.small());
            }
            8 => system.receipt_handle = Some(self.token(Kind::Receipt)),
            9 => {
                let (topic, message_id) = (self.draw.text(), self.token(Kind::Id));
                system.dead_letter_queue = Some(DeadLetterQueue { topic, message_id });
            }
            10 => system.store_timestamp = self.timestamp(),
            _ => system.invisible_duration = self.duration(),
        }
        system
    }

    /// What makes a message one for topics of the type that they are named for.
    fn type_for(&mut self, topic: &str, system: &mut SystemProperties) {
        match topic {
            "fifo" => system.message_group = Some(self.short_or_odd()),
            "lite" => system.lite_topic = Some(self.lite()),
            "priority" => system.priority = Some(self.draw.small()),
            "delay" => system.delivery_timestamp = self.timestamp(),
            "transaction" => system.message_type = MessageType::Transaction as i32,
            _ => {}
        }
    }

    fn receive(&mut self) -> ReceiveMessageRequest {
        let plain = !self.draw.rarely(4);
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        ReceiveMessageRequest {
            group: self.group(),
            message_queue: self.queue(),
            filter_expression: if plain { None } else { self.filter() },
            batch_size: self.draw.small(),
            invisible_duration: if plain { seconds(30) } else { self.duration() },
            auto_renew: self.draw.rarely(4),
            long_polling_timeout: if plain { seconds(0) } else { self.duration() },
            attempt_id: self.draw.rarely(4).then(|| self.short_or_odd()),
        }
    }

    fn ack(&mut self) -> AckMessageRequest {
        let count = if self.draw.rarely(4) { self.draw.below(5) } else { 1 };
        let first = self.given(Kind::Receipt);
        let (group, topic) = (self.group_of(&first), self.topic_of(&first));
        let mut entries = Vec::new();
        let mut given = first;
        for _ in 0..count {
            let (message_id, receipt_handle) = (self.draw.text(), given.token.clone());
            entries.push(AckMessageEntry { message_id, receipt_handle, lite_topic: self.lite_of(given) });
            given = self.given(Kind::Receipt);
        }
        AckMessageRequest { group, topic, entries }
    }

    fn change_invisible(&mut self) -> ChangeInvisibleDurationRequest {
        let given = self.given(Kind::Receipt);
        ChangeInvisibleDurationRequest {
            group: self.group_of(&given),
            topic: self.topic_of(&given),
            receipt_handle: given.token.clone(),
            invisible_duration: self.duration(),
            message_id: self.draw.text(),
            lite_topic: self.lite_of(given),
            suspend: self.draw.rarely(3).then_some(true),
        }
    }

    fn forward(&mut self) -> ForwardMessageToDeadLetterQueueRequest {
        let given = self.given(Kind::Receipt);
        ForwardMessageToDeadLetterQueueRequest {
            group: self.group_of(&given),
            topic: self.topic_of(&given),
            receipt_handle: if self.draw.rarely(4) { String::new() } else { given.token.clone() },
            message_id: self.token(Kind::Id),
            delivery_attempt: self.draw.small(),
            max_delivery_attempts: self.draw.small(),
            lite_topic: self.lite_of(given),
        }
    }

    fn end_transaction(&mut self) -> EndTransactionRequest {
        let given = self.given(Kind::Transaction);
        EndTransactionRequest {
            topic: self.topic_of(&given),
            message_id: self.token(Kind::Id),
            transaction_id: given.token,
            resolution: self.draw.variant(3),
            source: self.draw.variant(3),
            trace_context: self.draw.text(),
        }
    }

    fn sync_lite(&mut self) -> SyncLiteSubscriptionRequest {
        let names = if self.draw.rarely(12) { 1201 } else { self.draw.below(4) };
        let mut lite_topic_set: Vec<String> = (0..names.min(4)).map(|_| self.lite()).collect();
        lite_topic_set.extend((4..names).map(|n| format!("l{n}")));
        let offset_option = self.draw.rarely(3).then(|| self.offset_option());
        SyncLiteSubscriptionRequest {
            action: self.draw.variant(4),
            topic: self.topic(),
            group: self.group(),
            lite_topic_set,
            version: self.draw.rarely(4).then(|| self.draw.number()),
            offset_option,
        }
    }

    fn offset_option(&mut self) -> OffsetOption {
        use offset_option::OffsetType;
        let offset_type = match self.draw.below(5) {
            0 => None,
            1 => Some(OffsetType::Policy(self.draw.variant(3))),
            2 => Some(OffsetType::Offset(self.draw.number())),
            3 => Some(OffsetType::TailN(self.draw.number())),
            _ => Some(OffsetType::Timestamp(self.draw.number())),
        };
        OffsetOption { offset_type }
    }

    fn telemetry(&mut self) -> TelemetryCommand {
        use telemetry_command::Command;
        let nonce = || "nonce".to_owned();
        let command = match self.draw.below(12) {
            1 => None,
            2 => Some(Command::ThreadStackTrace(ThreadStackTrace {
                nonce: nonce(),
                thread_stack_trace: Some(self.draw.text()),
            })),
            3 => Some(Command::VerifyMessageResult(VerifyMessageResult { nonce: nonce() })),
            4 => Some(Command::RecoverOrphanedTransactionCommand(RecoverOrphanedTransactionCommand {
                message: None,
                transaction_id: self.token(Kind::Transaction),
            })),
            5 => Some(Command::NotifyUnsubscribeLiteCommand(NotifyUnsubscribeLiteCommand {
                lite_topic: self.lite(),
            })),
            _ => Some(Command::Settings(self.settings())),
        };
        let status =
            self.draw.rarely(4).then(|| Status { code: self.draw.small(), message: self.draw.text() });
        TelemetryCommand { status, command }
    }

    fn settings(&mut self) -> Settings {
        use settings::PubSub;
        let pub_sub = match self.draw.below(5) {
            1 => None,
            2 | 3 => Some(PubSub::Publishing(Publishing {
                topics: (0..self.draw.below(4)).filter_map(|_| self.topic()).collect(),
                max_body_size: self.draw.small(),
                validate_message_type: false,
            })),
            _ => Some(PubSub::Subscription(Subscription {
                group: self.group(),
                subscriptions: (0..self.draw.below(4))
                    .map(|_| SubscriptionEntry { topic: self.topic(), expression: self.filter() })
                    .collect(),
                fifo: Some(self.draw.rarely(2)),
                receive_batch_size: Some(self.draw.small()),
                long_polling_timeout: self.duration(),
                lite_subscription_quota: Some(self.draw.small()),
                max_lite_topic_size: Some(self.draw.small()),
            })),
        };
        let mut client_properties = HashMap::new();
        if self.draw.rarely(6) {
            let count = *self.draw.pick(&[1, 32, 33]);
            client_properties.extend((0..count).map(|n| (format!("k{n}"), self.draw.text())));
        }
        let floats = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -1.0, f32::MIN_POSITIVE, f32::MAX];
        Settings {
            client_type: Some(self.draw.variant(7)),
            access_point: self.endpoints(),
            backoff_policy: self.draw.rarely(3).then(|| RetryPolicy {
                max_attempts: self.draw.small(),
                strategy: Some(retry_policy::Strategy::ExponentialBackoff(ExponentialBackoff {
                    initial: self.duration(),
                    max: self.duration(),
                    multiplier: *self.draw.pick(&floats),
                })),
            }),
            request_timeout: self.duration(),
            pub_sub,
            user_agent: None,
            metric: None,
            client_properties,
        }
    }

    fn endpoints(&mut self) -> Option<Endpoints> {
        if !self.draw.rarely(3) {
            return None;
        }
        let addresses =
            (0..self.draw.below(3)).map(|_| Address { host: self.draw.text(), port: self.draw.small() });
        Some(Endpoints { addresses: addresses.collect(), scheme: self.draw.variant(4) })
    }

    fn filter(&mut self) -> Option<FilterExpression> {
        let expressions = [
            "*",
            "",
            "a || b",
            "a ||",
            "||",
            "TAGS = 'a'",
            "index BETWEEN 0 AND 1e400",
            "a = -9223372036854775808",
            "a LIKE '%_\\' ESCAPE '\\'",
            "a IN ('x', 'y') AND NOT (b IS NULL OR c > -1.5)",
            "a STARTSWITH ''",
            "((((((((((((((((((((a",
            "a = 'é",
            "NOT NOT NOT a",
        ];
        let expression = match self.draw.below(4) {
            0 | 1 => self.draw.pick(&expressions).to_string(),
            2 => self.draw.text(),
            _ => {
                let words = [
                    "a", "AND", "OR", "NOT", "(", ")", "=", "'x'", "1", "IS", "NULL", "IN", ",", "LIKE", "-",
                ];
                (0..self.draw.below(12)).map(|_| format!("{} ", self.draw.pick(&words))).collect()
            }
        };
        (!self.draw.rarely(8)).then(|| FilterExpression { r#type: self.draw.variant(3), expression })
    }

    fn queue(&mut self) -> Option<MessageQueue> {
        if self.draw.rarely(16) {
            return None;
        }
        let topic = self.topic();
        let id = if self.draw.rarely(3) { self.draw.small() } else { 0 };
        let broker = self.draw.rarely(6).then(|| Broker {
            name: self.draw.text(),
            id: self.draw.small(),
            endpoints: None,
        });
        let accept_message_types = self.draw.rarely(8).then(|| self.draw.small()).into_iter().collect();
        Some(MessageQueue { topic, id, permission: self.draw.variant(5), broker, accept_message_types })
    }

    fn topic(&mut self) -> Option<Resource> {
        let known = self.known;
        self.resource(&known.topics)
    }

    fn group(&mut self) -> Option<Resource> {
        let known = self.known;
        self.resource(&known.groups)
    }

    fn resource(&mut self, known: &[String]) -> Option<Resource> {
        let (resource_namespace, name) = match self.draw.below(48) {
            1 => return None,
            2 => (self.draw.text(), self.draw.text()),
            3 => (String::new(), self.draw.text()),
            4 => ("ns".to_owned(), self.draw.pick(known).clone()),
            5 => {
                let name = self.draw.pick(known).clone();
                (String::new(), self.draw.rot(&name))
            }
            _ => (String::new(), self.draw.pick(known).clone()),
        };
        Some(Resource { resource_namespace, name })
    }

    fn lite(&mut self) -> String {
        if self.draw.rarely(8) {
            return self.draw.text();
        }
        let known = self.known;
        if self.draw.rarely(12) { "*".to_owned() } else { self.draw.pick(&known.lites).clone() }
    }

    /// Something that the server gave out, mostly of this kind, or what has become of it.
    fn given(&mut self, kind: Kind) -> Given {
        let kinds = [Kind::Receipt, Kind::Transaction, Kind::Recall, Kind::Id];
        let kind = if self.draw.rarely(12) { *self.draw.pick(&kinds) } else { kind };
        let known = self.known.of(kind);
        if known.is_empty() {
            return Given { token: self.draw.text(), ..Given::default() };
        }
        let given = self.draw.pick(known).clone();
        let token = match self.draw.below(10) {
            1 => self.draw.rot(&given.token),
            2 => self.draw.text(),
            _ => return given,
        };
        Given { token, ..given }
    }

    fn token(&mut self, kind: Kind) -> String {
        self.given(kind).token
    }

    /// The topic that it was given out for, or another one.
    fn topic_of(&mut self, given: &Given) -> Option<Resource> {
        if given.topic.is_empty() || self.draw.rarely(8) { self.topic() } else { named(&given.topic) }
    }

    fn group_of(&mut self, given: &Given) -> Option<Resource> {
        if given.group.is_empty() || self.draw.rarely(8) { self.group() } else { named(&given.group) }
    }

    fn lite_of(&mut self, given: Given) -> Option<String> {
        if self.draw.rarely(8) { Some(self.lite()) } else { given.lite }
    }

    fn short_or_odd(&mut self) -> String {
        if self.draw.rarely(6) { self.draw.text() } else { self.draw.pick(&["a", "b", "c"]).to_string() }
    }

    fn duration(&mut self) -> Option<prost_types::Duration> {
        match self.draw.below(6) {
            1 => None,
            2 | 3 => Some(prost_types::Duration { seconds: self.draw.number(), nanos: self.draw.small() }),
            _ => Some(prost_types::Duration {
                seconds: *self.draw.pick(&[0, 1, 10, 30, 3600, 43_200]),
                nanos: 0,
            }),
        }
    }

    fn timestamp(&mut self) -> Option<prost_types::Timestamp> {
        match self.draw.below(6) {
            1 => None,
            2 => Some(prost_types::Timestamp { seconds: self.draw.number(), nanos: self.draw.small() }),
            3 => {
                let later = *self.draw.pick(&[3600, 39 * 86_400, 40 * 86_400, 41 * 86_400]);
                Some(prost_types::Timestamp { seconds: self.known.now_seconds + later, nanos: 0 })
            }
            // Long ago.
            _ => Some(prost_types::Timestamp {
                seconds: 1_700_000_000 + i64::from(self.draw.byte()),
                nanos: 0,
            }),
        }
    }
}

fn named(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}
