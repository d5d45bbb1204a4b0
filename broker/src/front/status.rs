//! Error → code and sentence: one function an error type, one arm a variant.

use access::Refusal;
use access::client::{ClientIdentity, Language};
use proto::v2::{Code, Status};

use crate::delivery::lite::{NotSent, OverQuota};
use crate::delivery::{Invalid, NotBuried, NotReceived, PullFailed, Strictness};
use crate::schedule::NotRecalled;
use crate::transactions::{NotEnded, NotPrepared};
use crate::{delivery, log, topics};

pub(super) fn ok() -> Status {
    access::status::ok()
}

pub(super) fn topic_not_found(topic: &access::TopicName) -> Refusal {
    Refusal::new(Code::TopicNotFound, format!("there is no topic {topic} in this broker: create it first"))
}

pub(super) fn not_appended(error: &log::Error) -> Refusal {
    use store::AppendError;
    match error {
        log::Error::Append(AppendError::BodyTooLarge { found, limit }) => Refusal::new(
            Code::MessageBodyTooLarge,
            format!("the body has {found} bytes, the limit is {limit}: send less, or a reference to it"),
        ),
        log::Error::Append(AppendError::FieldTooLarge { what, found, limit }) => Refusal::new(
            Code::MessagePropertiesTooLarge,
            format!("the {what} takes {found} bytes, the limit is {limit}: use less"),
        ),
        log::Error::Append(AppendError::BatchTooLarge { found, limit }) => Refusal::new(
            Code::MessageBodyTooLarge,
            format!(
                "the messages take {found} bytes of the log together, and a file of it has room for {limit}: send fewer at a time, or smaller ones"
            ),
        ),
        log::Error::Append(AppendError::DiskFull(reason)) => Refusal::new(
            Code::InternalServerError,
            format!(
                "the disk of this broker is full, nothing was stored ({reason}): free space or enlarge the volume"
            ),
        ),
        log::Error::Append(AppendError::Closed(reason)) => Refusal::new(
            Code::InternalServerError,
            format!("this broker takes no more messages ({reason}): send to another one"),
        ),
        log::Error::Flush(error) => Refusal::new(
            Code::MasterPersistenceTimeout,
            format!("the message may not be on the disk ({error}): send it again to another broker"),
        ),
        log::Error::Refused(refusal) => Refusal::new(
            Code::HaNotAvailable,
            format!("nothing was stored: {refusal}: send it again, here in a moment or to another broker"),
        ),
        log::Error::TooFarBehind => Refusal::new(
            Code::HaNotAvailable,
            format!("nothing was stored: {error}: send it again in a moment, or more slowly"),
        ),
        log::Error::NotReplicated => Refusal::new(
            Code::SlavePersistenceTimeout,
            format!("the message may not outlive this broker ({error}): send it again"),
        ),
    }
}

pub(super) fn not_changed(error: &topics::Error) -> Refusal {
    let code = match error {
        topics::Error::Invalid(_) => Code::BadRequest,
        topics::Error::Owned { .. } | topics::Error::Differs { .. } => Code::Forbidden,
        topics::Error::TooMany(_) => Code::TooManyRequests,
        topics::Error::Kept(_) => Code::InternalServerError,
    };
    Refusal::new(code, error.to_string())
}

pub(super) fn not_received(error: &NotReceived) -> Refusal {
    let code = match error {
        NotReceived::NoTopic(topic) => return topic_not_found(topic),
        NotReceived::Group(error) => return not_changed(error),
        NotReceived::NotReadable(_) | NotReceived::GroupDisabled(_) => Code::Forbidden,
        NotReceived::TooManyPolls(_) | NotReceived::TooManyInFlight { .. } | NotReceived::TooManyReads => {
            Code::TooManyRequests
        }
    };
    Refusal::new(code, error.to_string())
}

pub(super) fn invalid_handle(invalid: Invalid) -> Refusal {
    let sentence = match invalid {
        Invalid::Unknown => {
            "the receipt handle belongs to no delivery of this group and topic: use the one of the last delivery"
        }
        Invalid::Expired => {
            "the invisible duration of this delivery is over: the message is delivered again with a new receipt handle"
        }
        Invalid::Superseded => "the delivery has a newer receipt handle: use that one",
    };
    Refusal::new(Code::InvalidReceiptHandle, sentence)
}

