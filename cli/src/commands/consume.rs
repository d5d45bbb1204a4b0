//! `gantry consume`.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

use crate::args::ConsumeArgs;
use crate::client::{self, Consumer, Received};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View, write_bytes};
use crate::place::{Caller, PlaceArgs};
use crate::units;

/// Messages asked for at once when no count limits them.
const BATCH: u64 = 32;
/// A wait without a limit is made of waits of this length.
const LONG: Duration = Duration::from_secs(3600);
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// A message as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Printed {
    /// The topic.
    pub topic: String,
    /// The id that the sender gave it.
    pub message_id: String,
    /// The broker's name.
    pub broker: String,
    /// The queue's id.
    pub queue_id: i32,
    /// Its offset in the queue.
    pub offset: i64,
    /// When the sender made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub born_at: Option<String>,
    /// Its tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Its keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// Its message group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_group: Option<String>,
    /// The user's properties.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// How often it was delivered, this time included.
    pub delivery_attempt: i32,
    /// The payload, if it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The payload, if it is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

impl Printed {
    fn of(received: &Received, topic: &str) -> Self {
        let system = received.message.system_properties.clone().unwrap_or_default();
        let body = &received.message.body;
        let text = std::str::from_utf8(body).ok().map(str::to_owned);
        let body_base64 = text.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(body));
        let born_at = system
            .born_timestamp
            .and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
            .map(|at| format!("{at:.3}"));
        Self {
            topic: topic.to_owned(),
            message_id: system.message_id,
            broker: received.broker.clone(),
            queue_id: system.queue_id,
            offset: system.queue_offset.unwrap_or(-1),
            born_at,
            tag: system.tag,
            keys: system.keys,
            message_group: system.message_group,
            properties: received.message.user_properties.clone().into_iter().collect(),
            delivery_attempt: system.delivery_attempt.unwrap_or(1),
            body: text,
            body_base64,
        }
    }
}

impl View for Printed {
    fn text(&self, paint: Paint) -> String {
        let mut about = format!("{}/{}@{}", self.broker, self.queue_id, self.offset);
        if let Some(born_at) = &self.born_at {
            about = format!("{born_at} {about}");
        }
        if let Some(tag) = &self.tag {
            about.push_str(&format!(" tag={tag}"));
        }
        if !self.keys.is_empty() {
            about.push_str(&format!(" keys={}", self.keys.join(",")));
        }
        if let Some(group) = &self.message_group {
            about.push_str(&format!(" group={group}"));
        }
        for (key, value) in &self.properties {
            about.push_str(&format!(" {key}={value}"));
        }
        if self.delivery_attempt > 1 {
            about.push_str(&format!(" attempt={}", self.delivery_attempt));
        }
        let body = match (&self.body, &self.body_base64) {
            (Some(text), _) => text.clone(),
            (None, Some(base64)) => format!("base64:{base64}"),
            (None, None) => String::new(),
        };
        format!("{}  {body}", paint.faint(&about))
    }
}

/// Runs the command.
pub async fn run(place: &PlaceArgs, caller: Caller, args: ConsumeArgs, out: Printer) -> Result<(), Failure> {
    let (access_point, dialer) = place.access_point(caller, &args.client).await?;
    let filter = args.sql.as_deref().map_or_else(|| client::by_tags(&args.filter), client::by_sql);
    let open = Consumer::open(&dialer, &access_point, &args.topic, &args.group, filter, args.invisible);
    let mut consumer = open.await.map_err(|error| client::failure(&error, &args.topic))?;

    let started = Instant::now();
    let mut taken = 0;
    let outcome = tokio::select! {
        outcome = take_all(&mut consumer, &args, out, &mut taken) => outcome,
        // Ctrl-C is how a consumer without a count is meant to end.
        _ = tokio::signal::ctrl_c() => match args.count {
            Some(count) => Err(short(taken, count, "was interrupted")),
            None => Ok(()),
        },
    };
    consumer.close().await;
    let (messages, took) = (units::counted(taken, "message"), units::duration(started.elapsed()));
    eprintln!("received {messages} of {} in {took}", args.topic);
    outcome
}

