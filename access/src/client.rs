//! Who calls: what a client says about itself in the metadata of every call.

use std::fmt;
use std::time::Duration;

use proto::v2::{ClientType, Code, DigestType, HeartbeatRequest};
use tonic::metadata::MetadataMap;

use crate::status::Refusal;

/// The longest client id that is kept; official clients stay below 100 bytes.
const LONGEST_CLIENT_ID: usize = 255;

/// A client instance, as the metadata of one call describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The name of the client instance, unique among the clients of a cluster. Empty if unknown.
    pub id: String,
    /// Whose code the client is.
    pub language: Language,
    /// The version of that code.
    pub version: Version,
    /// The namespace of the call; mostly empty.
    pub namespace: String,
    /// How long the client waits for the answer, counted from when it sent the call.
    pub deadline: Option<Duration>,
    /// Whether it sends what all official clients in Java and Go send, and nobody else has a reason to.
    pub is_official: bool,
}

impl ClientIdentity {
    /// What the metadata say. A client that does not name itself has an empty id.
    pub fn of(metadata: &MetadataMap) -> Self {
        let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok()).unwrap_or("").trim();
        Self {
            id: text("x-mq-client-id").to_owned(),
            language: Language::parse(text("x-mq-language")),
            version: Version::parse(text("x-mq-client-version")),
            namespace: text("x-mq-namespace").to_owned(),
            deadline: parse_deadline(metadata),
            is_official: metadata.contains_key("x-mq-date-time") && metadata.contains_key("x-mq-request-id"),
        }
    }

    /// By what the client is told to check a body: an MD5, which is written in one way by all. Official clients in Java and Go check
    /// a CRC32 as well, which is made in a fiftieth of the time; who says only that it is written in Java may not.
    pub fn digest(&self) -> DigestType {
        match self.language {
            Language::Java | Language::Go if self.is_official => DigestType::Crc32,
            _ => DigestType::Md5,
        }
    }

    /// What the metadata say, of a client that names itself.
    pub fn named(metadata: &MetadataMap) -> Result<Self, Refusal> {
        let client = Self::of(metadata);
        if client.id.is_empty() {
            return Err(Refusal::new(
                Code::ClientIdRequired,
                "the call names no client: set the header x-mq-client-id to a name of this client instance",
            ));
        }
        if client.id.len() > LONGEST_CLIENT_ID {
            return Err(Refusal::new(
                Code::ClientIdRequired,
                format!(
                    "the header x-mq-client-id is longer than {LONGEST_CLIENT_ID} bytes: use a shorter name"
                ),
            ));
        }
        Ok(client)
    }

    /// Whose heartbeat this is. `None`: nobody's, which is good all the same, for Go sends such after a broken stream.
    pub fn of_heartbeat(metadata: &MetadataMap, beat: &HeartbeatRequest) -> Result<Option<Self>, Refusal> {
        let nobody = Self { deadline: parse_deadline(metadata), ..Self::default() };
        if *beat == HeartbeatRequest::default() && Self::of(metadata) == nobody {
            return Ok(None);
        }
        let client = Self::named(metadata)?;
        match ClientType::try_from(beat.client_type) {
            Ok(_) => Ok(Some(client)),
            Err(_) => Err(Refusal::new(
                Code::UnrecognizedClientType,
                format!("the client type {} is unknown: use one of the protocol", beat.client_type),
            )),
        }
    }
}

/// Whose client it is, as far as the answers differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "names of languages")]
pub enum Language {
    Java,
    Go,
    Python,
    Node,
    Rust,
    DotNet,
    Cpp,
    /// Somebody else's client, which gets what the protocol describes.
    #[default]
    Other,
}

impl Language {
    /// The language of a header `x-mq-language`, which is free text.
    pub fn parse(text: &str) -> Self {
        const NAMES: [(&str, Language); 10] = [
            ("JAVA", Language::Java),
            ("GO", Language::Go),
            ("GOLANG", Language::Go),
            ("PYTHON", Language::Python),
            ("HTTP", Language::Node), // what the Node client says
            ("NODE_JS", Language::Node),
            ("RUST", Language::Rust),
            ("DOTNET", Language::DotNet),
            ("DOT_NET", Language::DotNet),
            ("CPP", Language::Cpp),
        ];
        NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map_or(Language::Other, |(_, language)| *language)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Language::Java => "java",
            Language::Go => "go",
            Language::Python => "python",
            Language::Node => "node",
            Language::Rust => "rust",
            Language::DotNet => "dotnet",
            Language::Cpp => "cpp",
            Language::Other => "other",
        })
    }
}

