use proptest::prelude::*;
use proto::control::{ChangeReport, FullReport};

use super::*;

fn report(broker_name: &str, broker_id: u32, epoch: u64, topics: &[&str]) -> FullReport {
    FullReport {
        cluster_name: "c".to_owned(),
        broker_name: broker_name.to_owned(),
        broker_id,
        epoch,
        clients: Some(route::endpoints("10.0.0.1", 8081)),
        topics: topics.iter().map(|name| topic(name)).collect(),
        heartbeat_interval_ms: 1000,
        ..FullReport::default()
    }
}

fn topic(name: &str) -> TopicConfig {
    TopicConfig {
        name: name.to_owned(),
        read_queues: 2,
        write_queues: 2,
        readable: true,
        writable: true,
        ..TopicConfig::default()
    }
}

fn registration(broker_name: &str, broker_id: u32, epoch: u64, topics: &[&str]) -> Registration {
    Registration::parse(report(broker_name, broker_id, epoch, topics)).unwrap()
}

fn asked(name: &str) -> v2::Resource {
    v2::Resource { resource_namespace: String::new(), name: name.to_owned() }
}

/// The brokers of a route, one name a queue.
fn route(table: &Table, topic: &str) -> Vec<String> {
    table.queues(&asked(topic), topic, None).into_iter().map(|queue| queue.broker.unwrap().name).collect()
}

#[test]
fn a_registered_topic_is_shown_until_the_stream_breaks() {
    let (mut table, now) = (Table::default(), Instant::now());
    table.register(now, StreamId(1), registration("a", 0, 0, &["orders"])).unwrap();
    table.register(now, StreamId(2), registration("b", 0, 0, &["orders", "bills"])).unwrap();
    assert_eq!(route(&table, "orders"), ["a", "a", "b", "b"]);
    assert_eq!(route(&table, "bills"), ["b", "b"]);
    assert_eq!(table.topic_count(), 2);
    assert!(table.has_primary("c", "a") && !table.has_primary("d", "a") && !table.has_primary("c", "x"));

    assert_eq!(table.end(now, StreamId(2)).map(|(member, _)| member.broker_name), Some("b".to_owned()));
    assert_eq!(route(&table, "orders"), ["a", "a"]);
    assert!(route(&table, "bills").is_empty());
    assert_eq!(table.topic_count(), 1);
    assert_eq!(table.end(now, StreamId(2)), None, "nobody leaves twice");
}

#[test]
fn changes_are_shown_at_once() {
    let (mut table, now) = (Table::default(), Instant::now());
    table.register(now, StreamId(1), registration("a", 0, 0, &["orders"])).unwrap();
    let group = GroupConfig { name: "g".to_owned(), ordered: true, ..GroupConfig::default() };
    let change = ChangeReport {
        topics: vec![topic("bills"), TopicConfig { read_queues: 5, ..topic("orders") }],
        groups: vec![group.clone()],
        ..ChangeReport::default()
    };
    table.change(now, StreamId(1), change).unwrap();
    assert_eq!(route(&table, "orders").len(), 5);
    assert_eq!(route(&table, "bills").len(), 2);
    assert_eq!(table.group("g"), Some(&group));
    assert_eq!(table.assignments(&asked("orders"), "orders", true, None).unwrap().len(), 5);
    assert_eq!(table.assignments(&asked("orders"), "orders", false, None).unwrap().len(), 1);
    assert_eq!(table.assignments(&asked("x"), "x", false, None), None);

    let change = ChangeReport {
        removed_topics: vec!["orders".to_owned(), "never".to_owned()],
        removed_groups: vec!["g".to_owned()],
        ..ChangeReport::default()
    };
    table.change(now, StreamId(1), change.clone()).unwrap();
    assert!(route(&table, "orders").is_empty());
    assert_eq!((table.topic_count(), table.group("g")), (1, None));
    assert_eq!(table.change(now, StreamId(9), change), Err(Refused::NotRegistered));
    assert_eq!(table.heartbeat(now, StreamId(9)), Err(Refused::NotRegistered));
}

#[test]
fn replicas_are_known_and_not_routed_to() {
    let (mut table, now) = (Table::default(), Instant::now());
    table.register(now, StreamId(1), registration("a", 1, 0, &["orders"])).unwrap();
    assert!(route(&table, "orders").is_empty());
    assert!(!table.has_primary("c", "a"));
    table.register(now, StreamId(2), registration("a", 0, 0, &["orders"])).unwrap();
    assert_eq!(route(&table, "orders").len(), 2);
    assert_eq!(table.describe().len(), 2);
}

