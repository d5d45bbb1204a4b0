//! What clients that do nothing cost Gantry.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bench::load::Generator;
use bench::process::{Process, cpu_time};

use crate::Args;
use crate::rows::{Figures, Row};
use crate::servers::{Flush, Launcher, Who, memory};

/// How long they are watched: several polls of each end and begin again meanwhile.
const WATCHED: Duration = Duration::from_secs(60);
/// Connecting leaves work behind; it is not counted.
const SETTLE: Duration = Duration::from_secs(10);

pub(crate) async fn measure(args: &Args, launcher: &Launcher, generator: &Generator) -> anyhow::Result<Row> {
    let home = launcher.home(Who::Gantry, Flush::Async)?;
    let server = launcher.start(&home).await?;
    let before = memory(&server)?;
    let held = SETTLE + WATCHED + SETTLE;
    let words = [
        "idle",
        "flow",
        &format!("--clients={}", args.idle_clients),
        &format!("--duration={}s", held.as_secs()),
    ];
    let mut command = generator.command(&server.endpoint, &words.map(str::to_owned));
    let mut clients = Process::spawn(command.stdout(Stdio::piped()).stdin(Stdio::null()))?;
    // It says one line, when all are there.
    let line = clients.first_line().context("gantry bench idle did not say that all clients are there")?;
    ensure!(line.contains("clients"), "gantry bench idle said {line:?}");
    tokio::time::sleep(SETTLE).await;
    let cpu_before = cpu_time(server.pid)?;
    tokio::time::sleep(WATCHED).await;
    let cpu = cpu_time(server.pid)?.saturating_sub(cpu_before);
    let after = memory(&server)?;
    let figures = Figures {
        idle_share: Some(cpu.as_secs_f64() / WATCHED.as_secs_f64() * 100.0),
        idle_kib: Some((after - before) * 1024.0 / f64::from(args.idle_clients)),
        idle_mib: Some(before),
        loaded_mib: Some(after),
        ..Figures::default()
    };
    Ok(Row::new("idle", Who::Gantry, 1, figures))
}
