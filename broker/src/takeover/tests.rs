use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::delivery::Again;

const NOW: i64 = 1_795_700_000_000;
const MAX_ATTEMPTS: u32 = 17;

/// A copy of the store that a whole Java broker left when it was killed, opened.
struct Taken {
    folder: tempfile::TempDir,
    store: Store,
    meta: Meta,
}

impl Taken {
    fn open() -> Self {
        let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../store/tests/fixtures/java/broker");
        let folder = tempfile::tempdir().unwrap();
        for part in ["commitlog", "config"] {
            std::fs::create_dir(folder.path().join(part)).unwrap();
            for file in std::fs::read_dir(fixture.join(part)).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), folder.path().join(part).join(file.file_name())).unwrap();
            }
        }
        let (disk, clock) = (Arc::new(store::disk::RealDisk::default()), Arc::new(store::SystemClock));
        // Without threads: none of it may fall to retention meanwhile.
        let config = store::Config::new(folder.path());
        let (store, _) = Store::open_without_threads(disk, clock, config).unwrap();
        let meta = Meta::open(&folder.path().join("config"), Arc::default()).unwrap();
        Self { folder, store, meta }
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    fn take_over(&self) -> Result<(), Error> {
        take_over(&self.config(), &self.meta, &self.store, MAX_ATTEMPTS, NOW)
    }

    /// A group's place: cursor, and what it gets again.
    fn standing(&self, group: &str, topic: &str, queue: u32) -> Option<(u64, Vec<Again>)> {
        let of = |known: &KeptStanding| (known.group == group, known.topic == topic, known.queue == queue);
        let found = standings(&self.meta).unwrap().into_iter().find(|known| of(known) == (true, true, true));
        found.map(|known| (known.cursor, known.again))
    }

    /// Gives one of RocketMQ's files other words.
    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.config().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }
}

fn topic<'a>(topics: &'a [TopicConfig], name: &str) -> &'a TopicConfig {
    topics.iter().find(|topic| topic.name.as_str() == name).unwrap()
}

fn group<'a>(groups: &'a [GroupConfig], name: &str) -> &'a GroupConfig {
    groups.iter().find(|group| group.name.as_str() == name).unwrap()
}

#[test]
fn the_topics_and_groups_of_a_java_broker_become_ours_and_its_own_do_not() {
    let taken = Taken::open();
    taken.take_over().unwrap();
    let topics = kept::topics(&taken.meta).unwrap();
    let names: Vec<_> = topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!(names, ["delayed", "fifo", "frozen", "orders", "paid", "picked"]);
    let kinds: Vec<_> = topics.iter().map(|topic| topic.message_type.as_str()).collect();
    assert_eq!(kinds, ["DELAY", "FIFO", "NORMAL", "NORMAL", "TRANSACTION", "NORMAL"]);
    assert_eq!(topic(&topics, "orders").read_queues, 4);
    let frozen = topic(&topics, "frozen");
    assert_eq!((frozen.write_queues, frozen.readable, frozen.writable), (3, true, false));

    let groups = kept::groups(&taken.meta).unwrap();
    assert_eq!(
        groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>(),
        ["billing", "paused", "picking", "shipping"]
    );
    let billing = group(&groups, "billing");
    assert_eq!((billing.max_attempts, billing.ordered), (4, false));
    assert_eq!(billing.backoff, Backoff::Exponential { initial_ms: 2_000, max_ms: 60_000, multiplier: 3.0 });
    let shipping = group(&groups, "shipping");
    assert_eq!((shipping.max_attempts, shipping.ordered), (17, true));
    assert_eq!(shipping.backoff, Backoff::Custom { delays_ms: vec![500, 1_500] });
    assert!(!group(&groups, "paused").consume_enabled);
}

#[test]
fn groups_go_on_where_they_were_and_get_again_what_waits_for_a_retry() {
    let taken = Taken::open();
    taken.take_over().unwrap();
    assert_eq!(taken.standing("shipping", "fifo", 0), Some((2, Vec::new())));
    assert_eq!(taken.standing("shipping", "fifo", 1), Some((1, Vec::new())));
    assert_eq!(taken.standing("billing", "orders", 0), Some((6, Vec::new())));
    // order-5 is in the retry topic, order-6 still waits for its time; both were delivered once.
    let (cursor, again) = taken.standing("billing", "orders", 1).unwrap();
    assert_eq!((cursor, again), (11, vec![Again { offset: 1, attempt: 1, visible_at: NOW }]));
    let (cursor, again) = taken.standing("billing", "orders", 2).unwrap();
    assert_eq!((cursor, again.len(), again[0].offset, again[0].attempt), (9, 1, 1, 1));
    let stored = |topic: &str, queue: u32| {
        let id = store::QueueId(queue);
        let entry = taken.store.entries(topic, id, store::QueueOffset(0), 1).unwrap()[0];
        taken.store.record(&entry).unwrap().stored_at_ms
    };
    assert_eq!(again[0].visible_at, stored("SCHEDULE_TOPIC_XXXX", 15) + 1_800_000);
}

