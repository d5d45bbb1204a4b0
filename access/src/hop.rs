//! Passing a client's call on to another front door.
//!
//! A broker passes on to a name server, a name server to the broker that the call is for. What came over a name server goes
//! no further, so a call cannot go round.

use std::time::Duration;

use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::client::ClientIdentity;
use crate::ports::ListenerName;

/// Marks a call that came over another front door, and says which.
pub const FORWARDED: &str = "x-gantry-forwarded";

/// By which listener the client came, unless by `internal`. Only where other front doors call, this is believed.
pub const LISTENER: &str = "x-gantry-listener";

/// Who has a front door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// A broker.
    Broker,
    /// A name server.
    NameServer,
}

impl Door {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::NameServer => "name-server",
        }
    }
}
/// What a client says of itself, and the hop passes on.
const PASSED_ON: [&str; 5] =
    ["x-mq-client-id", "x-mq-language", "x-mq-client-version", "x-mq-namespace", "x-mq-request-id"];
/// Half of the three seconds that clients wait: there is time for a second try.
const LONGEST_HOP: Duration = Duration::from_millis(1500);

/// The front door that the call came over, if it came over one. Whoever sends a mark that is none gets no further hop.
pub fn came_over(metadata: &MetadataMap) -> Option<Door> {
    let mark = metadata.get(FORWARDED)?;
    Some(if mark == Door::Broker.as_str() { Door::Broker } else { Door::NameServer })
}

/// By which listener the client of a call came that was passed on; `None`: by `internal`.
pub fn came_by(metadata: &MetadataMap) -> Option<ListenerName> {
    metadata.get(LISTENER)?.to_str().ok().and_then(|name| ListenerName::parse(name).ok())
}

/// The call of `client`, which came by this listener, passed on by `from`.
pub fn request<T>(
    from: Door,
    via: Option<&ListenerName>,
    client: &ClientIdentity,
    metadata: &MetadataMap,
    message: T,
) -> Request<T> {
    let mut hop = Request::new(message);
    for key in PASSED_ON {
        if let Some(value) = metadata.get(key) {
            hop.metadata_mut().insert(key, value.clone());
        }
    }
    hop.metadata_mut().insert(FORWARDED, MetadataValue::from_static(from.as_str()));
    if let Some(via) = via {
        let name = via.as_str().parse().expect("lower-case letters, digits and dashes make a header");
        hop.metadata_mut().insert(LISTENER, name);
    }
    hop.set_timeout(client.deadline.map_or(LONGEST_HOP, |deadline| (deadline / 2).min(LONGEST_HOP)));
    hop
}
