//! Stored messages by key, by unique id and by place.

use access::GroupName;
use bytes::Bytes;
use proto::control::find_messages_request::Wanted;
use proto::control::*;
use store::{By, FindError, QueueId, QueueOffset, ReadError, Record, Store};
use tonic::Status;

use super::{AdminDoor, topic_name};
use crate::delivery::Progress;
use crate::log::Busy;

/// Messages of one answer.
const MOST_FOUND: u32 = 1000;
/// Bytes of one answer, about: clients of gRPC take 4 MiB.
const MOST_ANSWER_BYTES: usize = 3 << 20;
/// What a message takes beside its properties: the longest names, hosts and numbers.
const FIELDS_BYTES: usize = 512;

impl AdminDoor {
    pub(super) async fn found(&self, request: FindMessagesRequest) -> Result<FindMessagesResponse, Status> {
        let FindMessagesRequest { topic, wanted, stored_since_ms, stored_until_ms, limit } = request;
        self.known(&topic)?;
        let wanted = checked(wanted)?;
        if !(1..=MOST_FOUND).contains(&limit) {
            return Err(Status::invalid_argument(format!(
                "the limit is {limit}: ask for 1 to {MOST_FOUND} messages"
            )));
        }
        let stored_ms = stored_since_ms.unwrap_or(i64::MIN)..stored_until_ms.unwrap_or(i64::MAX);
        let find = move |store: &Store, awaited: &dyn Fn() -> bool| {
            let by = match &wanted {
                Wanted::Key(key) => By::Key(key),
                Wanted::Id(id) => By::Id(id),
            };
            let limit = usize::try_from(limit).expect("it is at most a thousand");
            // What was found is read here, since it may lie on the disk.
            store.find_while(&topic, by, stored_ms, limit, awaited).map(answer)
        };
        self.log.look(find).await.map_err(busy)?.map_err(|error| self.not_found(&error))
    }

    /// The newest message of a topic with this unique id.
    pub(super) async fn newest(&self, topic: &str, id: String) -> Result<Record, Status> {
        self.known(topic)?;
        checked(Some(Wanted::Id(id.clone())))?;
        let (of, by) = (topic.to_owned(), id.clone());
        let find = move |store: &Store, awaited: &dyn Fn() -> bool| {
            store.find_while(&of, By::Id(&by), i64::MIN..i64::MAX, 1, awaited)
        };
        let found = self.log.look(find).await.map_err(busy)?.map_err(|error| self.not_found(&error))?;
        let nowhere = || match found.unsearched_bytes {
            0 => Status::not_found(format!("topic {topic} has no message with the id {id} at this broker")),
            bytes => Status::unavailable(format!(
                "{bytes} bytes of the log are not indexed yet, and the message {id} is not in the rest: try again"
            )),
        };
        found.records.into_iter().next().ok_or_else(nowhere)
    }

    fn not_found(&self, error: &FindError) -> Status {
        match error {
            FindError::Off => Status::failed_precondition(format!(
                "broker {} keeps no index of keys: set its config.messageIndexEnable to true to find messages by key or id",
                self.config.broker_name
            )),
            FindError::GivenUp => Status::cancelled(error.to_string()),
        }
    }

    pub(super) async fn message_at(&self, request: GetMessageRequest) -> Result<GetMessageResponse, Status> {
        let GetMessageRequest { topic, queue_id, queue_offset, with_body } = request;
        self.known(&topic)?;
        let get = move |store: &Store, _: &dyn Fn() -> bool| {
            let (id, at) = (QueueId(queue_id), QueueOffset(queue_offset));
            let read = || -> Result<_, ReadError> {
                let found = store.entries(&topic, id, at, 1)?;
                // Where a record is damaged, the next one comes.
                let found = found.first().filter(|entry| entry.queue_offset == at);
                found.map(|entry| store.record(entry).map(|record| stored(&record, with_body))).transpose()
            };
            match read() {
                Ok(Some(message)) => Ok(GetMessageResponse { message: Some(message) }),
                Ok(None) | Err(ReadError::Deleted { .. }) => {
                    let bounds = store.queue_bounds(&topic, id);
                    Err(Status::not_found(format!(
                        "queue {queue_id} of topic {topic} has no message at offset {queue_offset}: it reaches from {} to {}",
                        bounds.start, bounds.end
                    )))
                }
                Err(error @ ReadError::Damaged { .. }) => Err(Status::data_loss(error.to_string())),
                Err(error @ ReadError::Io(_)) => Err(Status::unavailable(error.to_string())),
            }
        };
        self.log.look(get).await.map_err(busy)?
    }

