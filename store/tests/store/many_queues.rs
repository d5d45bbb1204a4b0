//! Many queues of few messages: they share blocks, and whoever follows one of them touches no file.

use store::disk::Crash;
use store::{Flush, QueueId, QueueOffset, Store};

use crate::support::{House, append, bodies, message};

const QUEUES: u32 = 300;
/// Rounds of housekeeping after which a queue is idle, and some more.
const UNTIL_IDLE: usize = 70;

/// Appends a message to every queue, the `n`-th of each.
fn append_to_all(store: &Store, n: u64) {
    for queue in 0..QUEUES {
        append(store, &message("t", queue, format!("{queue} {n}")));
    }
}

fn all_are_there(store: &Store, count: u64) {
    for queue in 0..QUEUES {
        let expected: Vec<_> = (0..count).map(|n| (n, format!("{queue} {n}").into_bytes())).collect();
        assert_eq!(bodies(store, "t", queue, 0), expected, "queue {queue}");
    }
}

fn blocks_in_use(house: &House) -> u64 {
    let mut bytes = 0;
    house.disk.edit("/data/views/blocks-00000".as_ref(), |content| bytes = content.len() as u64);
    bytes / 4096
}

#[test]
fn idle_queues_of_few_messages_share_blocks_which_are_used_again() {
    let house = House::new(Flush::Async);
    let (mut store, _) = house.open();
    for n in 0..40 {
        append_to_all(&store, n);
        (0..UNTIL_IDLE).for_each(|_| store.housekeep());
        store.snapshot().unwrap();
        if n % 13 == 12 {
            store.close().unwrap();
            (store, _) = house.open();
        }
        if n % 10 == 9 {
            all_are_there(&store, n + 1);
        }
    }
    // Each queue has 40 entries. Alone they would take 300 blocks; those of now and of the round before take 120.
    assert!(blocks_in_use(&house) < 150, "{}", blocks_in_use(&house));
    all_are_there(&house.crash(Crash::LoseUnsynced).open().0, 40);
}

#[test]
fn a_queue_that_shared_a_block_goes_on_in_one_of_its_own() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let check = |count: u64| {
        (0..UNTIL_IDLE).for_each(|_| store.housekeep());
        for store in [store.clone(), house.crash(Crash::Kill).open().0] {
            let read = bodies(&store, "t", 0, 0);
            assert!(read.iter().map(|(offset, _)| *offset).eq(0..count), "{count}: {read:?}");
        }
        store.snapshot().unwrap();
    };
    let mut next = 0;
    // Across the largest shared stretch, a full block, and a shared stretch behind full blocks.
    for count in [1, 50, 51, 52, 203, 204, 205, 260, 408, 410, 1000] {
        while next < count {
            append(&store, &message("t", 0, "x"));
            next += 1;
        }
        check(count);
    }
}

#[test]
fn whoever_follows_the_end_of_a_queue_touches_no_file() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    let mut calls = 0;
    for n in 0..2000 {
        let queue = n % 2;
        append(&store, &message("t", queue, n.to_string()));
        let offset = u64::from(n / 2);
        let before = house.disk.calls();
        assert_eq!(bodies(&store, "t", queue, offset), [(offset, n.to_string().into_bytes())]);
        calls += house.disk.calls() - before;
        if n % 3 == 0 {
            store.housekeep();
        }
    }
    assert_eq!(calls, 0);
    // The test could fail: what was read long ago is in files.
    let before = house.disk.calls();
    store.entries("t", QueueId(0), QueueOffset(0), 1).unwrap();
    assert!(house.disk.calls() > before);
}

#[test]
fn retention_finds_where_each_of_many_queues_starts() {
    let house = House::new(Flush::Async);
    let (store, _) = house.open();
    for n in 0..60 {
        append_to_all(&store, n);
        if n == 20 || n == 40 {
            (0..UNTIL_IDLE).for_each(|_| store.housekeep());
        }
        if n == 45 {
            store.flush().unwrap();
            house.clock.advance_ms(72 * 3600 * 1000 + 1);
            store.housekeep();
        }
    }
    let min = store.state().min;
    assert!(min.0 > 0);
    for queue in 0..QUEUES {
        let start = store.queue_bounds("t", QueueId(queue)).start;
        let first = store.entries("t", QueueId(queue), start, 1).unwrap()[0];
        assert!(first.queue_offset == start && first.log_offset >= min, "queue {queue}");
        assert!((44..47).contains(&start.0), "queue {queue}: {start}");
        assert_eq!(bodies(&store, "t", queue, start.0).len() as u64, 60 - start.0);
    }
}
