//! What must be true of the answer to a call, whatever the call was.

use prost::Message as _;
use proto::v2::*;
use tonic::Code as Grpc;

use crate::call::{Call, Rpc};
use crate::caller::Outcome;
use crate::known::{Given, Kind, Known};

/// An answer that is as it must be.
#[derive(Debug, Default)]
pub struct Checked {
    /// The codes in it, in their order.
    pub codes: Vec<Code>,
    /// Of SendMessage: what was asked, and what came of each message.
    pub sent: Vec<(Message, SendResultEntry)>,
    /// Of EndTransaction and RecallMessage that went well: what was done with.
    pub done_with: Option<(Rpc, String)>,
}

/// The codes of the table that the client in Rust 5.0.0 dies of.
const UNKNOWN_TO_RUST: [i32; 7] = [40_019, 40_020, 40_021, 40_404, 41_302, 42_901, 42_902];

/// Seconds of the times that the protocol knows.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Looks at an answer, and remembers what it gave out.
///
/// # Errors
/// What is wrong with it.
pub fn check(call: &Call, outcome: &Outcome, known: &mut Known) -> Result<Checked, String> {
    let mut checked = Checked::default();
    let look = Look { call, checked: &mut checked, known };
    look.at(outcome)?;
    Ok(checked)
}

struct Look<'a> {
    call: &'a Call,
    checked: &'a mut Checked,
    known: &'a mut Known,
}

