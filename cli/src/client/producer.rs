//! Sending.

use std::collections::BTreeMap;

use bytes::Bytes;
use jiff::Timestamp;
use proto::v2;

use super::session::{self, REQUEST_TIMEOUT, Session, resource};
use super::{Dialer, Error, MessageId, MessageIds};

/// A message is tried so often, as official producers do.
const MAX_ATTEMPTS: usize = 3;

/// A message to send.
#[derive(Debug, Clone, Default)]
pub struct Outgoing {
    /// The payload.
    pub body: Bytes,
    /// Tag, for filters.
    pub tag: Option<String>,
    /// Keys, to find it by.
    pub keys: Vec<String>,
    /// The user's properties.
    pub properties: BTreeMap<String, String>,
    /// The group within which order is kept.
    pub message_group: Option<String>,
}

/// Where a message was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// The id that it was sent with.
    pub message_id: MessageId,
    /// The broker's name.
    pub broker: String,
    /// Its offset in its queue.
    pub offset: i64,
}

/// A producer for one topic.
pub struct Producer {
    session: Session,
    ids: MessageIds,
    next_queue: usize,
}

impl Producer {
    /// Finds the topic and makes itself known to its brokers.
    pub async fn open(dialer: &Dialer, access_point: &str, topic: &str) -> Result<Self, Error> {
        let mut settings = session::settings(v2::ClientType::Producer, access_point);
        settings.pub_sub = Some(v2::settings::PubSub::Publishing(v2::Publishing {
            topics: vec![resource(topic)],
            max_body_size: 0,
            validate_message_type: true,
        }));
        let writable = |permission| matches!(permission, v2::Permission::Write | v2::Permission::ReadWrite);
        let session = Session::open(dialer, access_point, topic, settings, writable, "written to").await?;
        Ok(Self { session, ids: MessageIds::new(), next_queue: 0 })
    }

    /// Sends a message; after passing trouble once more under the same id, to the next queue.
    pub async fn send(&mut self, message: Outgoing) -> Result<Sent, Error> {
        let message_id = self.ids.next_id();
        let mut attempt = 1;
        loop {
            let queue = &self.session.queues[self.next_queue % self.session.queues.len()];
            self.next_queue = self.next_queue.wrapping_add(1);
            match self.send_once(queue, &message_id, &message).await {
                Err(error) if error.is_passing() && attempt < MAX_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn send_once(
        &self,
        queue: &v2::MessageQueue,
        message_id: &str,
        message: &Outgoing,
    ) -> Result<Sent, Error> {
        let (address, mut stub) = self.session.stub(queue);
        let mut request = tonic::Request::new(v2::SendMessageRequest {
            messages: vec![encode(&self.session.topic, queue, message_id, message)],
        });
        request.set_timeout(REQUEST_TIMEOUT);
        let answer = stub
            .send_message(request)
            .await
            .map_err(|status| Error::transport(&address, &status))?
            .into_inner();
        Error::check(&address, answer.status)?;
        let entry = answer.entries.into_iter().next().ok_or_else(|| Error::Protocol {
            address: address.clone(),
            what: "acknowledged a send without saying what it stored",
        })?;
        Error::check(&address, entry.status)?;
        let broker = queue.broker.as_ref().map(|broker| broker.name.clone()).unwrap_or_default();
        Ok(Sent { message_id: message_id.to_owned(), broker, offset: entry.offset })
    }

    /// Tells the brokers that this client goes.
    pub async fn close(self) {
        self.session.close(None).await;
    }
}

fn encode(topic: &str, queue: &v2::MessageQueue, message_id: &str, message: &Outgoing) -> v2::Message {
    let message_type = match message.message_group {
        Some(_) => v2::MessageType::Fifo,
        None => v2::MessageType::Normal,
    };
    v2::Message {
        topic: Some(resource(topic)),
        user_properties: message.properties.clone(),
        system_properties: Some(v2::SystemProperties {
            tag: message.tag.clone(),
            keys: message.keys.clone(),
            message_id: message_id.to_owned(),
            body_encoding: v2::Encoding::Identity.into(),
            message_type: message_type.into(),
            born_timestamp: Some(std::time::SystemTime::from(Timestamp::now()).into()),
            queue_id: queue.id,
            message_group: message.message_group.clone(),
            ..Default::default()
        }),
        body: message.body.clone(),
    }
}
