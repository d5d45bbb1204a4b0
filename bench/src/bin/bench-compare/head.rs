//! The head of the page: how it was measured, on what, and which programs.

use std::path::Path;
use std::process::Command;

use crate::Args;

/// The title, the conditions, and a table of what was measured on what.
pub(crate) fn head(args: &Args) -> anyhow::Result<String> {
    let conditions = format!(
        "# Results\n\n\
         Made by `bench/compare`; do not edit. Medians of the rounds that count, in brackets the range. The server has one CPU, the load\n\
         another (`taskset`), on the same machine; servers take turns, there and back (ABBA), each started anew with an empty store and warmed for\n\
         {} s by a closed loop. Bodies have 1 KiB and flush is asynchronous for all, where nothing else is said. CPU time is the server process's\n\
         own (Java: broker and proxy together). A row is void when others had more than {:.0} % of all CPUs meanwhile, steal included. After a\n\
         backlog and after a flow every acknowledged message must have come, or the round is void.\n",
        args.warm_up,
        args.noise * 100.0,
    );
    let facts = [
        ("date", said("date", &["-u", "+%F"])),
        ("hardware", hardware()?),
        ("Gantry", said(&args.gantry.to_string_lossy(), &["version"])),
        ("RocketMQ", rocketmq(args)),
        ("NATS JetStream", nats(args)),
        ("Kafka", kafka(args)),
        ("rounds", rounds(args)),
    ];
    let facts: String = facts.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    Ok(format!("{conditions}\n| | |\n|---|---|\n{facts}"))
}

const NOT_MEASURED: &str = "not measured";

fn hardware() -> anyhow::Result<String> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("CPU of unknown model", |(_, model)| model);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: Option<f64> = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    Ok(format!(
        "{model}, {} CPUs, {:.0} GiB of memory, Linux {}",
        std::thread::available_parallelism()?,
        kib.unwrap_or(0.0) / f64::from(1 << 20),
        said("uname", &["-r"])
    ))
}

fn rocketmq(args: &Args) -> String {
    let version = args.java.as_deref().and_then(|jars| version_of(jars, "rocketmq-proxy-"));
    let Some(version) = version else { return NOT_MEASURED.to_owned() };
    format!(
        "Apache RocketMQ {version}, broker and proxy in one JVM (local mode), name server beside it unbound; {}; flags of its \
         start scripts with a heap of {}, not touched beforehand; `enableBatchAck`, otherwise its defaults",
        said("java", &["-version"]),
        args.java_heap
    )
}

fn nats(args: &Args) -> String {
    let Some(others) = &args.others else { return format!("{NOT_MEASURED}: no `--others`") };
    let server = said(&others.join("nats-server").to_string_lossy(), &["--version"]);
    format!("{server}, a stream in files for each topic, its defaults; load by nats.go")
}

fn kafka(args: &Args) -> String {
    let Some(others) = &args.others else { return format!("{NOT_MEASURED}: no `--others`") };
    let version = version_of(&others.join("kafka"), "kafka-clients-").unwrap_or_default();
    format!(
        "Apache Kafka {version}, broker and controller in one JVM with a heap of 1g, its defaults; load by its own client, `acks=all`, `linger.ms=0`"
    )
}

fn rounds(args: &Args) -> String {
    let open_loop = args.open_loop_seconds.unwrap_or(args.seconds);
    format!(
        "{}, {} s a scenario, {open_loop} s of sends at 5,000 a second, a backlog of {} messages, {} GiB to recover (once)",
        args.rounds, args.seconds, args.backlog, args.recovery_gib
    )
}

/// The first line that a program says.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok();
    let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("?").trim().to_owned()
}

/// The version in the name of a jar.
fn version_of(jars: &Path, prefix: &str) -> Option<String> {
    let names = std::fs::read_dir(jars).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| Some(name.strip_prefix(prefix)?.strip_suffix(".jar")?.to_owned())).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_off_a_jar() {
        let jars = tempfile::tempdir().unwrap();
        std::fs::write(jars.path().join("kafka-clients-4.1.0.jar"), "").unwrap();
        assert_eq!(version_of(jars.path(), "kafka-clients-").as_deref(), Some("4.1.0"));
        assert_eq!(version_of(jars.path(), "other-"), None);
    }
}