#[test]
fn a_lower_epoch_is_refused_and_a_higher_one_displaces() {
    let (mut table, now) = (Table::default(), Instant::now());
    assert_eq!(table.register(now, StreamId(1), registration("a", 0, 5, &["old"])), Ok(None));
    let refused = table.register(now, StreamId(2), registration("a", 0, 4, &["new"])).unwrap_err();
    assert!(refused.to_string().contains("epoch 5"), "{refused}");
    assert_eq!(table.register(now, StreamId(3), registration("a", 0, 6, &["new"])), Ok(Some(StreamId(1))));
    assert!(route(&table, "old").is_empty());
    assert_eq!(route(&table, "new").len(), 2);
    assert_eq!(table.heartbeat(now, StreamId(1)), Err(Refused::NotRegistered));
    assert_eq!(table.end(now, StreamId(1)), None, "a displaced stream takes nobody with it");

    // The same broker on a new stream.
    assert_eq!(table.register(now, StreamId(4), registration("a", 0, 6, &["new"])), Ok(Some(StreamId(3))));
    // An epoch is remembered when its broker has left, for a while.
    table.end(now, StreamId(4));
    assert!(table.register(now, StreamId(5), registration("a", 0, 5, &[])).is_err());
    let later = now + Duration::from_secs(4);
    assert_eq!(table.expire(later).len(), 1);
    assert!(table.register(later, StreamId(5), registration("a", 0, 5, &[])).is_err());
    table.expire(later + EPOCH_MEMORY);
    assert_eq!(table.register(now, StreamId(6), registration("a", 0, 0, &[])), Ok(None));
}

#[test]
fn a_primary_that_hands_over_stays_on_the_routes_until_another_reigns() {
    let (mut table, now) = (Table::default(), Instant::now());
    table.register(now, StreamId(1), registration("a", 0, 1, &["orders"])).unwrap();
    let member = Member { cluster: "c".to_owned(), broker_name: "a".to_owned(), broker_id: 0 };
    assert_eq!(table.end(now, StreamId(1)), Some((member.clone(), Stays::UntilAnotherReigns)));
    assert_eq!(route(&table, "orders").len(), 2, "its members pass clients on");
    assert_eq!(table.register(now, StreamId(2), registration("a", 0, 2, &["orders"])), Ok(None));
    assert_eq!(route(&table, "orders").len(), 2);

    // Nobody takes over.
    table.end(now, StreamId(2));
    assert_eq!(table.expire(now + Duration::from_secs(3)), []);
    assert_eq!(table.expire(now + Duration::from_secs(4)), [(None, member)]);
    assert!(route(&table, "orders").is_empty());
}

