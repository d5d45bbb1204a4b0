//! What is exported comes back by an import, and nothing is written that was not asked for.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use store::disk::RealDisk;
use store::offline::{Look, Met};
use store::{Config, LogOffset, NewRecord, QueueId, Store, SystemClock};

use super::tests::{flip, sample};
use super::{export, import};
use crate::args::{ExportArgs, ExportFormat, ImportArgs};
use crate::failure::Failure;
use crate::message::Message;
use crate::output::{Format, Printer};

fn export_to(dir: &Path, to: &Path, change: impl FnOnce(&mut ExportArgs)) -> Result<(), Failure> {
    let mut args = ExportArgs {
        dir: dir.to_path_buf(),
        to: to.to_path_buf(),
        format: ExportFormat::Jsonl,
        link: false,
        topics: Vec::new(),
        since: None,
        until: None,
        from_offset: 0,
        to_offset: None,
    };
    change(&mut args);
    export::run(&args, Printer::new(Format::Json))
}

fn import_from(dir: &Path, from: &Path, write: bool) -> Result<(), Failure> {
    let args = ImportArgs {
        dir: dir.to_path_buf(),
        from: Some(from.to_path_buf()),
        from_rocketmq: None,
        write,
        segment_size: "1Mi".to_owned(),
    };
    import::run(&args, Printer::new(Format::Json))
}

/// Every message of a store, in the log's order.
fn messages(dir: &Path) -> Vec<Message> {
    let look = Look::open(dir).unwrap();
    let mut messages = Vec::new();
    look.records(LogOffset(0)..LogOffset(u64::MAX), &mut |met, _| {
        if let Met::Record(record) = met {
            messages.push(Message::of(&record));
        }
        std::ops::ControlFlow::Continue(())
    })
    .unwrap();
    messages
}

/// All but what an import gives anew.
fn kept(mut messages: Vec<Message>) -> Vec<Message> {
    for message in &mut messages {
        (message.log_offset, message.stored_at_ms) = (0, 0);
    }
    messages
}

fn lines(path: &Path) -> Vec<Message> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_export_has_what_its_filters_ask_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let places = sample(dir.path());
    let exported = |name: &str, change: &dyn Fn(&mut ExportArgs)| {
        let to = out.path().join(name);
        export_to(dir.path(), &to, change).unwrap();
        lines(&to)
    };
    assert_eq!(exported("all", &|_| {}), messages(dir.path()));
    let payments = exported("topic", &|args| args.topics = vec!["payments".to_owned()]);
    assert_eq!(payments.len(), 20);
    assert!(payments.iter().all(|message| message.topic == "payments"));
    let part =
        exported("offsets", &|args| (args.from_offset, args.to_offset) = (places[10] - 1, Some(places[20])));
    assert_eq!(part.iter().map(|message| message.log_offset).collect::<Vec<_>>(), places[10..20]);
    let noon = 1_795_628_530_007;
    assert_eq!(exported("since", &|args| args.since = Some(noon)).len(), 60);
    assert_eq!(exported("until", &|args| args.until = Some(noon)).len(), 0);
}

#[test]
fn an_export_never_replaces_a_file_and_leaves_no_half_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    sample(dir.path());
    let to = out.path().join("messages.jsonl");
    fs::write(&to, "mine").unwrap();
    let failure = export_to(dir.path(), &to, |_| {}).unwrap_err();
    assert!(failure.to_string().contains("is there already"), "{failure}");
    assert_eq!(fs::read_to_string(&to).unwrap(), "mine");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_damaged_store_is_exported_but_for_the_damage_and_the_exit_code_tells() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    let places = sample(dir.path());
    flip(dir.path(), places[30] + 110);
    let to = out.path().join("messages.jsonl");
    let failure = export_to(dir.path(), &to, |_| {}).unwrap_err();
    assert!(failure.to_string().contains("1 damaged place"), "{failure}");
    assert_eq!(lines(&to).len(), 59);
}

#[test]
fn an_import_says_what_it_would_do_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    sample(dir.path());
    let file = out.path().join("messages.jsonl");
    export_to(dir.path(), &file, |_| {}).unwrap();
    let target = out.path().join("new");
    import_from(&target, &file, false).unwrap();
    assert!(!target.exists());
    import_from(&target, &file, true).unwrap();
    assert_eq!(kept(messages(&target)), kept(messages(dir.path())));
}

