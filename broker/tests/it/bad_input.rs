//! Every mistake of a client has its code and a sentence, touches nothing, and the broker goes on.

use std::time::Duration;

use proto::control;
use proto::v2::*;
use tonic::Request;

use crate::rig::*;

const BODY_LIMIT: usize = 4 << 20;

/// Sends what `change` makes of a good message, and compares the code.
async fn check_send(rig: &mut Rig, case: &str, expected: Code, change: impl FnOnce(&mut Message)) {
    let mut message = message("orders", "id");
    change(&mut message);
    let response = rig.send(vec![message]).await;
    let status = response.status.unwrap();
    assert_eq!(status.code, expected as i32, "{case}: {}", status.message);
    assert!(status.message.starts_with(expected.as_str_name()), "{case}: {}", status.message);
    assert!(
        status.message.len() > expected.as_str_name().len() + 10,
        "{case}: a sentence says what to change"
    );
    assert_eq!(response.entries.len(), 1, "{case}: clients look at entry 0");
}

fn system_of(message: &mut Message) -> &mut SystemProperties {
    message.system_properties.as_mut().unwrap()
}

fn property(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[tokio::test]
async fn a_message_with_a_mistake_is_refused_with_the_code_of_the_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 2).await;
    let rig = &mut rig;
    let far = || prost_types::Timestamp { seconds: 32_503_680_000, nanos: 0 };

    check_send(rig, "no body", Code::MessageBodyEmpty, |m| m.body = Vec::new().into()).await;
    check_send(rig, "large body", Code::MessageBodyTooLarge, |m| m.body = vec![1; BODY_LIMIT + 1].into())
        .await;
    check_send(rig, "no system properties", Code::MessageCorrupted, |m| m.system_properties = None).await;
    check_send(rig, "unknown topic", Code::TopicNotFound, |m| m.topic = resource("nobody")).await;
    check_send(rig, "no topic", Code::IllegalTopic, |m| m.topic = None).await;
    check_send(rig, "bad topic", Code::IllegalTopic, |m| m.topic = resource("a b")).await;
    check_send(rig, "system topic", Code::IllegalTopic, |m| m.topic = resource("TBW102")).await;
    check_send(rig, "long topic", Code::IllegalTopic, |m| m.topic = resource(&"t".repeat(128))).await;
    for name in [
        "KEYS",
        "TAGS",
        "UNIQ_KEY",
        "POP_CK",
        "TIMER_DELAY_SEC",
        "DLQ_ORIGIN_TOPIC",
        "TRACE_CONTEXT",
        "__BORNHOST",
        " ",
    ] {
        check_send(rig, name, Code::IllegalMessagePropertyKey, |m| {
            m.user_properties = [property(name, "value")].into();
        })
        .await;
    }
    check_send(rig, "control character", Code::IllegalMessagePropertyKey, |m| {
        m.user_properties = [property("name", "a\u{1}b")].into();
    })
    .await;
    check_send(rig, "many properties", Code::MessagePropertiesTooLarge, |m| {
        m.user_properties = (0..129).map(|n| property(&format!("p{n}"), "v")).collect();
    })
    .await;
    check_send(rig, "large properties", Code::MessagePropertiesTooLarge, |m| {
        m.user_properties = [property("p", &"v".repeat(16 << 10))].into();
    })
    .await;
    for tag in ["", " ", "a|b", "a\n"] {
        check_send(rig, "tag", Code::IllegalMessageTag, |m| system_of(m).tag = Some(tag.to_owned())).await;
    }
    for key in ["", "\t", "a\u{2}"] {
        check_send(rig, "key", Code::IllegalMessageKey, |m| system_of(m).keys = vec![key.to_owned()]).await;
    }
    check_send(rig, "id", Code::IllegalMessageId, |m| system_of(m).message_id = " ".to_owned()).await;
    for group in ["", &"g".repeat(64), "a\u{1}"] {
        check_send(rig, "message group", Code::IllegalMessageGroup, |m| {
            system_of(m).message_group = Some(group.to_owned());
        })
        .await;
    }
    check_send(rig, "far delivery", Code::IllegalDeliveryTime, |m| {
        system_of(m).delivery_timestamp = Some(far());
    })
    .await;
    // Java's consumers cannot read such times.
    for (seconds, nanos) in
        [(253_402_300_800, 0), (-62_135_596_801, 0), (i64::MIN, 0), (0, -1), (0, i32::MIN)]
    {
        check_send(rig, "no time", Code::IllegalDeliveryTime, |m| {
            system_of(m).delivery_timestamp = Some(prost_types::Timestamp { seconds, nanos });
        })
        .await;
    }
    for (r#type, checksum) in [
        (DigestType::Crc32, "C74A3366"),
        (DigestType::Md5, "0123456789ABCDEF0123456789ABCDEF"),
        (DigestType::Sha1, "x"),
    ] {
        check_send(rig, "digest", Code::MessageCorrupted, |m| {
            let digest = Digest { r#type: r#type as i32, checksum: checksum.to_owned() };
            system_of(m).body_digest = Some(digest);
        })
        .await;
    }
    check_send(rig, "encoding", Code::MessageCorrupted, |m| system_of(m).body_encoding = 99).await;
    check_send(rig, "recovery", Code::BadRequest, |m| {
        system_of(m).orphaned_transaction_recovery_duration = Some(duration(Duration::from_secs(3601)));
    })
    .await;

    let none = rig.poll(ask("g", "orders")).await;
    assert_eq!(none.status.code, Code::MessageNotFound as i32, "nothing was stored");
}

