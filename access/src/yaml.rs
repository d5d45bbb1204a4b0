//! Configuration files: YAML with camelCase keys, all mistakes reported at once.
//!
//! A key that does not exist is answered with the nearest that does, and every other mistake with what
//! may stand there.

use std::net::SocketAddr;
use std::time::Duration;

use serde_yaml::{Mapping, Value};

use crate::logging::{self, Logging};

/// Reads the document `text`, whose keys are `known`, by `read`. All problems found, if any.
pub fn read(text: &str, known: &[&str], read: impl FnOnce(&mut Section<'_>)) -> Result<(), Vec<String>> {
    let document: Value = serde_yaml::from_str(text).map_err(|error| vec![format!("is no YAML: {error}")])?;
    let document = match document {
        Value::Mapping(mapping) => mapping,
        Value::Null => Mapping::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Sequence(_) | Value::Tagged(_) => {
            return Err(vec!["must consist of keys and values, such as httpListen: 0.0.0.0:9090".to_owned()]);
        }
    };
    let mut problems = Vec::new();
    read(&mut Section::new("", &document, known, &mut problems));
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// A mapping of the document, and where its problems go.
#[derive(Debug)]
pub struct Section<'a> {
    path: String,
    mapping: &'a Mapping,
    problems: &'a mut Vec<String>,
}

impl<'a> Section<'a> {
    /// A section at `path` that may hold the keys `known`; others are problems.
    pub fn new(path: &str, mapping: &'a Mapping, known: &[&str], problems: &'a mut Vec<String>) -> Self {
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

    /// Reports a problem.
    pub fn problem(&mut self, sentence: String) {
        self.problems.push(sentence);
    }

    /// What lies under `key`, unless it is null.
    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.mapping.get(key).filter(|value| !value.is_null())
    }

    /// Whether there is something under `key`.
    pub fn has(&self, key: &str) -> bool {
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

    /// A scalar that `parse` understands; what it expects otherwise is its error.
    pub fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>, set: impl FnOnce(T)) {
        let Some(text) = self.scalar(key) else { return };
        match parse(text.trim()) {
            Ok(value) => set(value),
            Err(expected) => self.problems.push(format!("{}{key} is {text:?}: {expected}", self.path)),
        }
    }

    /// A text that is not empty.
    pub fn text(&mut self, key: &str, set: impl FnOnce(String)) {
        self.parsed(
            key,
            |text| if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) },
            set,
        );
    }

    /// A whole number from `min` to `max`.
    pub fn number(&mut self, key: &str, min: u64, max: u64, set: impl FnOnce(u64)) {
        let parse = |text: &str| {
            text.parse()
                .ok()
                .filter(|number| (min..=max).contains(number))
                .ok_or_else(|| format!("write a whole number from {min} to {max}"))
        };
        self.parsed(key, parse, set);
    }

    /// An address to listen on.
    pub fn address(&mut self, key: &str, set: impl FnOnce(SocketAddr)) {
        self.parsed(
            key,
            |text| {
                text.parse().map_err(|_| "write an IP address and a port, such as 0.0.0.0:8081".to_owned())
            },
            set,
        );
    }

    /// One of these words.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], set: impl FnOnce(T)) {
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

    /// `true` or `false`, with quotes or without.
    pub fn flag(&mut self, key: &str, set: impl FnOnce(bool)) {
        match self.value(key) {
            Some(Value::Bool(flag)) => set(*flag),
            _ => self.choice(key, &[("true", true), ("false", false)], set),
        }
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &str, set: impl FnOnce(Vec<String>)) {
        let Some(value) = self.value(key) else { return };
        let texts = value.as_sequence().and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>()
        });
        match texts {
            Some(texts) => set(texts),
            None => self.problem(format!("{}{key} must be a list, such as [\"names:9878\"]", self.path)),
        }
    }

    /// A section within this one.
    pub fn section(&mut self, key: &str, known: &[&str], read: impl FnOnce(&mut Section<'_>)) {
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

    /// A list of sections.
    pub fn sections(&mut self, key: &str, known: &[&str], mut read: impl FnMut(&mut Section<'_>)) {
        let Some(value) = self.value(key) else { return };
        let items = value.as_sequence().map(|items| items.iter().map(Value::as_mapping));
        match items.and_then(|items| items.collect::<Option<Vec<&Mapping>>>()) {
            Some(items) => {
                for (number, mapping) in items.into_iter().enumerate() {
                    let path = format!("{}{key}[{number}]", self.path);
                    read(&mut Section::new(&path, mapping, known, self.problems));
                }
            }
            None => {
                self.problem(format!(
                    "{}{key} must be a list of sections with keys {}",
                    self.path,
                    known.join(", ")
                ));
            }
        }
    }

    /// The section `logging`.
    pub fn logging(&mut self, set: impl FnOnce(Logging)) {
        let Some(value) = self.value("logging") else { return };
        match serde_yaml::from_value::<Logging>(value.clone()) {
            Ok(logging) => match logging::check(&logging) {
                Ok(()) => set(logging),
                Err(error) => self.problem(error.to_string()),
            },
            Err(error) => self.problem(format!("logging: {error}")),
        }
    }

    /// An address to listen on; null turns it off.
    pub fn optional_address(&mut self, key: &str, set: impl FnOnce(Option<SocketAddr>)) {
        match self.mapping.get(key) {
            Some(Value::Null) => set(None),
            _ => self.address(key, |address| set(Some(address))),
        }
    }
}

/// A whole number of days, hours, minutes or seconds, such as `72h`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
    let seconds = UNITS.iter().find_map(|(suffix, unit)| {
        text.strip_suffix(suffix)?.parse::<u64>().ok()?.checked_mul(*unit).filter(|seconds| *seconds > 0)
    });
    seconds.map(Duration::from_secs).ok_or_else(|| "write a number and d, h, m or s, such as 72h".to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Seen {
        text: String,
        number: u64,
        http: Option<SocketAddr>,
        servers: Vec<String>,
        wait: Duration,
        inner: u64,
        kind: u8,
        flags: [bool; 2],
    }

    fn seen(text: &str) -> Result<Seen, Vec<String>> {
        let mut seen = Seen { http: Some(SocketAddr::from(([0, 0, 0, 0], 9090))), ..Seen::default() };
        let known =
            ["text", "number", "httpListen", "servers", "wait", "kind", "on", "off", "config", "logging"];
        read(text, &known, |root| {
            root.text("text", |text| seen.text = text);
            root.number("number", 1, 9, |number| seen.number = number);
            root.optional_address("httpListen", |address| seen.http = address);
            root.texts("servers", |servers| seen.servers = servers);
            root.parsed("wait", parse_duration, |wait| seen.wait = wait);
            root.choice("kind", &[("One", 1), ("Two", 2)], |kind| seen.kind = kind);
            root.flag("on", |on| seen.flags[0] = on);
            root.flag("off", |off| seen.flags[1] = !off);
            root.section("config", &["inner"], |config| {
                config.number("inner", 0, 5, |number| seen.inner = number)
            });
            root.logging(|_| {});
        })?;
        Ok(seen)
    }

    #[test]
    fn a_document_is_read_key_by_key() {
        let all = "text: a\nnumber: '3'\nhttpListen: null\nservers: [x, y]\nwait: 30s\nkind: Two\non: true\noff: 'false'\nconfig: {inner: 5}";
        let all = seen(all).unwrap();
        assert_eq!((all.text.as_str(), all.number, all.http, all.kind), ("a", 3, None, 2));
        assert_eq!((all.servers.len(), all.wait, all.inner), (2, Duration::from_secs(30), 5));
        assert_eq!(all.flags, [true; 2]);
        assert_eq!(seen("").unwrap().http.unwrap().port(), 9090);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let text = "txet: a\nnumber: 10\nhttpListen: here\nservers: x\nwait: soon\nkind: Three\non: 1\n\
                    config: {iner: 1, inner: [1]}\nlogging: {levels: {a: loud}}\n7: 7";
        let problems = seen(text).unwrap_err();
        let check = |part: &str| assert!(problems.iter().any(|p| p.contains(part)), "{part}: {problems:#?}");
        check("txet: did you mean text?");
        check("number is \"10\": write a whole number from 1 to 9");
        check("httpListen is \"here\"");
        check("servers must be a list");
        check("wait is \"soon\"");
        check("choose one of One, Two");
        check("on is \"1\": choose one of true, false");
        check("config.iner: did you mean inner?");
        check("config.inner must be one value");
        check("loud");
        check("quote it");
        assert_eq!(problems.len(), 11);
        assert!(seen("- a").unwrap_err()[0].contains("keys and values"));
        assert!(seen("a: [").unwrap_err()[0].contains("no YAML"));
        assert!(seen("zzzzzzzzzzzzzzzz: 1").unwrap_err()[0].contains("known are"));
    }
}
