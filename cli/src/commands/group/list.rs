//! `gantry group list`.

use std::collections::BTreeMap;

use proto::control as wire;
use serde::Serialize;

use crate::control::Control;
use crate::failure::Failure;
use crate::output::{Cell, Paint, Printer, Table, View};
use crate::place::Place;
use crate::row;

/// The consumer groups of a cluster.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Groups {
    /// In order of their names.
    pub groups: Vec<Group>,
}

/// A consumer group, and the brokers that have it just so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Whether it receives messages.
    pub consumes: bool,
    /// Whether messages of one message group come in order.
    pub ordered: bool,
    /// Deliveries before a message becomes a dead letter.
    pub max_attempts: u32,
    /// The brokers' names.
    pub brokers: Vec<String>,
    /// Who manages it; empty: nobody.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub owner: String,
}

impl View for Groups {
    fn text(&self, paint: Paint) -> String {
        let mut table = Table::new(["GROUP", "CONSUMES", "ORDERED", "ATTEMPTS", "BROKERS"]);
        for group in &self.groups {
            let [name, ordered, attempts, brokers] =
                row![&group.name, yes_no(group.ordered), group.max_attempts, group.brokers.join(",")];
            let consumes = Cell::judged(group.consumes, yes_no(group.consumes));
            table.row([name, consumes, ordered, attempts, brokers]);
        }
        table.text(paint)
    }
}

pub(crate) fn yes_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// Runs the command. In Kubernetes mode resources are listed also when no broker can be asked.
pub async fn run(place: Place, out: Printer) -> Result<(), Failure> {
    match place {
        Place::Direct(server) => {
            let groups = of_brokers(Control::connect(&server).await?).await?;
            if groups.groups.is_empty() {
                eprintln!("no groups yet; a group is made when its first consumer comes");
            }
            out.print(&groups)
        }
        Place::Kubernetes(kubernetes) => {
            let brokers =
                async { of_brokers(Control::connect(&kubernetes.control_address().await?).await?).await };
            let brokers = brokers.await.unwrap_or_else(|failure| {
                eprintln!("only resources are listed: {}", failure.what());
                Groups { groups: Vec::new() }
            });
            out.print(&kubernetes.list_groups(brokers).await?)
        }
    }
}

async fn of_brokers(control: Control) -> Result<Groups, Failure> {
    let mut of_brokers = Vec::new();
    for mut broker in control.primaries().await? {
        let doing = format!("list the groups of {}", broker.label);
        let groups = broker.admin.list_groups(wire::ListGroupsRequest {}).await;
        let groups = groups.map_err(|status| Failure::from_status(&doing, &status))?;
        of_brokers.push((broker.label, groups.into_inner().groups));
    }
    Ok(merge(of_brokers))
}

/// One line a group, more where brokers disagree about it.
fn merge(of_brokers: Vec<(String, Vec<wire::GroupConfig>)>) -> Groups {
    let mut by_name: BTreeMap<String, Vec<Group>> = BTreeMap::new();
    for (broker, configs) in of_brokers {
        for config in configs {
            let wire::GroupConfig {
                name,
                consume_enabled: consumes,
                ordered,
                max_attempts,
                backoff: _,
                owner,
            } = config;
            let alike = by_name.entry(name.clone()).or_default();
            let same = |known: &&mut Group| {
                (known.consumes, known.ordered, known.max_attempts, &known.owner)
                    == (consumes, ordered, max_attempts, &owner)
            };
            match alike.iter_mut().find(same) {
                Some(known) => known.brokers.push(broker.clone()),
                None => {
                    let brokers = vec![broker.clone()];
                    alike.push(Group { name, consumes, ordered, max_attempts, brokers, owner });
                }
            }
        }
    }
    Groups { groups: by_name.into_values().flatten().collect() }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::output::{Format, render};

    #[test]
    fn a_group_takes_one_line_unless_brokers_disagree() {
        let config = |name: &str, consume_enabled| wire::GroupConfig {
            name: name.to_owned(),
            consume_enabled,
            ordered: false,
            max_attempts: 17,
            backoff: None,
            owner: String::new(),
        };
        let groups = merge(vec![
            ("broker-a".to_owned(), vec![config("billing", true), config("audit", true)]),
            ("broker-b".to_owned(), vec![config("billing", true), config("audit", false)]),
        ]);
        assert_snapshot!(render(&groups, Format::Table, Paint(false)).unwrap(), @r"
        GROUP     CONSUMES   ORDERED   ATTEMPTS   BROKERS
        audit     yes        no        17         broker-a
        audit     no         no        17         broker-b
        billing   yes        no        17         broker-a,broker-b
        ");
        let first = Groups { groups: groups.groups[..1].to_vec() };
        assert_snapshot!(render(&first, Format::Yaml, Paint(false)).unwrap(), @r"
        - name: audit
          consumes: true
          ordered: false
          maxAttempts: 17
          brokers:
          - broker-a
        ");
    }
}
