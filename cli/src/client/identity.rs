//! Who this client is: its id, the headers of its calls, and the ids of its messages.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// Language as clients of the reference name it in `x-mq-language`. This one is nobody's
/// library, and servers adapt to published ones by this name. Apache RocketMQ takes no consumer with a name it does not know.
const LANGUAGE: &str = "OTHER";

/// One client instance.
#[derive(Debug, Clone)]
pub struct Identity {
    client_id: AsciiMetadataValue,
}

impl Identity {
    /// A new one, in the form of official clients: `host@pid@index@base36time`.
    pub fn generate() -> Self {
        static INDEX: AtomicU32 = AtomicU32::new(0);
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host: String = host.trim().chars().filter(char::is_ascii_graphic).collect();
        let host = if host.is_empty() { "localhost" } else { &host };
        let index = INDEX.fetch_add(1, Ordering::Relaxed);
        // Two programs of one pid in two containers may start in the same millisecond.
        let nanos = Timestamp::now().as_nanosecond().unsigned_abs() as u64;
        let id = format!("{host}@{}@{index}@{}", std::process::id(), base36(nanos));
        Self { client_id: id.parse().expect("graphic ASCII is a header's value") }
    }

    /// The client id.
    pub fn client_id(&self) -> &str {
        self.client_id.to_str().expect("it was made of ASCII")
    }

    /// The interceptor that puts the headers on a call.
    pub(super) fn headers(&self) -> Headers {
        Headers { client_id: self.client_id.clone() }
    }
}

/// Puts the protocol's headers on every call.
#[derive(Debug, Clone)]
pub struct Headers {
    client_id: AsciiMetadataValue,
}

impl tonic::service::Interceptor for Headers {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let metadata: &mut MetadataMap = request.metadata_mut();
        metadata.insert("x-mq-client-id", self.client_id.clone());
        metadata.insert("x-mq-language", AsciiMetadataValue::from_static(LANGUAGE));
        metadata.insert("x-mq-client-version", AsciiMetadataValue::from_static(env!("CARGO_PKG_VERSION")));
        metadata.insert("x-mq-protocol", AsciiMetadataValue::from_static("v2"));
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        metadata.insert("x-mq-date-time", now.parse().expect("a date is ASCII"));
        let request_id = format!("{:016x}{:016x}", random(), random());
        metadata.insert("x-mq-request-id", request_id.parse().expect("hexadecimal is ASCII"));
        Ok(request)
    }
}

/// The id of a message, made by its sender.
pub type MessageId = String;

/// Makes message ids in the protocol's first version: 34 hexadecimal digits of version,
/// machine, process, seconds since 2021 and a counter.
#[derive(Debug)]
pub struct MessageIds {
    prefix: String,
    next: u32,
}

impl MessageIds {
    /// A series of its own: the six bytes that official clients take from a network card are
    /// random, so that pods with one address scheme and one pid do not meet.
    pub fn new() -> Self {
        let machine = random() & 0xffff_ffff_ffff;
        let pid = std::process::id() & 0xffff;
        Self { prefix: format!("01{machine:012X}{pid:04X}"), next: 0 }
    }

    /// The next id.
    pub fn next_id(&mut self) -> MessageId {
        // 2021-01-01T00:00:00Z
        let seconds = Timestamp::now().as_second().saturating_sub(1_609_459_200) as u32;
        let counter = self.next;
        self.next = self.next.wrapping_add(1);
        format!("{}{seconds:08X}{counter:08X}", self.prefix)
    }
}

impl Default for MessageIds {
    fn default() -> Self {
        Self::new()
    }
}

/// 64 bits that nobody needs to be unable to guess: the keys of a hasher are random.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

fn base36(mut number: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut digits = Vec::new();
    loop {
        digits.push(char::from(DIGITS[(number % 36) as usize]));
        number /= 36;
        if number == 0 {
            return digits.into_iter().rev().collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_ids_are_34_digits_and_differ() {
        let mut ids = MessageIds::new();
        let (first, second) = (ids.next_id(), ids.next_id());
        assert_ne!(first, second);
        for id in [first, second] {
            assert_eq!(id.len(), 34);
            assert!(
                id.starts_with("01") && id.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()),
                "{id}"
            );
        }
    }

    #[test]
    fn a_client_id_has_four_parts() {
        let identity = Identity::generate();
        assert_eq!(identity.client_id().split('@').count(), 4, "{}", identity.client_id());
        assert_ne!(identity.client_id(), Identity::generate().client_id());
    }

    #[test]
    fn base36_counts_like_everybody() {
        assert_eq!([0, 35, 36, 1295].map(base36), ["0", "z", "10", "zz"]);
    }
}
