//! Sending: lanes that have one send under way each, and the clock that lets them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proto::v2;

use super::connection::Connection;
use super::plan::{Kind, Sending};
use super::recorder::Operation;
use super::run::Run;
use super::schedule::Slot;
use super::stamp::Stamp;
use crate::client::session::{REQUEST_TIMEOUT, resource};
use crate::client::{Error, Stub};

/// After an error: a server that refuses or is gone is not asked without pause.
const PAUSE: Duration = Duration::from_millis(10);
/// The clock looks this often whether it should stop.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);
/// The kernel may wake the clock so much later than asked, nanoseconds; by default it is 50 µs.
const TIMER_SLACK_NS: u64 = 1_000;

/// One send under way: takes the next request when it is due, until there is none.
pub(crate) async fn lane(run: Arc<Run>, sending: Arc<Sending>, connection: Arc<Connection>, lane: u32) {
    let mut stubs: Vec<Stub> = (0..run.routes.addresses.len()).map(|place| connection.stub(place)).collect();
    let filling = filling(sending.bytes);
    loop {
        if sending.schedule.rate.is_some() {
            let Ok(permit) = run.gate.acquire().await else { return };
            permit.forget();
        }
        if run.stop_sending.is_cancelled() {
            return;
        }
        let number = run.take_request();
        let Some(slot) = sending.schedule.request(number) else { return };
        let began = run.elapsed();
        if slot.due.is_none() && sending.schedule.count.is_none() && began >= sending.schedule.end() {
            return;
        }
        let request =
            Request { run: &run, sending: &sending, slot, number, lane, from: slot.due.unwrap_or(began) };
        if let Err(error) = request.send(&mut stubs, &filling).await {
            run.failed(error);
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Lets lanes take requests at the times that they are due; blocks its thread. Timers of the runtime are too coarse:
/// they count whole milliseconds.
pub(crate) fn clock(run: &Run, sending: &Sending, lanes: usize) {
    // Without it sends are some 50 µs late, and count so.
    let _coarser = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
    let mut released = 0;
    while let Some(slot) = sending.schedule.request(released).filter(|_| !run.stop_sending.is_cancelled()) {
        let due = sending.schedule.requests_due(run.elapsed());
        if due > released {
            run.gate.add_permits(usize::try_from(due - released).unwrap_or(usize::MAX >> 4));
            released = due;
            continue;
        }
        let wait = slot.due.unwrap_or_default().saturating_sub(run.elapsed());
        std::thread::sleep(wait.min(LONGEST_SLEEP));
    }
    // Each lane finds that there is nothing more.
    run.gate.add_permits(lanes);
}

/// Not all the same: a store or a disk that compresses gains nothing.
fn filling(bytes: usize) -> Bytes {
    (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

struct Request<'a> {
    run: &'a Run,
    sending: &'a Sending,
    slot: Slot,
    number: u64,
    lane: u32,
    /// When it was to be sent.
    from: Duration,
}

impl Request<'_> {
    async fn send(&self, stubs: &mut [Stub], filling: &Bytes) -> Result<(), Error> {
        let run = self.run;
        // Messages of a lane stay in one queue where order counts.
        let turn = if self.sending.kind == Kind::Fifo { self.lane.into() } else { self.number };
        let topics = run.routes.topics.len() as u64;
        let topic = &run.routes.topics[(turn % topics) as usize];
        let (queue_id, place) = topic.queues[(turn / topics) as usize % topic.queues.len()];
        let numbers = self.slot.first..self.slot.first + self.slot.messages;
        let messages = numbers.clone().map(|number| self.message(number, &topic.name, queue_id, filling));
        let mut request = tonic::Request::new(v2::SendMessageRequest { messages: messages.collect() });
        request.set_timeout(REQUEST_TIMEOUT);
        let address = &run.routes.addresses[place];
        let stub = &mut stubs[place];
        let transport = |status: tonic::Status| Error::transport(address, &status);
        let answer = stub.send_message(request).await.map_err(transport)?.into_inner();
        // Of several each has its own status.
        if answer.status.as_ref().map(v2::Status::code) != Some(v2::Code::MultipleResults) {
            Error::check(address, answer.status)?;
        }
        let entries = entries_of_each(answer.entries, self.slot.messages).ok_or_else(|| Error::Protocol {
            address: address.clone(),
            what: "answered for other messages than were sent",
        })?;
        let measured = self.from >= self.sending.schedule.warm_up;
        run.record(Operation::Send, self.from, measured);
        let mut outcome = Ok(());
        for (number, entry) in numbers.zip(entries) {
            let stored = match Error::check(address, entry.status) {
                Ok(()) if self.sending.kind == Kind::Transaction => {
                    let ended = end(stub, address, &topic.name, entry.message_id, entry.transaction_id).await;
                    ended.map(|()| run.record(Operation::Commit, self.from, measured))
                }
                stored => stored,
            };
            match stored {
                Ok(()) => run.acknowledged(number, measured),
                Err(error) => outcome = Err(error),
            }
        }
        outcome
    }

    fn message(&self, number: u64, topic: &str, queue_id: i32, filling: &Bytes) -> v2::Message {
        let delay = self.sending.kind.delay();
        // Servers know milliseconds: the next whole one is when the message is due, and is what counts.
        let (mark, delivery) = match delay.is_zero() {
            true => (self.from, None),
            false => {
                let (mark, at) = self.run.next_millisecond(self.from + delay);
                (mark, Some(at.into()))
            }
        };
        let mark_ns = u64::try_from(mark.as_nanos()).unwrap_or(u64::MAX);
        let stamp = Stamp { lane: self.lane, load: self.run.load, number, mark_ns };
        let mut body = BytesMut::with_capacity(filling.len());
        body.extend_from_slice(&stamp.encode());
        body.extend_from_slice(&filling[Stamp::LEN..]);
        v2::Message {
            topic: Some(resource(topic)),
            user_properties: Default::default(),
            system_properties: Some(v2::SystemProperties {
                message_id: self.run.message_id(number),
                body_encoding: v2::Encoding::Identity.into(),
                message_type: self.sending.kind.message_type().into(),
                born_timestamp: Some(std::time::SystemTime::now().into()),
                born_host: "gantry-bench".to_owned(),
                queue_id,
                delivery_timestamp: delivery,
                message_group: (self.sending.kind == Kind::Fifo).then(|| format!("lane-{}", self.lane)),
                ..Default::default()
            }),
            body: body.freeze(),
        }
    }
}

/// An entry for each message. Apache RocketMQ stores the messages of a request as one batch, and answers with one entry for all.
fn entries_of_each(entries: Vec<v2::SendResultEntry>, messages: u64) -> Option<Vec<v2::SendResultEntry>> {
    match entries.as_slice() {
        [one] => Some(vec![one.clone(); usize::try_from(messages).ok()?]),
        several => (several.len() as u64 == messages).then_some(entries),
    }
}

/// Commits a transaction.
async fn end(
    stub: &mut Stub,
    address: &str,
    topic: &str,
    message_id: String,
    transaction_id: String,
) -> Result<(), Error> {
    let mut request = tonic::Request::new(v2::EndTransactionRequest {
        topic: Some(resource(topic)),
        message_id,
        transaction_id,
        resolution: v2::TransactionResolution::Commit.into(),
        source: v2::TransactionSource::SourceClient.into(),
        trace_context: String::new(),
    });
    request.set_timeout(REQUEST_TIMEOUT);
    let answer = stub.end_transaction(request).await.map_err(|status| Error::transport(address, &status))?;
    Error::check(address, answer.into_inner().status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_entry_is_for_all_messages_and_several_are_one_each() {
        let entries = |count: usize| vec![v2::SendResultEntry::default(); count];
        let check = |given, messages, expected: Option<usize>| {
            assert_eq!(entries_of_each(entries(given), messages).map(|each| each.len()), expected);
        };
        check(1, 1, Some(1));
        check(1, 32, Some(32));
        check(32, 32, Some(32));
        check(31, 32, None);
        check(0, 1, None);
    }
}
