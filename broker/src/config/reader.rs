//! Walks a YAML document and collects everything that is wrong with it.

use std::net::SocketAddr;
use std::time::Duration;

use access::logging::Logging;
use serde_yaml::{Mapping, Value};

use super::{Advertised, Config, KNOBS};

const KEYS: [&str; 15] = [
    "clusterName",
    "brokerName",
    "brokerId",
    "dataDir",
    "clientListen",
    "controlListen",
    "httpListen",
    "advertised",
    "advertisedControl",
    "nameServers",
    "flush",
    "segmentSize",
    "messageRetention",
    "logging",
    "config",
];

pub(super) fn parse(text: &str) -> Result<Config, Vec<String>> {
    let document: Value = serde_yaml::from_str(text).map_err(|error| vec![format!("is no YAML: {error}")])?;
    let document = match document {
        Value::Mapping(mapping) => mapping,
        Value::Null => Mapping::new(),
        _ => return Err(vec!["must consist of keys and values, such as dataDir: /data".to_owned()]),
    };
    let mut problems = Vec::new();
    let mut config = Config::new("");

    let mut root = Section::new("", &document, &KEYS, &mut problems);
    root.text("clusterName", |text| config.cluster_name = text);
    root.text("brokerName", |text| config.broker_name = text);
    root.number("brokerId", 0, u64::from(u32::MAX), |id| config.broker_id = to_u32(id));
    if root.has("dataDir") {
        root.text("dataDir", |text| config.data_dir = text.into());
    } else {
        root.problem("dataDir is missing: name the directory for messages and state".to_owned());
    }
    root.address("clientListen", |address| config.client_listen = address);
    root.address("controlListen", |address| config.control_listen = address);
    if document.get("httpListen").is_some_and(Value::is_null) {
        config.http_listen = None;
    }
    root.address("httpListen", |address| config.http_listen = Some(address));
    root.choice("flush", &[("Async", store::Flush::Async), ("Sync", store::Flush::Sync)], |flush| {
        config.flush = flush;
    });
    root.parsed("segmentSize", parse_bytes, |bytes| config.segment_bytes = bytes);
    root.texts("nameServers", |servers| config.name_servers = servers);
    if let Some(value) = root.value("logging") {
        match serde_yaml::from_value::<Logging>(value.clone()) {
            Ok(logging) => match access::logging::check(&logging) {
                Ok(()) => config.logging = logging,
                Err(error) => root.problem(error.to_string()),
            },
            Err(error) => root.problem(format!("logging: {error}")),
        }
    }

    root.section("advertised", &["host", "port"], |section| config.advertised = section.advertised());
    root.section("advertisedControl", &["host", "port"], |section| {
        config.advertised_control = section.advertised();
    });
    root.section("messageRetention", &["time", "diskPercent", "deleteAt"], |section| {
        section.parsed("time", parse_duration, |time| config.retention.time = time);
        section.number("diskPercent", 1, 99, |percent| {
            config.retention.disk_percent = u8::try_from(percent).expect("at most 99");
        });
        section.parsed("deleteAt", parse_hour, |hour| config.retention.delete_at_hour = hour);
    });
    let limits = &mut config.limits;
    root.section("config", &KNOBS, |knobs| {
        knobs.number("maxBodyBytes", 1, 64 << 20, |n| limits.max_body_bytes = to_usize(n));
        knobs.number("maxConnections", 1, 1 << 20, |n| limits.max_connections = to_usize(n));
        knobs.number("maxParkedPolls", 1, 1 << 24, |n| limits.max_parked_polls = to_usize(n));
        knobs.number("maxInFlightPerQueue", 1, 1 << 20, |n| limits.max_in_flight_per_queue = to_usize(n));
        knobs.number("maxAttempts", 1, 10_000, |n| limits.max_attempts = to_u32(n));
        knobs.number("persistIntervalMs", 10, 60_000, |n| limits.persist_interval = Duration::from_millis(n));
        knobs.number("stopGraceMs", 0, 600_000, |n| limits.stop_grace = Duration::from_millis(n));
        knobs.number("workerThreads", 1, 1024, |n| limits.worker_threads = Some(to_usize(n)));
    });

    if problems.is_empty() { Ok(config) } else { Err(problems) }
}

/// A mapping of the document, and where its problems go.
struct Section<'a> {
    path: String,
    mapping: &'a Mapping,
    problems: &'a mut Vec<String>,
}

