//! The three calls that a broker answers most, replayed in one process, to be counted and not timed: `cargo xtask guard`.
//!
//! `hot_calls SCENE` opens a broker on an empty folder, warms it up with the scene, and plays it again within the function
//! `counted`, which callgrind is told to watch. Everything that is counted happens on one thread: broker and client share
//! a runtime without workers. The messages are the same in every run.

#![forbid(unsafe_code)]

mod wire;

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use proto::control;
use proto::v2::receive_message_response::Content;
use proto::v2::*;
use tokio::runtime::Runtime;

use wire::{Caller, Frames};

/// As in the programs that are shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOPIC: &str = "orders";
const GROUP: &str = "billing";
const SEND: &str = "/apache.rocketmq.v2.MessagingService/SendMessage";
const RECEIVE: &str = "/apache.rocketmq.v2.MessagingService/ReceiveMessage";
const ACK: &str = "/apache.rocketmq.v2.MessagingService/AckMessage";
/// Messages that are played to warm up, and messages that are counted. A multiple of the batch.
const MESSAGES: usize = 256;
/// Messages of a poll of the backlog.
const BATCH: usize = 32;
const BODY_BYTES: usize = 1024;

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// A message a request, one request at a time.
    Send,
    /// A backlog, 32 messages a poll.
    Receive,
    /// A message a request.
    Acknowledge,
    /// A poll that waits, the message that it waits for, and its acknowledgement.
    EndToEnd,
}