/// Receives, prints and acknowledges until the count is reached or time is up.
async fn take_all(
    consumer: &mut Consumer,
    args: &ConsumeArgs,
    out: Printer,
    taken: &mut u64,
) -> Result<(), Failure> {
    let deadline = args.timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let wanted = args.count.map_or(BATCH, |count| (count - *taken).min(BATCH));
        let left = deadline.map_or(LONG, |deadline| deadline.saturating_duration_since(Instant::now()));
        if wanted == 0 || left.is_zero() {
            break;
        }
        let batch = match consumer.receive(wanted as usize, left).await {
            Ok(batch) => batch,
            Err(error) if error.is_passing() => {
                eprintln!("{error}; trying again");
                tokio::time::sleep(RETRY_PAUSE.min(left)).await;
                continue;
            }
            Err(error) => return Err(client::failure(&error, &args.topic)),
        };
        for received in &batch {
            // Printed before it is acknowledged: better twice than never.
            if args.raw {
                write_bytes(&[&received.message.body, b"\n".as_slice()].concat())?;
            } else {
                out.print_next(&Printed::of(received, &args.topic))?;
            }
            *taken += 1;
            if !args.no_ack
                && let Err(error) = consumer.ack(received).await
            {
                eprintln!("cannot acknowledge {}, it will come again: {error}", received.message_id());
            }
        }
    }
    match args.count {
        Some(count) if *taken < count => Err(short(*taken, count, "time is up")),
        _ => Ok(()),
    }
}

fn short(taken: u64, count: u64, why: &str) -> Failure {
    Failure::timed_out(format!("received {taken} of {count} messages: {why}")).next(
        "gantry group describe GROUP shows what waits and what is in flight; gantry status shows the brokers",
    )
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    fn full() -> Printed {
        Printed {
            topic: "orders".to_owned(),
            message_id: "01ABCDEF".to_owned(),
            broker: "broker-a".to_owned(),
            queue_id: 3,
            offset: 17,
            born_at: Some("2026-11-21T04:34:09.123Z".to_owned()),
            tag: Some("eu".to_owned()),
            keys: vec!["k1".to_owned(), "k2".to_owned()],
            message_group: Some("customer-7".to_owned()),
            properties: [("colour".to_owned(), "red".to_owned())].into(),
            delivery_attempt: 2,
            body: Some("hello".to_owned()),
            body_base64: None,
        }
    }

    fn plain() -> Printed {
        Printed {
            tag: None,
            keys: Vec::new(),
            message_group: None,
            properties: BTreeMap::new(),
            delivery_attempt: 1,
            body: None,
            body_base64: Some("/wA=".to_owned()),
            ..full()
        }
    }

    #[test]
    fn a_message_takes_one_line() {
        let text = |message: &Printed| render(message, Format::Table, Paint(false)).unwrap();
        assert_snapshot!(text(&full()), @"2026-11-21T04:34:09.123Z broker-a/3@17 tag=eu keys=k1,k2 group=customer-7 colour=red attempt=2  hello");
        assert_snapshot!(text(&plain()), @"2026-11-21T04:34:09.123Z broker-a/3@17  base64:/wA=");
    }

    #[test]
    fn programs_get_only_what_is_there() {
        let text = |message: &Printed| render(message, Format::Yaml, Paint(false)).unwrap();
        assert_snapshot!(text(&full()), @r"
        topic: orders
        messageId: 01ABCDEF
        broker: broker-a
        queueId: 3
        offset: 17
        bornAt: 2026-11-21T04:34:09.123Z
        tag: eu
        keys:
        - k1
        - k2
        messageGroup: customer-7
        properties:
          colour: red
        deliveryAttempt: 2
        body: hello
        ");
        assert_snapshot!(text(&plain()), @r"
        topic: orders
        messageId: 01ABCDEF
        broker: broker-a
        queueId: 3
        offset: 17
        bornAt: 2026-11-21T04:34:09.123Z
        deliveryAttempt: 1
        bodyBase64: /wA=
        ");
    }
}
