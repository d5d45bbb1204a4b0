//! SyncLiteSubscription, and what a lite topic means to the other calls.

use std::borrow::Cow;
use std::time::Instant;

use access::client::ClientIdentity;
use access::{GroupName, LiteTopic, Refusal, TopicName};
use proto::v2::offset_option::{OffsetType, Policy};
use proto::v2::{Code, LiteSubscriptionAction, OffsetOption, SyncLiteSubscriptionRequest};

use super::convert::Incoming;
use super::{Front, status};
use crate::delivery::Invalid;
use crate::delivery::lite::{Change, Holding, Sending, Start};
use crate::topics::MessageType;

/// Where messages of `topic` lie, given the lite topic that a call names.
pub(super) fn kept_in<'a>(
    topic: &'a TopicName,
    lite_topic: Option<&str>,
) -> Result<Cow<'a, TopicName>, Invalid> {
    match lite_topic.filter(|lite| !lite.is_empty()) {
        None => Ok(Cow::Borrowed(topic)),
        // No delivery was ever of such a one.
        Some(lite) => {
            LiteTopic::parse(lite).map(|lite| Cow::Owned(topic.of_lite(&lite))).map_err(|_| Invalid::Unknown)
        }
    }
}

impl Front {
    /// Where messages to lite topics go; `None`: they are to none.
    pub(super) fn sending_to_lite(
        &self,
        topic: &TopicName,
        messages: &[Incoming],
    ) -> Result<Option<Sending>, Refusal> {
        // All are of the type of their topic, which is this one for all or for none of them.
        if messages.iter().any(|message| message.kind != MessageType::Lite) {
            return Ok(None);
        }
        let lites = messages.iter().filter_map(|message| message.lite_topic.as_ref());
        let sending = self.delivery.send_to_lite(topic, lites);
        sending.map(Some).map_err(|error| status::not_sent_to_lite(&error))
    }

    pub(super) async fn hold_lite(
        &self,
        client: &ClientIdentity,
        request: SyncLiteSubscriptionRequest,
    ) -> Result<(), Refusal> {
        let SyncLiteSubscriptionRequest { action, topic, group, lite_topic_set, version: _, offset_option } =
            request;
        let topic = TopicName::of(topic.as_ref(), client)?;
        let group = GroupName::of(group.as_ref(), client)?;
        let known = self.topics.topic(topic.as_str()).ok_or_else(|| status::topic_not_found(&topic))?;
        let kind = known.config.message_type;
        if kind != MessageType::Lite {
            let sentence = format!(
                "topic {topic} takes {} messages and has no lite topics: name one of type LITE",
                kind.as_str()
            );
            return Err(Refusal::new(Code::IllegalTopic, sentence));
        }
        let holding = Holding::of(lite_topic_set.iter().map(String::as_str))?;
        let change = match LiteSubscriptionAction::try_from(action) {
            Ok(LiteSubscriptionAction::PartialAdd) => Change::Add(holding),
            Ok(LiteSubscriptionAction::PartialRemove) => Change::Remove(holding),
            Ok(LiteSubscriptionAction::CompleteAdd) => Change::Replace(holding),
            Ok(LiteSubscriptionAction::CompleteRemove) => Change::Replace(Holding::default()),
            Err(_) => {
                let sentence = format!("the action {action} is unknown: use one of the protocol");
                return Err(Refusal::new(Code::BadRequest, sentence));
            }
        };
        let start = offset_option.as_ref().map(start).transpose()?.flatten();
        // What is held goes with the client, so the client must be remembered.
        self.telemetry.clients.heard_of_group(Instant::now(), client, group.clone());
        if !self.telemetry.clients.is_online(&client.id) {
            return Err(Refusal::new(
                Code::TooManyRequests,
                "this broker has too many clients to remember what this one subscribes: use fewer clients",
            ));
        }
        let held = self.delivery.hold_lite(&client.id, &group, &topic, change, start).await;
        held.map_err(status::over_lite_quota)
    }
}

/// Where lite topics begin that are new to the group. `None`: where the group is, and that is their start.
fn start(option: &OffsetOption) -> Result<Option<Start>, Refusal> {
    let illegal = |sentence: String| Refusal::new(Code::IllegalOffset, sentence);
    let positive = |number: i64, what: &str| {
        u64::try_from(number).map_err(|_| illegal(format!("the {what} {number} is negative: use 0 or more")))
    };
    Ok(match option.offset_type {
        None => None,
        Some(OffsetType::Policy(policy)) => match Policy::try_from(policy) {
            Ok(Policy::Last) => None,
            Ok(Policy::Min) => Some(Start::Offset(0)),
            Ok(Policy::Max) => Some(Start::Next),
            Err(_) => {
                return Err(illegal(format!("the offset policy {policy} is unknown: use LAST, MIN or MAX")));
            }
        },
        Some(OffsetType::Offset(offset)) => Some(Start::Offset(positive(offset, "offset")?)),
        Some(OffsetType::TailN(count)) => Some(Start::Tail(positive(count, "tail")?)),
        Some(OffsetType::Timestamp(at_ms)) => Some(Start::Time(at_ms)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_option_says_where_to_begin() {
        let of = |offset_type| start(&OffsetOption { offset_type });
        assert_eq!(of(None), Ok(None));
        assert_eq!(of(Some(OffsetType::Policy(Policy::Last as i32))), Ok(None));
        assert_eq!(of(Some(OffsetType::Policy(Policy::Min as i32))), Ok(Some(Start::Offset(0))));
        assert_eq!(of(Some(OffsetType::Policy(Policy::Max as i32))), Ok(Some(Start::Next)));
        assert_eq!(of(Some(OffsetType::TailN(3))), Ok(Some(Start::Tail(3))));
        assert_eq!(of(Some(OffsetType::Timestamp(7))), Ok(Some(Start::Time(7))));
        for wrong in [OffsetType::Offset(-1), OffsetType::TailN(-1), OffsetType::Policy(9)] {
            assert_eq!(of(Some(wrong)).unwrap_err().code, Code::IllegalOffset);
        }
    }

    #[test]
    fn a_call_on_a_lite_topic_is_about_where_that_lies() {
        let orders = TopicName::parse("orders").unwrap();
        assert_eq!(kept_in(&orders, None).unwrap().as_str(), "orders");
        assert_eq!(kept_in(&orders, Some("")).unwrap().as_str(), "orders");
        assert_eq!(kept_in(&orders, Some("a")).unwrap().as_str(), "%LMQ%$orders$a");
        assert_eq!(kept_in(&orders, Some("a b")), Err(Invalid::Unknown));
    }
}