fn main() -> anyhow::Result<()> {
    let scene = match std::env::args().nth(1).as_deref() {
        Some("send") => Scene::Send,
        Some("receive") => Scene::Receive,
        Some("acknowledge") => Scene::Acknowledge,
        Some("end-to-end") => Scene::EndToEnd,
        _ => bail!("name a scene: send, receive, acknowledge or end-to-end"),
    };
    // As in the programs: what is not logged still costs a look.
    access::logging::init(&access::logging::Logging::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let (running, mut stage) = runtime.block_on(open(folder.path()))?;
    let warm_up = stage.prepare(&runtime, scene)?;
    stage.play(&runtime, warm_up)?;
    let counted = stage.prepare(&runtime, scene)?;
    self::counted(&runtime, &mut stage, counted)?;
    println!("{MESSAGES}");
    drop(stage);
    runtime.block_on(running.stop())
}

/// What callgrind watches.
#[inline(never)]
fn counted(runtime: &Runtime, stage: &mut Stage, script: Script) -> anyhow::Result<()> {
    stage.play(runtime, script)
}

async fn open(folder: &std::path::Path) -> anyhow::Result<(broker::Running, Stage)> {
    let any = "127.0.0.1:0".parse()?;
    let mut config = broker::Config {
        client_listen: any,
        control_listen: any,
        http_listen: None,
        segment_bytes: 16 << 20,
        ..broker::Config::new(folder)
    };
    // What happens by the clock happens before or after.
    config.limits.persist_interval = Duration::from_secs(3600);
    config.limits.scrub_interval = None;
    // A disk that is nearly full would refuse the few messages of a replay.
    config.retention.refuse_percent = 100;
    let running = broker::start(config).await?;
    let admin = format!("http://{}", running.control_addr);
    let mut admin = control::admin_client::AdminClient::connect(admin).await?;
    let topic = control::TopicConfig {
        name: TOPIC.to_owned(),
        read_queues: 4,
        write_queues: 4,
        readable: true,
        writable: true,
        message_type: control::MessageType::Normal as i32,
        owner: String::new(),
    };
    admin.upsert_topic(control::UpsertTopicRequest { topic: Some(topic), only_if_unowned: false }).await?;
    let addr = running.client_addr;
    let stage = Stage {
        send: Caller::connect(addr, SEND).await?,
        receive: Caller::connect(addr, RECEIVE).await?,
        ack: Caller::connect(addr, ACK).await?,
        sent: 0,
    };
    Ok((running, stage))
}

/// The connections.
struct Stage {
    send: Caller,
    receive: Caller,
    ack: Caller,
    /// Messages so far.
    sent: usize,
}

/// Requests that are ready to go.
enum Script {
    Send(Vec<Frames>),
    Receive(Vec<Frames>),
    Acknowledge(Vec<Frames>),
    EndToEnd(Vec<(Frames, Frames)>),
}

impl Stage {
    /// Does all that comes before what is counted.
    fn prepare(&mut self, runtime: &Runtime, scene: Scene) -> anyhow::Result<Script> {
        let polls = MESSAGES / BATCH;
        Ok(match scene {
            Scene::Send => Script::Send(self.sends()),
            Scene::Receive => {
                let sends = Script::Send(self.sends());
                self.play(runtime, sends)?;
                Script::Receive((0..polls).map(|_| self.receive.request(&poll(BATCH))).collect())
            }
            Scene::Acknowledge => {
                let sends = Script::Send(self.sends());
                self.play(runtime, sends)?;
                let mut handles = Vec::new();
                for _ in 0..polls {
                    let request = self.receive.request(&poll(BATCH));
                    handles.extend(received(&runtime.block_on(self.receive.call(&request))?)?);
                }
                ensure!(handles.len() == MESSAGES, "{} of {MESSAGES} messages came", handles.len());
                Script::Acknowledge(handles.iter().map(|handle| self.ack.request(&ack(handle))).collect())
            }
            Scene::EndToEnd => {
                let sends = self.sends();
                Script::EndToEnd(
                    sends.into_iter().map(|send| (self.receive.request(&poll(1)), send)).collect(),
                )
            }
        })
    }

    fn play(&mut self, runtime: &Runtime, script: Script) -> anyhow::Result<()> {
        runtime.block_on(async {
            match script {
                Script::Send(requests) => {
                    for request in &requests {
                        self.send.call(request).await?;
                    }
                }
                Script::Receive(requests) => {
                    for request in &requests {
                        let answer = self.receive.call(request).await?;
                        ensure!(answer.len() > BATCH * BODY_BYTES, "a poll brought less than a batch");
                    }
                }
                Script::Acknowledge(requests) => {
                    for request in &requests {
                        self.ack.call(request).await?;
                    }
                }
                Script::EndToEnd(requests) => {
                    for (mut poll, send) in requests {
                        self.receive.begin(&mut poll).await?;
                        self.send.call(&send).await?;
                        let handles = received(&self.receive.answer(&poll).await?)?;
                        let handle = handles.first().context("a poll that waited brought nothing")?;
                        let request = self.ack.request(&ack(handle));
                        self.ack.call(&request).await?;
                    }
                }
            }
            Ok(())
        })
    }

    fn sends(&mut self) -> Vec<Frames> {
        let numbers = self.sent..self.sent + MESSAGES;
        self.sent = numbers.end;
        numbers
            .map(|number| self.send.request(&SendMessageRequest { messages: vec![message(number)] }))
            .collect()
    }
}

fn resource(name: &str) -> Option<Resource> {
    Some(Resource { resource_namespace: String::new(), name: name.to_owned() })
}

fn message(number: usize) -> Message {
    let body: Vec<u8> = (0..BODY_BYTES).map(|at| (at * 31 + number) as u8).collect();
    Message {
        topic: resource(TOPIC),
        user_properties: [
            ("colour".to_owned(), "blue".to_owned()),
            ("region".to_owned(), "north".to_owned()),
        ]
        .into(),
        system_properties: Some(SystemProperties {
            tag: Some("paid".to_owned()),
            keys: vec![format!("order-{number:08}")],
            message_id: format!("01B2C3D4E5F60708090A0B0C{number:010X}"),
            body_encoding: Encoding::Identity as i32,
            message_type: MessageType::Normal as i32,
            born_timestamp: Some(prost_types::Timestamp { seconds: 1_767_225_600, nanos: 0 }),
            born_host: "orders-6d5f7c".to_owned(),
            ..SystemProperties::default()
        }),
        body: body.into(),
    }
}

fn poll(messages: usize) -> ReceiveMessageRequest {
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    ReceiveMessageRequest {
        group: resource(GROUP),
        message_queue: Some(MessageQueue { topic: resource(TOPIC), ..MessageQueue::default() }),
        filter_expression: Some(FilterExpression {
            r#type: FilterType::Tag as i32,
            expression: "*".to_owned(),
        }),
        batch_size: i32::try_from(messages).expect("a batch is small"),
        invisible_duration: seconds(3600),
        auto_renew: false,
        long_polling_timeout: seconds(20),
        attempt_id: None,
    }
}

fn ack(handle: &str) -> AckMessageRequest {
    let entry =
        AckMessageEntry { message_id: "id".to_owned(), receipt_handle: handle.to_owned(), lite_topic: None };
    AckMessageRequest { group: resource(GROUP), topic: resource(TOPIC), entries: vec![entry] }
}

/// The handles of what a poll brought.
fn received(answer: &[u8]) -> anyhow::Result<Vec<String>> {
    let mut handles = Vec::new();
    for response in wire::messages::<ReceiveMessageResponse>(answer) {
        if let Some(Content::Message(message)) = response.content {
            let system = message.system_properties.context("a message has system properties")?;
            handles.push(system.receipt_handle.context("a message has a handle")?);
        }
    }
    Ok(handles)
}
