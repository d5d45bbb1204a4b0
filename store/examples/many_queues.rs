//! What many queues cost: `cargo run --release -p store --example many_queues -- [DIR] [TOPICS] [QUEUES] [MESSAGES]`.
//!
//! One thread, 1 KiB bodies. First to one topic, then to all topics in turn, MESSAGES to each queue. Prints the rates,
//! the slowest appends, the process's own memory, and how long closing and opening take.

use std::path::Path;
use std::time::{Duration, Instant};

use store::{Config, LogOffset, NewRecord, Properties, QueueId, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "many-queues.data".to_owned());
    let mut number = |default: u64| args.next().map_or(Ok(default), |text| text.parse());
    let (topics, queues, messages) = (number(100_000)?, number(10)?, number(2)?);
    let dir = Path::new(&dir);
    std::fs::create_dir(dir)?;
    let result = run(dir, topics, queues, messages);
    std::fs::remove_dir_all(dir)?;
    result
}

fn run(dir: &Path, topics: u64, queues: u64, messages: u64) -> Result<()> {
    let config = Config::new(dir);
    let (store, _) = Store::open(config.clone())?;
    let empty = own_memory()?;
    let all = topics * queues;
    let names: Vec<String> = (0..topics).map(|n| format!("orders-{n:06}")).collect();
    let named = own_memory()?;

    let one = append(&store, "to one topic", 500_000, |n| ("one", n % queues))?;
    for round in 0..messages {
        // Neighbours in time are neighbours in no map.
        let place = |n: u64| (names[(n * 7919 % topics) as usize].as_str(), n / topics);
        let rate = append(&store, &format!("to each of {all} queues, message {}", round + 1), all, place)?;
        println!("  {:.0} % of one topic; {} B a queue", rate / one * 100.0, (own_memory()? - named) / all);
    }
    let started = Instant::now();
    store.snapshot()?;
    println!(
        "snapshot in {:?}, {} MB",
        started.elapsed(),
        std::fs::metadata(dir.join("views/snapshot"))?.len() >> 20
    );
    let started = Instant::now();
    store.close()?;
    println!("closed in {:?}", started.elapsed());
    drop(store);

    let before = own_memory()?;
    let started = Instant::now();
    let (store, _) = Store::open_without_threads(
        std::sync::Arc::new(store::disk::RealDisk::default()),
        std::sync::Arc::new(store::SystemClock),
        config.clone(),
    )?;
    println!(
        "opened in {:?}, {} MB were in use before, {} MB now",
        started.elapsed(),
        before >> 20,
        own_memory()? >> 20
    );
    let started = Instant::now();
    (0..700).for_each(|_| store.housekeep());
    println!("all queues idle after {:?} of work", started.elapsed());
    store.close()?;
    drop(store);
    let blocks = std::fs::read_dir(dir.join("views"))?
        .filter_map(|entry| entry.ok()?.metadata().ok())
        .map(|metadata| metadata.len())
        .sum::<u64>();
    println!(
        "the views take {} MB on disk; {} MB of memory before the store was made",
        blocks >> 20,
        empty >> 20
    );
    let started = Instant::now();
    let (_store, _) = Store::open(config)?;
    println!("opened with idle queues in {:?}, {} MB", started.elapsed(), own_memory()? >> 20);
    Ok(())
}

/// Appends a second.
fn append<'a>(store: &Store, what: &str, count: u64, place: impl Fn(u64) -> (&'a str, u64)) -> Result<f64> {
    let body = vec![b'x'; 1024];
    let mut properties = Properties::default();
    properties.push("UNIQ_KEY", "01A2B3C4D5E6F7000105A1B2C300000001");
    let host = "127.0.0.1:8081".parse()?;
    let (mut slow, mut longest) = (0, Duration::ZERO);
    let started = Instant::now();
    for n in 0..count {
        let (topic, queue) = place(n);
        let before = Instant::now();
        store.append(&[NewRecord {
            topic,
            queue_id: QueueId(queue as u32),
            body: &body,
            properties: properties.as_bytes(),
            tag: None,
            flag: 0,
            sys_flag: 0,
            born_at_ms: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0),
        }])?;
        let took = before.elapsed();
        slow += u64::from(took >= Duration::from_millis(1));
        longest = longest.max(took);
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} a second, {slow} took over 1 ms, longest {longest:?}");
    Ok(rate)
}

/// Bytes that this process has for itself, without the mapped files.
fn own_memory() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