#[tokio::test]
async fn the_largest_body_fits_and_messages_of_one_request_succeed_or_fail_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.topic("others", 1).await;
    let largest = Message { body: vec![7; BODY_LIMIT].into(), ..message("orders", "largest") };
    rig.send_ok(vec![largest]).await;

    let none = rig.send(Vec::new()).await;
    assert_eq!(none.status.unwrap().code, Code::MessageCorrupted as i32);
    let two_topics = rig.send(vec![message("orders", "a"), message("others", "b")]).await;
    assert_eq!(two_topics.status.unwrap().code, Code::MessageCorrupted as i32);
    let mut bad = message("orders", "bad");
    bad.body = Vec::new().into();
    let second_is_bad = rig.send(vec![message("orders", "good"), bad]).await;
    assert_eq!(second_is_bad.status.unwrap().code, Code::MessageBodyEmpty as i32);

    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(ids(&polled.messages), ["largest"]);
    assert_eq!(polled.messages[0].body.len(), BODY_LIMIT);
    assert!(rig.poll(ask("g", "others")).await.messages.is_empty());
}

#[tokio::test]
async fn a_message_must_be_of_a_type_that_its_topic_takes_and_that_this_version_can_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic_of("orders", 1, control::MessageType::Normal).await;
    let now = std::time::SystemTime::now();
    let soon = || Some(prost_types::Timestamp::from(now + Duration::from_secs(60)));
    let past = || Some(prost_types::Timestamp::from(now - Duration::from_secs(60)));
    let conflict = Code::MessagePropertyConflictWithType;
    check_send(&mut rig, "fifo", conflict, |m| system_of(m).message_group = Some("g".to_owned())).await;
    check_send(&mut rig, "delay", conflict, |m| system_of(m).delivery_timestamp = soon()).await;
    check_send(&mut rig, "lite", conflict, |m| system_of(m).lite_topic = Some("l".to_owned())).await;
    check_send(&mut rig, "priority", conflict, |m| system_of(m).priority = Some(1)).await;

    rig.topic_of("orders", 1, control::MessageType::Mixed).await;
    let mut late = message("orders", "late");
    system_of(&mut late).delivery_timestamp = past();
    rig.send_ok(vec![late]).await;
    let polled = rig.poll(ask("g", "orders")).await;
    assert_eq!(ids(&polled.messages), ["late"], "what is due already is delivered at once");
    assert_eq!(system(&polled.messages[0]).message_type, MessageType::Delay as i32);
}

