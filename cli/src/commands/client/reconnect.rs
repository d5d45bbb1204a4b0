//! `gantry client reconnect`.

use proto::control as wire;
use serde::Serialize;

use crate::args::ClientReconnectArgs;
use crate::control::{Control, chosen};
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::row;

/// Who was told to connect anew.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Told {
    /// A line a stream.
    pub clients: Vec<ToldClient>,
}

/// A client that was told.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldClient {
    /// Its id.
    pub client_id: String,
    /// The broker that told it.
    pub broker: String,
}

impl View for Told {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["TOLD", "BY"]);
        for ToldClient { client_id, broker } in &self.clients {
            table.row(row![client_id, broker]);
        }
        table.text(paint)
    }
}

/// Runs the command.
pub async fn run(control: Control, args: ClientReconnectArgs, out: Printer) -> Result<(), Failure> {
    let ClientReconnectArgs { group, client, brokers } = args;
    let (mut clients, mut refusals) = (Vec::new(), Vec::new());
    for mut broker in chosen(control.primaries().await?, &brokers)? {
        let request = wire::ReconnectClientsRequest {
            group: group.clone(),
            client_id: client.clone().unwrap_or_default(),
        };
        match broker.admin.reconnect_clients(request).await {
            Ok(told) => clients.extend(
                told.into_inner()
                    .client_ids
                    .into_iter()
                    .map(|client_id| ToldClient { client_id, broker: broker.label.clone() }),
            ),
            Err(status) if status.code() == tonic::Code::NotFound => {
                refusals.push(format!("{}: {}", broker.label, status.message()));
            }
            Err(status) => {
                return Err(Failure::from_status(&format!("reconnect clients of {}", broker.label), &status));
            }
        }
    }
    if clients.is_empty() {
        return Err(super::not_connected(&refusals));
    }
    out.print(&Told { clients })
}
