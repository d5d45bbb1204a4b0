//! RocketMQ's metadata as it lies in `config/*.json`, both ways.
//!
//! ```text
//!   topics.json             topicConfigTable        topic → TopicConfig
//!   subscriptionGroup.json  subscriptionGroupTable  group → SubscriptionGroupConfig
//!   consumerOffset.json     offsetTable             "topic@group" → queue id → next offset to consume
//!   delayOffset.json        offsetTable             delay level → next offset in SCHEDULE_TOPIC_XXXX
//! ```
//!
//! A missing or empty file is replaced by its `.bak`, as RocketMQ does (`ConfigManager.load`): it moves the old file there
//! before it writes the new one. A file that is damaged is an error; RocketMQ deletes it and takes the older state.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fastjson::quote_integer_keys;

const TOPICS: &str = "topics.json";
const GROUPS: &str = "subscriptionGroup.json";
const OFFSETS: &str = "consumerOffset.json";
const DELAY_OFFSETS: &str = "delayOffset.json";
/// Where RocketMQ keeps metadata if told to use RocksDB (`configManagerVersion`, `storeType`).
const ROCKSDB: [&str; 4] = ["topics", "subscriptionGroups", "consumerOffsets", "rdb"];

/// Everything that is taken over, and written back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JavaConfig {
    /// By name; system topics as well.
    pub topics: BTreeMap<String, JavaTopic>,
    /// By name; system groups as well.
    pub groups: BTreeMap<String, JavaGroup>,
    /// The next offset to consume: by topic and group, then by queue id.
    pub offsets: BTreeMap<TopicAndGroup, BTreeMap<u32, u64>>,
    /// By delay level, from 1: the next offset to deliver of its queue in `SCHEDULE_TOPIC_XXXX`.
    pub delay_offsets: BTreeMap<u32, u64>,
}

/// A key of RocketMQ's offset table, `topic@group`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicAndGroup {
    /// The topic.
    pub topic: String,
    /// The consumer group.
    pub group: String,
}

/// RocketMQ's `TopicConfig`; fields that are missing have its defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are RocketMQ's")]
pub struct JavaTopic {
    pub topic_name: String,
    pub read_queue_nums: u32,
    pub write_queue_nums: u32,
    /// 4: readable, 2: writable, 1: a template for others.
    pub perm: u32,
    pub topic_filter_type: String,
    pub topic_sys_flag: i32,
    pub order: bool,
    /// For example `message.type` and `queue.type`.
    #[serde(deserialize_with = "null_is_default")]
    pub attributes: BTreeMap<String, String>,
}

impl Default for JavaTopic {
    fn default() -> Self {
        Self {
            topic_name: String::new(),
            read_queue_nums: 16,
            write_queue_nums: 16,
            perm: 6,
            topic_filter_type: "SINGLE_TAG".to_owned(),
            topic_sys_flag: 0,
            order: false,
            attributes: BTreeMap::new(),
        }
    }
}

/// RocketMQ's `SubscriptionGroupConfig`; fields that are missing have its defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are RocketMQ's")]
pub struct JavaGroup {
    pub group_name: String,
    pub consume_enable: bool,
    pub consume_from_min_enable: bool,
    pub consume_broadcast_enable: bool,
    pub consume_message_orderly: bool,
    pub retry_queue_nums: u32,
    pub retry_max_times: i32,
    #[serde(deserialize_with = "null_is_default")]
    pub group_retry_policy: JavaRetryPolicy,
    pub notify_consumer_ids_changed_enable: bool,
    pub consume_timeout_minute: u32,
}

impl Default for JavaGroup {
    fn default() -> Self {
        Self {
            group_name: String::new(),
            consume_enable: true,
            consume_from_min_enable: true,
            consume_broadcast_enable: true,
            consume_message_orderly: false,
            retry_queue_nums: 1,
            retry_max_times: 16,
            group_retry_policy: JavaRetryPolicy::default(),
            notify_consumer_ids_changed_enable: true,
            consume_timeout_minute: 15,
        }
    }
}

