//! With the store's own threads, and many of the caller's.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use store::{Arrivals, Config, Flush, Properties, QueueId, QueueOffset, Store, WarmUp};

use crate::support::{append, message, numbers, record, same};

const THREADS: u32 = 4;
const EACH: u64 = 500;

/// Checks that arrivals come in order, and counts them.
#[derive(Default)]
struct InOrder {
    next: [AtomicU64; THREADS as usize],
}

impl Arrivals for InOrder {
    fn arrived(&self, _topic: &str, queue_id: QueueId, next: QueueOffset, _tags_code: i64) {
        let before = self.next[queue_id.0 as usize].swap(next.0, Ordering::SeqCst);
        assert_eq!(before + 1, next.0, "arrivals of a queue come one by one");
    }
}

fn many_append_at_once(flush: Flush) {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes: 64 << 10, flush, ..Config::new(dir.path()) };
    let (store, _) = Store::open(config.clone()).unwrap();
    let arrivals = Arc::new(InOrder::default());
    store.on_arrival(Arc::clone(&arrivals) as Arc<dyn Arrivals>);
    std::thread::scope(|scope| {
        for queue in 0..THREADS {
            let store = store.clone();
            scope.spawn(move || {
                let (confirmed, confirmations) = mpsc::sync_channel(EACH as usize);
                for n in 0..EACH {
                    let end = append(&store, &message("t", queue, n.to_string())).end;
                    let confirmed = confirmed.clone();
                    let reader = store.clone();
                    store.on_confirmed(
                        end,
                        Box::new(move |result| {
                            // Who is told that it is confirmed finds it.
                            let found = reader.queue_bounds("t", QueueId(queue)).end > QueueOffset(n);
                            confirmed.send(result.map(|()| found)).unwrap();
                        }),
                    );
                }
                for _ in 0..EACH {
                    assert!(confirmations.recv().unwrap().unwrap());
                }
            });
        }
    });
    for queue in 0..THREADS as usize {
        assert_eq!(arrivals.next[queue].load(Ordering::SeqCst), EACH);
    }
    assert_eq!(numbers(&store, "t"), same(0..EACH));
    let end = store.state().appended;
    store.close().unwrap();
    let (store, recovered) = Store::open(config).unwrap();
    assert_eq!((recovered.end, recovered.replayed_records, recovered.clean), (end, 0, true));
    assert_eq!(numbers(&store, "t"), same(0..EACH));
}

#[test]
fn many_append_at_once_with_async_flush() {
    many_append_at_once(Flush::Async);
}

#[test]
fn many_append_at_once_with_sync_flush() {
    many_append_at_once(Flush::Sync);
}

#[test]
fn the_last_handle_may_go_in_a_callback() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes: 64 << 10, flush: Flush::Sync, ..Config::new(dir.path()) };
    let (store, _) = Store::open(config.clone()).unwrap();
    let (gone, went) = mpsc::sync_channel(1);
    let (go, wait) = mpsc::sync_channel::<()>(0);
    let first = append(&store, &message("t", 0, "0"));
    let last = store.clone();
    let then = move |result: Result<(), _>| {
        wait.recv().unwrap();
        drop(last);
        gone.send(result).unwrap();
    };
    // Where the second will end: so the flushing thread confirms it, not this one.
    store.on_confirmed(first.end.plus(first.end.0), Box::new(then));
    append(&store, &message("t", 0, "1"));
    drop(store);
    go.send(()).unwrap();
    went.recv().unwrap().unwrap();
    assert_eq!(numbers(&Store::open(config).unwrap().0, "t"), same(0..2));
}

#[test]
fn a_panicking_listener_closes_the_log_and_says_so() {
    struct Panics;
    impl Arrivals for Panics {
        fn arrived(&self, _: &str, _: QueueId, _: QueueOffset, _: i64) {
            panic!("on purpose");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let config = Config { segment_bytes: 64 << 10, flush: Flush::Sync, ..Config::new(dir.path()) };
    let (store, _) = Store::open(config).unwrap();
    store.on_arrival(Arc::new(Panics));
    let appended = store.append(&[record(&message("t", 0, "0"), &Properties::default())]).unwrap();
    let (told, result) = mpsc::sync_channel(1);
    store.on_confirmed(appended.end, Box::new(move |result| told.send(result).unwrap()));
    assert!(result.recv().unwrap().is_err());
    assert!(store.state().refusing.unwrap().contains("store-flush panicked"));
}

#[test]
fn however_much_is_made_ready_ahead_the_log_is_the_same() {
    for warm_up in [WarmUp::Window, WarmUp::Segment, WarmUp::Locked] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { segment_bytes: 64 << 10, warm_up, ..Config::new(dir.path()) };
        let (store, _) = Store::open(config.clone()).unwrap();
        std::thread::scope(|scope| {
            for queue in 0..THREADS {
                let store = &store;
                scope.spawn(move || {
                    (0..EACH).for_each(|n| drop(append(store, &message("t", queue, n.to_string()))))
                });
            }
        });
        assert_eq!(numbers(&store, "t"), same(0..EACH), "{warm_up:?}");
        store.close().unwrap();
        let (store, _) = Store::open(config).unwrap();
        assert_eq!(numbers(&store, "t"), same(0..EACH), "{warm_up:?}");
    }
}

#[test]
fn housekeeping_by_several_at_once_leaves_the_views_as_the_log_says() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        segment_bytes: 64 << 10,
        max_log_bytes: Some(256 << 10),
        delete_at_hour: None,
        ..Config::new(dir.path())
    };
    let (store, _) = Store::open(config.clone()).unwrap();
    let appending = AtomicBool::new(true);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while appending.load(Ordering::SeqCst) {
                    store.housekeep();
                    store.snapshot().unwrap();
                }
            });
        }
        for n in 0..20_000_u64 {
            append(&store, &message("t", 0, n.to_string()));
        }
        appending.store(false, Ordering::SeqCst);
    });
    // What is too much goes now, and not while it is looked at.
    store.housekeep();
    let check = |store: &Store| {
        let bounds = store.queue_bounds("t", QueueId(0));
        assert_eq!(numbers(store, "t"), same(bounds.start.0..20_000));
        assert!(bounds.start.0 > 10_000, "old segments are gone");
    };
    check(&store);
    store.close().unwrap();
    check(&Store::open(config).unwrap().0);
}