#[test]
fn one_bad_line_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    sample(dir.path());
    let file = out.path().join("messages.jsonl");
    export_to(dir.path(), &file, |_| {}).unwrap();
    let good = fs::read_to_string(&file).unwrap();
    let nth = |n: usize| good.lines().nth(n).unwrap().to_owned();
    let check = |line: String, expected: &str| {
        let mut all: Vec<_> = good.lines().map(str::to_owned).collect();
        all[40] = line;
        fs::write(&file, all.join("\n")).unwrap();
        let target = out.path().join("new");
        let failure = import_from(&target, &file, true).unwrap_err().to_string();
        assert!(failure.contains("line 41 of") && failure.contains(expected), "{failure}");
        assert!(!target.exists());
    };
    check("{".to_owned(), "EOF while parsing");
    check(nth(40).replace("bodyBase64\":\"", "bodyBase64\":\"!"), "Invalid symbol 33");
    check(nth(40).replace("\"queueId\":0", "\"queueId\":-1"), "invalid value: integer `-1`");
    check(nth(40).replace("\"queueId\":0", "\"queueId\":4294967295"), "the queue id takes");
    check(nth(40).replace("\"orders\"", "\"or/ders\""), "contains '/'");
    check(nth(40).replace("\"orders\"", &format!("\"{}\"", "o".repeat(300))), "300 characters");
    check(nth(40).replace("\"eu\"", &format!("\"{}\"", "e".repeat(40_000))), "the properties takes");
    check(nth(40).replace("\"eu\"", "\"e\\u0002u\""), "separates properties");
    check(nth(40).replace("\"flag\"", "\"flags\""), "unknown field `flags`");
    check(nth(40).replace("\"flag\":3,", ""), "missing field `flag`");
}

#[test]
fn an_import_goes_behind_what_is_there_and_into_files_of_the_same_size() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    sample(dir.path());
    let file = out.path().join("messages.jsonl");
    export_to(dir.path(), &file, |_| {}).unwrap();
    let once = messages(dir.path());
    import_from(dir.path(), &file, true).unwrap();
    let twice = messages(dir.path());
    assert_eq!(twice[..60], once);
    let again: Vec<_> = twice[60..].iter().map(|message| message.body_base64.clone()).collect();
    assert_eq!(again, once.iter().map(|message| message.body_base64.clone()).collect::<Vec<_>>());
    let look = Look::open(dir.path()).unwrap();
    assert!(look.listing().unwrap().segments.iter().all(|segment| segment.bytes == 4096));
    assert!(look.verify(&mut |_| {}).unwrap().is_good());
    assert_eq!(look.queues(&mut |_| {}).unwrap().0[0].next.0, 40);
}

#[test]
fn a_directory_for_rocketmq_appears_whole_and_with_every_topic() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    sample(dir.path());
    let to = out.path().join("java");
    export_to(dir.path(), &to, |args| args.format = ExportFormat::Rocketmq).unwrap();
    let topics = broker::takeover::read(&to.join("config")).unwrap().unwrap().topics;
    assert_eq!(topics.keys().collect::<Vec<_>>(), ["orders", "payments"]);
    assert_eq!(messages(&to), messages(dir.path()));
    let again = export_to(dir.path(), &to, |args| args.format = ExportFormat::Rocketmq).unwrap_err();
    assert!(again.to_string().contains("is there already"), "{again}");
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn options_that_do_not_fit_the_format_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let check = |change: &dyn Fn(&mut ExportArgs), expected: &str| {
        let failure = export_to(dir.path(), Path::new("never"), change).unwrap_err().to_string();
        assert!(failure.contains(expected), "{failure}");
    };
    check(&|args| args.link = true, "--link goes with");
    check(&|args| (args.format, args.since) = (ExportFormat::Rocketmq, Some(1)), "takes the whole log");
    check(&|args| (args.format, args.to) = (ExportFormat::Rocketmq, "-".into()), "name it with --to");
}

