//! What clients get wrong: each mistake has the protocol's own code and a sentence, and the server goes on.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::clients::{Consumer, Language, Program, consume, produce};
use e2e::dev::Dev;
use e2e::wire::{self, Refusal, Wire, delivered, ensure_refused, message, resource};
use proto::v2::{ChangeInvisibleDurationRequest, Code, Message, SendMessageResponse};
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_prost::ProstCodec;

const TOPIC: &str = "orders";
/// How long a client may take for a mistake.
const LIMIT: Duration = Duration::from_secs(60);
/// A poll that waits no longer than it must.
const SHORT: Duration = Duration::from_secs(5);

/// What a user of a client gets wrong ends with an error that says what it was: nothing hangs, nothing is sent or received.
pub(crate) fn wrong_input(language: Language) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", TOPIC])?;
    let endpoint = dev.endpoint();
    let send = |topic: &str| produce(language, &endpoint, topic, 1);
    let receive = |topic: &str, group: &str| -> Result<Program> {
        Ok(consume(language, Consumer::Simple, &endpoint, topic, group)?.idle(2))
    };
    // The server's code, or the words of clients that find it out themselves.
    let (topic, regex) = ("failed to fetch topic:nowhere route", "does not match the regex");
    let mistakes: [(&str, Program, &[&str]); 6] = [
        ("a topic that there is not", send("nowhere")?, &["TOPIC_NOT_FOUND", topic]),
        ("no topic's name", send("no spaces")?, &["ILLEGAL_TOPIC", regex]),
        (
            "another type than the topic's",
            send(TOPIC)?.with("--message-group", "a"),
            &["MESSAGE_PROPERTY_CONFLICT_WITH_TYPE", "message type not match"],
        ),
        (
            "a large body",
            send(TOPIC)?.with("--bytes", "4194305"),
            &["MESSAGE_BODY_TOO_LARGE", "body size exceeds the threshold"],
        ),
        ("no group's name", receive(TOPIC, "no spaces")?, &["ILLEGAL_CONSUMER_GROUP", regex]),
        ("a consumer of no topic", receive("nowhere", "g")?, &["TOPIC_NOT_FOUND", topic]),
    ];
    for (what, program, words) in mistakes {
        let said = program.told(LIMIT).with_context(|| what.to_owned())?;
        let clear = words.iter().any(|word| said.contains(word));
        ensure!(clear, "{language}, {what}: none of {words:?} in what it said:\n{said}");
        let done = said.contains("{\"sent\"") || said.contains("{\"received\"");
        ensure!(!done, "{language}, {what}: it went well:\n{said}");
    }
    send(TOPIC)?.run(LIMIT)?.ensure_all_sent(1)?;
    dev.stop()
}

#[test]
fn every_mistake_of_a_sender_has_its_code_and_its_sentence() -> Result<()> {
    /// What a mistake makes of a good message.
    type Mistake = fn(&mut Message);
    let mistakes: &[(Code, &str, Mistake)] = &[
        (Code::TopicNotFound, "an unknown topic", |m| m.topic = Some(resource("nowhere"))),
        (Code::IllegalTopic, "no topic's name", |m| m.topic = Some(resource("no spaces"))),
        (Code::MessageBodyEmpty, "an empty body", |m| m.body = Vec::new().into()),
        (Code::MessageBodyTooLarge, "a body of 4 MiB and a byte", |m| {
            m.body = vec![b'x'; (4 << 20) + 1].into()
        }),
        (Code::IllegalMessagePropertyKey, "a reserved property", |m| {
            m.user_properties.insert("UNIQ_KEY".into(), "x".into());
        }),
        (Code::IllegalMessagePropertyKey, "a control character in a property", |m| {
            m.user_properties.insert("colour".into(), "red\u{1}".into());
        }),
        (Code::MessagePropertiesTooLarge, "properties of 17 KiB", |m| {
            m.user_properties.insert("long".into(), "x".repeat(17 << 10));
        }),
        (Code::IllegalMessageTag, "a tag with a bar", |m| edit(m).tag = Some("a|b".into())),
        (Code::IllegalMessageKey, "a blank key", |m| edit(m).keys = vec![" ".into()]),
        (Code::IllegalMessageId, "no message id", |m| edit(m).message_id.clear()),
        (Code::IllegalMessageGroup, "a blank message group", |m| edit(m).message_group = Some(" ".into())),
    ];
    with_dev(async |wire| {
        for (code, what, mistake) in mistakes {
            let mut message = message(TOPIC, "mistake", b"hello".to_vec());
            mistake(&mut message);
            let answer = wire.send_message(message).await;
            ensure_refused(&answer, *code).with_context(|| (*what).to_owned())?;
        }
        Ok(())
    })
}

