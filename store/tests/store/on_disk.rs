//! On a real file system.

use store::{OpenError, QueueId, QueueOffset, Store};

use crate::support::{append, bodies, config, message};

#[test]
fn what_was_appended_is_read_back_after_reopening_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<_> = (0..100u64).map(|n| (n, format!("body {n}").into_bytes())).collect();
    {
        let (store, recovered) = Store::open(config(dir.path())).unwrap();
        assert_eq!(recovered.end.0, 0);
        for (offset, body) in &expected {
            let appended = append(&store, &message("orders", 3, body));
            assert_eq!(appended.queue_offsets, [QueueOffset(*offset)]);
        }
        assert_eq!(bodies(&store, "orders", 3, 0), expected);
        store.close().unwrap();
        assert!(matches!(store.append(&[]).map(|_| ()), Err(store::AppendError::Closed(_))));
    }
    let (store, recovered) = Store::open(config(dir.path())).unwrap();
    assert_eq!(recovered.cut_bytes, 0);
    assert_eq!(bodies(&store, "orders", 3, 0), expected);
    assert_eq!(store.queue_bounds("orders", QueueId(3)), QueueOffset(0)..QueueOffset(100));
    assert!(std::fs::read_dir(dir.path().join("commitlog")).unwrap().count() > 2);
}

#[test]
fn a_store_in_use_does_not_open_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(config(dir.path())).unwrap();
    assert!(matches!(Store::open(config(dir.path())), Err(OpenError::InUse(path)) if path == dir.path()));
    drop(store);
    Store::open(config(dir.path())).unwrap();
}
