//! Filters of type TAG.

use super::Filter;

/// The tags that are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tags {
    /// Beside each its hash, as it lies in the consume queue.
    wanted: Vec<(Box<str>, i64)>,
    text: Box<str>,
}

/// `*` or nothing: all; else tags with `||` between them. The error says what is wrong.
pub(super) fn parse(expression: &str) -> Result<Filter, String> {
    let expression = expression.trim();
    if expression.is_empty() || expression == "*" {
        return Ok(Filter::All);
    }
    let mut tags: Vec<(Box<str>, i64)> = Vec::new();
    for tag in expression.split("||").map(str::trim) {
        if tag.is_empty() {
            return Err(format!("the expression {expression:?} has an empty tag: write it as \"a || b\""));
        }
        if tag.contains('|') || tag.chars().any(char::is_control) {
            return Err(format!(
                "the tag {tag:?} contains '|' or a control character: write tags as \"a || b\""
            ));
        }
        if tag == "*" {
            return Ok(Filter::All);
        }
        tags.push((tag.into(), java_hash(tag)));
    }
    tags.sort_unstable();
    tags.dedup();
    let texts: Vec<&str> = tags.iter().map(|(tag, _)| &**tag).collect();
    Ok(Filter::Tags(Tags { text: texts.join(" || ").into(), wanted: tags }))
}

impl Tags {
    /// Sorted, each once.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the hash may belong to a tag that is wanted.
    pub(super) fn may_take(&self, tags_code: i64) -> bool {
        self.wanted.iter().any(|(_, hash)| *hash == tags_code)
    }

    /// Whether a message with this tag is wanted.
    pub(super) fn take(&self, tag: Option<&str>) -> bool {
        self.wanted.iter().any(|(wanted, _)| Some(&**wanted) == tag)
    }
}

/// `String.hashCode` of Java, as the consume queue keeps it.
fn java_hash(text: &str) -> i64 {
    let hash =
        text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    i64::from(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(filter: &Filter, tag: Option<&str>) -> bool {
        filter.takes(tag.map(|tag| ("TAGS", tag)).into_iter())
    }

    #[test]
    fn expressions_are_read_as_rocketmq_reads_them() {
        let check = |expression: &str, taken: &[&str], left: &[&str]| {
            let filter = parse(expression).unwrap();
            for tag in taken {
                assert!(takes(&filter, Some(tag)) && filter.may_take(java_hash(tag)), "{expression:?} {tag}");
            }
            for tag in left {
                assert!(!takes(&filter, Some(tag)), "{expression:?} {tag}");
            }
        };
        check("*", &["a", "b"], &[]);
        check("", &["a"], &[]);
        check("  * ", &["a"], &[]);
        check("a", &["a"], &["b", "A", " a"]);
        check("a || b", &["a", "b"], &["c"]);
        check("a||b", &["a", "b"], &["a||b"]);
        check("a || *", &["x"], &[]);
        assert!(!takes(&parse("a").unwrap(), None));
        assert!(takes(&parse("*").unwrap(), None));
    }

    #[test]
    fn the_order_of_tags_makes_no_other_filter() {
        assert_eq!(parse("b || a||b").unwrap(), parse("a||b").unwrap());
        assert_eq!(parse("b || a").unwrap().text(), "a || b");
        assert_ne!(parse("a").unwrap(), parse("a||b").unwrap());
    }

    #[test]
    fn two_tags_with_one_hash_are_told_apart() {
        assert_eq!(java_hash("Aa"), java_hash("BB"));
        let filter = parse("Aa").unwrap();
        assert!(filter.may_take(java_hash("BB")));
        assert!(!takes(&filter, Some("BB")));
    }

    #[test]
    fn hashes_are_those_of_java() {
        assert_eq!(java_hash("TagA"), 2_598_919);
        assert_eq!(java_hash("a tag that overflows"), i64::from(java_hash("a tag that overflows") as i32));
        assert_eq!(java_hash(""), 0);
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for expression in ["a ||", "|| a", "a | b", "a || \n b\u{7}", "||"] {
            assert!(parse(expression).is_err(), "{expression:?}");
        }
    }
}
