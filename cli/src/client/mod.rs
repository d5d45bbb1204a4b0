//! A small client of the v2 protocol: enough to send, receive and acknowledge.
//!
//! ```text
//! Dialer ──► Session: route at the access point; one connection and one telemetry
//!               │     stream to each broker of the route
//!               ├─ Producer: send, again elsewhere if the transport fails
//!               └─ Consumer: one long poll a broker; acknowledge, release
//! ```
//!
//! It behaves as official clients do, headers included, so that what works from the terminal
//! works from an application.

mod consumer;
mod dial;
mod identity;
mod producer;
pub(crate) mod session;

pub use consumer::{Consumer, Received, by_sql, by_tags};
pub use dial::{Dialer, Stub, Tls};
pub(crate) use identity::random;
pub use identity::{Identity, MessageId, MessageIds};
pub use producer::{Outgoing, Producer, Sent};

use proto::v2;

use crate::failure::{Exit, Failure};

/// Why a call of this client failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at an address.
    #[error("nobody answers at {address}: {reason}")]
    Unreachable {
        /// `HOST:PORT`.
        address: String,
        /// The innermost reason.
        reason: String,
    },
    /// The transport failed during a call.
    #[error("the connection to {address} failed: {reason}")]
    Transport {
        /// `HOST:PORT`.
        address: String,
        /// What gRPC says.
        reason: String,
    },
    /// The server said no.
    #[error("{message}")]
    Refused {
        /// The protocol's code.
        code: v2::Code,
        /// The server's sentence, which begins with the code's name.
        message: String,
    },
    /// The server broke the protocol.
    #[error("the server at {address} {what}")]
    Protocol {
        /// `HOST:PORT`.
        address: String,
        /// What it did.
        what: &'static str,
    },
    /// No queue of the topic can be used for this.
    #[error("topic {topic} has no queue that can be {wanted}")]
    NoQueue {
        /// The topic.
        topic: String,
        /// "written to" or "read from".
        wanted: &'static str,
    },
}

impl Error {
    /// Whether the same call may succeed when it is made again.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Transport { .. } => true,
            Self::Refused { code, .. } => {
                matches!(
                    code,
                    v2::Code::TooManyRequests
                        | v2::Code::HaNotAvailable
                        | v2::Code::ProxyTimeout
                        | v2::Code::RequestTimeout
                        | v2::Code::MasterPersistenceTimeout
                        | v2::Code::SlavePersistenceTimeout
                )
            }
            Self::Protocol { .. } | Self::NoQueue { .. } => false,
        }
    }

    /// A status that is not OK.
    pub(crate) fn refused(status: v2::Status) -> Self {
        let code = status.code();
        let message = match status.message.is_empty() {
            true => code.as_str_name().to_owned(),
            false => status.message,
        };
        Self::Refused { code, message }
    }

    /// The status of an answer, which every answer must have.
    pub(crate) fn check(address: &str, status: Option<v2::Status>) -> Result<(), Self> {
        let status = status.ok_or_else(|| Self::Protocol {
            address: address.to_owned(),
            what: "answered without a status",
        })?;
        if status.code() == v2::Code::Ok { Ok(()) } else { Err(Self::refused(status)) }
    }

    /// A gRPC error: this protocol keeps those for trouble of the transport, and for settings that are refused.
    pub(crate) fn transport(address: &str, status: &tonic::Status) -> Self {
        use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated};
        if matches!(status.code(), InvalidArgument | PermissionDenied | Unauthenticated) {
            let name = status.message().split(':').next().unwrap_or_default();
            let code = v2::Code::from_str_name(name).unwrap_or(v2::Code::BadRequest);
            return Self::Refused { code, message: status.message().to_owned() };
        }
        let reason = match status.message() {
            "" => status.code().description().to_owned(),
            message => message.to_owned(),
        };
        Self::Transport { address: address.to_owned(), reason }
    }
}

/// The failure of a command that worked on `topic`.
pub fn failure(error: &Error, topic: &str) -> Failure {
    let exit = match error {
        Error::Unreachable { .. } | Error::Transport { .. } => Exit::Unreachable,
        Error::Refused { code, .. } => match code {
            v2::Code::TopicNotFound | v2::Code::ConsumerGroupNotFound | v2::Code::NotFound => Exit::NotFound,
            _ => Exit::Failed,
        },
        Error::Protocol { .. } | Error::NoQueue { .. } => Exit::Failed,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        Error::Unreachable { .. } => failure.next(
            "is it running? `gantry dev` starts one here; --endpoint HOST:PORT or GANTRY_ENDPOINT names another",
        ),
        Error::Refused { code: v2::Code::TopicNotFound, .. } => {
            failure.next(format!("gantry topic create {topic}"))
        }
        Error::NoQueue { .. } => failure
            .next(format!("gantry topic describe {topic} shows its permission and the brokers that have it")),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_settings_are_no_trouble_of_the_transport() {
        let status = tonic::Status::invalid_argument("ILLEGAL_CONSUMER_GROUP: a blank in it");
        match Error::transport("host:1", &status) {
            Error::Refused { code: v2::Code::IllegalConsumerGroup, message } => {
                assert_eq!(message, status.message());
            }
            other => panic!("{other:?}"),
        }
        let broken = Error::transport("host:1", &tonic::Status::unavailable("broken pipe"));
        assert_eq!(broken.to_string(), "the connection to host:1 failed: broken pipe");
        assert!(broken.is_passing());
    }

    #[test]
    fn a_missing_topic_says_how_to_make_it() {
        let missing = v2::Status { code: v2::Code::TopicNotFound.into(), message: String::new() };
        let failure = failure(&Error::refused(missing), "orders");
        assert_eq!(failure.exit(), Exit::NotFound);
        assert_eq!(failure.to_string(), "error: TOPIC_NOT_FOUND\n  next: gantry topic create orders");
    }
}
