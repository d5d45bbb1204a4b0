//! A volume that really fills up.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use e2e::cluster::in_namespace;
use e2e::ledger::{Ledger, Note, What};
use e2e::messaging::{brokers, name_servers};
use e2e::wire::{self, Refusal, Wire};

/// Bodies large enough to fill the volume with few messages.
const BODY: usize = 1 << 20;
/// Far more than the volume holds.
const MOST: usize = 600;
/// How long reading it all again may take.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn a_full_disk_refuses_sends_and_loses_nothing_that_was_acknowledged() -> Result<()> {
    in_namespace("disk", |space| {
        let spec = |size, retention| {
            format!(
                "storage: {{commitLog: {{size: {size}, storageClassName: disk}}}}\n\
                 messageRetention: {{time: {retention}}}"
            )
        };
        space.apply(&(name_servers("main", 1) + &brokers("main", "main", &spec("300Mi", "72h"))))?;
        space.ready(&["nss/main", "bg/main"])?;
        space.topics("main", &["large"])?;
        let access_point = space.access_point("main")?;
        wire::block_on(async {
            let mut wire = Wire::of_topic(&access_point, "large", "filler").await?;
            let mut ledger = Ledger::default();
            let refusal = fill(&mut wire, &mut ledger).await?;
            let Refusal::Answered { code, message } = &refusal else {
                bail!("a full disk is answered: {refusal:?}")
            };
            ensure!(
                message.starts_with(code.as_str_name()),
                "the message does not start with the code: {message}"
            );
            ensure!(message.contains("disk"), "the message does not say that the disk is full: {message}");
            // Refusing goes on, and so does everything else.
            ensure!(wire.send("large", "more", body("more")).await.is_err(), "a full disk stays full");
            let reading = read_all(&mut wire, &mut ledger);
            if tokio::time::timeout(LIMIT, reading).await.is_err() {
                bail!("reading it all took longer than {LIMIT:?}: {}", ledger.verdict());
            }
            ensure!(ledger.verdict().is_clean(), "{}", ledger.verdict());
            Ok(())
        })?;
        let said = space.reason("bg/main", "StorageHealthy", "Full")?;
        ensure!(!said.is_empty(), "the condition says nothing");
        // Young messages never go. A larger volume makes room for more, and a shorter retention lets the old ones go.
        for (size, retention) in [("400Mi", "72h"), ("400Mi", "1s")] {
            space.apply(&brokers("main", "main", &spec(size, retention)))?;
            space.wait("bg/main", &format!("jsonpath={{.status.effective.retentionTime}}={retention}"))?;
            space.wait("bg/main", "condition=StorageHealthy")?;
            space.ready(&["bg/main"])?;
        }
        space.topics("main", &["small"])?;
        space.ensure_works(&access_point, "small")
    })
}

/// Sends until a send is refused.
async fn fill(wire: &mut Wire, ledger: &mut Ledger) -> Result<Refusal> {
    for number in 0..MOST {
        let name = format!("large-{number}");
        ledger.note(&Note::now(&name, What::attempt("large", &body(&name))));
        match wire.send("large", &name, body(&name)).await {
            Ok(place) => ledger.note(&Note::now(&name, What::Acknowledged(place))),
            Err(refusal) => {
                ledger.note(&Note::now(&name, refusal.outcome()));
                ensure!(ledger.acknowledged_count() > 0, "the very first send was refused: {refusal:?}");
                return Ok(refusal);
            }
        }
    }
    bail!("{MOST} MiB went onto a disk of 300 MiB")
}

async fn read_all(wire: &mut Wire, ledger: &mut Ledger) {
    while ledger.missing() > 0 {
        let Ok(messages) = wire.receive("large", "reader", Duration::from_secs(5)).await else { continue };
        messages.iter().for_each(|message| ledger.note(&Note::now(&message.id, message.note())));
        // What is not acknowledged comes again, which the ledger allows.
        let _: Result<(), Refusal> = wire.acknowledge("large", "reader", &messages).await;
    }
}

fn body(name: &str) -> Vec<u8> {
    name.bytes().cycle().take(BODY).collect()
}
