use proto::v2::{Endpoints, FilterExpression, Publishing, Resource, SubscriptionEntry};

use super::*;

fn client(language: Language) -> ClientIdentity {
    ClientIdentity { id: "c".to_owned(), language, ..ClientIdentity::default() }
}

fn resource(name: &str) -> Resource {
    Resource { resource_namespace: "team".to_owned(), name: name.to_owned() }
}

fn facts() -> Facts {
    Facts { max_body_bytes: 4 << 20, group: GroupFacts::default() }
}

fn producer() -> Settings {
    Settings {
        client_type: Some(ClientType::Producer as i32),
        access_point: Some(Endpoints { scheme: 1, addresses: vec![] }),
        pub_sub: Some(PubSub::Publishing(Publishing {
            topics: vec![resource("orders")],
            ..Default::default()
        })),
        ..Settings::default()
    }
}

fn consumer(kind: ClientType) -> Settings {
    Settings {
        client_type: Some(kind as i32),
        pub_sub: Some(PubSub::Subscription(Subscription {
            group: Some(resource("billing")),
            subscriptions: vec![SubscriptionEntry {
                topic: Some(resource("orders")),
                expression: Some(FilterExpression { r#type: 1, expression: "*".to_owned() }),
            }],
            ..Default::default()
        })),
        ..Settings::default()
    }
}

fn answered(client: &ClientIdentity, settings: Settings, facts: &Facts) -> Result<TelemetryCommand, Refusal> {
    answer(client, settings, facts, &Filters::new(9)).map(|answered| answered.command)
}

fn settings_of(command: TelemetryCommand) -> Settings {
    assert_eq!(command.status.map(|status| status.code), Some(Code::Ok as i32));
    match command.command {
        Some(Command::Settings(settings)) => settings,
        other => panic!("{other:?}"),
    }
}

fn subscription_of(settings: &Settings) -> &Subscription {
    match &settings.pub_sub {
        Some(PubSub::Subscription(subscription)) => subscription,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_producer_gets_limits_and_an_exponential_back_off_in_every_language() {
    for language in [Language::Java, Language::Python, Language::Node, Language::Go, Language::Other] {
        let sent = producer();
        let got = settings_of(answered(&client(language), sent.clone(), &facts()).unwrap());
        assert_eq!(got.access_point, sent.access_point);
        assert_eq!(got.client_type, sent.client_type);
        let Some(PubSub::Publishing(publishing)) = got.pub_sub else { panic!("not a producer any more") };
        assert_eq!(publishing.topics, vec![resource("orders")]);
        assert_eq!(publishing.max_body_size, 4_194_304);
        assert!(publishing.validate_message_type);
        let backoff = got.backoff_policy.unwrap();
        assert_eq!(backoff.max_attempts, 3);
        assert!(matches!(backoff.strategy, Some(Strategy::ExponentialBackoff(_))));
    }
}

#[test]
fn a_consumer_gets_the_kind_of_back_off_that_it_understands() {
    let exponential = Backoff::Exponential {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        multiplier: 3.0,
    };
    let check = |language: Language, backoff: &Backoff, is_exponential: bool| {
        let facts =
            Facts { group: GroupFacts { backoff: backoff.clone(), ..GroupFacts::default() }, ..facts() };
        let got =
            settings_of(answered(&client(language), consumer(ClientType::PushConsumer), &facts).unwrap());
        let policy = got.backoff_policy.unwrap();
        assert_eq!(policy.max_attempts, 17);
        let strategy = policy.strategy.unwrap();
        assert_eq!(
            matches!(strategy, Strategy::ExponentialBackoff(_)),
            is_exponential,
            "{language} {backoff:?}"
        );
    };
    check(Language::Python, &Backoff::default(), false);
    check(Language::Python, &exponential, false);
    check(Language::Node, &Backoff::default(), true);
    check(Language::Node, &exponential, true);
    check(Language::Java, &Backoff::default(), false);
    check(Language::Java, &exponential, true);
}

#[test]
fn a_curve_keeps_its_ends_in_the_other_kind() {
    let (initial, max, multiplier) = Backoff::default().exponential();
    assert_eq!((initial, max), (Duration::from_secs(1), Duration::from_secs(7200)));
    assert!((1.6..1.8).contains(&multiplier), "{multiplier}");

    let exponential = Backoff::Exponential {
        initial: Duration::from_secs(1),
        max: Duration::from_secs(60),
        multiplier: 3.0,
    };
    let seconds: Vec<u64> = exponential.listed(16).iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [1, 3, 9, 27, 60]);
    assert_eq!(exponential.listed(2).len(), 2);

    // Curves that do not grow, or grow beyond all bounds, end all the same.
    let flat = Backoff::Exponential { initial: Duration::ZERO, max: Duration::from_secs(9), multiplier: 0.0 };
    assert_eq!(flat.listed(5).len(), 5);
    let steep =
        Backoff::Exponential { initial: Duration::from_secs(1), max: Duration::MAX, multiplier: 1e300 };
    assert_eq!(steep.listed(9).last(), Some(&Duration::MAX));
    assert_eq!(Backoff::Custom(vec![]).exponential().2, 1.0);
    assert_eq!(whole_seconds(Duration::MAX).seconds, 315_576_000_000);
    assert_eq!(whole_seconds(Duration::from_millis(1500)).seconds, 2);
}

#[test]
fn a_consumer_keeps_its_words_and_gets_the_groups_values() {
    let facts = Facts { group: GroupFacts { ordered: true, ..GroupFacts::default() }, ..facts() };
    let got =
        settings_of(answered(&client(Language::Java), consumer(ClientType::PushConsumer), &facts).unwrap());
    let subscription = subscription_of(&got);
    assert_eq!(subscription.group, Some(resource("billing")));
    assert_eq!(subscription.subscriptions.len(), 1);
    assert_eq!(subscription.fifo, Some(true));
    assert_eq!(subscription.receive_batch_size, Some(32));
    assert_eq!(subscription.long_polling_timeout.map(|wait| (wait.seconds, wait.nanos)), Some((20, 0)));
    assert_eq!(subscription.lite_subscription_quota, None);
    assert_eq!(got.metric.map(|metric| metric.on), Some(false));

    let lite = settings_of(
        answered(&client(Language::Java), consumer(ClientType::LitePushConsumer), &facts).unwrap(),
    );
    assert!(subscription_of(&lite).lite_subscription_quota > Some(0));
    assert!(subscription_of(&lite).max_lite_topic_size > Some(0));
}

#[test]
fn clients_that_say_little_are_answered_all_the_same() {
    // Rust and Node producers declare no topics, Rust simple consumers no subscriptions.
    let bare = Settings { pub_sub: Some(PubSub::Publishing(Publishing::default())), ..Settings::default() };
    assert!(answered(&client(Language::Rust), bare, &facts()).is_ok());
    let bare =
        Settings { pub_sub: Some(PubSub::Subscription(Subscription::default())), ..Settings::default() };
    assert!(answered(&client(Language::Rust), bare.clone(), &facts()).is_ok());
    assert_eq!(group_of(&client(Language::Rust), &bare), Ok(None));
    assert_eq!(
        group_of(&client(Language::Java), &consumer(ClientType::PushConsumer)).unwrap().unwrap().as_str(),
        "team%billing"
    );
}

#[test]
fn bad_settings_are_refused_with_their_code() {
    let check = |settings: Settings, code: Code| {
        assert_eq!(answered(&client(Language::Java), settings, &facts()).unwrap_err().code, code);
    };
    check(Settings::default(), Code::BadRequest);
    let publishing = |topic: &str| Publishing {
        topics: vec![Resource { name: topic.to_owned(), ..Resource::default() }],
        ..Publishing::default()
    };
    check(
        Settings { pub_sub: Some(PubSub::Publishing(publishing("a b"))), ..producer() },
        Code::IllegalTopic,
    );
    let subscription = Subscription { group: Some(resource("a/b")), ..Subscription::default() };
    check(
        Settings { pub_sub: Some(PubSub::Subscription(subscription)), ..producer() },
        Code::IllegalConsumerGroup,
    );
    let with = |pairs: Vec<(String, String)>| Settings {
        client_properties: pairs.into_iter().collect(),
        ..producer()
    };
    let code = Code::InvalidClientProperties;
    check(with((0..33).map(|n| (format!("k{n}"), String::new())).collect()), code);
    check(with(vec![("1a".to_owned(), String::new())]), code);
    check(with(vec![("a b".to_owned(), String::new())]), code);
    check(with(vec![(String::new(), String::new())]), code);
    check(with(vec![("a".repeat(65), String::new())]), code);
    check(with(vec![("a".to_owned(), "v".repeat(257))]), code);
    check(with((0..20).map(|n| (format!("k{n}"), "v".repeat(250))).collect()), code);
    let fine = with(vec![("zone.name-1".to_owned(), "eu".to_owned())]);
    assert!(answered(&client(Language::Java), fine, &facts()).is_ok());
}

#[test]
fn a_groups_configuration_becomes_its_facts() {
    let wire = control::GroupConfig {
        ordered: true,
        max_attempts: 5,
        backoff: Some(control::Backoff {
            kind: Some(control::backoff::Kind::Custom(control::backoff::Custom {
                delays_ms: vec![1000, 2000],
            })),
        }),
        ..Default::default()
    };
    let group = GroupFacts::from(&wire);
    assert_eq!((group.ordered, group.max_attempts), (true, 5));
    assert_eq!(group.backoff, Backoff::Custom(vec![Duration::from_secs(1), Duration::from_secs(2)]));
    assert_eq!(GroupFacts::from(&control::GroupConfig::default()), GroupFacts::default());
}
