//! Calls made of any bytes: each is answered as the table of the protocol says, and what was acknowledged is there as it was
//! sent, before a restart and after it.
//! A program of its own: it listens for panics, and other tests count what its process has open.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "../it/rig.rs"]
mod rig;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuzz::answer::{self, Checked};
use fuzz::call::{Call, Rpc};
use fuzz::caller::{self, Outcome};
use fuzz::draw::Draw;
use fuzz::{Known, Panics};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use prost::Message as _;
use proto::control::MessageType as Kind;
use proto::v2::*;
use tonic::transport::Channel;

use rig::*;

/// Each case is a few calls; `GANTRY_FUZZ_CASES` makes more.
const CASES: u32 = 300;
/// `GANTRY_FUZZ_SEED` is another one.
const SEED: u64 = 5;
const TOPICS: [(&str, Kind); 7] = [
    ("normal", Kind::Normal),
    ("fifo", Kind::Fifo),
    ("delay", Kind::Delay),
    ("transaction", Kind::Transaction),
    ("priority", Kind::Priority),
    ("lite", Kind::Lite),
    ("mixed", Kind::Mixed),
];
/// Nobody but the audit is in these groups.
const AUDITORS: [&str; 2] = ["auditor-before", "auditor-after"];

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn any_call_is_answered_and_no_message_is_lost_or_altered() {
    let seed = number("GANTRY_FUZZ_SEED", SEED);
    let cases = u32::try_from(number("GANTRY_FUZZ_CASES", u64::from(CASES))).unwrap();
    println!("GANTRY_FUZZ_SEED={seed} GANTRY_FUZZ_CASES={cases}");
    let panics = Panics::listen();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tried = std::cell::RefCell::new(runtime.block_on(Tried::start(folder.path())));

    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = prop::collection::vec(any::<u8>(), 0..400);
    let outcome = runner.run(&strategy, |bytes| {
        let outcome = runtime.block_on(tried.borrow_mut().case(&bytes));
        let panics = panics.heard().concat();
        let outcome = outcome.and(if panics.is_empty() { Ok(()) } else { Err(panics) });
        outcome.map_err(TestCaseError::fail)
    });
    if let Err(error) = outcome {
        panic!("seed {seed}: {}", format!("{error}").replace("\n    ", " "));
    }
    runtime.block_on(tried.into_inner().end(folder.path()));
    assert_eq!(panics.heard(), [""; 0]);
}

/// A broker, and what must be in it.
struct Tried {
    rig: Rig,
    channel: Channel,
    known: Known,
    now_seconds: i64,
    ledger: Ledger,
    /// How often each code came.
    codes: BTreeMap<&'static str, usize>,
    sentinels: usize,
}

impl Tried {
    async fn start(folder: &Path) -> Self {
        let mut rig = Rig::start(folder).await;
        for (topic, kind) in TOPICS {
            rig.topic_of(topic, 2, kind).await;
        }
        rig.group("one-attempt", false, 1).await;
        rig.group("ordered", true, 3).await;
        let now_seconds =
            i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap();
        let topics = TOPICS.iter().map(|(topic, _)| *topic).chain(["%DLQ%g", "%DLQ%one-attempt", "%RETRY%g"]);
        let topics: Vec<&str> = topics.collect();
        let known = Known::new(&topics, &["g", "one-attempt", "ordered"], &["a", "b", "c"], now_seconds);
        let channel = Channel::from_shared(format!("http://{}", rig.running.client_addr)).unwrap();
        let channel = channel.connect().await.unwrap();
        let (ledger, codes) = (Ledger::default(), BTreeMap::new());
        Self { rig, channel, known, now_seconds, ledger, codes, sentinels: 0 }
    }

    /// Calls as long as there are bytes, and the broker serves whoever asks in between.
    async fn case(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut draw = Draw::new(bytes);
        while !draw.is_over() {
            let call = Call::draw(&mut draw, &self.known);
            let outcome = caller::carry_out(&self.channel, &call).await;
            let outcome = outcome.map_err(|why| format!("{why}\n{call:?}"))?;
            let checked = answer::check(&call, &outcome, &mut self.known);
            let checked = checked.map_err(|why| format!("{why}\n{call:?}"))?;
            checked.codes.iter().for_each(|code| *self.codes.entry(code.as_str_name()).or_default() += 1);
            self.ledger.book(&call, &outcome, checked, self.now_seconds);
        }
        self.sentinels += 1;
        let sentinel = message("normal", &format!("sentinel-{}", self.sentinels));
        self.rig.send_ok(vec![sentinel.clone()]).await;
        self.ledger.must(&sentinel);
        Ok(())
    }

