//! The store through its front door, on the real disk and on the hostile one.

mod on_disk;
mod support;
