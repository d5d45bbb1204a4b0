//! `gantry failover`: another member of a broker group becomes its primary, with everything.

use proto::control as wire;
use serde::Serialize;

use crate::args::FailoverArgs;
use crate::control::{Control, chosen};
use crate::failure::Failure;
use crate::output::{Paint, Printer, View};

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HandedOver {
    /// The broker group.
    pub broker: String,
    /// The ordinal of the member that is the primary now.
    pub to: u32,
}

impl View for HandedOver {
    fn text(&self, _: Paint) -> String {
        format!("broker group {}: member {} is the primary now", self.broker, self.to)
    }
}

/// Runs the command.
pub async fn run(control: Control, args: FailoverArgs, out: Printer) -> Result<(), Failure> {
    let mut brokers = chosen(control.primaries().await?, std::slice::from_ref(&args.broker))?;
    let Some(broker) = brokers.first_mut() else {
        return Err(Failure::not_found(format!("there is no broker group {}", args.broker)));
    };
    let asked = broker.members.hand_over(wire::HandOverRequest { to: args.to }).await;
    match asked {
        Ok(answer) => out.print(&HandedOver { broker: args.broker, to: answer.into_inner().to }),
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            Err(Failure::failed(format!("broker group {} has one member", args.broker))
                .next("set spec.replicas of its BrokerGroup to 2 or more"))
        }
        Err(status) => Err(Failure::from_status(&format!("hand over {}", args.broker), &status)),
    }
}