#[test]
fn a_running_broker_keeps_its_store() {
    let dir = tempfile::tempdir().unwrap();
    let out = tempfile::tempdir().unwrap();
    sample(dir.path());
    let file = out.path().join("messages.jsonl");
    export_to(dir.path(), &file, |_| {}).unwrap();
    let config = Config { segment_bytes: 4096, ..Config::new(dir.path()) };
    let (_store, _) =
        Store::open_without_threads(Arc::new(RealDisk::default()), Arc::new(SystemClock), config).unwrap();
    for failure in [
        export_to(dir.path(), &out.path().join("other"), |_| {}).unwrap_err(),
        import_from(dir.path(), &file, true).unwrap_err(),
    ] {
        assert!(failure.to_string().contains("is in use by a broker; stop it first"), "{failure}");
    }
}

#[test]
fn data_of_a_java_broker_is_opened_and_not_imported() {
    let args = ImportArgs {
        dir: "mine".into(),
        from: None,
        from_rocketmq: Some("/java/store".into()),
        write: true,
        segment_size: "1Mi".to_owned(),
    };
    let failure = import::run(&args, Printer::new(Format::Json)).unwrap_err().to_string();
    assert!(
        failure.contains("gantry dev --data /java/store") && failure.contains("export /java/store"),
        "{failure}"
    );
    assert!(!Path::new("mine").exists());
}

/// What can be in a message.
#[derive(Clone, Debug)]
struct Any {
    topic: String,
    queue: u32,
    body: Vec<u8>,
    properties: Vec<u8>,
    flags: (i32, i32, i32),
    prepared: u64,
    born: (i64, std::net::SocketAddr),
    store_host: std::net::SocketAddr,
}

fn any_host() -> impl Strategy<Value = std::net::SocketAddr> {
    (any::<std::net::IpAddr>(), any::<u16>()).prop_map(|(ip, port)| std::net::SocketAddr::new(ip, port))
}

fn any_message() -> impl Strategy<Value = Any> {
    let pairs = prop::collection::vec(("[a-zA-Z_]{1,8}", "[^\u{1}\u{2}]{0,9}"), 0..6);
    let properties = prop_oneof![
        pairs.prop_map(|pairs| {
            let mut encoded = store::Properties::default();
            pairs.iter().for_each(|(name, value)| encoded.push(name, value));
            encoded.as_bytes().to_vec()
        }),
        // What old clients leave out, and what no decoder takes for a pair.
        "[a-z\u{1}\u{2}]{0,12}\u{2}".prop_map(String::into_bytes),
    ];
    (
        "[a-zA-Z0-9_%|-]{1,200}",
        0..4u32,
        prop::collection::vec(any::<u8>(), 0..600),
        properties,
        (any::<i32>(), any::<i32>(), any::<i32>()),
        any::<u64>(),
        (any::<i64>(), any_host()),
        any_host(),
    )
        .prop_map(|(topic, queue, body, properties, flags, prepared, born, store_host)| Any {
            topic,
            queue,
            body,
            properties,
            flags,
            prepared,
            born,
            store_host,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn export_and_import_give_every_message_back(any in prop::collection::vec(any_message(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { segment_bytes: 8192, ..Config::new(dir.path()) };
        let (store, _) = Store::open_without_threads(Arc::new(RealDisk::default()), Arc::new(SystemClock), config).unwrap();
        for message in &any {
            let record = NewRecord {
                topic: &message.topic,
                queue_id: QueueId(message.queue),
                body: &message.body,
                properties: &message.properties,
                tag: None,
                flag: message.flags.0,
                sys_flag: message.flags.1,
                born_at_ms: message.born.0,
                born_host: message.born.1,
                store_host: message.store_host,
                reconsume_times: message.flags.2,
                prepared_offset: LogOffset(message.prepared),
            };
            store.append(&[record]).unwrap();
        }
        store.close().unwrap();
        drop(store);
        let file = dir.path().join("messages.jsonl");
        export_to(dir.path(), &file, |_| {}).unwrap();
        let target = dir.path().join("new");
        import_from(&target, &file, true).unwrap();
        let (before, after) = (messages(dir.path()), messages(&target));
        prop_assert_eq!(before.len(), any.len());
        prop_assert_eq!(kept(before), kept(after));
        let verified = Look::open(&target).unwrap().verify(&mut |_| {}).unwrap();
        prop_assert!(verified.is_good());
    }
}
