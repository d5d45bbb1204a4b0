//! From the text of a file to a [`Config`].

use std::time::Duration;

use access::certificate;
use access::listener::TlsMode;
use access::ports::Port;
use access::yaml::{self, Section};

use super::{Advertised, Config, KNOBS, Lease, Replication};

const KEYS: [&str; 19] = [
    "clusterName",
    "brokerName",
    "brokerId",
    "dataDir",
    "clientListen",
    "controlListen",
    "httpListen",
    "advertised",
    "advertisedControl",
    "nameServers",
    "flush",
    "segmentSize",
    "messageRetention",
    "logging",
    "certificate",
    "listeners",
    "listenerAddresses",
    "replication",
    "config",
];

const REPLICATION_KEYS: [&str; 7] =
    ["mode", "maxLagSeconds", "members", "memberAddress", "lease", "advertised", "endpointSlices"];

const LEASE_KEYS: [&str; 5] =
    ["namespace", "name", "durationSeconds", "renewDeadlineSeconds", "retryPeriodMillis"];

const MODES: [(&str, replication::Mode); 2] =
    [("Sync", replication::Mode::Sync), ("Async", replication::Mode::Async)];

const WARM_UPS: [(&str, store::WarmUp); 3] = [
    ("window", store::WarmUp::Window),
    ("segment", store::WarmUp::Segment),
    ("locked", store::WarmUp::Locked),
];

const RETENTION_KEYS: [&str; 6] =
    ["time", "diskPercent", "deleteAt", "deleteEarlyPercent", "refusePercent", "size"];

pub(super) fn parse(text: &str) -> Result<Config, Vec<String>> {
    let mut config = Config::new("");
    yaml::read(text, &KEYS, |root| {
        root.text("clusterName", |text| config.cluster_name = text);
        root.text("brokerName", |text| config.broker_name = text);
        // Replicas come with replication.
        root.number("brokerId", 0, 0, |id| config.broker_id = to_u32(id));
        if root.has("dataDir") {
            root.text("dataDir", |text| config.data_dir = text.into());
        } else {
            root.problem("dataDir is missing: name the directory for messages and state".to_owned());
        }
        root.address("clientListen", |address| config.client_listen = address);
        root.address("controlListen", |address| config.control_listen = address);
        root.optional_address("httpListen", |address| config.http_listen = address);
        root.choice("flush", &[("Async", store::Flush::Async), ("Sync", store::Flush::Sync)], |flush| {
            config.flush = flush;
        });
        root.parsed("segmentSize", parse_segment_bytes, |bytes| config.segment_bytes = bytes);
        root.texts("nameServers", |servers| config.name_servers = servers);
        root.logging(|logging| config.logging = logging);

        root.section("advertised", &["host", "port"], |section| config.advertised = advertised(section));
        root.section("advertisedControl", &["host", "port"], |section| {
            config.advertised_control = advertised(section);
        });
        root.section("certificate", &["file", "keyFile"], |section| {
            config.certificate = certificate::Files::read_from(section);
        });
        Port::read_from(root, |listeners| config.listeners = listeners);
        root.text("listenerAddresses", |file| config.listener_addresses = Some(file.into()));
        root.section("messageRetention", &RETENTION_KEYS, |section| {
            section.parsed("time", yaml::parse_duration, |time| config.retention.time = time);
            section.number("diskPercent", 1, 99, |percent| {
                config.retention.disk_percent = u8::try_from(percent).expect("at most 99");
            });
            section.parsed("deleteAt", parse_hour, |hour| config.retention.delete_at_hour = hour);
            section.number("deleteEarlyPercent", 1, 99, |percent| {
                config.retention.delete_early_percent = u8::try_from(percent).ok();
            });
            section.number("refusePercent", 1, 100, |percent| {
                config.retention.refuse_percent = u8::try_from(percent).expect("at most 100");
            });
            section.parsed("size", parse_log_bytes, |bytes| config.retention.max_log_bytes = Some(bytes));
        });
        root.section("replication", &REPLICATION_KEYS, |section| {
            config.replication = Some(read_replication(section));
        });
        let limits = &mut config.limits;
        root.section("config", &KNOBS, |knobs| {
            knobs.number("maxBodyBytes", 1, 64 << 20, |n| limits.max_body_bytes = to_usize(n));
            knobs.number("maxConnections", 1, 1 << 20, |n| limits.max_connections = to_usize(n));
            knobs.number("maxParkedPolls", 1, 1 << 24, |n| limits.max_parked_polls = to_usize(n));
            knobs.number("maxInFlightPerQueue", 1, 1 << 20, |n| limits.max_in_flight_per_queue = to_usize(n));
            knobs.number("maxAttempts", 1, 10_000, |n| limits.max_attempts = to_u32(n));
            knobs.number("persistIntervalMs", 10, 60_000, |n| {
                limits.persist_interval = Duration::from_millis(n);
            });
            knobs.number("stopGraceMs", 0, 600_000, |n| limits.stop_grace = Duration::from_millis(n));
            knobs.choice("logWarmUp", &WARM_UPS, |warm_up| limits.log_warm_up = warm_up);
            knobs.flag("messageIndexEnable", |on| limits.message_index_enable = on);
            knobs.number("scrubIntervalHours", 0, 8760, |hours| {
                limits.scrub_interval = (hours > 0).then(|| Duration::from_secs(hours * 3600));
            });
            let transactions = &mut limits.transactions;
            knobs.number("transactionTimeoutMs", 100, 3_600_000, |n| {
                transactions.first_check_after = Duration::from_millis(n);
            });
            knobs.number("transactionCheckIntervalMs", 100, 3_600_000, |n| {
                transactions.check_interval = Duration::from_millis(n);
            });
            knobs.number("transactionCheckMax", 1, 10_000, |n| transactions.max_checks = to_u32(n));
            knobs.number("maxPendingTransactions", 1, 1 << 24, |n| transactions.max_pending = to_usize(n));
            knobs.number("timerMaxDelaySec", 1, 366 * 24 * 3600, |seconds| {
                limits.timer_max_delay = Duration::from_secs(seconds);
            });
            knobs.choice("tls", &TlsMode::NAMES, |mode| limits.tls = mode);
            knobs.number("maxLiteTopics", 1, 1 << 24, |n| limits.lite.max_topics = to_usize(n));
            knobs.number("liteTopicIdleMinutes", 1, 1 << 24, |n| {
                limits.lite.idle = Duration::from_secs(n * 60);
            });
            knobs.number("workerThreads", 1, 1024, |n| limits.worker_threads = Some(to_usize(n)));
        });
    })?;
    Ok(config)
}

