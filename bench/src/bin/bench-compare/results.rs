//! Rows of figures, and the page that they become: medians and ranges, goals, and where Gantry loses.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use bench::figures::median;

use crate::Args;
use crate::servers::Who;

/// What was measured in one scenario.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Figures {
    /// Messages a second.
    pub(crate) rate: Option<f64>,
    /// CPU time of the server for a message, µs.
    pub(crate) cpu_us: Option<f64>,
    /// Latency, ms.
    pub(crate) p50: Option<f64>,
    /// Latency, ms.
    pub(crate) p99: Option<f64>,
    /// Latency, ms.
    pub(crate) p999: Option<f64>,
    /// Latency, ms.
    pub(crate) max: Option<f64>,
    /// From exec to the first acknowledged send, ms.
    pub(crate) start_ms: Option<f64>,
    /// Memory of its own after the start, MiB.
    pub(crate) idle_mib: Option<f64>,
    /// The same after all loads, or with idle clients.
    pub(crate) loaded_mib: Option<f64>,
    /// For an idle client, KiB.
    pub(crate) idle_kib: Option<f64>,
    /// Share of one CPU with all idle clients, percent.
    pub(crate) idle_share: Option<f64>,
}

/// One scenario of one server in one round.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) scenario: &'static str,
    pub(crate) who: Who,
    pub(crate) round: usize,
    pub(crate) figures: Figures,
    /// Why it does not count.
    pub(crate) void: Option<String>,
}

impl Row {
    /// A visit that came to nothing.
    pub(crate) fn failed(who: Who, round: usize, why: String) -> Self {
        Self { scenario: "visit", who, round, figures: Figures::default(), void: Some(why) }
    }
}

/// A column: its head, what it shows, digits behind the point, and whether less is better.
struct Column {
    head: &'static str,
    of: fn(&Figures) -> Option<f64>,
    digits: usize,
    less_is_better: bool,
}

const fn column(head: &'static str, of: fn(&Figures) -> Option<f64>, digits: usize, less: bool) -> Column {
    Column { head, of, digits, less_is_better: less }
}

const COLUMNS: [Column; 11] = [
    column("messages/s", |f| f.rate, 0, false),
    column("CPU µs/message", |f| f.cpu_us, 1, true),
    column("p50 ms", |f| f.p50, 3, true),
    column("p99 ms", |f| f.p99, 3, true),
    column("p99.9 ms", |f| f.p999, 3, true),
    column("max ms", |f| f.max, 1, true),
    column("start ms", |f| f.start_ms, 0, true),
    column("own memory MiB, idle", |f| f.idle_mib, 1, true),
    column("own memory MiB, after", |f| f.loaded_mib, 1, true),
    column("KiB a client", |f| f.idle_kib, 1, true),
    column("% of a CPU", |f| f.idle_share, 1, true),
];

const SCENARIOS: [(&str, &str); 7] = [
    ("closed", "Send, 1 KiB, async flush, 4 connections × 32 in flight"),
    ("paced", "Send at 5,000 a second, open loop"),
    ("batched", "Send, 32 messages a request, 4 connections × 8 in flight"),
    ("backlog", "A backlog received and acknowledged, 4 connections × 4 polls of up to 32"),
    ("flow", "End to end at 1,000 a second, open loop, from the intended time of sending to receipt"),
    ("process", "The process: from exec to the first acknowledged send, and memory of its own (RssAnon)"),
    ("idle", "Idle clients, each with a telemetry stream and a parked poll"),
];

/// Everything that was measured.
pub(crate) struct Results {
    rows: Vec<Row>,
    head: String,
}

impl Results {
    pub(crate) fn new(args: &Args) -> anyhow::Result<Self> {
        Ok(Self { rows: Vec::new(), head: head(args)? })
    }

