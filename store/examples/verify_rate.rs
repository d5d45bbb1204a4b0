//! How fast a stopped store is verified: `cargo run --release -p store --example verify_rate -- [DIR] [GIB] [BODY BYTES]`.
//!
//! Makes a store of so many GiB with bodies of 1 KiB (or as asked) in eight queues, verifies it from the page cache three
//! times, prints the rates, and removes it.

use std::path::Path;
use std::time::Instant;

use store::offline::Look;
use store::{Config, LogOffset, NewRecord, Properties, QueueId, Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap_or_else(|| "verify-rate.data".to_owned());
    let gib: u64 = args.next().map_or(Ok(1), |gib| gib.parse())?;
    let body_bytes: usize = args.next().map_or(Ok(1024), |bytes| bytes.parse())?;
    let dir = Path::new(&dir);
    std::fs::create_dir(dir)?;
    let result = run(dir, gib << 30, body_bytes);
    std::fs::remove_dir_all(dir)?;
    result
}

fn run(dir: &Path, bytes: u64, body_bytes: usize) -> Result<(), Box<dyn std::error::Error>> {
    let (store, _) = Store::open(Config::new(dir))?;
    let body = vec![b'x'; body_bytes];
    let mut properties = Properties::default();
    properties.push("UNIQ_KEY", "01A2B3C4D5E6F7000105A1B2C300000001");
    properties.push("TAGS", "a");
    let host = "127.0.0.1:8081".parse()?;
    for n in 0.. {
        let record = NewRecord {
            topic: "rate",
            queue_id: QueueId(n % 8),
            body: &body,
            properties: properties.as_bytes(),
            tag: Some("a"),
            flag: 0,
            sys_flag: 0,
            born_at_ms: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_offset: LogOffset(0),
        };
        if store.append(&[record])?.end.0 >= bytes {
            break;
        }
    }
    store.close()?;
    for _ in 0..3 {
        let started = Instant::now();
        let verified = Look::open(dir)?.verify(&mut |_| {})?;
        let took = started.elapsed().as_secs_f64();
        println!(
            "{} records, {} entries, good: {}, {:.2} s: {:.2} GiB/s, {:.0} records a second",
            verified.records,
            verified.views.good_entries,
            verified.is_good(),
            took,
            verified.end.0 as f64 / took / (1 << 30) as f64,
            verified.records as f64 / took,
        );
    }
    Ok(())
}
