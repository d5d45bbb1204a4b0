//! `gantry client verify`.

use proto::control as wire;
use serde::Serialize;

use super::ask_first;
use crate::args::{ClientIdArgs, ClientVerifyArgs};
use crate::control::{Broker, Control};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};

/// A message that a client's listener took.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// The client's id.
    pub client_id: String,
    /// Who has the message, and asked.
    pub broker: String,
    /// The topic.
    pub topic: String,
    /// The message's unique id.
    pub message_id: String,
}

impl View for Verified {
    fn text(&self, _: Paint) -> String {
        let Self { client_id, broker, topic, message_id } = self;
        format!("client {client_id} consumes message {message_id} of topic {topic}, asked over {broker}")
    }
}

/// Runs the command.
pub async fn run(control: Control, args: ClientVerifyArgs, out: Printer) -> Result<(), Failure> {
    let ClientVerifyArgs { client: ClientIdArgs { group, client, brokers }, topic, id } = args;
    let call = async |broker: &mut Broker| {
        let request = wire::VerifyMessageRequest {
            group: group.clone(),
            client_id: client.clone(),
            topic: topic.clone(),
            message_id: id.clone(),
        };
        broker.admin.verify_message(request).await
    };
    let (broker, answer) = ask_first(&control, &brokers, "verify the message", call).await?;
    if !answer.consumed {
        return Err(Failure::failed(format!("client {client} fails message {id} of topic {topic}"))
            .next("its listener gave FAILURE or threw an error: look at the client's own log"));
    }
    out.print(&Verified { client_id: client, broker, topic, message_id: id })
}
