//! `gantry check`: one message there and back.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::args::CheckArgs;
use crate::client::{self, Consumer, Outgoing, Producer};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};
use crate::place::{Caller, PlaceArgs};

const INVISIBLE: Duration = Duration::from_secs(10);

/// How the round trip went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoundTrip {
    /// The access point.
    pub endpoint: String,
    /// The topic.
    pub topic: String,
    /// The broker that stored the message.
    pub broker: String,
    /// The message.
    pub message_id: String,
    /// Until the send was acknowledged, in milliseconds.
    pub sent_ms: u64,
    /// Until the message was back, in milliseconds, from the same start.
    pub received_ms: u64,
}

impl View for RoundTrip {
    fn text(&self, paint: Paint) -> String {
        let Self { endpoint, topic, broker, message_id, sent_ms, received_ms } = self;
        format!(
            "{}: {message_id} through {topic} on {broker} at {endpoint}, stored after {sent_ms} ms, back after \
             {received_ms} ms",
            paint.good("ok")
        )
    }
}

/// Runs the command.
pub async fn run(place: &PlaceArgs, caller: Caller, args: CheckArgs, out: Printer) -> Result<(), Failure> {
    let (endpoint, dialer) = place.access_point(caller, &args.client).await?;
    let failure = |error| client::failure(&error, &args.topic);
    let started = Instant::now();
    // By its own tag the group skips whatever else is in the topic.
    let tag = format!("gantry-check-{:016x}", client::random());
    let mut producer = Producer::open(&dialer, &endpoint, &args.topic).await.map_err(failure)?;
    let message = Outgoing { body: "gantry check".into(), tag: Some(tag.clone()), ..Default::default() };
    let sent = producer.send(message).await.map_err(failure)?;
    let sent_ms = millis_since(started);
    producer.close().await;

    let open = Consumer::open(&dialer, &endpoint, &args.topic, &args.group, client::by_tags(&tag), INVISIBLE);
    let mut consumer = open.await.map_err(failure)?;
    let left = args.timeout.saturating_sub(started.elapsed());
    let received = consumer.receive(1, left).await.map_err(failure)?;
    let received_ms = millis_since(started);
    let outcome = match received.first() {
        Some(received) if received.message_id() == sent.message_id => {
            consumer.ack(received).await.map_err(failure)
        }
        Some(other) => {
            Err(Failure::failed(format!("received {} instead of {}", other.message_id(), sent.message_id)))
        }
        None => {
            Err(Failure::timed_out(format!("{} was stored, but did not come back in time", sent.message_id))
                .next(format!("gantry group describe {} shows how far the group is", args.group)))
        }
    };
    consumer.close().await;
    outcome?;
    let (topic, broker, message_id) = (args.topic, sent.broker, sent.message_id);
    out.print(&RoundTrip { endpoint, topic, broker, message_id, sent_ms, received_ms })
}

fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn a_round_trip_is_one_sentence() {
        let trip = RoundTrip {
            endpoint: "127.0.0.1:8081".to_owned(),
            topic: "orders".to_owned(),
            broker: "broker-a".to_owned(),
            message_id: "01ABCDEF".to_owned(),
            sent_ms: 3,
            received_ms: 5,
        };
        assert_snapshot!(
            render(&trip, Format::Table, Paint(false)).unwrap(),
            @"ok: 01ABCDEF through orders on broker-a at 127.0.0.1:8081, stored after 3 ms, back after 5 ms"
        );
    }
}
