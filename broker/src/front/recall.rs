//! RecallMessage: a message that waits for its time is taken back.

use access::client::ClientIdentity;
use access::{RecallHandle, Refusal, TopicName};
use proto::v2::messaging_service_client::MessagingServiceClient;
use proto::v2::{Code, RecallMessageRequest, RecallMessageResponse};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use super::{Front, status};
use crate::topics::MessageType;

impl Front {
    /// Whoever asks twice hears the same, until shortly before the message would have been due. A message that waits in
    /// another broker is recalled there: Go's client asks the broker of the first queue, whatever the handle says.
    pub(super) async fn recall(
        &self,
        client: &ClientIdentity,
        metadata: &MetadataMap,
        request: RecallMessageRequest,
    ) -> RecallMessageResponse {
        let handle = RecallHandle::parse(&request.recall_handle);
        let call = async |mut server: MessagingServiceClient<Channel>, hop| server.recall_message(hop).await;
        if handle.is_some_and(|handle| handle.broker != self.broker_name)
            && let Some(answer) = self.routes.ask_a_name_server(client, metadata, &request, call).await
        {
            return answer;
        }
        match self.take_back(client, request).await {
            Ok(message_id) => RecallMessageResponse { status: Some(status::ok()), message_id },
            Err(refusal) => {
                RecallMessageResponse { status: Some(refusal.status(client)), message_id: String::new() }
            }
        }
    }

    async fn take_back(
        &self,
        client: &ClientIdentity,
        request: RecallMessageRequest,
    ) -> Result<String, Refusal> {
        let name = TopicName::of(request.topic.as_ref(), client)?;
        let topic = self.topics.topic(name.as_str()).ok_or_else(|| status::topic_not_found(&name))?;
        if !topic.config.message_type.takes(MessageType::Delay) {
            return Err(Refusal::new(
                Code::MessagePropertyConflictWithType,
                format!(
                    "topic {name} takes {} messages, and only delayed ones can be recalled",
                    topic.config.message_type.as_str()
                ),
            ));
        }
        let handle = RecallHandle::parse(&request.recall_handle)
            .filter(|handle| handle.topic == name.as_str())
            .ok_or_else(|| {
                Refusal::new(
                    Code::InternalServerError,
                    format!("this is no recall handle of a message of topic {name}: use the one that the send returned"),
                )
            })?;
        if handle.broker != self.broker_name {
            return Err(Refusal::new(
                Code::MessageNotFound,
                format!(
                    "the message waits in broker {}, and this is {}: recall it there",
                    handle.broker, self.broker_name
                ),
            ));
        }
        let message_id = handle.message_id.clone();
        self.timers.recall(handle).await.map_err(|error| status::not_recalled(&error))?;
        Ok(message_id)
    }
}
