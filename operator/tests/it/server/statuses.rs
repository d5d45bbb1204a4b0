//! Resources as they are when a status was written.

use std::cell::RefCell;

use serde_json::Value;

thread_local! {
    /// What was written on this thread, while somebody wants to know. A test and its server run on one thread.
    static WRITTEN: RefCell<Option<Vec<Value>>> = const { RefCell::new(None) };
}

/// Every resource whose status was written while `run` ran, as it then was.
pub(crate) fn while_running(run: impl FnOnce()) -> Vec<Value> {
    WRITTEN.set(Some(Vec::new()));
    run();
    WRITTEN.take().unwrap_or_default()
}

/// A status was written.
pub(super) fn keep(resource: &Value) {
    WRITTEN.with_borrow_mut(|written| {
        if let Some(written) = written {
            written.push(resource.clone());
        }
    });
}