#[test]
fn what_was_popped_and_not_acknowledged_is_in_flight() {
    let taken = Taken::open();
    taken.take_over().unwrap();
    // Three of four were popped, for five minutes, and the middle one acknowledged.
    let (cursor, again) = taken.standing("picking", "picked", 0).unwrap();
    assert_eq!((cursor, again.iter().map(|again| again.offset).collect::<Vec<_>>()), (3, vec![0, 2]));
    let entry = taken.store.entries("picked", store::QueueId(0), store::QueueOffset(3), 1).unwrap()[0];
    let sent_at = taken.store.record(&entry).unwrap().stored_at_ms;
    let wait = again[0].visible_at - sent_at;
    assert!((300_000..400_000).contains(&wait) && again[1].visible_at == again[0].visible_at, "{again:?}");
}

#[test]
fn what_waits_for_its_time_and_open_transactions_are_counted() {
    let taken = Taken::open();
    let java = read(&taken.config()).unwrap().unwrap();
    let plan = plan(&java, &Ours::default(), MAX_ATTEMPTS);
    let found = waiting::find(&taken.store, &java, &plan, 0, NOW).unwrap();
    assert_eq!(found.delayed, BTreeMap::from([("SCHEDULE_TOPIC_XXXX", 1), ("rmq_sys_wheel_timer", 1)]));
    // One was committed, one rolled back.
    assert_eq!(found.half, 1);
    assert_eq!(found.orphans, BTreeMap::new());
    // A copy whose original is of a topic that is gone waits for nobody, and that is told.
    let mut java = java;
    java.topics.remove("orders");
    let found = waiting::find(&taken.store, &java, &plan, 0, NOW).unwrap();
    let of = |lies_in: &str| ("billing".to_owned(), lies_in.to_owned());
    assert_eq!(found.orphans, BTreeMap::from([(of("%RETRY%billing"), 1), (of("SCHEDULE_TOPIC_XXXX"), 1)]));
}

#[test]
fn a_message_with_a_delay_level_waits_here_for_its_time() {
    let taken = Taken::open();
    let java = read(&taken.config()).unwrap().unwrap();
    let plan = plan(&java, &Ours::default(), MAX_ATTEMPTS);
    let [level] = waiting::find(&taken.store, &java, &plan, 0, NOW).unwrap().levels[..] else {
        panic!("RocketMQ left one")
    };
    let record = |topic: &str, queue: u32, offset: u64| {
        let (queue, offset) = (store::QueueId(queue), store::QueueOffset(offset));
        taken.store.record(&taken.store.entries(topic, queue, offset, 1).unwrap()[0]).unwrap()
    };
    let theirs = record(waiting::SCHEDULE, level.queue, level.offset);
    let end = taken.store.queue_bounds(crate::schedule::TOPIC, crate::schedule::QUEUE).end.0;
    taken.take_over().unwrap();
    let ours = record(crate::schedule::TOPIC, 0, end);
    assert_eq!(ours.body, theirs.body);
    let value = |record: &store::Record, name: &str| {
        record.properties().find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
    };
    for name in ["UNIQ_KEY", "REAL_TOPIC", "REAL_QID", "TAGS"] {
        assert_eq!(value(&ours, name), value(&theirs, name), "{name}");
    }
    assert_eq!((value(&theirs, "DELAY").is_some(), value(&ours, "DELAY")), (true, None));
    assert_eq!(value(&ours, "TIMER_OUT_MS"), Some(level.due_ms.max(NOW).to_string()));
    // RocketMQ writes its files anew, and what was taken over stays so.
    taken.edit("topics.json", "\"orders\"", "\"orders\" ");
    taken.take_over().unwrap();
    let again = taken.store.queue_bounds(crate::schedule::TOPIC, crate::schedule::QUEUE).end.0;
    assert_eq!(again, end + 1);
}

#[test]
fn the_same_files_are_taken_over_once() {
    let taken = Taken::open();
    taken.take_over().unwrap();
    let done =
        KeptStanding { group: "shipping".into(), topic: "fifo".into(), cursor: 3, ..KeptStanding::default() };
    taken.meta.write(|transaction| put_standings(transaction, std::slice::from_ref(&done))).unwrap();
    taken.take_over().unwrap();
    assert_eq!(taken.standing("shipping", "fifo", 0), Some((3, Vec::new())));
}

