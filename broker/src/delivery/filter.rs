//! Which messages a poll wants: all, or those with one of some tags.

/// A parsed filter expression of type TAG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Every message.
    All,
    /// Messages with one of these tags; beside each its hash, as it lies in the consume queue.
    Tags(Vec<(i64, Box<str>)>),
}

impl Filter {
    /// `*` or nothing: all; else tags with `||` between them. The error says what is wrong.
    pub(crate) fn parse(expression: &str) -> Result<Self, String> {
        let expression = expression.trim();
        if expression.is_empty() || expression == "*" {
            return Ok(Self::All);
        }
        let mut tags = Vec::new();
        for tag in expression.split("||").map(str::trim) {
            if tag.is_empty() {
                return Err(format!(
                    "the expression {expression:?} has an empty tag: write it as \"a || b\""
                ));
            }
            if tag.contains('|') || tag.chars().any(char::is_control) {
                return Err(format!(
                    "the tag {tag:?} contains '|' or a control character: write tags as \"a || b\""
                ));
            }
            if tag == "*" {
                return Ok(Self::All);
            }
            tags.push((java_hash(tag), tag.into()));
        }
        Ok(Self::Tags(tags))
    }

    /// Whether the hash may belong to a tag that is wanted.
    pub(crate) fn may_take(&self, tags_code: i64) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => tags.iter().any(|(hash, _)| *hash == tags_code),
        }
    }

    /// Whether a message with this tag is wanted.
    pub(crate) fn takes(&self, tag: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Tags(tags) => tags.iter().any(|(_, wanted)| Some(&**wanted) == tag),
        }
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

    #[test]
    fn expressions_are_read_as_rocketmq_reads_them() {
        let check = |expression: &str, taken: &[&str], left: &[&str]| {
            let filter = Filter::parse(expression).unwrap();
            for tag in taken {
                assert!(filter.takes(Some(tag)) && filter.may_take(java_hash(tag)), "{expression:?} {tag}");
            }
            for tag in left {
                assert!(!filter.takes(Some(tag)), "{expression:?} {tag}");
            }
        };
        check("*", &["a", "b"], &[]);
        check("", &["a"], &[]);
        check("  * ", &["a"], &[]);
        check("a", &["a"], &["b", "A", " a"]);
        check("a || b", &["a", "b"], &["c"]);
        check("a||b", &["a", "b"], &["a||b"]);
        check("a || *", &["x"], &[]);
        assert!(!Filter::parse("a").unwrap().takes(None));
        assert!(Filter::parse("*").unwrap().takes(None));
    }

    #[test]
    fn two_tags_with_one_hash_are_told_apart() {
        assert_eq!(java_hash("Aa"), java_hash("BB"));
        let filter = Filter::parse("Aa").unwrap();
        assert!(filter.may_take(java_hash("BB")));
        assert!(!filter.takes(Some("BB")));
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
            assert!(Filter::parse(expression).is_err(), "{expression:?}");
        }
    }
}
