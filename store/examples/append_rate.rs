//! How fast the store appends: `cargo run --release -p store --example append_rate -- [DIR] [GIB] [sync] [no-keys]`.
//!
//! One thread, 1 KiB bodies, one record an append. Prints the rate, the slowest appends, and for comparison the rate
//! of bare 1 KiB `write` calls on the same disk. With `sync`, 256 appends wait at a time. With `no-keys` the key index is off.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use store::{By, Config, Flush, LogOffset, NewRecord, Properties, QueueId, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "append-rate.data".to_owned());
    let gib: u64 = args.next().map_or(Ok(2), |gib| gib.parse())?;
    let words: Vec<_> = args.collect();
    let has = |wanted: &str| words.iter().any(|word| word == wanted);
    let flush = if has("sync") { Flush::Sync } else { Flush::Async };
    let dir = Path::new(&dir);
    std::fs::create_dir(dir)?;
    let result = run(dir, gib << 20, flush, !has("no-keys"));
    std::fs::remove_dir_all(dir)?;
    result
}

fn run(dir: &Path, messages: u64, flush: Flush, index_keys: bool) -> Result<(), Box<dyn std::error::Error>> {
    let raw = raw_writes(&dir.join("raw"), messages.min(1 << 20))?;
    println!("bare write calls: {raw:.0} a second");

    let started = Instant::now();
    let (store, _) = Store::open(Config { flush, index_keys, ..Config::new(dir) })?;
    println!("opened in {:?}", started.elapsed());
    let body = vec![b'x'; 1024];
    let mut properties = Properties::default();
    properties.push("UNIQ_KEY", "01A2B3C4D5E6F7000105A1B2C300000001");
    properties.push("TAGS", "a");
    let mut properties = properties.as_bytes().to_vec();
    let host = "127.0.0.1:8081".parse()?;

    let (confirmed, confirmations) = mpsc::sync_channel(256);
    let cpu = cpu_time();
    let started = Instant::now();
    let mut slowest = Slowest::default();
    let total = if flush == Flush::Sync { messages.min(1 << 17) } else { messages };
    for n in 0..total {
        set_id(&mut properties, n);
        let before = Instant::now();
        let appended = store.append(&[record(n, &body, &properties, host)])?;
        slowest.note(before.elapsed());
        if flush == Flush::Sync {
            let confirmed = confirmed.clone();
            store.on_confirmed(appended.end, Box::new(move |result| confirmed.send(result).unwrap_or(())));
            if n >= 256 {
                confirmations.recv()??;
            }
        }
    }
    let took = started.elapsed();
    let cpu = cpu_time() - cpu;
    if index_keys {
        let looked = Instant::now();
        let id = String::from_utf8_lossy(&properties[9..43]).into_owned();
        let found = store.find("rate", By::Id(&id), 0..i64::MAX, 1)?;
        let (records, behind) = (found.records.len(), found.unsearched_bytes);
        println!(
            "last message by its id: {records} found in {:?}, {behind} bytes not indexed",
            looked.elapsed()
        );
    }
    println!(
        "{total} appends in {took:?}: {:.0} a second, {:.2} µs each, CPU of all threads {:.2} µs each",
        total as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / total as f64,
        cpu.as_secs_f64() * 1e6 / total as f64,
    );
    for (thread, cpu) in cpu_by_thread() {
        println!("  of which {thread}: {:.2} µs each", cpu.as_secs_f64() * 1e6 / total as f64);
    }
    slowest.print();
    let started = Instant::now();
    drop(confirmations);
    store.close()?;
    println!("closed in {:?}", started.elapsed());
    let started = Instant::now();
    let (_store, recovered) = Store::open(Config { flush, index_keys, ..Config::new(dir) })?;
    println!("opened again in {:?}, {} records replayed", started.elapsed(), recovered.replayed_records);
    Ok(())
}

fn record<'a>(n: u64, body: &'a [u8], properties: &'a [u8], host: SocketAddr) -> NewRecord<'a> {
    NewRecord {
        topic: "rate",
        queue_id: QueueId((n % 8) as u32),
        body,
        properties,
        tag: Some("a"),
        flag: 0,
        sys_flag: 0,
        born_at_ms: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_offset: LogOffset(0),
    }
}

/// Every message has an id of its own: the last hexadecimal digits of the first property.
fn set_id(properties: &mut [u8], n: u64) {
    let last = "UNIQ_KEY".len() + 34;
    for digit in 0..8 {
        properties[last - digit] = b"0123456789ABCDEF"[(n >> (4 * digit) & 15) as usize];
    }
}

fn raw_writes(path: &Path, count: u64) -> std::io::Result<f64> {
    let mut file = std::fs::File::create(path)?;
    let block = [b'x'; 1024];
    let started = Instant::now();
    for _ in 0..count {
        file.write_all(&block)?;
    }
    let rate = count as f64 / started.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

/// User and system time of the process, all threads.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks: u64 = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split(' ')
        .skip(12)
        .take(2)
        .filter_map(|n| n.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

/// CPU time of the store's threads, by their names.
fn cpu_by_thread() -> Vec<(String, Duration)> {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut times: Vec<_> = threads
        .filter_map(|thread| {
            let read = |file: &str| std::fs::read_to_string(thread.path().join(file)).ok();
            let on_cpu_ns = read("schedstat")?.split(' ').next()?.parse().ok()?;
            let name = read("comm")?.trim().to_owned();
            name.starts_with("store-").then_some((name, Duration::from_nanos(on_cpu_ns)))
        })
        .collect();
    times.sort();
    times
}

/// The longest appends, by how many were at least so long.
#[derive(Default)]
struct Slowest {
    over: [u64; 4],
    longest: Duration,
}

impl Slowest {
    fn note(&mut self, took: Duration) {
        if took >= Duration::from_micros(10) {
            let limits = [10, 100, 1_000, 10_000];
            limits
                .iter()
                .zip(&mut self.over)
                .filter(|(us, _)| took.as_micros() >= **us)
                .for_each(|(_, n)| *n += 1);
            self.longest = self.longest.max(took);
        }
    }

    fn print(&self) {
        let [us10, us100, ms1, ms10] = self.over;
        println!(
            "slower than 10 µs: {us10}, 100 µs: {us100}, 1 ms: {ms1}, 10 ms: {ms10}; longest {:?}",
            self.longest
        );
    }
}