#[tokio::test]
async fn topics_that_may_not_be_written_or_read_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let topic = control::TopicConfig {
        name: "orders".to_owned(),
        read_queues: 1,
        write_queues: 1,
        readable: false,
        writable: false,
        message_type: control::MessageType::Mixed as i32,
        owner: String::new(),
    };
    let request = control::UpsertTopicRequest { topic: Some(topic), only_if_unowned: false };
    rig.admin.upsert_topic(request).await.unwrap();
    check_send(&mut rig, "not writable", Code::Forbidden, |_| {}).await;
    assert_eq!(rig.poll(ask("g", "orders")).await.status.code, Code::Forbidden as i32);
}

#[tokio::test]
async fn a_poll_with_a_mistake_is_one_status_and_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let mut check = async |case: &str, expected: Code, change: &dyn Fn(&mut ReceiveMessageRequest)| {
        let mut request = ask("g", "orders");
        change(&mut request);
        let polled = rig.poll(request).await;
        assert_eq!(polled.status.code, expected as i32, "{case}: {}", polled.status.message);
        assert_eq!(polled.order, "st", "{case}");
    };
    let time = |seconds: i64| Some(prost_types::Duration { seconds, nanos: 0 });
    for seconds in [0, 9, -1, 12 * 3600 + 1, i64::MAX] {
        check("invisible", Code::IllegalInvisibleTime, &|r| r.invisible_duration = time(seconds)).await;
    }
    check("no invisible", Code::IllegalInvisibleTime, &|r| r.invisible_duration = None).await;
    check("no group", Code::IllegalConsumerGroup, &|r| r.group = None).await;
    check("bad group", Code::IllegalConsumerGroup, &|r| r.group = resource("a/b")).await;
    check("no queue", Code::IllegalTopic, &|r| r.message_queue = None).await;
    check("unknown topic", Code::TopicNotFound, &|r| {
        r.message_queue = Some(MessageQueue { topic: resource("nobody"), ..MessageQueue::default() });
    })
    .await;
    let filter =
        |r#type: i32, expression: &str| Some(FilterExpression { r#type, expression: expression.to_owned() });
    let sql = FilterType::Sql as i32;
    for expression in ["", "*", "a ==", "a > 'x'", "a = 'x", "a NOT = 1"] {
        check(expression, Code::IllegalFilterExpression, &|r| r.filter_expression = filter(sql, expression))
            .await;
    }
    let long = vec!["a"; 2000].join(" OR ");
    check("long", Code::IllegalFilterExpression, &|r| r.filter_expression = filter(sql, &long)).await;
    let deep = "(".repeat(4000);
    check("deep", Code::IllegalFilterExpression, &|r| r.filter_expression = filter(sql, &deep)).await;
    check("tags", Code::IllegalFilterExpression, &|r| r.filter_expression = filter(1, "a ||")).await;
    check("filter type", Code::IllegalFilterExpression, &|r| r.filter_expression = filter(77, "a")).await;

    let polled = rig.poll(ReceiveMessageRequest { batch_size: 0, ..ask("g", "orders") }).await;
    assert_eq!(ids(&polled.messages), ["a"], "some clients ask for 0 messages");
}

