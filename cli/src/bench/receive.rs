//! Receiving: polls, each followed by the acknowledgement of what it brought and by the next.

use std::sync::Arc;
use std::time::Duration;

use proto::v2;

use super::connection::Connection;
use super::plan::Receiving;
use super::recorder::Operation;
use super::run::Run;
use super::stamp::Stamp;
use crate::client::session::{REQUEST_TIMEOUT, proto_duration, resource};
use crate::client::{Error, Stub, by_tags};

/// How long a poll waits; Apache RocketMQ's proxy takes no shorter one.
const POLL: Duration = Duration::from_secs(5);
/// After an error: a server that refuses or is gone is not asked without pause.
const PAUSE: Duration = Duration::from_millis(100);

/// The polls of one of the places that there are, until the load is over.
pub(crate) async fn poll(
    run: Arc<Run>,
    receiving: Arc<Receiving>,
    connection: Arc<Connection>,
    number: usize,
) {
    let (topic, place, queue) = run.routes.place(number);
    let mut polls = Polls {
        run: &run,
        receiving: &receiving,
        address: &run.routes.addresses[place],
        stub: connection.stub(place),
        topic: &topic.name,
        queue,
    };
    while !run.stop_receiving.is_cancelled() {
        let began = run.elapsed();
        let brought = tokio::select! {
            brought = polls.receive() => brought,
            () = run.stop_receiving.cancelled() => return,
        };
        let outcome = match brought {
            Ok(handles) if handles.is_empty() => {
                if run.backlog_is_drained(began) {
                    return;
                }
                continue;
            }
            Ok(handles) => {
                run.record(Operation::Receive, began, true);
                polls.acknowledge(handles).await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            run.failed(error);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

struct Polls<'a> {
    run: &'a Run,
    receiving: &'a Receiving,
    address: &'a str,
    stub: Stub,
    topic: &'a str,
    queue: &'a v2::MessageQueue,
}

impl Polls<'_> {
    /// One poll: notes each message as it comes, and gives what acknowledges them.
    async fn receive(&mut self) -> Result<Vec<v2::AckMessageEntry>, Error> {
        use v2::receive_message_response::Content;

        let Self { run, receiving, address, stub, topic: _, queue } = self;
        let transport = |status: tonic::Status| Error::transport(address, &status);
        let request = receive_request(&receiving.group, queue, receiving.batch, receiving.invisible, POLL);
        let mut answers = stub.receive_message(request).await.map_err(transport)?.into_inner();
        let mut entries = Vec::new();
        while let Some(answer) = answers.message().await.map_err(transport)? {
            match answer.content {
                Some(Content::Message(message)) => {
                    run.received(Stamp::decode(&message.body), message.body.len());
                    let system = message.system_properties.unwrap_or_default();
                    entries.push(v2::AckMessageEntry {
                        message_id: system.message_id,
                        receipt_handle: system.receipt_handle.unwrap_or_default(),
                        lite_topic: None,
                    });
                }
                Some(Content::Status(status)) => match status.code() {
                    v2::Code::Ok | v2::Code::MessageNotFound => {}
                    _ => return Err(Error::refused(status)),
                },
                Some(Content::DeliveryTimestamp(_)) | None => {}
            }
        }
        Ok(entries)
    }

    async fn acknowledge(&mut self, entries: Vec<v2::AckMessageEntry>) -> Result<(), Error> {
        let began = self.run.elapsed();
        let mut request = tonic::Request::new(v2::AckMessageRequest {
            group: Some(resource(&self.receiving.group)),
            topic: Some(resource(self.topic)),
            entries,
        });
        request.set_timeout(REQUEST_TIMEOUT);
        let answer = self.stub.ack_message(request).await;
        let answer = answer.map_err(|status| Error::transport(self.address, &status))?.into_inner();
        self.run.record(Operation::Acknowledge, began, true);
        let refused =
            answer.entries.into_iter().find_map(|entry| Error::check(self.address, entry.status).err());
        match refused {
            Some(refused) => Err(refused),
            None => Error::check(self.address, answer.status),
        }
    }
}

/// A ReceiveMessage, with the time that it may take.
pub(crate) fn receive_request(
    group: &str,
    queue: &v2::MessageQueue,
    batch: i32,
    invisible: Duration,
    poll: Duration,
) -> tonic::Request<v2::ReceiveMessageRequest> {
    let mut request = tonic::Request::new(v2::ReceiveMessageRequest {
        group: Some(resource(group)),
        message_queue: Some(queue.clone()),
        filter_expression: Some(by_tags("*")),
        batch_size: batch,
        invisible_duration: Some(proto_duration(invisible)),
        auto_renew: false,
        long_polling_timeout: Some(proto_duration(poll)),
        attempt_id: None,
    });
    request.set_timeout(poll + REQUEST_TIMEOUT);
    request
}