/// `None`: the delivery is over, which is all that the client needs to know. It would try for ever otherwise.
pub(super) fn not_buried(error: &NotBuried) -> Option<Refusal> {
    match error {
        NotBuried::Invalid(Invalid::Expired | Invalid::Superseded) => None,
        NotBuried::Invalid(invalid @ Invalid::Unknown) => Some(invalid_handle(*invalid)),
        NotBuried::Unread(store::FetchError::Busy) => {
            Some(Refusal::new(Code::TooManyRequests, error.to_string()))
        }
        NotBuried::Unread(store::FetchError::Closed | store::FetchError::Read(_)) => {
            Some(Refusal::new(Code::InternalServerError, error.to_string()))
        }
        NotBuried::Failed(delivery::DeadLetterError::Topic(error)) => Some(not_changed(error)),
        NotBuried::Failed(delivery::DeadLetterError::Log(error)) => Some(not_appended(error)),
    }
}

pub(super) fn not_prepared(error: &NotPrepared) -> Refusal {
    match error {
        NotPrepared::TooMany(_) => Refusal::new(Code::TooManyRequests, error.to_string()),
        NotPrepared::Log(error) => not_appended(error),
    }
}

pub(super) fn not_ended(error: &NotEnded) -> Refusal {
    match error {
        NotEnded::Elsewhere(_) | NotEnded::Unknown => {
            Refusal::new(Code::InvalidTransactionId, error.to_string())
        }
        NotEnded::Unread(store::FetchError::Busy) => Refusal::new(Code::TooManyRequests, error.to_string()),
        NotEnded::Unread(store::FetchError::Closed | store::FetchError::Read(_)) => {
            Refusal::new(Code::InternalServerError, error.to_string())
        }
        NotEnded::Log(error) => not_appended(error),
    }
}

pub(super) fn not_recalled(error: &NotRecalled) -> Refusal {
    let code = match error {
        NotRecalled::Unknown => Code::MessageNotFound,
        NotRecalled::TooMany => Code::TooManyRequests,
        NotRecalled::Log(error) => return not_appended(error),
        NotRecalled::Unread(_) | NotRecalled::Stopping => Code::InternalServerError,
    };
    Refusal::new(code, error.to_string())
}

pub(super) fn not_sent_to_lite(error: &NotSent) -> Refusal {
    let code = match error {
        NotSent::TooMany { .. } => Code::LiteTopicQuotaExceeded,
        NotSent::Going(_) => Code::TooManyRequests,
    };
    Refusal::new(code, error.to_string())
}

pub(super) fn over_lite_quota(error: OverQuota) -> Refusal {
    Refusal::new(Code::LiteSubscriptionQuotaExceeded, error.to_string())
}

pub(super) fn not_pulled(error: &PullFailed) -> Refusal {
    let code = match error {
        PullFailed::Refused(error) => return not_received(error),
        PullFailed::OutOfRange { .. } => Code::IllegalOffset,
        PullFailed::TooManyReads => Code::TooManyRequests,
        PullFailed::Read(_) => Code::InternalServerError,
    };
    Refusal::new(code, error.to_string())
}

pub(super) fn not_read(error: &store::ReadError) -> Refusal {
    Refusal::new(Code::InternalServerError, error.to_string())
}

/// The code of several outcomes together: theirs if they agree.
pub(super) fn overall<'a>(statuses: impl IntoIterator<Item = &'a Status>) -> Status {
    let mut statuses = statuses.into_iter();
    let Some(first) = statuses.next() else { return ok() };
    if statuses.all(|status| status.code == first.code) {
        return first.clone();
    }
    access::status::of(Code::MultipleResults, "the outcomes differ: look at each entry")
}

/// C# and Rust go on with the handle that they got first, whatever ChangeInvisibleDuration answered.
pub(super) fn strictness(client: &ClientIdentity) -> Strictness {
    match client.language {
        Language::DotNet | Language::Rust => Strictness::SameDelivery,
        Language::Java
        | Language::Go
        | Language::Python
        | Language::Node
        | Language::Cpp
        | Language::Other => Strictness::Latest,
    }
}
