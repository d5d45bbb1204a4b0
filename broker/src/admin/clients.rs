//! What connected consumers are asked for those who operate the system.

use proto::control::*;
use tonic::Status;

use super::{AdminDoor, group_name, topic_name};
use crate::front::questions::{Consumer, Unanswered};

/// Of a stack: clients of gRPC take 4 MiB.
const MOST_OF_A_STACK: usize = 3 << 20;

impl AdminDoor {
    pub(super) async fn stack_of(
        &self,
        request: PrintThreadStackTraceRequest,
    ) -> Result<PrintThreadStackTraceResponse, Status> {
        let PrintThreadStackTraceRequest { group, client_id } = request;
        let group = group_name(&group)?;
        tracing::info!(%group, client = client_id, "a client is asked for its stack");
        let clients = &self.health.clients;
        let mut stack_trace = clients.stack_of(&group, &client_id).await.map_err(|why| unanswered(&why))?;
        let cut = stack_trace.len() > MOST_OF_A_STACK;
        stack_trace.truncate(stack_trace.floor_char_boundary(MOST_OF_A_STACK));
        Ok(PrintThreadStackTraceResponse { stack_trace, cut })
    }

    pub(super) async fn verify(
        &self,
        request: VerifyMessageRequest,
    ) -> Result<VerifyMessageResponse, Status> {
        let VerifyMessageRequest { group, client_id, topic, message_id } = request;
        let (group, topic) = (group_name(&group)?, topic_name(&topic)?);
        let record = self.newest(topic.as_str(), message_id.clone()).await?;
        tracing::info!(%group, client = client_id, %topic, message_id, "a client is asked to verify a message");
        let verified = self.health.clients.verify(&group, &client_id, &topic, record).await;
        let consumed = verified.map_err(|why| unanswered(&why))?;
        Ok(VerifyMessageResponse { consumed })
    }

    pub(super) fn reconnect(
        &self,
        request: &ReconnectClientsRequest,
    ) -> Result<ReconnectClientsResponse, Status> {
        let ReconnectClientsRequest { group, client_id } = request;
        let group = group_name(group)?;
        let one = Some(client_id.as_str()).filter(|client| !client.is_empty());
        let client_ids = self.health.clients.reconnect(&group, one);
        if client_ids.is_empty() {
            let who = one.map_or_else(|| "no client".to_owned(), |client| format!("no client {client}"));
            return Err(Status::not_found(format!(
                "{who} of group {group} has a Telemetry stream at this broker"
            )));
        }
        tracing::info!(%group, clients = client_ids.len(), "clients are told to connect anew");
        Ok(ReconnectClientsResponse { client_ids })
    }
}

/// A consumer, as the control plane tells of it.
pub(super) fn shown(consumer: Consumer) -> GroupClient {
    let Consumer { id, language, version, connected } = consumer;
    GroupClient { client_id: id, language: language.to_string(), version: version.to_string(), connected }
}

fn unanswered(why: &Unanswered) -> Status {
    let sentence = why.to_string();
    match why {
        Unanswered::NotHere { .. } | Unanswered::NotConnected(_) => Status::not_found(sentence),
        Unanswered::TooMany => Status::resource_exhausted(sentence),
        Unanswered::Full(_) | Unanswered::Gone(_) => Status::unavailable(sentence),
        Unanswered::Silent(_) => Status::deadline_exceeded(sentence),
        Unanswered::Refused { .. } => Status::failed_precondition(sentence),
    }
}