impl<'a> Section<'a> {
    fn new(path: &str, mapping: &'a Mapping, known: &[&str], problems: &'a mut Vec<String>) -> Self {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}.") };
        for key in mapping.keys() {
            match key.as_str() {
                Some(key) if known.contains(&key) => {}
                Some(key) => problems.push(format!("unknown key {prefix}{key}: {}", suggestion(key, known))),
                None => problems.push(format!("a key of {path:?} is no text: quote it")),
            }
        }
        Self { path: prefix, mapping, problems }
    }

    fn problem(&mut self, sentence: String) {
        self.problems.push(sentence);
    }

    fn value(&self, key: &str) -> Option<&'a Value> {
        self.mapping.get(key).filter(|value| !value.is_null())
    }

    fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// A scalar as text: numbers may be written with or without quotes.
    fn scalar(&mut self, key: &str) -> Option<String> {
        match self.value(key)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => {
                self.problems.push(format!(
                    "{}{key} must be one value, not a list, a section or a truth value",
                    self.path
                ));
                None
            }
        }
    }

    fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>, set: impl FnOnce(T)) {
        let Some(text) = self.scalar(key) else { return };
        match parse(text.trim()) {
            Ok(value) => set(value),
            Err(expected) => self.problems.push(format!("{}{key} is {text:?}: {expected}", self.path)),
        }
    }

    fn text(&mut self, key: &str, set: impl FnOnce(String)) {
        self.parsed(
            key,
            |text| if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) },
            set,
        );
    }

    fn number(&mut self, key: &str, min: u64, max: u64, set: impl FnOnce(u64)) {
        let parse = |text: &str| {
            text.parse()
                .ok()
                .filter(|number| (min..=max).contains(number))
                .ok_or_else(|| format!("write a whole number from {min} to {max}"))
        };
        self.parsed(key, parse, set);
    }

    fn address(&mut self, key: &str, set: impl FnOnce(SocketAddr)) {
        self.parsed(
            key,
            |text| {
                text.parse().map_err(|_| "write an IP address and a port, such as 0.0.0.0:8081".to_owned())
            },
            set,
        );
    }

    fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], set: impl FnOnce(T)) {
        let parse = |text: &str| {
            choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
                format!(
                    "choose one of {}",
                    choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
                )
            })
        };
        self.parsed(key, parse, set);
    }

    fn texts(&mut self, key: &str, set: impl FnOnce(Vec<String>)) {
        let Some(value) = self.value(key) else { return };
        let texts = value.as_sequence().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        match texts {
            Some(texts) => set(texts),
            None => self.problem(format!("{}{key} must be a list, such as [\"names:9878\"]", self.path)),
        }
    }

    fn section(&mut self, key: &str, known: &[&str], read: impl FnOnce(&mut Section<'_>)) {
        match self.value(key) {
            None => {}
            Some(Value::Mapping(mapping)) => {
                let path = format!("{}{key}", self.path);
                read(&mut Section::new(&path, mapping, known, self.problems));
            }
            Some(_) => {
                self.problem(format!("{}{key} must be a section with keys {}", self.path, known.join(", ")))
            }
        }
    }

    fn advertised(&mut self) -> Option<Advertised> {
        let (mut host, mut port) = (None, None);
        for key in ["host", "port"] {
            if !self.has(key) {
                self.problem(format!("{}{key} is missing", self.path));
            }
        }
        self.text("host", |text| host = Some(text));
        self.number("port", 1, 65_535, |number| port = u16::try_from(number).ok());
        Some(Advertised { host: host?, port: port? })
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 6] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
    ];
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, *unit)))
        .unwrap_or((text, 1));
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|bytes| (64 << 10..=64 << 30).contains(bytes) && bytes % 4096 == 0)
        .ok_or_else(|| "write bytes from 64Ki to 64Gi, a multiple of 4096, such as 256Mi".to_owned())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let seconds = UNITS.iter().find_map(|(suffix, unit)| {
        text.strip_suffix(suffix)?.parse::<u64>().ok()?.checked_mul(*unit).filter(|seconds| *seconds > 0)
    });
    seconds.map(Duration::from_secs).ok_or_else(|| "write a number and d, h, m or s, such as 72h".to_owned())
}

/// The store keeps hours, so the minutes must be 00.
fn parse_hour(text: &str) -> Result<Option<u8>, String> {
    let hour = text.strip_suffix(":00").and_then(|hour| hour.parse::<u8>().ok()).filter(|hour| *hour < 24);
    match (text, hour) {
        ("anytime", _) => Ok(None),
        (_, Some(hour)) => Ok(Some(hour)),
        (_, None) => Err("write a full hour in UTC, such as \"04:00\", or anytime".to_owned()),
    }
}

fn suggestion(key: &str, known: &[&str]) -> String {
    let nearest = known
        .iter()
        .map(|name| (distance(key, name), *name))
        .min()
        .filter(|(far, name)| *far <= name.len() / 2);
    match nearest {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("known are {}", known.join(", ")),
    }
}

/// Letters to insert, delete or exchange (Levenshtein), without regard to case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let exchanged = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).expect("the range was checked")
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("the range was checked")
}