#[test]
fn every_mistake_of_a_receiver_has_its_code_and_its_sentence() -> Result<()> {
    with_dev(async |wire| {
        for seconds in [0, 13 * 3600] {
            let answer = wire.receive_for(TOPIC, "group", "*", Duration::from_secs(seconds), SHORT).await;
            ensure_refused(&answer, Code::IllegalInvisibleTime)
                .with_context(|| format!("invisible {seconds} s"))?;
        }
        let answer = wire.receive_for(TOPIC, "no spaces", "*", Duration::from_secs(30), SHORT).await;
        ensure_refused(&answer, Code::IllegalConsumerGroup)?;
        let answer = wire.receive_for("nowhere", "group", "*", Duration::from_secs(30), SHORT).await;
        ensure_refused(&answer, Code::TopicNotFound)?;
        let answer = wire.receive_for(TOPIC, "group", "a || ", Duration::from_secs(30), SHORT).await;
        ensure_refused(&answer, Code::IllegalFilterExpression)
    })
}

#[test]
fn a_receipt_handle_that_is_foreign_or_used_up_is_refused() -> Result<()> {
    with_dev(async |wire| {
        wire.send(TOPIC, "one", b"hello".to_vec()).await.map_err(unexpected)?;
        let messages = wire.receive(TOPIC, "group", SHORT).await.map_err(unexpected)?;
        ensure!(messages.len() == 1, "one message was sent, {} came", messages.len());
        let mut foreign = messages.clone();
        foreign[0].receipt_handle = "not a handle at all".into();
        let answer = wire.acknowledge(TOPIC, "group", &foreign).await;
        ensure_refused(&answer, Code::InvalidReceiptHandle)?;
        let answer = wire.acknowledge(TOPIC, "another-group", &messages).await;
        ensure_refused(&answer, Code::InvalidReceiptHandle).context("another group's handle")?;

        let change = ChangeInvisibleDurationRequest {
            group: Some(resource("group")),
            topic: Some(resource(TOPIC)),
            receipt_handle: messages[0].receipt_handle.clone(),
            invisible_duration: Some(prost_types::Duration { seconds: 0, nanos: 0 }),
            message_id: messages[0].id.clone(),
            ..Default::default()
        };
        let request = wire.request(change, SHORT);
        let answer = wire.client().change_invisible_duration(request).await?.into_inner();
        let code = answer.status.map(|status| status.code);
        ensure!(code == Some(Code::Ok as i32), "a message may be given back at once: {code:?}");
        let again = wire.receive(TOPIC, "group", SHORT).await.map_err(unexpected)?;
        ensure!(again.len() == 1, "a message given back comes again");
        let answer = wire.acknowledge(TOPIC, "group", &messages).await;
        ensure_refused(&answer, Code::InvalidReceiptHandle).context("the handle of the delivery before")?;
        wire.acknowledge(TOPIC, "group", &again).await.map_err(unexpected)?;
        let last = wire.receive(TOPIC, "group", SHORT).await.map_err(unexpected)?;
        ensure!(last.is_empty(), "what is acknowledged does not come again");
        Ok(())
    })
}

#[test]
fn a_client_without_a_name_is_told_so() -> Result<()> {
    with_dev(async |wire| {
        let mut request = wire.request(
            proto::v2::SendMessageRequest { messages: vec![message(TOPIC, "one", b"hello".to_vec())] },
            SHORT,
        );
        request.metadata_mut().remove("x-mq-client-id");
        let answer = wire.client().send_message(request).await?.into_inner();
        let status = answer.status.context("every answer has a status")?;
        ensure!(status.code == Code::ClientIdRequired as i32, "{status:?}");
        Ok(())
    })
}