    /// Stops and starts the broker, and looks for every message before and after.
    async fn end(self, folder: &Path) {
        let Self { mut rig, ledger, codes, .. } = self;
        println!("{codes:?}");
        for wanted in ["OK", "ILLEGAL_TOPIC", "INVALID_RECEIPT_HANDLE", "ILLEGAL_FILTER_EXPRESSION"] {
            assert!(
                codes.contains_key(wanted),
                "the calls are worth their name: {wanted} is not in {codes:?}"
            );
        }
        let [before, after] = AUDITORS;
        ledger.audit(&audit(&mut rig, before, &ledger).await);
        let failed = tokio::time::timeout(Duration::ZERO, rig.running.failed()).await;
        assert!(failed.is_err(), "a task has died: {failed:?}");
        rig.running.stop().await.unwrap();
        let mut rig = Rig::start(folder).await;
        ledger.audit(&audit(&mut rig, after, &ledger).await);
        rig.running.stop().await.unwrap();
    }
}

/// What must be delivered, and what may be, each as often as it is said.
#[derive(Default)]
struct Ledger {
    must: BTreeMap<String, usize>,
    may: BTreeMap<String, usize>,
    /// Transactions that nobody has ended, by their ids.
    open: HashMap<String, Message>,
    lites: Vec<String>,
}

impl Ledger {
    fn must(&mut self, message: &Message) {
        *self.must.entry(sent(message)).or_default() += 1;
    }

    fn may(&mut self, message: &Message) {
        *self.may.entry(sent(message)).or_default() += 1;
    }

    fn book(&mut self, call: &Call, outcome: &Outcome, checked: Checked, now_seconds: i64) {
        if outcome.failed.is_some() {
            return self.book_unsure(call);
        }
        for (message, entry) in checked.sent {
            // What the broker puts into topics of groups is nobody's to count.
            let topic = message.topic.as_ref().unwrap();
            if topic.name.starts_with('%') {
                continue;
            }
            let system = system(&message);
            self.lites.extend(system.lite_topic.clone());
            if is_transaction(&message) {
                self.open.insert(entry.transaction_id, message);
            } else if system.delivery_timestamp.is_none_or(|at| at.seconds <= now_seconds) {
                self.must(&message);
            }
        }
        if let Some((Rpc::EndTransaction, id)) = checked.done_with {
            let asked = EndTransactionRequest::decode(&*call.messages[0]).unwrap();
            match asked.resolution() {
                TransactionResolution::Commit => {
                    if let Some(message) = self.open.remove(&id) {
                        self.must(&message);
                    }
                }
                TransactionResolution::Rollback => drop(self.open.remove(&id)),
                TransactionResolution::Unspecified => {}
            }
        }
    }

    /// No answer came: it may have happened.
    fn book_unsure(&mut self, call: &Call) {
        let [bytes] = call.messages.as_slice() else { return };
        match call.rpc {
            Rpc::SendMessage => {
                for message in SendMessageRequest::decode(&**bytes).unwrap_or_default().messages {
                    if message.system_properties.is_some() && message.topic.is_some() {
                        self.lites.extend(system(&message).lite_topic.clone());
                        self.may(&message);
                    }
                }
            }
            Rpc::EndTransaction => {
                let id = EndTransactionRequest::decode(&**bytes).unwrap_or_default().transaction_id;
                if let Some(message) = self.open.remove(&id) {
                    self.may(&message);
                }
            }
            _ => {}
        }
    }

    fn audit(&self, found: &BTreeMap<String, usize>) {
        for (message, times) in &self.must {
            let came = found.get(message).copied().unwrap_or_default();
            let most = times + self.may.get(message).copied().unwrap_or_default();
            let near: Vec<_> = found
                .keys()
                .filter(|other| {
                    other.split(' ').nth(1) == message.split(' ').nth(1) && !self.must.contains_key(*other)
                })
                .collect();
            assert!(
                (*times..=most).contains(&came),
                "{message} was sent {times} times and came {came} times; altered? {near:?}"
            );
        }
        for message in found.keys() {
            let was_sent = self.must.contains_key(message) || self.may.contains_key(message);
            assert!(was_sent, "{message} came, and nobody sent it");
        }
    }
}

