//! Tidiness as a test: what a reviewer would otherwise have to say again and again.
//!
//! Each rule is a function from a file's path and text to complaints, so that it can be tested on a line of text.

use std::path::Path;

/// Words that mark unfinished work. Written in pieces so that this file passes its own rule.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[", "ignore"),
];

/// The one folder that may hold `unsafe`.
const UNSAFE_HOME: &str = "store/src/disk/";

/// Every complaint about one file, in words.
pub(crate) fn check(path: &Path, text: &str) -> Vec<String> {
    let name = path.to_string_lossy().replace('\\', "/");
    let mut found = unfinished(&name, text);
    if name.ends_with(".rs") {
        found.extend(module_says_what_it_is_for(&name, text));
        found.extend(unsafe_stays_home(&name, text));
        found.extend(exceptions_give_a_reason(&name, text));
    }
    found
}

fn unfinished(name: &str, text: &str) -> Vec<String> {
    lines(text)
        .filter_map(|(number, line)| {
            let word = UNFINISHED.iter().find(|w| has_word(line, w))?;
            Some(format!(
                "{name}:{number}: {word}: finish it, or open an issue and say what works without it"
            ))
        })
        .collect()
}

/// Whether the line has the word as a word: `TODOs` and `mktodo` are other words.
fn has_word(line: &str, word: &str) -> bool {
    let letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let goes_on = letter(word.chars().next_back()) && letter(after.chars().next());
        !letter(before.chars().next_back()) && !goes_on
    })
}

fn module_says_what_it_is_for(name: &str, text: &str) -> Option<String> {
    // Tests that lie in a file beside their module are about that module.
    if name.ends_with("/tests.rs") {
        return None;
    }
    let first = text.lines().find(|l| !l.trim().is_empty() && !l.starts_with("// "))?;
    (!first.starts_with("//!"))
        .then(|| format!("{name}: the first line says what the module is for (`//! ...`)"))
}

fn unsafe_stays_home(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let root = name.ends_with("/src/lib.rs") || name.ends_with("/src/main.rs");
    if root && !name.starts_with("store/") && !text.contains("#![forbid(unsafe_code)]") {
        found.push(format!("{name}: a crate root says #![forbid(unsafe_code)]"));
    }
    if !name.starts_with(UNSAFE_HOME) {
        let keyword = concat!("un", "safe");
        let starts = ["{", "fn", "impl", "extern", "trait"].map(|next| format!("{keyword} {next}"));
        found.extend(
            lines(text)
                .filter(|(_, l)| !l.trim_start().starts_with("//") && starts.iter().any(|s| has_word(l, s)))
                .map(|(number, _)| format!("{name}:{number}: unsafe lives in {UNSAFE_HOME} only")),
        );
    }
    found
}

fn exceptions_give_a_reason(name: &str, text: &str) -> Vec<String> {
    let bare = [concat!("#[", "allow("), concat!("#![", "allow(")];
    lines(text)
        .filter(|(_, l)| bare.iter().any(|b| l.trim_start().starts_with(b)))
        .map(|(number, _)| format!("{name}:{number}: an exception is #[expect(lint, reason = \"...\")]"))
        .collect()
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(name: &str, text: &str) -> Vec<String> {
        check(Path::new(name), text)
    }

    #[test]
    fn a_tidy_file_passes() {
        assert_eq!(
            complaints("store/src/segment.rs", "//! A file of a log.\nfn x() {}\n"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let unfinished = format!("//! x.\n// {}: later\n", concat!("TO", "DO"));
        let danger = format!("//! x.\nfn f() {{ {} {{ g() }} }}\n", concat!("un", "safe"));
        let exception = format!("//! x.\n{}dead_code)]\n", concat!("#[", "allow("));
        for (name, text, expected) in [
            ("a/src/b.rs", "fn x() {}\n", "says what the module is for"),
            ("a/src/b.rs", unfinished.as_str(), "finish it"),
            ("a/src/b.rs", danger.as_str(), "unsafe lives in"),
            ("a/src/b.rs", exception.as_str(), "an exception is"),
            ("a/src/lib.rs", "//! x.\n", "forbid"),
        ] {
            let found = complaints(name, text);
            assert!(found.len() == 1 && found[0].contains(expected), "{name}: {found:?}");
        }
    }

    #[test]
    fn unsafe_is_at_home_in_the_disk() {
        let text = format!("//! x.\nfn f() {{ {} {{ g() }} }}\n", concat!("un", "safe"));
        assert!(complaints("store/src/disk/mapped.rs", &text).is_empty());
    }

    #[test]
    fn longer_words_are_other_words() {
        assert!(!has_word(concat!("mkTO", "DOs"), UNFINISHED[0]));
        assert!(has_word(concat!("// TO", "DO: x"), UNFINISHED[0]));
    }
}