#[test]
fn when_java_went_on_topics_are_added_and_nobody_goes_back() {
    let taken = Taken::open();
    taken.take_over().unwrap();
    let ahead = |queue, cursor| KeptStanding {
        group: "shipping".into(),
        topic: "fifo".into(),
        queue,
        cursor,
        again: Vec::new(),
    };
    taken.meta.write(|transaction| put_standings(transaction, &[ahead(0, 3)])).unwrap();
    taken.edit("consumerOffset.json", "1:1\n", "1:3\n");
    taken.edit(
        "topics.json",
        "\"perm\":4,\n\t\t\t\"readQueueNums\":3",
        "\"perm\":6,\n\t\t\t\"readQueueNums\":5",
    );
    taken.take_over().unwrap();
    assert_eq!(taken.standing("shipping", "fifo", 0).unwrap().0, 3, "ours was ahead");
    assert_eq!(taken.standing("shipping", "fifo", 1).unwrap().0, 3, "RocketMQ was ahead");
    let frozen = topic(&kept::topics(&taken.meta).unwrap(), "frozen").clone();
    assert_eq!((frozen.read_queues, frozen.writable), (5, false), "ours but for the queues");
    // The copies of before are not given out again.
    assert_eq!(taken.standing("billing", "orders", 1).unwrap().1.len(), 1);
}

#[test]
fn a_damaged_file_leaves_everything_as_it_was() {
    let taken = Taken::open();
    taken.edit("consumerOffset.json", "offsetTable", "offset\"Table");
    let error = taken.take_over().unwrap_err().to_string();
    assert!(error.contains("consumerOffset.json is not what RocketMQ writes"), "{error}");
    assert_eq!((kept::topics(&taken.meta).unwrap().len(), standings(&taken.meta).unwrap().len()), (0, 0));
    std::fs::remove_file(taken.config().join("meta.redb")).unwrap();
    assert!(check(&taken.config()).is_err());
}

#[test]
fn what_was_taken_over_is_given_back_and_can_be_taken_over_again() {
    let taken = Taken::open();
    let java = read(&taken.config()).unwrap().unwrap();
    taken.take_over().unwrap();
    taken.meta.close();
    let back = give_back(&taken.config()).unwrap();
    assert_eq!(back.topics, java.topics);
    assert_eq!(back.groups["billing"], java.groups["billing"]);
    assert_eq!(back.delay_offsets, java.delay_offsets);
    let orders = TopicAndGroup { topic: "orders".into(), group: "billing".into() };
    // Back to the first message that is not done.
    assert_eq!(back.offsets[&orders], BTreeMap::from([(0, 6), (1, 1), (2, 1), (3, 6)]));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &back, NOW).unwrap();
    assert_eq!(read(folder.path()).unwrap().unwrap(), back);
}

#[test]
fn what_cannot_be_taken_is_named_with_the_reason() {
    let mut java = JavaConfig::default();
    let mut add = |name: &str, attribute: Option<(&str, &str)>| {
        let attributes =
            attribute.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        java.topics.insert(name.to_owned(), JavaTopic { attributes, ..JavaTopic::default() });
    };
    add("a.b", None);
    add("%LMQ%x", None);
    add("batches", Some(("queue.type", "BatchCQ")));
    add("latest", Some(("cleanup.policy", "COMPACTION")));
    add("%DLQ%billing", None);
    add("rmq_sys_REVIVE_LOG_c", None);
    add("c", None);
    add("c_REPLY_TOPIC", None);
    java.groups.insert("bill/ing".to_owned(), JavaGroup::default());
    let key = |topic: &str, group: &str| TopicAndGroup { topic: topic.to_owned(), group: group.to_owned() };
    java.offsets.insert(key("gone", "billing"), BTreeMap::from([(0, 1)]));
    java.offsets.insert(key("latest", "billing"), BTreeMap::from([(0, 1)]));
    let plan = plan(&java, &Ours::default(), MAX_ATTEMPTS);
    let taken: Vec<_> = plan.topics.iter().map(|topic| topic.name.as_str()).collect();
    assert_eq!((taken, plan.system), (vec!["%DLQ%billing", "latest"], 3));
    let left: Vec<_> = plan.left.iter().map(|(what, _)| what.as_str()).collect();
    let expected = [
        "topic %LMQ%x",
        "topic a.b",
        "topic batches",
        "compaction of topic latest",
        "group bill/ing",
        "offsets of group billing in topic gone",
    ];
    assert_eq!(left, expected);
    assert_eq!(plan.groups.len(), 1, "a group that only has offsets");
}

#[test]
fn views_of_rocketmq_go_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    remove_views(folder.path()).unwrap();
    for path in
        ["consumequeue/orders/0/00000000000000000000", "index/20261121", "commitlog/0", "config/meta.redb"]
    {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }
    std::fs::write(folder.path().join("checkpoint"), "x").unwrap();
    remove_views(folder.path()).unwrap();
    let mut left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort_unstable();
    assert_eq!(left, ["commitlog", "config"]);
}