#[test]
fn bytes_that_are_no_message_and_no_http_do_no_harm() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", TOPIC])?;
    for noise in
        [&[0_u8; 4096][..], &[0xff; 4096], b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0]]
    {
        let mut stream = TcpStream::connect(dev.endpoint())?;
        // The server may hang up before it has read all of it.
        let _: std::io::Result<()> = stream.write_all(noise);
    }
    wire::block_on(async {
        let mut wire = Wire::new(&dev.endpoint(), "rude")?;
        // On the wire: a first field that holds one byte, and that byte is no tag of a message's field.
        let broken = prost_types::Any { type_url: "\u{f}".into(), value: Vec::new() };
        let mut grpc = tonic::client::Grpc::new(wire.channel());
        grpc.ready().await?;
        let path = PathAndQuery::from_static("/apache.rocketmq.v2.MessagingService/SendMessage");
        let codec = ProstCodec::<prost_types::Any, SendMessageResponse>::default();
        let answer = grpc.unary(wire.request(broken, SHORT), path, codec).await;
        ensure!(answer.is_err(), "a message that cannot be read is an error of the call: {answer:?}");
        wire.send(TOPIC, "after", b"hello".to_vec()).await.map_err(unexpected)
    })?;
    dev.stop()
}

#[test]
fn the_largest_body_and_the_most_properties_come_back_as_they_were() -> Result<()> {
    with_dev(async |wire| {
        let mut largest = message(TOPIC, "largest", vec![b'x'; 4 << 20]);
        for number in 0..128 {
            largest.user_properties.insert(format!("property-{number}"), "ä = \" {}".into());
        }
        edit(&mut largest).keys = vec!["one".into(), "two".into()];
        wire.send_message(largest.clone()).await.map_err(unexpected)?;
        let back = wire
            .receive_for(TOPIC, "group", "*", Duration::from_secs(30), SHORT)
            .await
            .map_err(unexpected)?;
        let [back] = back.as_slice() else { bail!("{} messages came", back.len()) };
        ensure!(
            back.user_properties == largest.user_properties,
            "other properties: {:?}",
            back.user_properties
        );
        ensure!(back.body == largest.body, "another body");
        ensure!(back.system_properties.as_ref().is_some_and(|p| p.keys == ["one", "two"]), "other keys");
        ensure!(delivered(back).id == "largest", "another id");
        Ok(())
    })
}

#[test]
fn a_data_directory_that_cannot_be_used_ends_the_start_with_a_sentence() -> Result<()> {
    let home = TempDir::new()?;
    let file = home.path().join("a-file");
    std::fs::write(&file, "x")?;
    ensure_no_start(&file)?;
    // Root may write anywhere, so for root a directory without rights is no obstacle.
    let locked = home.path().join("locked");
    std::fs::create_dir(&locked)?;
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500))?;
    if std::fs::write(locked.join("x"), "x").is_err() {
        ensure_no_start(&locked)?;
    }
    Ok(())
}

#[test]
fn two_servers_on_one_data_directory_are_refused() -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    ensure_no_start(data.path())?;
    dev.stop()
}

/// An error unless a server on this directory ends at once and says which directory is wrong.
fn ensure_no_start(data: &Path) -> Result<()> {
    let Err(error) = Dev::start(data) else { bail!("it started on {}", data.display()) };
    let text = format!("{error:#}");
    let said = text.rsplit("its errors end:").next().unwrap_or_default();
    ensure!(said.contains(&data.display().to_string()), "the error does not name the directory: {text}");
    Ok(())
}

fn with_dev(talk: impl AsyncFnOnce(&mut Wire) -> Result<()>) -> Result<()> {
    let data = TempDir::new()?;
    let dev = Dev::start(data.path())?;
    dev.gantry(&["topic", "create", TOPIC])?;
    wire::block_on(async {
        let mut wire = Wire::new(&dev.endpoint(), "rude")?;
        talk(&mut wire).await?;
        // Whatever went before, the server goes on.
        wire.send(TOPIC, "after", b"hello".to_vec()).await.map_err(unexpected)
    })?;
    dev.stop()
}

fn edit(message: &mut Message) -> &mut proto::v2::SystemProperties {
    message.system_properties.get_or_insert_default()
}

fn unexpected(refusal: Refusal) -> anyhow::Error {
    anyhow::anyhow!("this should have been accepted: {refusal:?}")
}
