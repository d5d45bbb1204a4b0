//! Receipt handles: which delivery of which message, as text.
//!
//! ```text
//!   version 1 │ queue 4 │ offset 8 │ attempt 4 │ stamp 8 │ change 2 │ expires 8 │ check 8     big-endian, then base64url
//! ```
//!
//! The check covers the fields and the names of broker, group and topic, so a handle that was cut, or
//! that belongs elsewhere, is no handle here. It is no secret: who may acknowledge is the front door's business.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::queue::Millis;
use crate::topics::stable_hash;

const VERSION: u8 = 1;
const FIELDS: usize = 35;
const BYTES: usize = FIELDS + 8;

/// What a receipt handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handle {
    pub(super) queue: u32,
    pub(super) offset: u64,
    pub(super) attempt: u32,
    pub(super) stamp: u64,
    pub(super) change: u16,
    /// When it ends at the latest; with renewal the state of the delivery may end it earlier.
    pub(super) expires: Millis,
}

/// The names that a handle is bound to, digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scope(u64);

impl Scope {
    pub(crate) fn new(broker: &str, group: &str, topic: &str) -> Self {
        Self(stable_hash(format!("{broker}/{group}/{topic}").as_bytes()))
    }
}

impl Handle {
    pub(crate) fn to_text(self, scope: Scope) -> String {
        let Self { queue, offset, attempt, stamp, change, expires } = self;
        let mut bytes = [0; BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&[VERSION]);
        put(&queue.to_be_bytes());
        put(&offset.to_be_bytes());
        put(&attempt.to_be_bytes());
        put(&stamp.to_be_bytes());
        put(&change.to_be_bytes());
        put(&expires.to_be_bytes());
        let check = check(&bytes[..FIELDS], scope);
        bytes[FIELDS..].copy_from_slice(&check.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// `None`: this is no handle of this scope.
    pub(crate) fn parse(text: &str, scope: Scope) -> Option<Self> {
        let mut bytes = [0; BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        if length != BYTES || bytes[0] != VERSION {
            return None;
        }
        let (fields, found) = bytes.split_at(FIELDS);
        if found != check(fields, scope).to_be_bytes() {
            return None;
        }
        let mut rest = &fields[1..];
        Some(Self {
            queue: u32::from_be_bytes(take(&mut rest)),
            offset: u64::from_be_bytes(take(&mut rest)),
            attempt: u32::from_be_bytes(take(&mut rest)),
            stamp: u64::from_be_bytes(take(&mut rest)),
            change: u16::from_be_bytes(take(&mut rest)),
            expires: Millis::from_be_bytes(take(&mut rest)),
        })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, behind) = rest.split_first_chunk().expect("the fields add up to their sum");
    *rest = behind;
    *field
}

fn check(fields: &[u8], scope: Scope) -> u64 {
    stable_hash(fields) ^ scope.0.rotate_left(17)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope() -> Scope {
        Scope::new("broker-a", "billing", "orders")
    }

    proptest! {
        #[test]
        fn a_handle_comes_back_as_it_went(
            queue: u32, offset: u64, attempt: u32, stamp: u64, change: u16, expires: i64,
        ) {
            let handle = Handle { queue, offset, attempt, stamp, change, expires };
            prop_assert_eq!(Handle::parse(&handle.to_text(scope()), scope()), Some(handle));
        }

        #[test]
        fn any_other_text_is_no_handle(text in ".{0,80}") {
            prop_assert_eq!(Handle::parse(&text, scope()), None);
        }

        #[test]
        fn a_handle_with_one_letter_changed_is_no_handle(at in 0_usize..57, letter in "[A-Za-z0-9_-]") {
            let handle = Handle { queue: 1, offset: 2, attempt: 3, stamp: 4, change: 5, expires: 6 };
            let text = handle.to_text(scope());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &letter);
            if changed != text {
                prop_assert_eq!(Handle::parse(&changed, scope()), None);
            }
        }
    }

    #[test]
    fn a_handle_of_another_group_topic_or_broker_is_foreign() {
        let handle = Handle { queue: 0, offset: 0, attempt: 1, stamp: 1, change: 0, expires: 1 };
        let text = handle.to_text(scope());
        for other in [
            Scope::new("broker-b", "billing", "orders"),
            Scope::new("broker-a", "other", "orders"),
            Scope::new("broker-a", "billing", "other"),
        ] {
            assert_eq!(Handle::parse(&text, other), None);
        }
    }
}
