//! `gantry message get`.

use proto::control as wire;

use super::Stored;
use crate::args::MessageGetArgs;
use crate::control::{Control, chosen};
use crate::failure::Failure;
use crate::output::Printer;

/// The largest body that a broker may be told to take, and what comes with it.
const MOST_ANSWER_BYTES: usize = (64 << 20) + (1 << 20);

/// Runs the command.
pub async fn run(control: Control, args: MessageGetArgs, out: Printer) -> Result<(), Failure> {
    let MessageGetArgs { topic, queue, offset, body, brokers } = args;
    let (mut found, mut refusals) = (Vec::new(), Vec::new());
    for broker in chosen(control.primaries().await?, &brokers)? {
        let request = wire::GetMessageRequest {
            topic: topic.clone(),
            queue_id: queue,
            queue_offset: offset,
            with_body: body,
        };
        let mut admin = broker.admin.clone().max_decoding_message_size(MOST_ANSWER_BYTES);
        match admin.get_message(request).await.map(tonic::Response::into_inner) {
            Ok(wire::GetMessageResponse { message }) => {
                found.push(Stored::of(&broker, message.unwrap_or_default())?)
            }
            Err(status) if status.code() == tonic::Code::NotFound => {
                refusals.push(format!("{}: {}", broker.label, status.message()));
            }
            Err(status) => {
                return Err(Failure::from_status(&format!("get a message of {}", broker.label), &status));
            }
        }
    }
    out.print(&only(found, &refusals)?)
}

/// The one that is meant: brokers number their queues each for itself.
fn only(mut found: Vec<Stored>, refusals: &[String]) -> Result<Stored, Failure> {
    match (found.pop(), found.as_slice()) {
        (Some(only), []) => Ok(only),
        (None, _) => Err(Failure::not_found(refusals.join("; "))
            .next("gantry topic describe TOPIC shows where each queue begins and ends")),
        (Some(last), others) => {
            let names: Vec<&str> =
                others.iter().chain([&last]).map(|stored| stored.broker.as_str()).collect();
            Err(Failure::failed(format!("{} have a message at this place", names.join(" and ")))
                .next("choose one with --broker"))
        }
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::tests::stored;
    use super::*;
    use crate::output::{Format, Paint, render};

    #[test]
    fn a_message_is_shown_with_all_it_has_and_its_body_only_if_asked_for() {
        let shown = |body| render(&stored("broker-a", 1_795_628_530_007, body), Format::Table, Paint(false));
        assert_snapshot!(shown(None).unwrap(), @r"
        broker          broker-a
        topic           orders
        queue           3, offset 4711
        log offset      1073741824
        stored          2026-11-25T17:42:10.007Z by [2001:db8::1]:8081
        born            2026-11-25T17:42:09.000Z at 10.1.2.3:4567
        flags           0, system 0x20
        consumed before 0 times
        property        KEYS = k1 k2
        property        TAGS = eu
        property        UNIQ_KEY = 0A7F
        body            7 B, shown with --body
        ");
        assert_snapshot!(shown(Some(b"a body\n")).unwrap(), @r"
        broker          broker-a
        topic           orders
        queue           3, offset 4711
        log offset      1073741824
        stored          2026-11-25T17:42:10.007Z by [2001:db8::1]:8081
        born            2026-11-25T17:42:09.000Z at 10.1.2.3:4567
        flags           0, system 0x20
        consumed before 0 times
        property        KEYS = k1 k2
        property        TAGS = eu
        property        UNIQ_KEY = 0A7F
        body            7 B
        a body
        ");
        let json = render(&stored("broker-a", 1, Some(b"a body\n")), Format::Json, Paint(false)).unwrap();
        assert!(json.contains(r#""bodyBase64": "YSBib2R5Cg==""#), "{json}");
    }

    #[test]
    fn where_several_brokers_have_a_message_at_a_place_one_is_chosen() {
        let both = vec![stored("broker-a", 1, None), stored("broker-b", 2, None)];
        assert_eq!(only(both[..1].to_vec(), &[]).unwrap(), both[0]);
        assert_snapshot!(only(both, &[]).unwrap_err(), @r"
        error: broker-a and broker-b have a message at this place
          next: choose one with --broker
        ");
        let refusals = ["broker-a: there is no topic t".to_owned(), "broker-b: it is not there".to_owned()];
        assert_snapshot!(only(Vec::new(), &refusals).unwrap_err(), @r"
        error: broker-a: there is no topic t; broker-b: it is not there
          next: gantry topic describe TOPIC shows where each queue begins and ends
        ");
    }
}