/// A client's version; 0.0.0 if it says none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the three numbers of a version")]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl Version {
    /// The leading numbers of `text`; what is missing or no number counts as 0.
    pub fn parse(text: &str) -> Self {
        let mut parts =
            text.trim_start_matches('v').split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        Self { major: next(), minor: next(), patch: next() }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

fn parse_deadline(metadata: &MetadataMap) -> Option<Duration> {
    metadata.get("grpc-timeout").and_then(|value| parse_grpc_timeout(value.to_str().ok()?))
}

/// The value of `grpc-timeout`: at most eight digits and a unit. Anything else is no deadline.
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut map = MetadataMap::new();
        for (key, value) in pairs {
            map.insert(*key, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn a_call_says_who_sent_it() {
        let client = ClientIdentity::named(&metadata(&[
            ("x-mq-client-id", "host@7@0@abc"),
            ("x-mq-language", "HTTP"),
            ("x-mq-client-version", "1.0.8"),
            ("x-mq-namespace", "team"),
            ("grpc-timeout", "3000m"),
        ]))
        .unwrap();
        assert_eq!(client.id, "host@7@0@abc");
        assert_eq!(client.language, Language::Node);
        assert_eq!(client.version.to_string(), "1.0.8");
        assert_eq!(client.namespace, "team");
        assert_eq!(client.deadline, Some(Duration::from_secs(3)));
    }

    #[test]
    fn a_client_without_a_usable_name_is_told_so() {
        let long = "x".repeat(256);
        for pairs in
            [&[][..], &[("x-mq-client-id", "")], &[("x-mq-client-id", "  ")], &[("x-mq-client-id", &long)]]
        {
            let refusal = ClientIdentity::named(&metadata(pairs)).unwrap_err();
            assert_eq!(refusal.code, Code::ClientIdRequired);
            assert!(refusal.sentence.contains("x-mq-client-id"));
        }
    }

    #[test]
    fn official_clients_in_java_and_go_are_given_a_crc32_and_all_others_an_md5() {
        let of = |pairs: &[(&'static str, &str)]| ClientIdentity::of(&metadata(pairs)).digest();
        let (date, request) = (("x-mq-date-time", "20260101T000000Z"), ("x-mq-request-id", "7f4c"));
        for (language, expected) in [
            ("JAVA", DigestType::Crc32),
            ("GO", DigestType::Crc32),
            ("PYTHON", DigestType::Md5),
            ("HTTP", DigestType::Md5),
            ("RUST", DigestType::Md5),
            ("DOTNET", DigestType::Md5),
            ("CPP", DigestType::Md5),
            ("", DigestType::Md5),
        ] {
            assert_eq!(of(&[("x-mq-language", language), date, request]), expected, "{language}");
            assert_eq!(of(&[("x-mq-language", language), date]), DigestType::Md5, "{language}");
            assert_eq!(of(&[("x-mq-language", language), request]), DigestType::Md5, "{language}");
        }
    }

    #[test]
    fn a_heartbeat_has_a_name_unless_it_says_nothing_at_all() {
        let of = |pairs: &[(&'static str, &str)], client_type: i32| {
            let beat = HeartbeatRequest { group: None, client_type };
            let client = ClientIdentity::of_heartbeat(&metadata(pairs), &beat);
            client.map(|client| client.map(|client| client.id)).map_err(|refusal| refusal.code)
        };
        let (java, named) = (("x-mq-language", "JAVA"), ("x-mq-client-id", "c"));
        assert_eq!(of(&[], 0), Ok(None));
        assert_eq!(of(&[("grpc-timeout", "3S")], 0), Ok(None));
        assert_eq!(of(&[named, java], 0), Ok(Some("c".to_owned())));
        assert_eq!(of(&[named], ClientType::PushConsumer as i32), Ok(Some("c".to_owned())));
        assert_eq!(of(&[java], 0), Err(Code::ClientIdRequired));
        assert_eq!(of(&[], ClientType::Producer as i32), Err(Code::ClientIdRequired));
        assert_eq!(of(&[named], 99), Err(Code::UnrecognizedClientType));
    }

    #[test]
    fn deadlines_are_read_as_grpc_writes_them() {
        let check =
            |text: &str, expected: Option<Duration>| assert_eq!(parse_grpc_timeout(text), expected, "{text}");
        check("525600H", Some(Duration::from_secs(525_600 * 3600)));
        check("99999999H", Some(Duration::from_secs(99_999_999 * 3600)));
        check("2M", Some(Duration::from_secs(120)));
        check("40S", Some(Duration::from_secs(40)));
        check("2999999u", Some(Duration::from_micros(2_999_999)));
        check("5n", Some(Duration::from_nanos(5)));
        check("", None);
        check("S", None);
        check("123456789S", None);
        check("-1S", None);
        check("+1S", None);
        check("1s", None);
        check("1é", None);
    }

    #[test]
    fn versions_are_read_leniently() {
        let check =
            |text: &str, expected: &str| assert_eq!(Version::parse(text).to_string(), expected, "{text}");
        check("5.2.0", "5.2.0");
        check("v5.1", "5.1.0");
        check("5.0.3-SNAPSHOT", "5.0.3");
        check("", "0.0.0");
        check("new", "0.0.0");
    }
}
