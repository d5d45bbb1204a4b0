//! JSON as fastjson writes it, made JSON as everybody reads it: keys that are integers get their quotes.
//!
//! RocketMQ keeps maps from queue ids to offsets, and fastjson writes their keys bare: `{0:12,1:7}`. Nothing else in
//! its files is out of the ordinary.

use std::borrow::Cow;

/// Puts quotes around bare integer keys, and changes nothing else. What is no JSON stays none: whoever parses it then
/// finds the mistake.
#[must_use]
pub fn quote_integer_keys(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    // A key can stand behind `{`, and behind `,`. Behind the comma of an array stands a value, which no colon follows.
    let mut key_may_come = false;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = behind_string(bytes, at);
                key_may_come = false;
                continue;
            }
            b'{' | b',' => key_may_come = true,
            byte if byte.is_ascii_whitespace() => {}
            b'-' | b'0'..=b'9' if key_may_come => {
                let end = behind_integer(bytes, at);
                if next_is_colon(bytes, end) {
                    out.push_str(&text[copied..at]);
                    out.push('"');
                    out.push_str(&text[at..end]);
                    out.push('"');
                    copied = end;
                }
                key_may_come = false;
                at = end;
                continue;
            }
            _ => key_may_come = false,
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Where the text goes on behind the string that starts here, or its end.
fn behind_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn behind_integer(bytes: &[u8], start: usize) -> usize {
    let digits = bytes[start + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    start + 1 + digits
}

fn next_is_colon(bytes: &[u8], from: usize) -> bool {
    bytes[from..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn bare_integer_keys_get_quotes_and_all_else_stays() {
        let check = |text: &str, expected: &str| assert_eq!(quote_integer_keys(text), expected);
        check("{0:12,1:7}", r#"{"0":12,"1":7}"#);
        check(r#"{"a@b":{0:12, -1 : 7}}"#, r#"{"a@b":{"0":12, "-1" : 7}}"#);
        check("{\n\t10\n:\t1}", "{\n\t\"10\"\n:\t1}");
        check("[1,2,3]", "[1,2,3]");
        check(r#"{"a":[1,-2],"b":3}"#, r#"{"a":[1,-2],"b":3}"#);
        check(r#"{"{0:1,\"2:3":1}"#, r#"{"{0:1,\"2:3":1}"#);
        check(r#"{"0":1}"#, r#"{"0":1}"#);
        check("{0:", r#"{"0":"#);
        check("{\"", "{\"");
        check("{1.5:2}", "{1.5:2}");
        check("", "");
    }

    /// As fastjson prints it: keys that are integers are bare.
    fn printed(value: &Value, out: &mut String) {
        match value {
            Value::Object(members) => {
                out.push('{');
                for (index, (key, member)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    if key.parse::<i64>().is_ok_and(|number| number.to_string() == *key) {
                        out.push_str(key);
                    } else {
                        out.push_str(&Value::from(key.as_str()).to_string());
                    }
                    out.push_str(":\t");
                    printed(member, out);
                }
                out.push('}');
            }
            Value::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push_str(", ");
                    }
                    printed(item, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = prop_oneof![any::<i64>().prop_map(|number| number.to_string()), "[{},:\"\\\\0-9a ]{0,8}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 6, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec((text.clone(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_fastjson_prints_is_read_as_it_was(value in json()) {
            let mut text = String::new();
            printed(&value, &mut text);
            prop_assert_eq!(serde_json::from_str::<Value>(&quote_integer_keys(&text)).unwrap(), value);
        }

        #[test]
        fn what_was_json_before_stays_as_it_was(value in json()) {
            let text = value.to_string();
            prop_assert!(matches!(quote_integer_keys(&text), Cow::Borrowed(same) if same == text));
        }

        #[test]
        fn any_text_is_survived(text in "[{}\\[\\],:\"\\\\0-9aä -]{0,40}") {
            let quoted = quote_integer_keys(&text);
            prop_assert_eq!(quoted.replace('"', ""), text.replace('"', ""), "only quotes are added");
        }
    }
}