    pub(super) fn trace(&self, request: &TraceMessageRequest) -> Result<TraceMessageResponse, Status> {
        let TraceMessageRequest { topic, queue_id, queue_offset } = request;
        self.known(topic)?;
        let groups = self.delivery.trace(&topic_name(topic)?, *queue_id, *queue_offset);
        Ok(TraceMessageResponse { groups: groups.into_iter().map(traced).collect() })
    }

    /// An error unless there is such a topic.
    fn known(&self, topic: &str) -> Result<(), Status> {
        let name = topic_name(topic)?;
        match self.topics.topic(name.as_str()) {
            Some(_) => Ok(()),
            None => Err(Status::not_found(format!("there is no topic {name}"))),
        }
    }
}

fn busy(busy: Busy) -> Status {
    Status::unavailable(busy.to_string())
}

/// A key as messages may have it.
fn traced((group, progress): (GroupName, Progress)) -> GroupTrace {
    use group_trace::State;
    let group = group.to_string();
    let in_state = |state: State| GroupTrace { state: state as i32, ..GroupTrace::default() };
    let trace = match progress {
        Progress::NotYet => in_state(State::NotYet),
        Progress::Blocked => in_state(State::Blocked),
        Progress::Done => in_state(State::Done),
        Progress::InFlight { attempt, visible_at, client } => GroupTrace {
            attempt,
            visible_at_ms: visible_at,
            client_id: client.as_deref().unwrap_or_default().to_owned(),
            ..in_state(State::InFlight)
        },
    };
    GroupTrace { group, ..trace }
}

fn checked(wanted: Option<Wanted>) -> Result<Wanted, Status> {
    match wanted {
        Some(Wanted::Key(key)) if key.contains(' ') => Err(Status::invalid_argument(format!(
            "the key {key:?} has a blank, which separates keys: ask for one of them"
        ))),
        Some(Wanted::Key(text) | Wanted::Id(text)) if text.is_empty() => {
            Err(Status::invalid_argument("the key or id is empty: set it"))
        }
        Some(wanted) => Ok(wanted),
        None => Err(Status::invalid_argument("the request holds neither key nor id: set one")),
    }
}

/// As many as an answer has room for.
fn answer(found: store::Matches) -> FindMessagesResponse {
    let store::Matches { records, more, unsearched_bytes } = found;
    let all = records.len();
    let mut room = MOST_ANSWER_BYTES;
    let fitting = records.iter().map_while(|record| {
        room = room.checked_sub(record.properties.len() + FIELDS_BYTES)?;
        Some(stored(record, false))
    });
    let messages: Vec<_> = fitting.collect();
    FindMessagesResponse { more: more || messages.len() < all, messages, unsearched_bytes }
}

fn stored(record: &Record, with_body: bool) -> StoredMessage {
    let Record {
        log_offset,
        queue_id,
        queue_offset,
        flag,
        sys_flag,
        born_at_ms,
        born_host,
        stored_at_ms,
        store_host,
        reconsume_times,
        prepared_offset,
        topic,
        body,
        properties,
    } = record;
    StoredMessage {
        topic: String::from_utf8_lossy(topic).into_owned(),
        queue_id: queue_id.0,
        queue_offset: queue_offset.0,
        log_offset: log_offset.0,
        stored_at_ms: *stored_at_ms,
        store_host: store_host.to_string(),
        born_at_ms: *born_at_ms,
        born_host: born_host.to_string(),
        flag: *flag,
        sys_flag: *sys_flag,
        reconsume_times: *reconsume_times,
        prepared_offset: prepared_offset.0,
        // Few bytes, and the segment is not held by who reads slowly.
        properties: Bytes::copy_from_slice(properties),
        body_bytes: body.len() as u64,
        body: with_body.then(|| body.clone()),
    }
}
