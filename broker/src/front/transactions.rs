//! EndTransaction, and asking producers on their Telemetry streams what became of their transactions.

use std::net::SocketAddr;

use access::client::ClientIdentity;
use access::{Refusal, TopicName, TransactionId};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::telemetry_command::Command;
use proto::v2::{
    Code, DigestType, EndTransactionRequest, EndTransactionResponse, RecoverOrphanedTransactionCommand,
    SendResultEntry, TelemetryCommand, TransactionResolution,
};
use store::Record;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use super::connections::Clients;
use super::convert::Incoming;
use super::{Front, convert, status};
use crate::topics::Topic;
use crate::transactions::{Prepared, Producers, Resolution};

impl Front {
    /// Stores a message whose transaction begins. Its producer can be asked from now on, whatever it said in its settings.
    pub(super) async fn begin_transaction(
        &self,
        client: &ClientIdentity,
        topic: &Topic,
        message: Incoming,
        peer: SocketAddr,
    ) -> Result<SendResultEntry, Refusal> {
        let name = &topic.config.name;
        let bytes = message.body.len() as u64;
        let message_id = message.message_id.clone();
        let prepared = Prepared {
            topic: name.clone(),
            queue: topic.next_queue(),
            body: message.body,
            properties: message.properties,
            tag: message.tag,
            message_id: message.message_id,
            sys_flag: message.sys_flag,
            born_at_ms: message.born_at_ms,
            born_host: peer,
            first_check_after: message.first_check_after,
        };
        let began = self.transactions.begin(prepared).await.map_err(|error| status::not_prepared(&error))?;
        self.telemetry.clients.publishes(std::time::Instant::now(), client, name.clone());
        self.metrics.messages_in.inc();
        self.metrics.bytes_in.inc_by(bytes);
        Ok(SendResultEntry {
            status: Some(status::ok()),
            message_id,
            transaction_id: began.transaction_id,
            offset: i64::try_from(began.offset).unwrap_or(i64::MAX),
            recall_handle: String::new(),
        })
    }

    /// A half message that another broker keeps is ended there.
    pub(super) async fn end_transaction_at(
        &self,
        client: &ClientIdentity,
        metadata: &MetadataMap,
        request: &EndTransactionRequest,
    ) -> EndTransactionResponse {
        let id = TransactionId::parse(&request.transaction_id);
        let call = async |mut server: MessagingServiceClient<Channel>, hop| server.end_transaction(hop).await;
        if id.is_some_and(|id| id.broker != self.broker_name)
            && let Some(answer) = self.routes.ask_a_name_server(client, metadata, request, call).await
        {
            return answer;
        }
        let status = match self.end_transaction_of(client, request).await {
            Ok(()) => status::ok(),
            Err(refusal) => refusal.status(client),
        };
        EndTransactionResponse { status: Some(status) }
    }

    async fn end_transaction_of(
        &self,
        client: &ClientIdentity,
        request: &EndTransactionRequest,
    ) -> Result<(), Refusal> {
        TopicName::of(request.topic.as_ref(), client)?;
        let invalid = |sentence: &str| Refusal::new(Code::InvalidTransactionId, sentence);
        if request.transaction_id.trim().is_empty() {
            return Err(invalid("the transaction id is blank: use the one that came with the message"));
        }
        let id = TransactionId::parse(&request.transaction_id).ok_or_else(|| {
            invalid("no broker made this transaction id: use the one that came with the message")
        })?;
        let how = match TransactionResolution::try_from(request.resolution) {
            Ok(TransactionResolution::Commit) => Resolution::Commit,
            Ok(TransactionResolution::Rollback) => Resolution::RollBack,
            // The producer does not know yet, and is asked again.
            Ok(TransactionResolution::Unspecified) => return Ok(()),
            Err(_) => {
                let sentence =
                    format!("the resolution {} is unknown: use COMMIT or ROLLBACK", request.resolution);
                return Err(Refusal::new(Code::BadRequest, sentence));
            }
        };
        self.transactions.end(&id, how).await.map_err(|error| status::not_ended(&error))
    }
}

impl Producers for Clients {
    fn are_there(&self, topic: &TopicName) -> bool {
        self.can_tell_a_producer(topic)
    }

    fn ask(&self, topic: &TopicName, half: &Record, transaction_id: &str) -> bool {
        let command = RecoverOrphanedTransactionCommand {
            message: Some(convert::stored(half.clone(), topic.to_resource(), DigestType::Md5)),
            transaction_id: transaction_id.to_owned(),
        };
        let command = Command::RecoverOrphanedTransactionCommand(command);
        self.tell_a_producer(topic, &TelemetryCommand { status: Some(status::ok()), command: Some(command) })
    }
}
