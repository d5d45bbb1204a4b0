//! Where groups go on: backwards and forwards in a topic.

use std::sync::Arc;

use proto::control::reset_offsets_request::{End, To};
use proto::control::*;
use tonic::Status;

use super::{AdminDoor, group_name, topic_name};
use crate::delivery::now_ms;
use crate::topics::MessageType;

impl AdminDoor {
    pub(super) async fn reset(&self, request: ResetOffsetsRequest) -> Result<ResetOffsetsResponse, Status> {
        let ResetOffsetsRequest { group, topic, queue_ids, to, dry_run } = request;
        let (group, topic) = (group_name(&group)?, topic_name(&topic)?);
        let to = to.ok_or_else(|| {
            Status::invalid_argument(
                "the request does not say where to go on: set end, stored_at_ms or offset",
            )
        })?;
        let known = self
            .topics
            .topic(topic.as_str())
            .ok_or_else(|| Status::not_found(format!("there is no topic {topic}")))?;
        if known.config.message_type == MessageType::Lite {
            return Err(Status::failed_precondition(format!(
                "topic {topic} is of type LITE: a group goes on in its lite topics, and cannot be moved there"
            )));
        }
        let queues = known.config.read_queues;
        if let Some(id) = queue_ids.iter().find(|id| **id >= queues) {
            return Err(Status::invalid_argument(format!(
                "topic {topic} has no queue {id} to read: its queues are 0 to {}",
                queues.saturating_sub(1)
            )));
        }
        if let To::StoredAtMs(at_ms) = to
            && at_ms > now_ms()
        {
            return Err(Status::invalid_argument(
                "that time is not over yet: choose an earlier one, or LATEST",
            ));
        }
        let queue_ids = if queue_ids.is_empty() { (0..queues).collect() } else { queue_ids };
        let (topics, delivery) = (Arc::clone(&self.topics), Arc::clone(&self.delivery));
        let reset = move || {
            if !dry_run {
                topics.ensure_group(&group).map_err(super::not_changed)?;
            }
            let mut resets = Vec::with_capacity(queue_ids.len());
            for queue_id in queue_ids {
                let bounds = delivery.queue_bounds(&topic, queue_id);
                let after = match to {
                    To::End(end) if end == End::Earliest as i32 => bounds.start,
                    To::End(_) => bounds.end,
                    To::Offset(offset) => offset.clamp(bounds.start, bounds.end),
                    To::StoredAtMs(at_ms) => delivery
                        .offset_at_time(&topic, queue_id, at_ms)
                        .map_err(|error| Status::unavailable(error.to_string()))?,
                };
                let before = delivery.progress(&group, &topic, queue_id).unwrap_or(bounds.start);
                let in_flight = delivery.in_flight(&group, &topic, queue_id);
                if !dry_run {
                    // Retention may have been at work since.
                    let after = after.max(delivery.queue_bounds(&topic, queue_id).start);
                    delivery.set_progress(&group, &topic, queue_id, after).map_err(|bounds| {
                        Status::aborted(format!(
                            "queue {queue_id} changed meanwhile, it reaches from {} to {}: try again",
                            bounds.start, bounds.end
                        ))
                    })?;
                }
                resets.push(QueueReset { queue_id, before, after, in_flight });
            }
            if !dry_run {
                tracing::info!(%group, %topic, ?to, "a group was told to go on elsewhere");
            }
            Ok(ResetOffsetsResponse { queues: resets })
        };
        tokio::task::spawn_blocking(reset).await.expect("resetting offsets does not panic")
    }
}
