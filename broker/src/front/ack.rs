//! AckMessage, ChangeInvisibleDuration, ForwardMessageToDeadLetterQueue: what clients do with receipt handles.

use std::time::Duration;

use access::client::ClientIdentity;
use access::{GroupName, Refusal, TopicName};
use proto::v2::{
    AckMessageEntry, AckMessageRequest, AckMessageResponse, AckMessageResultEntry,
    ChangeInvisibleDurationRequest, ChangeInvisibleDurationResponse, Code,
    ForwardMessageToDeadLetterQueueRequest, ForwardMessageToDeadLetterQueueResponse,
};

use super::{Front, convert, lite, status};

const LONGEST_INVISIBLE: Duration = Duration::from_secs(12 * 3600);

impl Front {
    pub(super) fn acknowledge(
        &self,
        client: &ClientIdentity,
        request: AckMessageRequest,
    ) -> AckMessageResponse {
        let AckMessageRequest { group, topic, entries } = request;
        let names = GroupName::of(group.as_ref(), client)
            .and_then(|group| Ok((group, TopicName::of(topic.as_ref(), client)?)))
            .and_then(|names| match entries.is_empty() {
                true => Err(Refusal::new(
                    Code::BadRequest,
                    "the request holds no entry: acknowledge at least one",
                )),
                false => Ok(names),
            });
        let strictness = status::strictness(client);
        let entries: Vec<_> = entries
            .into_iter()
            .map(|AckMessageEntry { message_id, receipt_handle, lite_topic }| {
                let outcome = match &names {
                    Err(refusal) => Err(refusal.clone()),
                    Ok((group, topic)) => lite::kept_in(topic, lite_topic.as_deref())
                        .and_then(|topic| self.delivery.ack(group, &topic, &receipt_handle, strictness))
                        .map_err(status::invalid_handle),
                };
                let status = match outcome {
                    Ok(()) => status::ok(),
                    Err(refusal) => refusal.status(client),
                };
                AckMessageResultEntry { message_id, receipt_handle, status: Some(status) }
            })
            .collect();
        let overall = match &names {
            Err(refusal) => refusal.status(client),
            Ok(_) => status::overall(entries.iter().filter_map(|entry| entry.status.as_ref())),
        };
        self.metrics.acks.inc_by(entries.len() as u64);
        AckMessageResponse { status: Some(overall), entries }
    }

    pub(super) fn change_invisible(
        &self,
        client: &ClientIdentity,
        request: ChangeInvisibleDurationRequest,
    ) -> ChangeInvisibleDurationResponse {
        let ChangeInvisibleDurationRequest {
            group,
            topic,
            receipt_handle,
            invisible_duration,
            message_id: _,
            lite_topic,
            suspend,
        } = request;
        let change = || -> Result<String, Refusal> {
            let group = GroupName::of(group.as_ref(), client)?;
            let topic = TopicName::of(topic.as_ref(), client)?;
            let topic = lite::kept_in(&topic, lite_topic.as_deref()).map_err(status::invalid_handle)?;
            let away = invisible_duration
                .as_ref()
                .and_then(convert::duration)
                .filter(|time| *time <= LONGEST_INVISIBLE)
                .ok_or_else(|| {
                    Refusal::new(
                        Code::IllegalInvisibleTime,
                        "the invisible duration is not between 0 and 12 hours: choose one that is",
                    )
                })?;
            self.delivery
                .change_invisible(
                    &group,
                    &topic,
                    &receipt_handle,
                    away,
                    suspend.unwrap_or(false),
                    status::strictness(client),
                )
                .map_err(status::invalid_handle)
        };
        match change() {
            Ok(changed) => {
                ChangeInvisibleDurationResponse { status: Some(status::ok()), receipt_handle: changed }
            }
            // Java, Go and Python take the handle before they look at the status.
            Err(refusal) => {
                ChangeInvisibleDurationResponse { status: Some(refusal.status(client)), receipt_handle }
            }
        }
    }

    pub(super) async fn forward(
        &self,
        client: &ClientIdentity,
        request: ForwardMessageToDeadLetterQueueRequest,
    ) -> ForwardMessageToDeadLetterQueueResponse {
        let status = match self.forward_to_dead_letters(client, request).await {
            Ok(()) => status::ok(),
            Err(refusal) => refusal.status(client),
        };
        ForwardMessageToDeadLetterQueueResponse { status: Some(status) }
    }

    async fn forward_to_dead_letters(
        &self,
        client: &ClientIdentity,
        request: ForwardMessageToDeadLetterQueueRequest,
    ) -> Result<(), Refusal> {
        let ForwardMessageToDeadLetterQueueRequest {
            group,
            topic,
            receipt_handle,
            message_id,
            delivery_attempt: _,
            max_delivery_attempts: _, // the group's own maximum counts
            lite_topic,
        } = request;
        let group = GroupName::of(group.as_ref(), client)?;
        let topic = TopicName::of(topic.as_ref(), client)?;
        let topic =
            lite::kept_in(&topic, lite_topic.as_deref()).map_err(status::invalid_handle)?.into_owned();
        let receipt_handle = match receipt_handle.is_empty() {
            false => receipt_handle,
            // The client in C++ sends none.
            true => {
                let (delivery, group, topic) = (self.delivery.clone(), group.clone(), topic.clone());
                let find = move || delivery.handle_by_message_id(&group, &topic, &message_id);
                let found = tokio::task::spawn_blocking(find).await;
                match found.expect("looking for a delivery does not panic") {
                    Some(handle) => handle,
                    None => return Ok(()),
                }
            }
        };
        let strictness = status::strictness(client);
        match self.delivery.forward_to_dead_letters(&group, &topic, &receipt_handle, strictness).await {
            Ok(_) => {
                self.metrics.dead_letters.inc();
                Ok(())
            }
            Err(error) => status::not_buried(&error).map_or(Ok(()), Err),
        }
    }
}