fn read_replication(section: &mut Section<'_>) -> Replication {
    let mut read = Replication {
        mode: replication::Mode::Sync,
        max_lag: Duration::from_secs(10),
        members: 1,
        member_address: String::new(),
        lease: Lease {
            namespace: String::new(),
            name: String::new(),
            duration: Duration::from_secs(8),
            renew_deadline: Duration::from_secs(5),
            retry: Duration::from_millis(1000),
        },
        advertised: Vec::new(),
        endpoint_slices: Vec::new(),
    };
    for key in ["members", "memberAddress", "lease"] {
        if !section.has(key) {
            section.problem(format!("replication needs {key}"));
        }
    }
    section.choice("mode", &MODES, |mode| read.mode = mode);
    section.number("members", 1, 9, |n| read.members = to_u32(n));
    section.number("maxLagSeconds", 1, 3600, |n| read.max_lag = Duration::from_secs(n));
    section.text("memberAddress", |text| read.member_address = text);
    section.texts("advertised", |hosts| read.advertised = hosts);
    section.texts("endpointSlices", |names| read.endpoint_slices = names);
    section.section("lease", &LEASE_KEYS, |section| {
        let lease = &mut read.lease;
        for key in ["namespace", "name"] {
            if !section.has(key) {
                section.problem(format!("replication.lease needs {key}"));
            }
        }
        section.text("namespace", |text| lease.namespace = text);
        section.text("name", |text| lease.name = text);
        section.number("durationSeconds", 2, 600, |n| lease.duration = Duration::from_secs(n));
        section.number("renewDeadlineSeconds", 1, 600, |n| lease.renew_deadline = Duration::from_secs(n));
        section.number("retryPeriodMillis", 100, 60_000, |n| lease.retry = Duration::from_millis(n));
        if !(lease.duration > lease.renew_deadline && lease.renew_deadline > lease.retry) {
            section.problem(
                "durationSeconds must be more than renewDeadlineSeconds, and that more than retryPeriodMillis".to_owned(),
            );
        }
    });
    if !read.member_address.contains("{ordinal}") && section.has("memberAddress") {
        section.problem(
            "memberAddress must contain {ordinal}, for example broker-{ordinal}.brokers:9878".to_owned(),
        );
    }
    read
}

fn advertised(section: &mut Section<'_>) -> Option<Advertised> {
    let (mut host, mut port) = (None, None);
    if !(section.has("host") && section.has("port")) {
        section.problem("an advertised address needs both host and port".to_owned());
    }
    section.text("host", |text| host = Some(text));
    section.number("port", 1, 65_535, |number| port = u16::try_from(number).ok());
    Some(Advertised { host: host?, port: port? })
}

fn parse_segment_bytes(text: &str) -> Result<u64, String> {
    bytes(text)
        .filter(|bytes| (64 << 10..=64 << 30).contains(bytes) && bytes % 4096 == 0)
        .ok_or_else(|| "write bytes from 64Ki to 64Gi, a multiple of 4096, such as 256Mi".to_owned())
}

fn parse_log_bytes(text: &str) -> Result<u64, String> {
    bytes(text)
        .filter(|bytes| *bytes >= 128 << 10)
        .ok_or_else(|| "write bytes from 128Ki on, such as 50Gi".to_owned())
}

fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("Ki", 1 << 10),
        ("Mi", 1 << 20),
        ("Gi", 1 << 30),
        ("Ti", 1 << 40),
        ("k", 1000),
        ("M", 1_000_000),
        ("G", 1_000_000_000),
        ("T", 1_000_000_000_000),
    ];
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, *unit)))
        .unwrap_or((text, 1));
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit))
}

/// The store keeps hours, so the minutes must be 00.
fn parse_hour(text: &str) -> Result<Option<u8>, String> {
    let hour = text.strip_suffix(":00").and_then(|hour| hour.parse::<u8>().ok()).filter(|hour| *hour < 24);
    match (text, hour) {
        ("anytime", _) => Ok(None),
        (_, Some(hour)) => Ok(Some(hour)),
        (_, None) => Err("write a full hour in UTC, such as \"04:00\", or anytime".to_owned()),
    }
}

fn to_u32(number: u64) -> u32 {
    u32::try_from(number).expect("the range was checked")
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("the range was checked")
}
