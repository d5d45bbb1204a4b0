//! `gantry restart`, `promote`, `hibernate`, `wake`, `drain`, `fence`, `logs` and `report`: a cluster in Kubernetes, operated.

use serde::Serialize;

use crate::args::{DrainArgs, FenceArgs, LogsArgs, OperateArgs, PromoteArgs, ReportArgs};
use crate::failure::Failure;
use crate::kubernetes::Kubernetes;
use crate::output::{Paint, Printer, View};
use crate::place::Place;

/// The last lines of a pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PodLog {
    pod: String,
    log: String,
}

impl View for PodLog {
    fn text(&self, paint: Paint) -> String {
        format!("{}\n{}", paint.heading(&format!("==> {} <==", self.pod)), self.log.trim_end())
    }
}

fn kubernetes(place: Place) -> Result<Box<Kubernetes>, Failure> {
    match place {
        Place::Kubernetes(kubernetes) => Ok(kubernetes),
        Place::Direct(_) => Err(Failure::usage("this is for clusters in Kubernetes")
            .next("call it as kubectl gantry, or with --kube or -n NAMESPACE")),
    }
}

/// Runs `gantry restart`.
pub async fn restart(place: Place, args: OperateArgs, out: Printer) -> Result<(), Failure> {
    out.print(&kubernetes(place)?.restart(&args.name).await?)
}

/// Runs `gantry promote`.
pub async fn promote(place: Place, args: PromoteArgs, out: Printer) -> Result<(), Failure> {
    out.print(&kubernetes(place)?.promote(&args).await?)
}

/// Runs `gantry hibernate` and `gantry wake`.
pub async fn hibernate(place: Place, args: OperateArgs, sleeps: bool, out: Printer) -> Result<(), Failure> {
    out.print(&kubernetes(place)?.hibernate(&args.name, sleeps).await?)
}

/// Runs `gantry drain`.
pub async fn drain(place: Place, args: DrainArgs, out: Printer) -> Result<(), Failure> {
    out.print(&kubernetes(place)?.drain(&args).await?)
}

/// Runs `gantry fence`.
pub async fn fence(place: Place, args: FenceArgs, out: Printer) -> Result<(), Failure> {
    out.print(&kubernetes(place)?.fence(&args).await?)
}

/// Runs `gantry logs`.
pub async fn logs(place: Place, args: LogsArgs, out: Printer) -> Result<(), Failure> {
    print_logs(kubernetes(place)?.logs(&args).await?, |log| out.print_next(log))
}

/// Those that there are; a pod that has none, because it did not start or start again, takes nothing from the others.
fn print_logs(
    logs: Vec<(String, Result<String, Failure>)>,
    mut print: impl FnMut(&PodLog) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut printed, mut lacking) = (false, None);
    for (pod, log) in logs {
        match log {
            Ok(log) => {
                print(&PodLog { pod, log })?;
                printed = true;
            }
            Err(failure) => {
                eprintln!("{}", failure.what());
                lacking = Some(failure);
            }
        }
    }
    match lacking {
        Some(failure) if !printed => Err(failure),
        _ => Ok(()),
    }
}

/// Runs `gantry report`.
pub async fn report(place: Place, args: ReportArgs, out: Printer) -> Result<(), Failure> {
    out.print(&kubernetes(place)?.report(&args).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_without_a_log_takes_nothing_from_the_others() {
        let log = |pod: &str, log: Option<&str>| {
            let log = log.map(str::to_owned).ok_or_else(|| Failure::failed(format!("no log of {pod}")));
            (pod.to_owned(), log)
        };
        let mut printed = Vec::new();
        let mut print = |log: &PodLog| {
            printed.push(log.pod.clone());
            Ok(())
        };
        print_logs(vec![log("a-0", None), log("a-1", Some("x"))], &mut print).unwrap();
        assert!(print_logs(vec![log("a-0", None), log("a-1", None)], &mut print).is_err());
        assert_eq!(printed, ["a-1"]);
    }
}