impl Look<'_> {
    fn at(mut self, outcome: &Outcome) -> Result<(), String> {
        if let Some(failed) = &outcome.failed {
            return self.may_fail(failed);
        }
        let messages = &outcome.messages;
        match self.call.rpc {
            Rpc::ReceiveMessage => return self.received(messages),
            Rpc::PullMessage => return self.pulled(messages),
            Rpc::Telemetry => return self.told(messages),
            _ => {}
        }
        let [answer] = messages.as_slice() else { return Err(format!("{} answers", messages.len())) };
        let answer = answer.as_ref();
        match self.call.rpc {
            Rpc::SendMessage => self.sent(&decode(answer)?),
            Rpc::AckMessage => self.acknowledged(&decode(answer)?),
            Rpc::ChangeInvisibleDuration => {
                let ChangeInvisibleDurationResponse { status, receipt_handle } = decode(answer)?;
                if self.status(status.as_ref())? == Code::Ok
                    && let Ok(asked) = ChangeInvisibleDurationRequest::decode(&*self.call.messages[0])
                {
                    let (topic, group) = (name(asked.topic), name(asked.group));
                    let given = Given { token: receipt_handle, topic, group, lite: asked.lite_topic };
                    self.known.given(Kind::Receipt, given);
                }
                Ok(())
            }
            Rpc::ForwardMessageToDeadLetterQueue => self
                .status(decode::<ForwardMessageToDeadLetterQueueResponse>(answer)?.status.as_ref())
                .map(drop),
            Rpc::EndTransaction => {
                let code = self.status(decode::<EndTransactionResponse>(answer)?.status.as_ref())?;
                if let (Code::Ok, Ok(asked)) = (code, EndTransactionRequest::decode(&*self.call.messages[0]))
                {
                    self.checked.done_with = Some((Rpc::EndTransaction, asked.transaction_id));
                }
                Ok(())
            }
            Rpc::RecallMessage => {
                let RecallMessageResponse { status, message_id } = decode(answer)?;
                if self.status(status.as_ref())? == Code::Ok {
                    self.checked.done_with = Some((Rpc::RecallMessage, message_id));
                }
                Ok(())
            }
            Rpc::SyncLiteSubscription => {
                self.status(decode::<SyncLiteSubscriptionResponse>(answer)?.status.as_ref()).map(drop)
            }
            Rpc::UpdateOffset => {
                self.status(decode::<UpdateOffsetResponse>(answer)?.status.as_ref()).map(drop)
            }
            Rpc::GetOffset => self.status(decode::<GetOffsetResponse>(answer)?.status.as_ref()).map(drop),
            Rpc::QueryOffset => self.status(decode::<QueryOffsetResponse>(answer)?.status.as_ref()).map(drop),
            Rpc::QueryRoute => {
                let QueryRouteResponse { status, message_queues } = decode(answer)?;
                let ok = self.status(status.as_ref())? == Code::Ok;
                ensure(ok != message_queues.is_empty(), "OK has queues, and nothing else has")
            }
            Rpc::QueryAssignment => {
                let QueryAssignmentResponse { status, assignments } = decode(answer)?;
                let ok = self.status(status.as_ref())? == Code::Ok;
                ensure(ok != assignments.is_empty(), "OK has assignments, and nothing else has")
            }
            Rpc::Heartbeat => self.status(decode::<HeartbeatResponse>(answer)?.status.as_ref()).map(drop),
            Rpc::NotifyClientTermination => {
                self.status(decode::<NotifyClientTerminationResponse>(answer)?.status.as_ref()).map(drop)
            }
            Rpc::ReceiveMessage | Rpc::PullMessage | Rpc::Telemetry => Ok(()),
        }
    }

    /// gRPC fails for what is no request, for a deadline that is over, and on Telemetry.
    fn may_fail(&self, failed: &tonic::Status) -> Result<(), String> {
        let decodes = self.call.messages.iter().all(|message| self.call.rpc.decodes(message));
        let allowed = match failed.code() {
            Grpc::Internal if !decodes => true,
            Grpc::InvalidArgument => self.call.rpc == Rpc::Telemetry,
            Grpc::Cancelled | Grpc::DeadlineExceeded => !self.call.header("grpc-timeout").is_empty(),
            _ => false,
        };
        if allowed { Ok(()) } else { Err(format!("gRPC failed: {failed:?}")) }
    }

    /// A status of the table that the caller survives, with a sentence.
    fn status(&mut self, status: Option<&Status>) -> Result<Code, String> {
        let status = status.ok_or("an answer without a status")?;
        let code = Code::try_from(status.code).map_err(|_| format!("the code {} is none", status.code))?;
        self.checked.codes.push(code);
        let name = status.message.split(':').next().unwrap_or_default();
        ensure(
            Code::from_str_name(name).is_some(),
            &format!("{status:?} does not begin with a code's name"),
        )?;
        ensure(code != Code::Unspecified, "the code is not specified")?;
        let is_rust =
            self.call.header("x-mq-language") == "RUST" && self.call.header("x-mq-client-version") == "5.0.0";
        ensure(!is_rust || !UNKNOWN_TO_RUST.contains(&status.code), &format!("Rust dies of {status:?}"))?;
        // Nothing that a client says is the server's fault, but for a handle that is none, which RocketMQ answers so.
        let fault = status.code >= Code::InternalError as i32 && code != Code::NotImplemented;
        let forwards =
            matches!(self.call.rpc, Rpc::RecallMessage | Rpc::EndTransaction | Rpc::SyncLiteSubscription);
        ensure(!fault || forwards, &format!("the server has failed: {status:?}"))?;
        Ok(code)
    }

    fn sent(&mut self, answer: &SendMessageResponse) -> Result<(), String> {
        let asked = SendMessageRequest::decode(&*self.call.messages[0]).map_err(|error| error.to_string())?;
        let code = self.status(answer.status.as_ref())?;
        if code != Code::ClientIdRequired && code != Code::NotImplemented {
            ensure(answer.entries.len() == asked.messages.len(), "one entry for each message")?;
        }
        for (message, entry) in asked.messages.into_iter().zip(&answer.entries) {
            let code = self.status(entry.status.as_ref())?;
            if code == Code::Ok {
                let id = message.system_properties.as_ref().map_or("", |system| &system.message_id);
                ensure(entry.message_id == id && entry.offset >= 0, &format!("{entry:?} for {id:?}"))?;
                let topic = name(message.topic.clone());
                for (kind, token) in [
                    (Kind::Id, &entry.message_id),
                    (Kind::Transaction, &entry.transaction_id),
                    (Kind::Recall, &entry.recall_handle),
                ] {
                    // The id of a message stands for a transaction that there is not.
                    if kind != Kind::Transaction || entry.transaction_id != entry.message_id {
                        let given = Given { token: token.clone(), topic: topic.clone(), ..Given::default() };
                        self.known.given(kind, given);
                    }
                }
                self.checked.sent.push((message, entry.clone()));
            }
        }
        Ok(())
    }

    fn acknowledged(&mut self, answer: &AckMessageResponse) -> Result<(), String> {
        let asked = AckMessageRequest::decode(&*self.call.messages[0]).map_err(|error| error.to_string())?;
        let code = self.status(answer.status.as_ref())?;
        let named = code != Code::ClientIdRequired;
        ensure(!named || answer.entries.len() == asked.entries.len(), "one entry for each handle")?;
        for entry in &answer.entries {
            self.status(entry.status.as_ref())?;
        }
        Ok(())
    }

    /// A status, messages if it is OK, the time.
    fn received(&mut self, messages: &[bytes::Bytes]) -> Result<(), String> {
        use receive_message_response::Content;
        let mut contents = Vec::new();
        for message in messages {
            let content = decode::<ReceiveMessageResponse>(message)?.content;
            contents.push(content.ok_or("an answer without content")?);
        }
        let [Content::Status(status), between @ .., Content::DeliveryTimestamp(_)] = contents.as_slice()
        else {
            return Err(format!("{} answers, not a status first and the time last", contents.len()));
        };
        let ok = self.status(Some(status))? == Code::Ok;
        ensure(ok != between.is_empty(), "OK has messages, and nothing else has")?;
        for content in between {
            let Content::Message(message) = content else {
                return Err("no message between the two".to_owned());
            };
            self.message(message)?;
            let system = message.system_properties.clone().unwrap_or_default();
            let token = system.receipt_handle.unwrap_or_default();
            ensure(!token.is_empty(), "a delivery without a handle")?;
            let asked = ReceiveMessageRequest::decode(&*self.call.messages[0]).unwrap_or_default();
            let (topic, group) = (name(message.topic.clone()), name(asked.group));
            self.known.given(Kind::Receipt, Given { token, topic, group, lite: system.lite_topic });
        }
        Ok(())
    }

    fn pulled(&mut self, messages: &[bytes::Bytes]) -> Result<(), String> {
        use pull_message_response::Content;
        for (index, message) in messages.iter().enumerate() {
            match decode::<PullMessageResponse>(message)?.content.ok_or("an answer without content")? {
                Content::Status(status) if index == 0 => self.status(Some(&status)).map(drop)?,
                Content::Message(message) if index > 0 => self.message(&message)?,
                Content::NextOffset(offset) if index > 0 => ensure(offset >= 0, "a negative offset")?,
                other => return Err(format!("{other:?} at {index}")),
            }
        }
        ensure(!messages.is_empty(), "a pull without an answer")
    }

    /// Settings, in return to settings. Other commands may come between them.
    fn told(&mut self, messages: &[bytes::Bytes]) -> Result<(), String> {
        use telemetry_command::Command;
        let decoded: Vec<_> =
            self.call.messages.iter().map_while(|said| TelemetryCommand::decode(&**said).ok()).collect();
        let settings =
            |command: &TelemetryCommand| matches!(command.command, Some(Command::Settings(_)) | None);
        let mut answers = 0;
        for message in messages {
            let command = decode::<TelemetryCommand>(message)?;
            self.status(command.status.as_ref())?;
            answers += usize::from(settings(&command));
        }
        let asked = decoded.iter().filter(|said| matches!(said.command, Some(Command::Settings(_)))).count();
        ensure(answers == asked, &format!("{asked} settings have {answers} answers"))
    }

    fn message(&mut self, message: &Message) -> Result<(), String> {
        let system = message.system_properties.as_ref().ok_or("a message without system properties")?;
        ensure(!system.message_id.is_empty() && message.topic.is_some(), "a message without id or topic")?;
        // Java's client throws the whole answer away for a time that is not between the years 1 and 9999.
        for time in [&system.born_timestamp, &system.store_timestamp, &system.delivery_timestamp]
            .into_iter()
            .flatten()
        {
            let valid = TIMES.contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos);
            ensure(valid, &format!("{time:?} is no time"))?;
        }
        Ok(())
    }
}

fn name(resource: Option<Resource>) -> String {
    resource.map(|resource| resource.name).unwrap_or_default()
}

fn decode<M: prost::Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| format!("an answer that does not decode: {error}"))
}

fn ensure(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
