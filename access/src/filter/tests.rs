use super::*;

/// The properties `a='x' b='y'`.
fn message(text: &str) -> Vec<(&str, &str)> {
    text.split_whitespace().map(|pair| pair.split_once('=').unwrap()).collect()
}

#[track_caller]
fn check(expression: &str, properties: &str, expected: Option<bool>) {
    let sql = parse::sql(expression).unwrap_or_else(|mistake| panic!("{expression}: {mistake}"));
    assert_eq!(sql.holds(message(properties).into_iter()), expected, "{expression} of {properties}");
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const UNKNOWN: Option<bool> = None;

#[test]
fn numbers_are_compared_as_numbers() {
    for (expression, properties, expected) in [
        ("a > 5", "a=6", YES),
        ("a > 5", "a=5", NO),
        ("a >= 5", "a=5", YES),
        ("a < 5", "a=-7", YES),
        ("a <= 5", "a=05", YES),
        ("5 < a", "a=10", YES),
        ("a = 5", "a=5.0", YES),
        ("a <> 5", "a=6", YES),
        ("a != 5", "a=5", NO),
        ("a > 5", "a=5.5", YES),
        ("a > 5.25", "a=5", NO),
        ("a > .5", "a=1", YES),
        ("a > 5.", "a=6", YES),
        ("a = 1e3", "a=1000", YES),
        ("a = 1E-2", "a=0.01", YES),
        ("a > 2147483647", "a=3000000000", YES),
        ("a = 5L", "a=5", YES),
        ("a = -9223372036854775808", "a=-9223372036854775808", YES),
        ("a = - -5", "a=5", YES),
        ("a = +5", "a=+5", YES),
        ("-a = 5", "a=-5", YES),
        ("-a < 0", "a=x", UNKNOWN),
        ("a > b", "a=10 b=9", YES),
        ("a > b", "a=x b=9", UNKNOWN),
        ("a > 5", "a=five", UNKNOWN),
        ("a = 5", "a=five", UNKNOWN),
        ("a <> 5", "a=five", UNKNOWN),
        ("a > 5", "a=NaN", UNKNOWN),
        ("a > 5", "a=inf", UNKNOWN),
        ("a > 5", "a=1e999", UNKNOWN),
        ("a > 5", "", UNKNOWN),
        ("a BETWEEN 1 AND 3", "a=1", YES),
        ("a BETWEEN 1 AND 3", "a=3.5", NO),
        ("a NOT BETWEEN 1 AND 3", "a=3.5", YES),
        ("a NOT BETWEEN 1 AND 3", "a=2", NO),
        ("a BETWEEN low AND 3", "a=2", UNKNOWN),
        ("a BETWEEN low AND 3", "a=4", NO),
        ("a BETWEEN -3 AND -1 OR b", "a=-2", YES),
    ] {
        check(expression, properties, expected);
    }
}

#[test]
fn text_is_compared_to_the_letter() {
    for (expression, properties, expected) in [
        ("a = 'x'", "a=x", YES),
        ("a = 'x'", "a=X", NO),
        ("a <> 'x'", "a=y", YES),
        ("a <> 'x'", "", UNKNOWN),
        ("a = '5'", "a=5.0", NO),
        ("a = 'it''s'", "a=it's", YES),
        ("a = ''''", "a='", YES),
        ("a = b", "a=x b=x", YES),
        ("a = b", "a=x", UNKNOWN),
        ("a = b", "", UNKNOWN),
        ("a IN ('x', 'y')", "a=y", YES),
        ("a IN ('x','y')", "a=z", NO),
        ("a NOT IN ('x')", "a=z", YES),
        ("a NOT IN ('x')", "", UNKNOWN),
        ("a CONTAINS 'b'", "a=abc", YES),
        ("a CONTAINS 'x'", "a=abc", NO),
        ("a NOT CONTAINS 'x'", "a=abc", YES),
        ("a CONTAINS 'x'", "", NO),
        ("a NOT CONTAINS 'x'", "", NO),
        ("NOT (a CONTAINS 'x')", "", YES),
        ("a STARTSWITH 'ab'", "a=abc", YES),
        ("a STARTSWITH 'b'", "a=abc", NO),
        ("a NOT STARTSWITH 'b'", "a=abc", YES),
        ("a ENDSWITH 'bc'", "a=abc", YES),
        ("a ENDSWITH 'b'", "a=abc", NO),
        ("a not endswith 'b'", "a=abc", YES),
        ("a LIKE 'a%'", "a=abc", YES),
        ("a NOT LIKE 'a%'", "a=abc", NO),
        ("a NOT LIKE 'a%'", "", NO),
    ] {
        check(expression, properties, expected);
    }
}

#[test]
fn patterns_match_the_whole_text() {
    let check = |pattern: &str, escape: Option<char>, matched: &[&str], left: &[&str]| {
        let pattern = like::Pattern::parse(pattern.into(), escape).unwrap();
        matched.iter().for_each(|text| assert!(pattern.matches(text), "{pattern:?} {text}"));
        left.iter().for_each(|text| assert!(!pattern.matches(text), "{pattern:?} {text}"));
    };
    check("abc", None, &["abc"], &["ab", "abcd", "xabc", ""]);
    check("", None, &[""], &["a"]);
    check("%", None, &["", "a", "äöü"], &[]);
    check("_", None, &["a", "ä", "日"], &["", "ab"]);
    check("a%c", None, &["ac", "abc", "acc", "aäc"], &["a", "c", "acb"]);
    check("%b_d%", None, &["abcd", "bxd", "bbbcd", "bxbxdx"], &["bd", "abc"]);
    check("a%a", None, &["aa", "aba"], &["a"]);
    check("%ab%ba%", None, &["abba", "xabxbax"], &["aba"]);
    check("%aab%", None, &["aaab"], &["aaa"]);
    check("%__%", None, &["ab", "abc"], &["a", ""]);
    check("50!%", Some('!'), &["50%"], &["500"]);
    check("a!!b!_c", Some('!'), &["a!b_c"], &["a!bxc"]);
    check("a%%c", Some('%'), &["a%c"], &["abc"]);
    let long = "x".repeat(like::LONGEST_PIECE);
    check(&format!("%{long}%"), None, &[&format!("a{long}x")], &[&long[1..]]);
}

#[test]
fn what_is_known_decides_and_the_rest_is_unknown() {
    for (expression, properties, expected) in [
        ("TRUE", "", YES),
        ("FALSE", "", NO),
        ("NULL", "", UNKNOWN),
        ("a IS NULL", "", YES),
        ("a IS NULL", "a=x", NO),
        ("a IS NOT NULL", "a=x", YES),
        ("a is not null", "", NO),
        ("(a > 5) IS NULL", "a=x", YES),
        ("a = 1 AND b = 1", "a=2", NO),
        ("a = 1 AND b = 1", "b=2", NO),
        ("a = 1 AND b = 1", "a=1", UNKNOWN),
        ("a = 1 OR b = 1", "b=1", YES),
        ("a = 1 OR b = 1", "a=2", UNKNOWN),
        ("NOT (a = 1)", "", UNKNOWN),
        ("NOT NOT (a = 1)", "a=1", YES),
        ("a = 1 OR a = 2 AND b = 3", "a=1 b=4", YES),
        ("(a = 1 OR a = 2) AND b = 3", "a=1 b=4", NO),
        ("NOT a AND b", "a=no b=true", YES),
        ("NOT a = 5", "a=6", YES),
        ("NOT a = 5", "a=5", NO),
        ("NOT a = 5", "", UNKNOWN),
        ("NOT a IS NULL", "a=x", YES),
        ("NOT a IS NULL", "", NO),
        ("NOT a IN ('x')", "a=y", YES),
        ("NOT a BETWEEN 1 AND 3 AND b", "a=4 b=true", YES),
        ("NOT NOT a LIKE 'x%'", "a=xy", YES),
        ("NOT a = 1 AND b = 2", "a=1 b=2", NO),
        ("NOT a = 1 OR b = 2", "a=1 b=2", YES),
        ("b = 2 AND NOT (a) > 5", "a=5 b=2", YES),
    ] {
        check(expression, properties, expected);
    }
}

#[test]
fn a_property_alone_and_truth_values_are_compared_as_truth() {
    for (expression, properties, expected) in [
        ("a", "a=true", YES),
        ("a", "a=TRUE", YES),
        ("a", "a=yes", NO),
        ("a", "", UNKNOWN),
        ("NOT a", "a=false", YES),
        ("a = TRUE", "a=True", YES),
        ("TRUE = a", "a=True", YES),
        ("a = false", "a=no", YES),
        ("a <> true", "a=true", NO),
        ("(b > 5) = a", "a=true b=6", YES),
        ("(b > 5) = TRUE", "b=4", NO),
        ("(b > 5) = 1", "b=6", NO),
        ("(b > 5) <> 1", "b=6", YES),
        ("(NOT a) = TRUE", "a=x", YES),
        ("a = NOT b", "a=false b=true", YES),
    ] {
        check(expression, properties, expected);
    }
}

#[test]
fn names_are_exact_and_keywords_are_not() {
    for (expression, properties, expected) in [
        ("Price > 1", "price=2", UNKNOWN),
        ("$a_1.b = 'x'", "$a_1.b=x", YES),
        ("_ = 'x' and TAGS = 't'", "_=x TAGS=t", YES),
        ("between2 BeTwEeN 1 aNd 2", "between2=1", YES),
        ("like = 'x' AND contains LIKE 'y' AND escape IS NULL", "like=x contains=y", YES),
        ("a = 'x' -- and b = 'y'", "a=x", YES),
        ("a -- the name\n = /* the * / value **/ 'x'", "a=x", YES),
        ("\ta\r\n=\u{c}'x'", "a=x", YES),
        ("a = '-- /* no comment'", "a=x", NO),
        ("a = 'x'", "a=y a=x", YES),
    ] {
        check(expression, properties, expected);
    }
}

#[test]
fn mistakes_name_the_column_and_what_to_change() {
    let deep = format!("{}a{}", "(".repeat(999), ")".repeat(999));
    let long = "a".repeat(LONGEST_BYTES + 1);
    for (expression, column, hint) in [
        ("", None, "TRUE"),
        (" -- nothing", None, "TRUE"),
        (&long, None, "use at most"),
        (&deep, Some(66), "nested"),
        ("*", Some(1), "TAG"),
        ("a || b", Some(3), "write OR"),
        ("a && b", Some(3), "write AND"),
        ("a == 5", Some(3), "write ="),
        ("!a", Some(1), "write NOT"),
        ("a = \"x\"", Some(5), "single quotes"),
        ("a = 'x", Some(5), "has no end"),
        ("a = 5 /* x", Some(7), "has no end"),
        ("a = 5x", Some(5), "names begin"),
        ("a = 9223372036854775808", Some(5), "too large"),
        ("a = 99999999999999999999", Some(5), "too large"),
        ("a = 1e999", Some(5), "too large"),
        ("a = é", Some(5), "'é'"),
        ("ä = 5", Some(1), "'ä'"),
        ("a = 'ä' ö", Some(9), "'ö'"),
        ("a >", Some(4), "missing"),
        ("a > 5 b", Some(7), "AND, OR"),
        ("price 5", Some(7), "comparison is missing"),
        ("a + 1 > 5", Some(3), "calculate"),
        ("a > 5)", Some(6), "closes nothing"),
        ("(a > 5", Some(7), ") is missing"),
        ("a > 5 AND", Some(10), "missing"),
        ("AND a", Some(1), "missing"),
        ("a = NULL", Some(5), "IS NULL"),
        ("NULL <> a", Some(1), "IS NULL"),
        ("a > 'x'", Some(5), "only numbers"),
        ("a > TRUE", Some(5), "only numbers"),
        ("'x' < a", Some(1), "only numbers"),
        ("a > NULL", Some(5), "only numbers"),
        ("(a > 5) > 3", Some(1), "only numbers"),
        ("a BETWEEN 'a' AND 'b'", Some(11), "only numbers"),
        ("a BETWEEN 5 AND 1", Some(11), "smaller"),
        ("a BETWEEN 5", Some(12), "two bounds"),
        ("a = b = c", Some(7), "parentheses"),
        ("a = b > 5", Some(7), "parentheses"),
        ("a IS NULL IS NULL", Some(11), "parentheses"),
        ("NOT a = b = c", Some(11), "parentheses"),
        ("a = NOT b IS NULL", Some(11), "parentheses"),
        ("NOT", Some(4), "missing"),
        ("5", Some(1), "no condition"),
        ("a AND 'x'", Some(7), "no condition"),
        ("NOT 5", Some(5), "no condition"),
        ("-a", Some(1), "no condition"),
        ("- 'x' = a", Some(3), "sign"),
        ("-(a > 5) = TRUE", Some(2), "sign"),
        ("TRUE = 5", Some(1), "TRUE or FALSE"),
        ("'true' = TRUE", Some(10), "TRUE or FALSE"),
        ("a IS 5", Some(6), "NULL"),
        ("a IN ()", Some(7), "IN ('a', 'b')"),
        ("a IN (1, 2)", Some(7), "IN ('a', 'b')"),
        ("a IN ('x',)", Some(11), "IN ('a', 'b')"),
        ("a IN 'x'", Some(6), "IN ('a', 'b')"),
        ("'x' IN ('x')", Some(5), "name of one"),
        ("a CONTAINS b", Some(12), "string"),
        ("a CONTAINS ''", Some(12), "nowhere"),
        ("5 LIKE 'x'", Some(3), "name of one"),
        ("a LIKE 'x!' ESCAPE '!'", Some(8), "escape character"),
        ("a LIKE 'x!y' ESCAPE '!'", Some(8), "escape character"),
        ("a LIKE 'x' ESCAPE 'ab'", Some(19), "one character"),
        ("a LIKE 'x' ESCAPE", Some(18), "one character"),
        ("a NOT = 5", Some(3), "AND, OR"),
    ] {
        let mistake = parse::sql(expression).expect_err(expression);
        assert_eq!(mistake.column, column, "{expression}: {mistake}");
        assert!(mistake.to_string().contains(hint), "{expression}: {mistake}");
    }
    assert_eq!(parse::sql("a = 5x").unwrap_err().to_string().split(": ").next(), Some("column 5"));
}

#[test]
fn expressions_of_the_greatest_size_are_understood() {
    let longest_piece = "_".repeat(like::LONGEST_PIECE + 1);
    assert!(parse::sql(&format!("a LIKE '%{longest_piece}'")).is_err());
    let deep = format!("{}a{}", "(".repeat(parse::DEEPEST), ")".repeat(parse::DEEPEST));
    check(&deep, "a=true", YES);
    let not = format!("{}a = 5", "NOT ".repeat(parse::DEEPEST));
    check(&not, "a=5", YES);
    assert!(parse::sql(&format!("NOT {not}")).is_err());
    let wide = vec!["a"; LONGEST_BYTES / 5].join(" OR ");
    check(&wide, "a=true", YES);
    let minus = format!("a = {}1", "- ".repeat(parse::DEEPEST));
    check(&minus, "a=1", YES);
    let many = (0..300).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join(" OR ");
    check(&many, "p299=1", YES);
}

#[test]
fn filters_that_say_the_same_are_one() {
    let filters = Filters::new(9);
    let sql = |expression| filters.sql(expression).unwrap();
    assert_eq!(sql("a>5  and b='x'"), sql("(a > 5) AND b = 'x'"));
    assert_eq!(sql("not a = 5"), sql("NOT (a = 5)"));
    assert_ne!(sql("a > 5"), sql("a >= 5"));
    assert_ne!(sql("a > 5"), sql("b > 5"));
    assert_ne!(sql("TRUE"), Filter::All);
    assert_eq!(sql("a>5 and not(b is null)or c like'x!%'escape'!'").text(), {
        "SQL a > 5 AND NOT (b IS NULL) OR c LIKE 'x!%' ESCAPE '!'"
    });
    let all = Filter::tags("*").unwrap();
    assert!(all.is_all() && all.text() == "*");
}

#[test]
fn a_filter_is_compiled_once_and_only_so_many_are_remembered() {
    let filters = Filters::new(2);
    let compiled = |expression| match filters.sql(expression).unwrap() {
        Filter::Sql(sql) => sql,
        other => panic!("{other:?}"),
    };
    let first = compiled("a = 1");
    compiled("a = 2");
    assert!(Arc::ptr_eq(&first, &compiled("a = 1")), "it is remembered");
    compiled("a = 3");
    assert_eq!(filters.len(), 2);
    assert!(Arc::ptr_eq(&first, &compiled("a = 1")), "the one that was asked for last stays");
    assert!(filters.sql("a ==").is_err());
    assert_eq!(filters.len(), 2, "mistakes are not remembered");
}
