//! Codes and sentences of the protocol: how an outcome becomes a `v2::Status`.
//!
//! The message of a status begins with the name of its code, because users and test suites
//! look for it in exceptions; the sentence after it says what to change.

use proto::v2::{Code, Status};

use crate::client::{ClientIdentity, Language, Version};

/// A request that cannot be carried out: the protocol's code, and a sentence for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {sentence}", code.as_str_name())]
pub struct Refusal {
    /// The protocol's code.
    pub code: Code,
    /// What is wrong and what to change.
    pub sentence: String,
}

impl Refusal {
    /// A refusal with this code and sentence.
    pub fn new(code: Code, sentence: impl Into<String>) -> Self {
        Self { code, sentence: sentence.into() }
    }

    /// The refusal as `client` can understand it.
    pub fn status(&self, client: &ClientIdentity) -> Status {
        for_client(client, self.code, &self.sentence)
    }

    /// The refusal as a gRPC status, for Telemetry: the one call that has no status of its own.
    pub fn on_stream(&self) -> tonic::Status {
        match self.code as i32 {
            50000.. => tonic::Status::internal(self.to_string()),
            _ => tonic::Status::invalid_argument(self.to_string()),
        }
    }
}

/// The status of success.
pub fn ok() -> Status {
    Status { code: Code::Ok as i32, message: "OK".to_owned() }
}

/// The status of `code`, its message beginning with the code's name. Of `Code::Ok` the message is "OK".
pub fn of(code: Code, sentence: &str) -> Status {
    if code == Code::Ok {
        return ok();
    }
    Status { code: code as i32, message: format!("{}: {sentence}", code.as_str_name()) }
}

/// Like [`of`], with a code that `client` knows.
pub fn for_client(client: &ClientIdentity, code: Code, sentence: &str) -> Status {
    let mut status = of(code, sentence);
    status.code = known_to(client, code) as i32;
    status
}

/// `code`, or the general code of its class for a client that would not survive the exact one.
///
/// The Rust client 5.0.0 was generated from an early `definition.proto` and panics on any code
/// that is not in it.
pub fn known_to(client: &ClientIdentity, code: Code) -> Code {
    const RUST_5_0_0: Version = Version { major: 5, minor: 0, patch: 0 };
    if client.language != Language::Rust || client.version != RUST_5_0_0 {
        return code;
    }
    match code {
        Code::IllegalOffset | Code::IllegalLiteTopic | Code::InvalidClientProperties => Code::BadRequest,
        Code::OffsetNotFound => Code::NotFound,
        Code::MessageBodyEmpty => Code::PayloadTooLarge,
        Code::LiteTopicQuotaExceeded | Code::LiteSubscriptionQuotaExceeded => Code::TooManyRequests,
        code => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(language: &str, version: &str) -> ClientIdentity {
        ClientIdentity {
            language: Language::parse(language),
            version: Version::parse(version),
            ..ClientIdentity::default()
        }
    }

    #[test]
    fn a_message_begins_with_the_name_of_its_code() {
        let status = of(Code::TopicNotFound, "there is no topic orders");
        assert_eq!(status.code, 40402);
        assert_eq!(status.message, "TOPIC_NOT_FOUND: there is no topic orders");
        assert_eq!(of(Code::Ok, "ignored").message, "OK");
    }

    #[test]
    fn the_first_rust_client_gets_only_codes_that_it_knows() {
        let check = |code: Code, expected: i32| {
            let refusal = Refusal::new(code, "no");
            assert_eq!(refusal.status(&client("RUST", "5.0.0")).code, expected, "{code:?}");
            assert_eq!(refusal.status(&client("RUST", "5.1.0")).code, code as i32);
            assert_eq!(refusal.status(&client("JAVA", "5.0.0")).code, code as i32);
            assert!(refusal.status(&client("RUST", "5.0.0")).message.starts_with(code.as_str_name()));
        };
        check(Code::IllegalOffset, 40000);
        check(Code::IllegalLiteTopic, 40000);
        check(Code::InvalidClientProperties, 40000);
        check(Code::OffsetNotFound, 40400);
        check(Code::MessageBodyEmpty, 41300);
        check(Code::LiteTopicQuotaExceeded, 42900);
        check(Code::LiteSubscriptionQuotaExceeded, 42900);
        check(Code::TopicNotFound, 40402);
        check(Code::InvalidReceiptHandle, 40013);
        check(Code::Ok, 20000);
    }

    #[test]
    fn a_refusal_ends_a_stream_with_the_fault_on_the_right_side() {
        assert_eq!(Refusal::new(Code::IllegalTopic, "x").on_stream().code(), tonic::Code::InvalidArgument);
        assert_eq!(Refusal::new(Code::InternalError, "x").on_stream().code(), tonic::Code::Internal);
    }
}
