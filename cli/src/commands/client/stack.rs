//! `gantry client stack`.

use proto::control as wire;
use serde::Serialize;

use super::ask_first;
use crate::args::ClientIdArgs;
use crate::control::{Broker, Control};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};

/// What the threads of a client do.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stack {
    /// The client's id.
    pub client_id: String,
    /// Who asked it.
    pub broker: String,
    /// In the client's own words.
    pub stack_trace: String,
}

impl View for Stack {
    fn text(&self, _: Paint) -> String {
        self.stack_trace.trim_end().to_owned()
    }
}

/// Runs the command.
pub async fn run(control: Control, args: ClientIdArgs, out: Printer) -> Result<(), Failure> {
    let ClientIdArgs { group, client, brokers } = args;
    let call = async |broker: &mut Broker| {
        let request = wire::PrintThreadStackTraceRequest { group: group.clone(), client_id: client.clone() };
        broker.admin.print_thread_stack_trace(request).await
    };
    let (broker, answer) = ask_first(&control, &brokers, "ask for the stack", call).await?;
    let wire::PrintThreadStackTraceResponse { stack_trace, cut } = answer;
    if cut {
        eprintln!("the stack is longer than an answer may be: its end is missing");
    }
    out.print(&Stack { client_id: client, broker, stack_trace })
}