    /// Adds a row, and prints it.
    pub(crate) fn add(&mut self, row: Row) {
        let mut line = format!("round {} {:<16} {:<8}", row.round, row.who.name(), row.scenario);
        for column in &COLUMNS {
            if let Some(value) = (column.of)(&row.figures) {
                let _ = write!(line, "  {value:.*} {}", column.digits, column.head);
            }
        }
        match &row.void {
            Some(why) => println!("{line}  VOID: {why}"),
            None => println!("{line}"),
        }
        self.rows.push(row);
    }

    /// Writes the page.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        Ok(std::fs::write(file, self.page())?)
    }

    fn page(&self) -> String {
        let mut page = self.head.clone();
        for (scenario, words) in SCENARIOS {
            page += &self.table(scenario, words);
        }
        page += &self.goals();
        page += &self.comparison();
        page += "\n## What does not count\n\n";
        let void = self.rows.iter().filter_map(|row| Some((row, row.void.as_ref()?)));
        let lines: Vec<_> = void
            .map(|(row, why)| format!("- {}, {}, round {}: {why}\n", row.who.name(), row.scenario, row.round))
            .collect();
        page += &if lines.is_empty() { "Nothing: no row was void.\n".to_owned() } else { lines.concat() };
        page
    }

    fn values(&self, scenario: &str, who: Who, column: &Column) -> Vec<f64> {
        let rows =
            self.rows.iter().filter(|row| row.scenario == scenario && row.who == who && row.void.is_none());
        rows.filter_map(|row| (column.of)(&row.figures)).collect()
    }

    fn median(&self, scenario: &str, who: Who, column: &Column) -> Option<f64> {
        median(self.values(scenario, who, column))
    }

    fn table(&self, scenario: &str, words: &str) -> String {
        let servers: BTreeSet<Who> =
            self.rows.iter().filter(|row| row.scenario == scenario).map(|row| row.who).collect();
        let shown: Vec<_> = COLUMNS
            .iter()
            .filter(|column| servers.iter().any(|who| !self.values(scenario, *who, column).is_empty()))
            .collect();
        if shown.is_empty() {
            return String::new();
        }
        let heads: Vec<_> = shown.iter().map(|column| column.head).collect();
        let mut table = format!(
            "\n## {words}\n\n| | rounds | {} |\n|---|---|{}\n",
            heads.join(" | "),
            "---|".repeat(heads.len())
        );
        for who in servers {
            let rounds =
                shown.iter().map(|column| self.values(scenario, who, column).len()).max().unwrap_or_default();
            let cells = shown.iter().map(|column| cell(&self.values(scenario, who, column), column.digits));
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(table, "| {} | {rounds} | {} |", who.name(), cells.join(" | "));
        }
        table
    }

    /// What is promised, and what was seen.
    fn goals(&self) -> String {
        let of = |scenario, who, head| {
            let column = COLUMNS.iter().find(|column| column.head == head)?;
            self.median(scenario, who, column)
        };
        let against = |other, scenario, head, other_is_above: bool| {
            let (ours, theirs) = of(scenario, Who::Gantry, head).zip(of(scenario, other, head))?;
            Some(if other_is_above { theirs / ours } else { ours / theirs })
        };
        let java = |scenario, head| against(Who::Java, scenario, head, true);
        let (cpu, p99) = ("CPU µs/message", "p99 ms");
        // In words, what was seen, the bound, its unit, and whether more is better.
        let goals = [
            ("Send: messages per CPU-second, against Java", java("closed", cpu), 3.5, "×", true),
            ("Send: CPU time, against the echo", against(Who::Echo, "closed", cpu, false), 1.2, "×", false),
            ("Send at 5,000/s: p99 below Java's by", java("paced", p99), 40.0, "×", true),
            ("Backlog: messages per CPU-second, against Java", java("backlog", cpu), 3.0, "×", true),
            ("Backlog: messages a second", of("backlog", Who::Gantry, "messages/s"), 100_000.0, "", true),
            ("End to end at 1,000/s: p99 below Java's by", java("flow", p99), 10.0, "×", true),
            ("End to end at 1,000/s: CPU time a message below Java's by", java("flow", cpu), 10.0, "×", true),
            (
                "Exec to the first acknowledged send, ms",
                of("process", Who::Gantry, "start ms"),
                100.0,
                "",
                false,
            ),
            (
                "Own memory when idle, MiB",
                of("process", Who::Gantry, "own memory MiB, idle"),
                24.0,
                "",
                false,
            ),
            ("Idle clients: KiB each", of("idle", Who::Gantry, "KiB a client"), 32.0, "", false),
            ("Idle clients: % of a CPU for all", of("idle", Who::Gantry, "% of a CPU"), 3.0, "", false),
        ];
        let mut page = "\n## Goals\n\n| goal | | seen | |\n|---|---|---|---|\n".to_owned();
        for (words, seen, bound, unit, more) in goals {
            let sign = if more { "≥" } else { "≤" };
            let (seen, verdict) = match seen {
                None => ("–".to_owned(), "not measured"),
                Some(seen) if (seen >= bound) == more || seen == bound => {
                    (format!("{seen:.1} {unit}"), "kept")
                }
                Some(seen) => (format!("{seen:.1} {unit}"), "**not kept**"),
            };
            let _ = writeln!(page, "| {words} | {sign} {bound} {unit} | {seen} | {verdict} |");
        }
        page
    }

    /// Every figure that Gantry and the Java broker both have.
    fn comparison(&self) -> String {
        let (mut ahead, mut behind) = (String::new(), String::new());
        for (scenario, words) in SCENARIOS {
            // At a fixed rate everybody keeps it or does not: that is no race.
            let paced = matches!(scenario, "paced" | "flow");
            for column in COLUMNS.iter().filter(|column| !(paced && column.head == "messages/s")) {
                let of = |who| self.median(scenario, who, column);
                let Some((ours, theirs)) = of(Who::Gantry).zip(of(Who::Java)) else { continue };
                let (better, worse) = if column.less_is_better { (theirs, ours) } else { (ours, theirs) };
                let times = better / worse;
                let digits = column.digits;
                let line = format!(
                    "| {words} | {} | {ours:.digits$} | {theirs:.digits$} | {times:.1} × |\n",
                    column.head
                );
                if times >= 1.0 { ahead += &line } else { behind += &line }
            }
        }
        let head = "| scenario | figure | Gantry | RocketMQ (Java) | better by |\n|---|---|---|---|---|\n";
        let chapter = |title: &str, lines: &str, nothing: &str| match lines {
            "" => format!("\n## {title}\n\n{nothing}\n"),
            lines => format!("\n## {title}\n\n{head}{lines}"),
        };
        chapter("Where we win", &ahead, "Nowhere in this run, or nothing was compared.")
            + &chapter(
                "Where we lose",
                &behind,
                "Nowhere in this run, by the medians above; goals that are not kept are listed before.",
            )
    }
}