/// Everything that the topics hold, as a new group gets it.
async fn audit(rig: &mut Rig, group: &str, ledger: &Ledger) -> BTreeMap<String, usize> {
    let sync = SyncLiteSubscriptionRequest {
        action: LiteSubscriptionAction::CompleteAdd as i32,
        topic: resource("lite"),
        group: resource(group),
        lite_topic_set: vec!["*".to_owned()],
        ..SyncLiteSubscriptionRequest::default()
    };
    let held = rig.client.sync_lite_subscription(call(sync)).await.unwrap().into_inner();
    assert_eq!(held.status.unwrap().code(), Code::Ok);
    let mut found = BTreeMap::new();
    for (topic, _) in TOPICS {
        loop {
            let hour = Some(duration(Duration::from_secs(3600)));
            let request =
                ReceiveMessageRequest { batch_size: 8, invisible_duration: hour, ..ask(group, topic) };
            let polled = rig.poll(request).await;
            if polled.messages.is_empty() {
                assert_eq!(polled.status.code(), Code::MessageNotFound, "{topic}: {:?}", polled.status);
                break;
            }
            for message in polled.messages {
                assert_eq!(attempt(&message), 1);
                *found.entry(received(&message)).or_default() += 1;
            }
        }
    }
    println!("{group}: {} messages, {} lite topics", found.len(), ledger.lites.len());
    found
}

fn is_transaction(message: &Message) -> bool {
    system(message).message_type == MessageType::Transaction as i32
}

/// A message as its producer wrote it, in words that [`received`] uses too.
fn sent(message: &Message) -> String {
    let mut message = message.clone();
    let transaction = is_transaction(&message);
    let system = message.system_properties.as_mut().unwrap();
    if !transaction && (system.delivery_timestamp.is_some() || system.message_group.is_some()) {
        // What makes another type is not looked at.
        system.lite_topic = None;
    }
    let storable =
        |text: &String| !text.is_empty() && text.len() <= 4096 && !text.chars().any(char::is_control);
    system.trace_context = system.trace_context.take().filter(storable);
    if transaction {
        message.user_properties.insert("__transactionId__".to_owned(), system.message_id.clone());
        system.lite_topic = None;
    }
    message.user_properties.remove("CHECK_IMMUNITY_TIME_IN_SECONDS");
    // Who writes the name of RocketMQ's property means it.
    match &system.message_group {
        Some(group) => drop(message.user_properties.insert("__SHARDINGKEY".to_owned(), group.clone())),
        None => {
            system.message_group =
                message.user_properties.get("__SHARDINGKEY").filter(|group| !group.is_empty()).cloned()
        }
    }
    words(&message)
}

fn received(message: &Message) -> String {
    let mut message = message.clone();
    let system = message.system_properties.as_mut().unwrap();
    let digest = system.body_digest.take().unwrap();
    assert!(matches!(digest.r#type(), DigestType::Crc32 | DigestType::Md5));
    words(&message)
}

fn words(message: &Message) -> String {
    let system = system(message);
    let properties: BTreeMap<_, _> = message.user_properties.iter().collect();
    let keys: Vec<_> =
        system.keys.iter().flat_map(|key| key.split(' ')).filter(|key| !key.is_empty()).collect();
    let ms = |time: &prost_types::Timestamp| {
        time.seconds.saturating_mul(1000).saturating_add(i64::from(time.nanos / 1_000_000))
    };
    let sum =
        message.body.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let topic = message.topic.as_ref().unwrap();
    format!(
        "{:?} {:?} body {}/{sum} properties {properties:?} tag {:?} keys {keys:?} group {:?} lite {:?} priority {:?} trace {:?} at {:?}",
        topic.name,
        system.message_id,
        message.body.len(),
        system.tag,
        system.message_group,
        system.lite_topic,
        system.priority,
        system.trace_context,
        system.delivery_timestamp.as_ref().map(ms),
    )
}