#[test]
fn who_asks_by_a_listener_is_told_the_addresses_there_and_of_no_broker_without() {
    let (now, mut table) = (Instant::now(), Table::default());
    let at = |name: &str, host: &str| control::ListenerEndpoints {
        name: name.to_owned(),
        clients: Some(route::endpoints(host, 30_081)),
    };
    let mut both = report("a", 0, 1, &["orders"]);
    both.listeners = vec![at("external", "192.0.2.1"), at("partners", "a.example.org")];
    table.register(now, StreamId(1), Registration::parse(both).unwrap()).unwrap();
    table.register(now, StreamId(2), registration("b", 0, 1, &["orders"])).unwrap();
    let hosts = |listener: Option<&str>| -> Vec<String> {
        let via = listener.map(|name| ListenerName::parse(name).unwrap());
        let queues = table.queues(&asked("orders"), "orders", via.as_ref());
        let assigned = table.assignments(&asked("orders"), "orders", false, via.as_ref());
        let host = |queue: &v2::MessageQueue| {
            queue.broker.as_ref().unwrap().endpoints.as_ref().unwrap().addresses[0].host.clone()
        };
        let mut hosts: Vec<String> = queues.iter().map(host).collect();
        hosts.dedup();
        let mut polled: Vec<String> =
            assigned.iter().flatten().map(|it| host(it.message_queue.as_ref().unwrap())).collect();
        polled.dedup();
        assert_eq!(hosts, polled);
        hosts
    };
    assert_eq!((hosts(None), route(&table, "orders").len()), (vec!["10.0.0.1".to_owned()], 4));
    assert_eq!(hosts(Some("external")), ["192.0.2.1"]);
    assert_eq!(hosts(Some("partners")), ["a.example.org"]);
    assert_eq!(hosts(Some("other")), [""; 0]);
    let hidden = |listener: &str, topic: &str| {
        let via = ListenerName::parse(listener).unwrap();
        table.hidden_at(Some(&via), topic).is_some()
    };
    assert!(hidden("other", "orders") && !hidden("other", "nothing") && !hidden("external", "orders"));

    // All a broker says is taken, or nothing.
    let mut wrong = report("b", 0, 1, &[]);
    for (listener, part) in [
        (at("internal", "192.0.2.1"), "clientListen"),
        (control::ListenerEndpoints { name: "x".to_owned(), clients: None }, "endpoints"),
        (at("x", ""), "address"),
    ] {
        wrong.listeners = vec![listener];
        let error = Registration::parse(wrong.clone()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    wrong.listeners = vec![at("x", "192.0.2.1"); 17];
    assert!(Registration::parse(wrong).is_err());
}

#[test]
fn silence_of_three_heartbeats_takes_a_broker_off() {
    let (mut table, start) = (Table::default(), Instant::now());
    table.register(start, StreamId(1), registration("a", 0, 0, &["orders"])).unwrap();
    table.register(start, StreamId(2), registration("b", 0, 0, &["orders"])).unwrap();
    let at = |ms: u64| start + Duration::from_millis(ms);
    table.heartbeat(at(2000), StreamId(1)).unwrap();
    assert!(table.expire(at(3000)).is_empty(), "three heartbeats, and not more");
    let gone: Vec<StreamId> = table.expire(at(3001)).into_iter().filter_map(|(stream, _)| stream).collect();
    assert_eq!(gone, [StreamId(2)]);
    assert_eq!(route(&table, "orders"), ["a", "a"]);
    assert!(table.expire(at(5000)).is_empty());
    assert_eq!(table.expire(at(5001)).len(), 1);
}

#[test]
fn a_bad_report_is_refused_with_what_to_change() {
    let check = |part: &str, change: fn(&mut FullReport)| {
        let mut report = report("a", 0, 0, &["orders"]);
        change(&mut report);
        let error = Registration::parse(report).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    };
    check("cluster", |report| report.cluster_name.clear());
    check("broker", |report| report.broker_name = "a/b".to_owned());
    check("broker id", |report| report.broker_id = u32::MAX);
    check("no endpoints", |report| report.clients = None);
    check("no address", |report| report.clients = Some(control::Endpoints { scheme: 1, addresses: vec![] }));
    check("' '", |report| report.topics[0].name = "a b".to_owned());
    check("1025 queues", |report| report.topics[0].read_queues = 1025);
    check("consumer group", |report| report.groups = vec![GroupConfig::default()]);
    let change = ChangeReport { topics: vec![TopicConfig::default()], ..ChangeReport::default() };
    assert!(Registration::check_change(&change).is_err());
}

#[test]
fn heartbeats_are_kept_within_reason() {
    let interval = |ms: u64| {
        let report = FullReport { heartbeat_interval_ms: ms, ..report("a", 0, 0, &[]) };
        Registration::parse(report).unwrap().heartbeat_interval
    };
    assert_eq!(interval(0), Duration::from_secs(2));
    assert_eq!(interval(1), Duration::from_millis(100));
    assert_eq!(interval(5000), Duration::from_secs(5));
    assert_eq!(interval(u64::MAX), Duration::from_secs(60));
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const TOPICS: [&str; 4] = ["t0", "t1", "t2", "t3"];

#[derive(Debug, Clone)]
enum Event {
    Register { stream: u64, broker: usize, epoch: u64, topics: Vec<usize> },
    Change { stream: u64, put: usize, removed: usize },
    Heartbeat { stream: u64 },
    Break { stream: u64 },
    Pass { ms: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let stream = 0..6u64;
    prop_oneof![
        (stream.clone(), 0..3usize, 0..4u64, prop::collection::vec(0..4usize, 0..4))
            .prop_map(|(stream, broker, epoch, topics)| Event::Register { stream, broker, epoch, topics }),
        (stream.clone(), 0..4usize, 0..4usize).prop_map(|(stream, put, removed)| Event::Change {
            stream,
            put,
            removed
        }),
        stream.clone().prop_map(|stream| Event::Heartbeat { stream }),
        stream.prop_map(|stream| Event::Break { stream }),
        (1..4000u64).prop_map(|ms| Event::Pass { ms }),
    ]
}

/// The naive table: a list of who is there, searched from end to end.
#[derive(Default)]
struct Model {
    live: Vec<Live>,
    left: Vec<(usize, u64, Instant)>,
}

struct Live {
    /// `None`: it is over.
    stream: Option<u64>,
    broker: usize,
    epoch: u64,
    topics: Vec<usize>,
    heard: Instant,
}

impl Model {
    fn apply(&mut self, now: Instant, event: &Event) {
        match event {
            Event::Register { stream, broker, epoch, topics } => {
                let known = self.live.iter().filter(|live| live.broker == *broker).map(|live| live.epoch);
                let left = self.left.iter().filter(|left| left.0 == *broker).map(|left| left.1);
                if known.chain(left).any(|known| known > *epoch) {
                    return;
                }
                self.live.retain(|live| live.stream != Some(*stream) && live.broker != *broker);
                self.left.retain(|left| left.0 != *broker);
                let (stream, topics) = (Some(*stream), topics.clone());
                self.live.push(Live { stream, broker: *broker, epoch: *epoch, topics, heard: now });
            }
            Event::Change { stream, put, removed } => {
                for live in self.of(*stream) {
                    live.topics.push(*put);
                    live.topics.retain(|topic| topic != removed);
                    live.heard = now;
                }
            }
            Event::Heartbeat { stream } => self.of(*stream).for_each(|live| live.heard = now),
            Event::Break { stream } => {
                for live in self.of(*stream).filter(|live| live.epoch > 0) {
                    (live.stream, live.heard) = (None, now);
                }
                self.leave(now, |live| live.stream == Some(*stream));
            }
            Event::Pass { .. } => {
                self.leave(now, |live| now - live.heard > Duration::from_secs(3));
                self.left.retain(|left| now - left.2 < EPOCH_MEMORY);
            }
        }
    }

    fn of(&mut self, stream: u64) -> impl Iterator<Item = &mut Live> {
        self.live.iter_mut().filter(move |live| live.stream == Some(stream))
    }

    fn leave(&mut self, now: Instant, who: impl Fn(&Live) -> bool) {
        for live in self.live.extract_if(.., |live| who(live)) {
            self.left.push((live.broker, live.epoch, now));
        }
    }

    fn route(&self, topic: usize) -> Vec<&'static str> {
        let with_topic = self.live.iter().filter(|live| live.topics.contains(&topic));
        let mut names: Vec<_> = with_topic.flat_map(|live| [NAMES[live.broker]; 2]).collect();
        names.sort_unstable();
        names
    }
}

proptest! {
    #[test]
    fn the_table_shows_what_the_living_last_said(events in prop::collection::vec(event(), 1..60)) {
        let (mut table, mut model, mut now) = (Table::default(), Model::default(), Instant::now());
        for event in &events {
            match event {
                Event::Register { stream, broker, epoch, topics } => {
                    let topics: Vec<&str> = topics.iter().map(|topic| TOPICS[*topic]).collect();
                    table.register(now, StreamId(*stream), registration(NAMES[*broker], 0, *epoch, &topics)).ok();
                }
                Event::Change { stream, put, removed } => {
                    let change = ChangeReport {
                        topics: vec![topic(TOPICS[*put])],
                        removed_topics: vec![TOPICS[*removed].to_owned()],
                        ..ChangeReport::default()
                    };
                    table.change(now, StreamId(*stream), change).ok();
                }
                Event::Heartbeat { stream } => { table.heartbeat(now, StreamId(*stream)).ok(); }
                Event::Break { stream } => { table.end(now, StreamId(*stream)); }
                Event::Pass { ms } => {
                    now += Duration::from_millis(*ms);
                    table.expire(now);
                }
            }
            model.apply(now, event);
            let mut shown = 0;
            for (number, name) in TOPICS.iter().enumerate() {
                let route = route(&table, name);
                prop_assert_eq!(&route, &model.route(number));
                shown += usize::from(!route.is_empty());
            }
            prop_assert_eq!(table.topic_count(), shown);
            prop_assert_eq!(table.member_count(), model.live.len());
        }
    }

    #[test]
    fn the_order_of_registrations_is_not_visible(order in Just((0..6usize).collect::<Vec<_>>()).prop_shuffle()) {
        let now = Instant::now();
        let fill = |order: &[usize]| {
            let mut table = Table::default();
            for number in order {
                let registration = registration(NAMES[number % 3], (number / 3) as u32, 1, &TOPICS[..=number % 3]);
                table.register(now, StreamId(*number as u64), registration).unwrap();
            }
            table
        };
        let (sorted, shuffled) = (fill(&[0, 1, 2, 3, 4, 5]), fill(&order));
        prop_assert_eq!(sorted.describe(), shuffled.describe());
        for topic in TOPICS {
            prop_assert_eq!(sorted.queues(&asked(topic), topic, None), shuffled.queues(&asked(topic), topic, None));
        }
    }
}
