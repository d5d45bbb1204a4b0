//! `gantry bench`.

use crate::args::{BenchCommand, IdleLoad, LoadArgs};
use crate::bench::outcome::Outcome;
use crate::bench::plan::Plan;
use crate::bench::{idle, report, run as load};
use crate::failure::Failure;
use crate::output::Printer;
use crate::place::{Caller, PlaceArgs};

/// Runs the command.
pub async fn run(
    place: &PlaceArgs,
    caller: Caller,
    command: BenchCommand,
    out: Printer,
) -> Result<(), Failure> {
    let LoadArgs { client, report, .. } = match &command {
        BenchCommand::Produce(args) => &args.load,
        BenchCommand::Consume(args) => &args.load,
        BenchCommand::EndToEnd(args) | BenchCommand::Fifo(args) | BenchCommand::Transaction(args) => {
            &args.load
        }
        BenchCommand::Delay(args) => &args.load,
        BenchCommand::Idle(args) => return hold(place, caller, args, out).await,
    };
    // First what can be wrong on this side.
    let plan = Plan::of(&command)?;
    let (access_point, dialer) = place.access_point(caller, client).await?;
    let run = load::run(plan, &dialer, &access_point).await?;
    let outcome = Outcome::of(&run, &access_point);
    out.print(&outcome)?;
    if let Some(file) = report {
        std::fs::write(file, report::page(&outcome))
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))?;
    }
    outcome.verdict()
}

async fn hold(place: &PlaceArgs, caller: Caller, args: &IdleLoad, out: Printer) -> Result<(), Failure> {
    let (access_point, dialer) = place.access_point(caller, &args.client).await?;
    idle::run(args, &Plan::idle(&args.topic), &dialer, &access_point, out).await
}
