//! Many topics in one command: which they are, and what came of all of them.

use std::io::Read as _;
use std::path::Path;

use serde::Serialize;

use crate::args::TopicNames;
use crate::failure::Failure;
use crate::output::{Paint, View};
use crate::units;

/// What `--count` replaces.
const NUMBER: &str = "{n}";
/// So many refusals are told one by one.
const TOLD: usize = 10;

impl TopicNames {
    /// All names, in their order.
    pub(crate) fn all(&self) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for name in &self.topics {
            match (name.contains(NUMBER), self.count) {
                (true, Some(count)) => {
                    names.extend((1..=count).map(|n| name.replace(NUMBER, &n.to_string())))
                }
                (false, None) => names.push(name.clone()),
                (true, None) => {
                    return Err(Failure::usage(format!("{name} has {NUMBER}: say how many with --count N")));
                }
                (false, Some(_)) => {
                    let what = format!("--count makes topics of a name with {NUMBER}, and {name} has none");
                    return Err(Failure::usage(what).next(format!("for example '{name}-{NUMBER}'")));
                }
            }
        }
        if let Some(file) = &self.file {
            names.extend(lines(&read(file)?));
        }
        match names.is_empty() {
            true => Err(Failure::usage("there is no name in the file: write one on each line")),
            false => Ok(names),
        }
    }

    /// Whether one topic is meant, and no list of them.
    pub(crate) fn is_single(&self) -> bool {
        self.topics.len() == 1 && self.count.is_none() && self.file.is_none()
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let outcome = match file == Path::new("-") {
        true => std::io::stdin().read_to_string(&mut text).map(drop),
        false => std::fs::read_to_string(file).map(|content| text = content),
    };
    outcome.map_err(|error| Failure::failed(format!("cannot read {}: {error}", file.display())))?;
    Ok(text)
}

fn lines(text: &str) -> impl Iterator<Item = String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

/// What came of many topics.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// What was done to those that were changed.
    #[serde(skip)]
    pub done: &'static str,
    /// How many were changed.
    pub changed: usize,
    /// How many were so already.
    pub unchanged: usize,
    /// Where: names of brokers, or the namespace.
    pub on: Vec<String>,
    /// Those that stay as they were, and why.
    pub refused: Vec<Refused>,
}

/// A topic that was not changed, because it could not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// Which.
    pub topic: String,
    /// Why; with the broker where it was refused.
    pub why: String,
}

impl View for Outcome {
    fn text(&self, _: Paint) -> String {
        let Self { done, changed, unchanged, on, refused } = self;
        let mut text = units::counted(*changed as u64, "topic");
        text.push_str(&format!(" {done}"));
        if *unchanged > 0 {
            text.push_str(&format!(", {unchanged} unchanged"));
        }
        if !refused.is_empty() {
            text.push_str(&format!(", {} refused", refused.len()));
        }
        format!("{text} on {}", on.join(", "))
    }
}

impl Outcome {
    /// Where something was refused, the command failed, whatever else it did.
    pub(crate) fn judge(&self) -> Result<(), Failure> {
        let Some(first) = self.refused.first() else { return Ok(()) };
        for Refused { topic, why } in self.refused.iter().take(TOLD).skip(1) {
            eprintln!("refused: {topic}: {why}");
        }
        let rest = match self.refused.len() {
            1 => String::new(),
            count => format!(" ({count} were refused; -o json lists all)"),
        };
        Err(Failure::failed(format!("topic {} was refused: {}{rest}", first.topic, first.why)))
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    fn names(topics: &[&str], count: Option<u32>) -> TopicNames {
        TopicNames { topics: topics.iter().map(|name| (*name).to_owned()).collect(), count, file: None }
    }

    #[test]
    fn names_are_numbered_listed_and_taken_as_they_are() {
        assert_eq!(names(&["a", "b"], None).all().unwrap(), ["a", "b"]);
        assert_eq!(names(&["a-{n}", "{n}b"], Some(2)).all().unwrap(), ["a-1", "a-2", "1b", "2b"]);
        assert_eq!(lines("a\n\n # b\n  c \r\n").collect::<Vec<_>>(), ["a", "c"]);
        assert!(names(&["a-{n}"], None).all().unwrap_err().what().contains("--count"));
        assert!(names(&["a"], Some(2)).all().unwrap_err().what().contains("a has none"));
        assert!(names(&["a"], None).is_single() && !names(&["a-{n}"], Some(1)).is_single());
    }

    #[test]
    fn an_outcome_counts_and_names_what_was_refused() {
        let refused = Refused { topic: "x".to_owned(), why: "broker-a: it differs".to_owned() };
        let on = vec!["broker-a".to_owned()];
        let outcome = Outcome { done: "created", changed: 3, unchanged: 1, on, refused: vec![refused] };
        assert_snapshot!(render(&outcome, Format::Table, Paint(false)).unwrap(), @"3 topics created, 1 unchanged, 1 refused on broker-a");
        assert_snapshot!(outcome.judge().unwrap_err(), @"error: topic x was refused: broker-a: it differs");
        assert_snapshot!(render(&outcome, Format::Yaml, Paint(false)).unwrap(), @r"
        changed: 3
        unchanged: 1
        on:
        - broker-a
        refused:
        - topic: x
          why: 'broker-a: it differs'
        ");
    }
}
