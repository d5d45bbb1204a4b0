use super::*;

/// `a`, `b` and `c` were acknowledged at offsets 0, 1, 2 of queue 0, `maybe` was not answered, `no` was refused.
fn sent() -> String {
    let mut text = String::new();
    for (at, name) in ["a", "b", "c", "maybe", "no"].iter().enumerate() {
        text += &format!("{at} attempt {name} t key {:016x}\n", BodyHash::of(name.as_bytes()).0);
        text += &match *name {
            "maybe" => format!("{at} unknown {name}\n"),
            "no" => format!("{at} refused {name}\n"),
            _ => format!("{at} ack {name} 0 {at} -\n"),
        };
    }
    text
}

/// What deliveries as `name body offset` make of it.
fn verdict(deliveries: &[&str]) -> Verdict {
    let mut text = sent();
    for delivery in deliveries {
        let [name, body, offset] = delivery.split(' ').collect::<Vec<_>>()[..] else { panic!("{delivery}") };
        text += &format!("9 deliver {name} 0 {offset} 1 {:016x}\n", BodyHash::of(body.as_bytes()).0);
    }
    Ledger::parse(&text).unwrap().verdict()
}

#[test]
fn an_unanswered_send_may_have_happened_or_not() {
    assert!(verdict(&["a a 0", "b b 1", "c c 2"]).is_clean());
    assert!(verdict(&["a a 0", "b b 1", "c c 2", "maybe maybe 3"]).is_clean());
}

#[test]
fn each_fault_is_found_and_only_it() {
    let whole = ["a a 0", "b b 1", "c c 2"];
    let none = Verdict { attempted: 5, acknowledged: 3, delivered: 3, ..Verdict::default() };
    let b = || vec!["b".to_owned()];
    for (deliveries, expected) in [
        (vec!["a a 0", "c c 2"], Verdict { lost: b(), delivered: 2, ..none.clone() }),
        (vec!["a a 0", "b x 1", "c c 2"], Verdict { altered: b(), ..none.clone() }),
        (vec!["a a 0", "b b 7", "c c 2"], Verdict { altered: b(), ..none.clone() }),
        (
            [&whole[..], &["ghost x 4"]].concat(),
            Verdict { phantom: vec!["ghost".to_owned()], ..none.clone() },
        ),
        (
            [&whole[..], &["no no 3"]].concat(),
            Verdict { phantom: vec!["no".to_owned()], delivered: 4, ..none.clone() },
        ),
        (
            [&whole[..], &["maybe maybe 3", "maybe maybe 4"]].concat(),
            Verdict { duplicated: vec!["maybe".to_owned()], delivered: 4, ..none.clone() },
        ),
        (vec!["b b 1", "a a 0", "c c 2"], Verdict { out_of_order: b(), ..none.clone() }),
        ([&whole[..], &["a a 0"]].concat(), Verdict { redelivered: 1, ..none.clone() }),
    ] {
        assert_eq!(verdict(&deliveries), expected, "{deliveries:?}");
    }
}

#[test]
fn another_body_is_altered_even_when_the_right_one_came_too() {
    assert_eq!(verdict(&["a a 0", "a x 0", "b b 1", "c c 2"]).altered, ["a"]);
}

#[test]
fn a_redelivery_is_clean_but_not_exactly_once() {
    let text = "1 attempt a t - 0000000000000001\n2 ack a - - -\n3 deliver a - - 1 0000000000000001\n";
    assert!(Ledger::parse(text).unwrap().verdict().is_exactly_once());
    let twice = format!("{text}4 deliver a - - 2 0000000000000001\n");
    let verdict = Ledger::parse(&twice).unwrap().verdict();
    assert!(verdict.is_clean() && !verdict.is_exactly_once());
}

#[test]
fn keys_and_topics_have_an_order_each_and_messages_without_a_key_have_none() {
    let order = |lines: &[(&str, &str, &str)]| {
        let mut text = String::new();
        for (name, topic, key) in lines {
            text += &format!("1 attempt {name} {topic} {key} 0000000000000001\n1 ack {name} - - -\n");
        }
        for (name, _, _) in lines.iter().rev() {
            text += &format!("2 deliver {name} - - 1 0000000000000001\n");
        }
        Ledger::parse(&text).unwrap().verdict().out_of_order.len()
    };
    assert_eq!(order(&[("a", "t", "k"), ("b", "t", "k")]), 1);
    assert_eq!(order(&[("a", "t", "k"), ("b", "t", "l")]), 0);
    assert_eq!(order(&[("a", "t", "k"), ("b", "u", "k")]), 0);
    assert_eq!(order(&[("a", "t", "-"), ("b", "t", "-")]), 0);
}

#[test]
fn what_nobody_acknowledged_may_come_late_and_what_somebody_did_may_not() {
    let verdict = |answer: &str| {
        let text = format!(
            "1 attempt a t k 0000000000000001\n1 {answer}\n1 attempt b t k 0000000000000001\n1 ack b - - -\n\
             2 deliver b - - 1 0000000000000001\n2 deliver a - - 1 0000000000000001\n"
        );
        Ledger::parse(&text).unwrap().verdict()
    };
    let given_up = verdict("unknown a");
    assert_eq!((given_up.late.len(), given_up.out_of_order.len()), (1, 0));
    assert!(given_up.is_clean());
    let acknowledged = verdict("ack a - - -");
    assert_eq!((acknowledged.late.len(), acknowledged.out_of_order.len()), (0, 1));
}

#[test]
fn a_line_that_was_cut_off_does_not_count_and_a_broken_one_is_told_with_its_number() {
    let cut = format!("{}9 deliver a 0 0", sent());
    assert_eq!(Ledger::parse(&cut).unwrap().verdict().delivered, 0);
    let broken = format!("{}9 nonsense a\n", sent());
    let error = format!("{:#}", Ledger::parse(&broken).unwrap_err());
    assert!(error.contains("line 11"), "{error}");
}

#[test]
fn another_consumer_starts_with_nothing_delivered() {
    let mut ledger = Ledger::parse(&format!("{}9 deliver ghost 0 0 1 0000000000000000\n", sent())).unwrap();
    assert!(!ledger.verdict().phantom.is_empty());
    ledger.forget_deliveries();
    assert!(ledger.verdict().phantom.is_empty());
    assert_eq!(ledger.missing(), 3);
}