/// Median, and the range if there are several.
fn cell(values: &[f64], digits: usize) -> String {
    let Some(median) = median(values.iter().copied()) else { return "–".to_owned() };
    let (low, high) =
        values.iter().fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(*value), high.max(*value)));
    match values.len() {
        1 => format!("{median:.digits$}"),
        _ => format!("{median:.digits$} ({low:.digits$}–{high:.digits$})"),
    }
}

fn head(args: &Args) -> anyhow::Result<String> {
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().ok();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or("?").trim().to_owned()
    };
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("CPU of unknown model", |(_, model)| model);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let gantry = args.gantry.to_string_lossy();
    let jar = args.java.as_ref().and_then(|jars| {
        let names =
            std::fs::read_dir(jars).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter_map(|name| Some(name.strip_prefix("rocketmq-proxy-")?.strip_suffix(".jar")?.to_owned()))
            .next()
    });
    let java = match &jar {
        Some(version) => format!(
            "Apache RocketMQ {version}, broker and proxy in one JVM (local mode), name server beside it unbound; {}; flags of its \
             start scripts with a heap of {}, not touched beforehand; `enableBatchAck`, otherwise its defaults",
            said("java", &["-version"]),
            args.java_heap
        ),
        None => "not measured".to_owned(),
    };
    Ok(format!(
        "# Results\n\n\
         Made by `bench/compare`; do not edit. Medians of the rounds that count, in brackets the range. The server has one CPU, the load\n\
         another (`taskset`), on the same machine; servers take turns, there and back (ABBA), each started anew with an empty store and warmed for\n\
         {} s by a closed loop. Bodies have 1 KiB, flush is asynchronous for all. CPU time is the server process's own (Java: broker and proxy\n\
         together). A row is void when others had more than {:.0} % of all CPUs meanwhile, steal included. After a backlog and after a flow every\n\
         acknowledged message must have come, or the round is void.\n\n\
         | | |\n|---|---|\n| date | {} |\n| hardware | {model}, {} CPUs, {:.0} GiB of memory, Linux {} |\n| Gantry | {} |\n| RocketMQ | {java} |\n\
         | rounds | {}, {} s a scenario, a backlog of {} messages |\n",
        args.warm_up,
        args.noise * 100.0,
        said("date", &["-u", "+%F"]),
        std::thread::available_parallelism()?,
        kib.unwrap_or(0.0) / f64::from(1 << 20),
        said("uname", &["-r"]),
        said(&gantry, &["version"]),
        args.rounds,
        args.seconds,
        args.backlog,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(rows: &[(Who, f64, Option<&str>)]) -> Results {
        let rows = rows.iter().enumerate().map(|(round, (who, cpu_us, void))| Row {
            scenario: "closed",
            who: *who,
            round,
            figures: Figures { cpu_us: Some(*cpu_us), rate: Some(1000.0 * cpu_us), ..Figures::default() },
            void: void.map(str::to_owned),
        });
        Results { rows: rows.collect(), head: String::new() }
    }

    #[test]
    fn rows_that_do_not_count_are_left_out_and_told() {
        let page = results(&[
            (Who::Gantry, 30.0, None),
            (Who::Gantry, 90.0, Some("others")),
            (Who::Gantry, 32.0, None),
        ])
        .page();
        assert!(page.contains("| Gantry | 2 | 30000 (30000–32000) | 30.0 (30.0–32.0) |"), "{page}");
        assert!(page.contains("- Gantry, closed, round 1: others"), "{page}");
    }

    #[test]
    fn a_figure_is_a_win_or_a_loss_by_what_is_better() {
        let page = results(&[(Who::Gantry, 30.0, None), (Who::Java, 120.0, None)]).page();
        let (wins, losses) = page.split_once("## Where we lose").unwrap();
        assert!(wins.contains("CPU µs/message | 30.0 | 120.0 | 4.0 ×"), "{page}");
        assert!(losses.contains("messages/s | 30000 | 120000 | 0.2 ×"), "{page}");
    }

    #[test]
    fn a_goal_is_kept_not_kept_or_not_measured() {
        let page =
            results(&[(Who::Gantry, 30.0, None), (Who::Java, 120.0, None), (Who::Echo, 20.0, None)]).page();
        assert!(page.contains("against Java | ≥ 3.5 × | 4.0 × | kept |"), "{page}");
        assert!(page.contains("against the echo | ≤ 1.2 × | 1.5 × | **not kept** |"), "{page}");
        assert!(page.contains("| Idle clients: KiB each | ≤ 32  | – | not measured |"), "{page}");
    }

    #[test]
    fn without_java_nothing_is_compared() {
        assert!(
            results(&[(Who::Echo, 1.0, None)])
                .page()
                .contains("Nowhere in this run, or nothing was compared")
        );
    }
}