#[tokio::test]
async fn a_handle_that_is_not_of_a_delivery_here_is_refused_and_nothing_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    for topic in ["orders", "others"] {
        rig.topic(topic, 1).await;
        rig.send_ok(vec![message(topic, "a")]).await;
    }
    let polled = rig.poll(ask("g", "orders")).await;
    let good = handle(&polled.messages[0]).to_owned();
    let foreign = handle(&rig.poll(ask("other", "orders")).await.messages[0]).to_owned();
    let elsewhere = handle(&rig.poll(ask("g", "others")).await.messages[0]).to_owned();
    let invalid = Code::InvalidReceiptHandle as i32;
    for bad in ["", "x", "not a handle ☃", &good[1..], &good.to_lowercase(), &foreign, &elsewhere] {
        assert_eq!(rig.ack_code("g", "orders", bad).await, invalid, "{bad}");
        let changed = rig.change("g", "orders", bad, Duration::from_secs(1)).await;
        assert_eq!(changed.status.unwrap().code, invalid, "{bad}");
        assert_eq!(changed.receipt_handle, bad, "clients take the handle before they look at the status");
    }
    assert_eq!(rig.ack_code("nobody", "orders", &good).await, invalid);
    assert_eq!(rig.ack_code("g", "nothing", &good).await, invalid);
    assert_eq!(rig.ack_code("a b", "orders", &good).await, Code::IllegalConsumerGroup as i32);
    assert_eq!(rig.ack_code("g", "a b", &good).await, Code::IllegalTopic as i32);
    let none = rig.ack("g", "orders", &[]).await;
    assert_eq!(none.status.unwrap().code, Code::BadRequest as i32);

    // Superseded by a redelivery.
    rig.change("g", "orders", &good, Duration::ZERO).await;
    let again = rig.poll(ask("g", "orders")).await;
    assert_eq!(rig.ack_code("g", "orders", &good).await, invalid);
    assert_eq!(rig.ack_code("g", "orders", handle(&again.messages[0])).await, Code::Ok as i32);
}

#[tokio::test]
async fn an_expired_handle_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let polled = rig.poll(ask("g", "orders")).await;
    let changed = rig.change("g", "orders", handle(&polled.messages[0]), Duration::from_millis(1)).await;
    // The poll is woken when the delivery has expired; another group would not be.
    let again = rig.poll(waiting(ask("g", "orders"), Duration::from_secs(10))).await;
    assert_eq!(attempt(&again.messages[0]), 2);
    assert_eq!(rig.ack_code("g", "orders", &changed.receipt_handle).await, Code::InvalidReceiptHandle as i32);
}

#[tokio::test]
async fn an_invisible_duration_out_of_range_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    rig.send_ok(vec![message("orders", "a")]).await;
    let polled = rig.poll(ask("g", "orders")).await;
    let good = handle(&polled.messages[0]).to_owned();
    let times = [
        None,
        Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        Some(prost_types::Duration { seconds: 12 * 3600, nanos: 1 }),
        Some(prost_types::Duration { seconds: i64::MAX, nanos: 999_999_999 }),
        Some(prost_types::Duration { seconds: i64::MIN, nanos: i32::MIN }),
        Some(prost_types::Duration { seconds: 0, nanos: i32::MIN }),
    ];
    for invisible_duration in times {
        let request = ChangeInvisibleDurationRequest {
            group: resource("g"),
            topic: resource("orders"),
            receipt_handle: good.clone(),
            invisible_duration,
            ..ChangeInvisibleDurationRequest::default()
        };
        let changed = rig.client.change_invisible_duration(call(request)).await.unwrap().into_inner();
        assert_eq!(changed.status.unwrap().code, Code::IllegalInvisibleTime as i32, "{invisible_duration:?}");
        assert_eq!(changed.receipt_handle, good);
    }
    assert_eq!(rig.ack_code("g", "orders", &good).await, Code::Ok as i32);
}

