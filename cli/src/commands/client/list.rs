//! `gantry client list`.

use std::collections::BTreeMap;

use proto::control as wire;
use serde::Serialize;

use crate::args::ClientListArgs;
use crate::commands::group::{find, missing};
use crate::control::Control;
use crate::failure::Failure;
use crate::output::{Paint, Printer, Table, View};
use crate::row;

/// The consumers of a group.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Clients {
    /// By their ids.
    pub clients: Vec<Client>,
}

/// A consumer.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Client {
    /// Its id.
    pub client_id: String,
    /// What it is written in.
    pub language: String,
    /// The version of the client's library.
    pub version: String,
    /// The brokers over which it can be asked.
    pub connected_to: Vec<String>,
}

impl View for Clients {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["CLIENT", "LANGUAGE", "VERSION", "CONNECTED TO"]);
        for Client { client_id, language, version, connected_to } in &self.clients {
            let brokers = match connected_to.as_slice() {
                [] => "-".to_owned(),
                brokers => brokers.join(","),
            };
            table.row(row![client_id, language, version, brokers]);
        }
        table.text(paint)
    }
}

/// Runs the command.
pub async fn run(control: Control, args: ClientListArgs, out: Printer) -> Result<(), Failure> {
    let mut found = Vec::new();
    for mut broker in control.primaries().await? {
        if let Some(description) = find(&mut broker, &args.group).await? {
            found.push((broker.label, description.clients));
        }
    }
    if found.is_empty() {
        return Err(missing(&args.group));
    }
    let clients = join(found);
    if clients.clients.is_empty() {
        eprintln!("group {} has no consumers now", args.group);
    }
    out.print(&clients)
}

/// A consumer is connected to every broker.
fn join(found: Vec<(String, Vec<wire::GroupClient>)>) -> Clients {
    let mut by_id: BTreeMap<String, Client> = BTreeMap::new();
    for (broker, clients) in found {
        for wire::GroupClient { client_id, language, version, connected } in clients {
            let client = by_id.entry(client_id.clone()).or_insert_with(|| Client {
                client_id,
                language,
                version,
                connected_to: Vec::new(),
            });
            client.connected_to.extend(connected.then(|| broker.clone()));
        }
    }
    Clients { clients: by_id.into_values().collect() }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn a_consumer_is_shown_once_with_the_brokers_over_which_it_can_be_asked() {
        let client = |id: &str, language: &str, version: &str, connected| wire::GroupClient {
            client_id: id.to_owned(),
            language: language.to_owned(),
            version: version.to_owned(),
            connected,
        };
        let java = |connected| client("host@1@0@abc", "java", "5.2.0", connected);
        let clients = join(vec![
            ("broker-a".to_owned(), vec![java(true), client("host@2#1", "rust", "5.0.0", false)]),
            ("broker-b".to_owned(), vec![java(true)]),
        ]);
        assert_snapshot!(render(&clients, Format::Table, Paint(false)).unwrap(), @r"
        CLIENT         LANGUAGE   VERSION   CONNECTED TO
        host@1@0@abc   java       5.2.0     broker-a,broker-b
        host@2#1       rust       5.0.0     -
        ");
        let first = render(&clients, Format::Yaml, Paint(false)).unwrap();
        assert!(first.starts_with("- clientId: host@1@0@abc\n  language: java\n"), "{first}");
    }
}
