//! Looks at the guests: licences and banned crates of everything that is linked in, by the lists of `deny.toml`.
//!
//! `cargo deny check` reads the same file and looks deeper (advisories, sources); this needs no install and no
//! network, so it runs every time.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::walls::Metadata;

/// The lists of `deny.toml` that we check ourselves.
struct Rules {
    licences: BTreeSet<String>,
    banned: BTreeSet<String>,
}

/// Every guest that breaks a rule, in words.
pub(crate) fn check(root: &Path, metadata: &Metadata) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(root.join("deny.toml")).context("deny.toml")?;
    let rules =
        Rules { licences: strings(&text, "licenses", "allow"), banned: strings(&text, "bans", "deny") };
    let mut found = Vec::new();
    if rules.licences.is_empty() || rules.banned.is_empty() {
        found.push("deny.toml: [licenses] allow or [bans] deny is missing or empty".to_owned());
    }
    for guest in metadata.packages.iter().filter(|p| p.source.is_some()) {
        let who = format!("{} {}", guest.name, guest.version);
        if rules.banned.contains(&guest.name) {
            found.push(format!("{who} is banned; find who brings it with `cargo tree -i {}`", guest.name));
        }
        match guest.license.as_deref() {
            None => found.push(format!("{who} names no licence")),
            Some(licence) if !allowed(licence, &rules.licences) => {
                found.push(format!("{who} has the licence {licence}, which deny.toml does not allow"));
            }
            Some(_) => {}
        }
    }
    Ok(found)
}

/// Whether an SPDX expression can be fulfilled with allowed licences: any side of an OR, every side of an AND.
/// An older "A/B" means OR. Parentheses are followed.
fn allowed(expression: &str, licences: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let value = either(&words, &mut at, licences);
    value && at == words.len()
}

fn either(words: &[&str], at: &mut usize, licences: &BTreeSet<String>) -> bool {
    let mut value = both(words, at, licences);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        value |= both(words, at, licences);
    }
    value
}

fn both(words: &[&str], at: &mut usize, licences: &BTreeSet<String>) -> bool {
    let mut value = one(words, at, licences);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        value &= one(words, at, licences);
    }
    value
}

fn one(words: &[&str], at: &mut usize, licences: &BTreeSet<String>) -> bool {
    let Some(&word) = words.get(*at) else { return false };
    *at += 1;
    if word == "(" {
        let value = either(words, at, licences);
        *at += 1;
        return value;
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        name = format!("{word} WITH {}", words.get(*at + 1).unwrap_or(&""));
        *at += 2;
    }
    licences.contains(&name)
}

/// The strings of `key = [...]` under `[section]`: the first string of each line, comments left out.
fn strings(text: &str, section: &str, key: &str) -> BTreeSet<String> {
    text.lines()
        .map(str::trim)
        .skip_while(|l| *l != format!("[{section}]"))
        .skip(1)
        .take_while(|l| !l.starts_with('['))
        .skip_while(|l| !l.starts_with(&format!("{key} = [")))
        .skip(1)
        .take_while(|l| !l.starts_with(']'))
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.split('"').nth(1))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_follow_and_or_with_and_parentheses() {
        let licences = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("MIT/Apache-2.0", true),
            ("(MIT OR GPL-3.0) AND Apache-2.0", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("GPL-2.0 WITH LLVM-exception", false),
            ("", false),
        ] {
            assert_eq!(allowed(expression, &licences), expected, "{expression}");
        }
    }

    #[test]
    fn lists_are_read_from_their_own_section() {
        let text = "[bans]\ndeny = [\n  # why\n  { crate = \"a\", reason = \"r\" },\n]\n[licenses]\nallow = [\n  \"MIT\",\n]\n";
        assert_eq!(strings(text, "bans", "deny"), ["a".to_owned()].into());
        assert_eq!(strings(text, "licenses", "allow"), ["MIT".to_owned()].into());
        assert!(strings(text, "licenses", "deny").is_empty());
    }
}
