//! Passing a client's call on to another front door: one hop, and never two.

use std::time::Duration;

use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::client::ClientIdentity;

/// Marks a call that came over another front door; it goes no further.
pub const FORWARDED: &str = "x-gantry-forwarded";
/// What a client says of itself, and the hop passes on.
const PASSED_ON: [&str; 5] =
    ["x-mq-client-id", "x-mq-language", "x-mq-client-version", "x-mq-namespace", "x-mq-request-id"];
/// Half of the three seconds that clients wait: there is time for a second try.
const LONGEST_HOP: Duration = Duration::from_millis(1500);

/// Whether the call came over another front door already.
pub fn is_forwarded(metadata: &MetadataMap) -> bool {
    metadata.contains_key(FORWARDED)
}

/// The call of `client`, for another front door.
pub fn request<T>(client: &ClientIdentity, metadata: &MetadataMap, message: T) -> Request<T> {
    let mut hop = Request::new(message);
    for key in PASSED_ON {
        if let Some(value) = metadata.get(key) {
            hop.metadata_mut().insert(key, value.clone());
        }
    }
    hop.metadata_mut().insert(FORWARDED, MetadataValue::from_static("1"));
    hop.set_timeout(client.deadline.map_or(LONGEST_HOP, |deadline| (deadline / 2).min(LONGEST_HOP)));
    hop
}