/// RocketMQ's `GroupRetryPolicy`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JavaRetryPolicy {
    /// Which of the two counts.
    #[serde(rename = "type")]
    pub kind: JavaRetryKind,
    /// Growing by a factor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exponential_retry_policy: Option<JavaExponential>,
    /// One delay an attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customized_retry_policy: Option<JavaCustomized>,
}

/// RocketMQ's `GroupRetryPolicyType`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names are RocketMQ's")]
pub enum JavaRetryKind {
    Exponential,
    #[default]
    Customized,
}

/// RocketMQ's `ExponentialRetryPolicy`, milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(missing_docs, reason = "the names are RocketMQ's")]
pub struct JavaExponential {
    pub initial: u64,
    pub max: u64,
    pub multiplier: u64,
}

impl Default for JavaExponential {
    fn default() -> Self {
        Self { initial: 5_000, max: 7_200_000, multiplier: 2 }
    }
}

/// RocketMQ's `CustomizedRetryPolicy`, milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are RocketMQ's")]
pub struct JavaCustomized {
    pub next: Vec<u64>,
}

/// Why metadata cannot be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is damaged.
    #[error(
        "{path} is not what RocketMQ writes ({source}): mend it, or put a good copy or its .bak in its place (older, so \
         consumers may see messages again); nothing was changed"
    )]
    Json {
        /// Which file.
        path: PathBuf,
        /// Where, and what.
        source: serde_json::Error,
    },
    /// The metadata is not in JSON files.
    #[error(
        "{path}: RocketMQ keeps topics, groups and offsets of this store in RocksDB, which cannot be read here: let RocketMQ \
         export them to config/*.json first (mqadmin rocksDBConfigToJson); nothing was changed"
    )]
    RocksDb {
        /// The database.
        path: PathBuf,
    },
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct TopicsFile {
    topic_config_table: BTreeMap<String, JavaTopic>,
    data_version: DataVersion,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GroupsFile {
    subscription_group_table: BTreeMap<String, JavaGroup>,
    data_version: DataVersion,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct OffsetsFile {
    offset_table: BTreeMap<String, BTreeMap<u32, i64>>,
    data_version: DataVersion,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DelayOffsetsFile {
    offset_table: BTreeMap<u32, i64>,
    data_version: DataVersion,
}

/// RocketMQ's `DataVersion`: which of two states is newer.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DataVersion {
    counter: i64,
    state_version: i64,
    timestamp: i64,
}

/// The files of RocketMQ in `config`, as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JavaFiles(BTreeMap<&'static str, (PathBuf, String)>);

impl JavaFiles {
    /// Looks for them in a `config` folder. `None`: this is no folder of RocketMQ.
    pub fn look(config: &Path) -> Result<Option<Self>, ReadError> {
        let mut files = BTreeMap::new();
        for name in [TOPICS, GROUPS, OFFSETS, DELAY_OFFSETS] {
            if let Some(found) = read_or_backup(config, name)? {
                files.insert(name, found);
            }
        }
        if !files.contains_key(TOPICS)
            && let Some(path) = ROCKSDB.iter().map(|name| config.join(name)).find(|path| path.is_dir())
        {
            return Err(ReadError::RocksDb { path });
        }
        Ok((!files.is_empty()).then_some(Self(files)))
    }

    /// Tells these files from others.
    #[must_use]
    pub fn fingerprint(&self) -> u32 {
        let mut all = Vec::new();
        for (name, (_, text)) in &self.0 {
            all.extend_from_slice(name.as_bytes());
            all.extend_from_slice(&(text.len() as u64).to_be_bytes());
            all.extend_from_slice(text.as_bytes());
        }
        crc32fast::hash(&all)
    }

    /// What they say.
    pub fn parse(&self) -> Result<JavaConfig, ReadError> {
        let TopicsFile { topic_config_table, data_version: _ } = self.parse_one(TOPICS)?;
        let GroupsFile { subscription_group_table, data_version: _ } = self.parse_one(GROUPS)?;
        let OffsetsFile { offset_table, data_version: _ } = self.parse_one(OFFSETS)?;
        let delays: DelayOffsetsFile = self.parse_one(DELAY_OFFSETS)?;
        let offsets = offset_table.into_iter().filter_map(|(key, queues)| {
            let (topic, group) = key.split_once('@')?;
            let queues =
                queues.into_iter().filter_map(|(id, offset)| Some((id, u64::try_from(offset).ok()?)));
            let key = TopicAndGroup { topic: topic.to_owned(), group: group.to_owned() };
            Some((key, queues.collect()))
        });
        let delay_offsets = delays.offset_table.into_iter();
        let delay_offsets =
            delay_offsets.filter_map(|(level, offset)| Some((level, u64::try_from(offset).ok()?)));
        Ok(JavaConfig {
            topics: topic_config_table,
            groups: subscription_group_table,
            offsets: offsets.collect(),
            delay_offsets: delay_offsets.collect(),
        })
    }

    fn parse_one<T: Default + for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, ReadError> {
        let Some((path, text)) = self.0.get(name) else { return Ok(T::default()) };
        serde_json::from_str(&quote_integer_keys(text))
            .map_err(|source| ReadError::Json { path: path.clone(), source })
    }
}

/// Reads RocketMQ's metadata from a `config` folder. `None`: there is none.
pub fn read(config: &Path) -> Result<Option<JavaConfig>, ReadError> {
    JavaFiles::look(config)?.map(|files| files.parse()).transpose()
}

/// Writes the metadata into a `config` folder, in RocketMQ's layout, durably. What lies there becomes the `.bak`, as RocketMQ
/// does it. `now_ms` is the time that the files say they are from.
pub fn write(folder: &Path, config: &JavaConfig, now_ms: i64) -> io::Result<()> {
    let JavaConfig { topics, groups, offsets, delay_offsets } = config;
    let data_version = DataVersion { counter: 1, state_version: 0, timestamp: now_ms };
    let signed = |offset: u64| i64::try_from(offset).unwrap_or(i64::MAX);
    let offset_table = offsets.iter().map(|(TopicAndGroup { topic, group }, queues)| {
        (format!("{topic}@{group}"), queues.iter().map(|(id, offset)| (*id, signed(*offset))).collect())
    });
    let delay_table = delay_offsets.iter().map(|(level, offset)| (*level, signed(*offset)));

    std::fs::create_dir_all(folder)?;
    put(folder, TOPICS, &TopicsFile { topic_config_table: topics.clone(), data_version })?;
    put(folder, GROUPS, &GroupsFile { subscription_group_table: groups.clone(), data_version })?;
    put(folder, OFFSETS, &OffsetsFile { offset_table: offset_table.collect(), data_version })?;
    put(folder, DELAY_OFFSETS, &DelayOffsetsFile { offset_table: delay_table.collect(), data_version })
}

fn put(folder: &Path, name: &str, content: &impl Serialize) -> io::Result<()> {
    let path = folder.join(name);
    let temporary = folder.join(format!("{name}.temp"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&serde_json::to_vec_pretty(content)?)?;
    file.sync_all()?;
    match std::fs::rename(&path, backup(&path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::rename(&temporary, &path)?;
    std::fs::File::open(folder)?.sync_all()
}

fn read_or_backup(folder: &Path, name: &str) -> Result<Option<(PathBuf, String)>, ReadError> {
    let path = folder.join(name);
    for path in [path.clone(), backup(&path)] {
        match std::fs::read_to_string(&path) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => return Ok(Some((path, text))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(ReadError::Io { path, source }),
        }
    }
    Ok(None)
}

fn backup(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".bak");
    name.into()
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a broker 5.4 wrote them, shortened.
    const JAVA_TOPICS: &str = r#"{
	"dataVersion":{ "counter":12, "stateVersion":0, "timestamp":1700000000000 },
	"topicConfigTable":{
		"orders":{ "attributes":{"message.type":"FIFO"}, "order":false, "perm":6, "readQueueNums":4,
			"topicFilterType":"SINGLE_TAG", "topicName":"orders", "topicSysFlag":0, "writeQueueNums":3 },
		"old":{ "attributes":null, "perm":4, "topicName":"old", "somethingNew":{"a":[1]} }
	}
}"#;
    const JAVA_GROUPS: &str = r#"{"subscriptionGroupTable":{"billing":{"groupName":"billing","consumeMessageOrderly":true,
        "retryMaxTimes":3,"groupRetryPolicy":{"type":"EXPONENTIAL","exponentialRetryPolicy":{"initial":100,"max":900,"multiplier":3}}}}}"#;
    const JAVA_OFFSETS: &str =
        r#"{"offsetTable":{"orders@billing":{0:12,1:7},"%RETRY%billing@billing":{0:-1},"odd":{0:1}}}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn key(topic: &str, group: &str) -> TopicAndGroup {
        TopicAndGroup { topic: topic.to_owned(), group: group.to_owned() }
    }

    #[test]
    fn the_files_of_a_java_broker_are_understood() {
        let folder = folder(&[
            (TOPICS, JAVA_TOPICS),
            (GROUPS, JAVA_GROUPS),
            (OFFSETS, JAVA_OFFSETS),
            (DELAY_OFFSETS, r#"{"offsetTable":{1:5,3:2},"dataVersion":{}}"#),
        ]);
        let config = read(folder.path()).unwrap().unwrap();
        let orders = &config.topics["orders"];
        assert_eq!((orders.read_queue_nums, orders.write_queue_nums, orders.perm), (4, 3, 6));
        assert_eq!(orders.attributes["message.type"], "FIFO");
        assert_eq!(config.topics["old"].read_queue_nums, 16, "RocketMQ's default");
        let billing = &config.groups["billing"];
        assert!(billing.consume_message_orderly && billing.consume_enable);
        assert_eq!(billing.retry_max_times, 3);
        let exponential = JavaExponential { initial: 100, max: 900, multiplier: 3 };
        assert_eq!(billing.group_retry_policy.exponential_retry_policy, Some(exponential));
        assert_eq!(config.offsets[&key("orders", "billing")], BTreeMap::from([(0, 12), (1, 7)]));
        assert_eq!(
            config.offsets[&key("%RETRY%billing", "billing")],
            BTreeMap::new(),
            "-1: nothing consumed"
        );
        assert_eq!(config.delay_offsets, BTreeMap::from([(1, 5), (3, 2)]));
    }

    #[test]
    fn a_crash_between_the_two_files_is_bridged_by_the_backup() {
        let text = r#"{"offsetTable":{"orders@billing":{0:5}}}"#;
        for main in [None, Some("")] {
            let folder = folder(&[("consumerOffset.json.bak", text)]);
            if let Some(main) = main {
                std::fs::write(folder.path().join(OFFSETS), main).unwrap();
            }
            let config = read(folder.path()).unwrap().unwrap();
            assert_eq!(config.offsets[&key("orders", "billing")][&0], 5);
        }
        assert_eq!(read(tempfile::tempdir().unwrap().path()).unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_told_with_its_name_and_what_to_do() {
        let folder = folder(&[
            (TOPICS, JAVA_TOPICS),
            (GROUPS, "{\"subscriptionGroupTable\":{"),
            ("subscriptionGroup.json.bak", JAVA_GROUPS),
        ]);
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("subscriptionGroup.json is not") && error.contains(".bak"), "{error}");
    }

    #[test]
    fn metadata_in_rocksdb_is_told_and_not_taken_for_none() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("consumerOffsets")).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("RocksDB") && error.contains("rocksDBConfigToJson"), "{error}");
    }

    #[test]
    fn what_is_written_is_read_back_and_the_old_files_are_the_backups() {
        let folder = folder(&[(TOPICS, JAVA_TOPICS), (GROUPS, JAVA_GROUPS), (OFFSETS, JAVA_OFFSETS)]);
        let mut config = read(folder.path()).unwrap().unwrap();
        config.offsets.get_mut(&key("orders", "billing")).unwrap().insert(2, 9);
        config.delay_offsets.insert(18, 1);
        write(folder.path(), &config, 1).unwrap();
        assert_eq!(read(folder.path()).unwrap().unwrap(), config);
        let old = std::fs::read_to_string(folder.path().join("topics.json.bak")).unwrap();
        assert_eq!(old, JAVA_TOPICS);
        let before = JavaFiles::look(folder.path()).unwrap().unwrap().fingerprint();
        write(folder.path(), &config, 2).unwrap();
        assert_ne!(JavaFiles::look(folder.path()).unwrap().unwrap().fingerprint(), before);
    }
}