#[tokio::test]
async fn a_client_that_does_not_say_who_it_is_is_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let sent = Request::new(SendMessageRequest { messages: vec![message("orders", "a")] });
    let response = rig.client.send_message(sent).await.unwrap().into_inner();
    assert_eq!(response.status.unwrap().code, Code::ClientIdRequired as i32);
    let acked =
        rig.client.ack_message(Request::new(AckMessageRequest::default())).await.unwrap().into_inner();
    assert_eq!(acked.status.unwrap().code, Code::ClientIdRequired as i32);
    let beat = HeartbeatRequest { client_type: ClientType::Producer as i32, ..HeartbeatRequest::default() };
    let beaten = rig.client.heartbeat(Request::new(beat)).await.unwrap().into_inner();
    assert_eq!(beaten.status.unwrap().code, Code::ClientIdRequired as i32);
    let goodbye = Request::new(NotifyClientTerminationRequest::default());
    let gone = rig.client.notify_client_termination(goodbye).await.unwrap().into_inner();
    assert_eq!(gone.status.unwrap().code, Code::ClientIdRequired as i32);
}

#[tokio::test]
async fn a_poll_that_is_to_wait_beyond_its_deadline_is_told_so_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let mut request = call(waiting(ask("g", "orders"), Duration::from_secs(20)));
    request.set_timeout(Duration::from_secs(4));
    let mut stream = rig.client.receive_message(request).await.unwrap().into_inner();
    let Some(receive_message_response::Content::Status(status)) =
        stream.message().await.unwrap().unwrap().content
    else {
        panic!("a status comes first")
    };
    assert_eq!(status.code, Code::IllegalPollingTime as i32, "{}", status.message);
}

#[tokio::test]
async fn malformed_bytes_break_a_call_and_not_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    rig.topic("orders", 1).await;
    let channel =
        tonic::transport::Channel::from_shared(format!("http://{}", rig.running.client_addr)).unwrap();
    let mut raw = tonic::client::Grpc::new(channel.connect().await.unwrap());
    for bytes in [&[0xff_u8; 64][..], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x0a, 0x02, 0x0a][..]] {
        raw.ready().await.unwrap();
        let path = "/apache.rocketmq.v2.MessagingService/SendMessage".parse().unwrap();
        let outcome = raw.unary(call(bytes.to_vec()), path, RawCodec).await;
        assert!(outcome.is_err(), "{bytes:x?}");
    }
    rig.send_ok(vec![message("orders", "a")]).await;
    assert_eq!(ids(&rig.poll(ask("g", "orders")).await.messages), ["a"]);
}

#[tokio::test]
async fn an_admin_request_with_a_mistake_says_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path()).await;
    let topic = |name: &str, queues: u32| control::UpsertTopicRequest {
        topic: Some(control::TopicConfig {
            name: name.to_owned(),
            read_queues: queues,
            write_queues: queues,
            readable: true,
            writable: true,
            message_type: control::MessageType::Normal as i32,
            owner: "team/orders/1".to_owned(),
        }),
        only_if_unowned: true,
    };
    for (request, part) in [
        (control::UpsertTopicRequest::default(), "no topic"),
        (topic("a b", 1), "' '"),
        (topic("TBW102", 1), "system"),
        (topic("t", 0), "between 1 and"),
        (topic("t", 100_000), "between 1 and"),
    ] {
        let refused = rig.admin.upsert_topic(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(part), "{refused}");
    }
    assert!(rig.admin.upsert_topic(topic("t", 2)).await.unwrap().into_inner().changed);
    assert!(!rig.admin.upsert_topic(topic("t", 2)).await.unwrap().into_inner().changed);
    let mut other = topic("t", 3);
    other.topic.as_mut().unwrap().owner = "team/other/2".to_owned();
    let refused = rig.admin.upsert_topic(other).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
    assert!(refused.message().contains("team/orders/1"), "{refused}");
    let unknown = control::DescribeTopicRequest { name: "nobody".to_owned() };
    assert_eq!(rig.admin.describe_topic(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
}

/// Bytes as they are.
#[derive(Default)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = tonic::Status;
    fn encode(&mut self, item: Vec<u8>, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put_slice(out, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = ();
    type Error = tonic::Status;
    fn decode(&mut self, bytes: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        bytes::Buf::advance(bytes, bytes::Buf::remaining(bytes));
        Ok(Some(()))
    }
}
