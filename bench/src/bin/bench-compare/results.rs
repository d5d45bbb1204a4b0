//! The page that rows become: medians and ranges, goals, and where Gantry loses.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use bench::figures::median;

use crate::rows::{Figures, Row};
use crate::servers::Who;
use crate::{Args, goals, head, loads};

/// What the rows of others are worth.
const OTHERS: &str = "
## How far NATS JetStream and Kafka are comparable

They speak their own protocols, and each is loaded by its own client (`bench/others`), not by `gantry bench`. So a difference is one of
protocol, client and server together, and no goal is set against them.

- The same: 1 KiB bodies, one server on one CPU, storage in files without a replica, acknowledged before they are flushed to the disk, four
  connections with 32 sends under way on each and one with one, each acknowledgement followed by the next send; percentiles over all sends.
- CPU time counts from the start of a load, the first two seconds and the client's own start with it; messages of that time count as well.
- **NATS JetStream** acknowledges each publish by itself, as Gantry does. A message has no properties, tag, key or id. Its consumers
  acknowledge each message, but do not wait for an answer to that; `AckSync` would be as Gantry acknowledges.
- **Kafka**'s client puts what waits into one batch for a partition (`linger.ms` is 0, so none waits for more), and the broker works on batches:
  only the row with one in flight is one request a message. A reader commits an offset behind up to 128 messages: there is no
  acknowledgement of a message, no redelivery of one, no invisible time.
- The first send: NATS makes its stream, Kafka its topic within that time; Kafka's client is a JVM that starts beside the server.
";

/// One figure of them.
pub(crate) type Figure = fn(&Figures) -> Option<f64>;

/// A column: its head, what it shows, digits behind the point, and whether less is better.
struct Column {
    head: &'static str,
    of: Figure,
    digits: usize,
    less_is_better: bool,
}

const fn column(head: &'static str, of: Figure, digits: usize, less: bool) -> Column {
    Column { head, of, digits, less_is_better: less }
}

const COLUMNS: [Column; 13] = [
    column("messages/s", |f| f.rate, 0, false),
    column("MB/s", |f| f.megabytes, 0, false),
    column("CPU µs/message", |f| f.cpu_us, 1, true),
    column("p50 ms", |f| f.p50, 3, true),
    column("p99 ms", |f| f.p99, 3, true),
    column("p99.9 ms", |f| f.p999, 3, true),
    column("max ms", |f| f.max, 1, true),
    column("messages/flush", |f| f.per_flush, 1, false),
    column("start ms", |f| f.start_ms, 0, true),
    column("own memory MiB, idle", |f| f.idle_mib, 1, true),
    column("own memory MiB, after", |f| f.loaded_mib, 1, true),
    column("KiB a client", |f| f.idle_kib, 1, true),
    column("% of a CPU", |f| f.idle_share, 1, true),
];

/// Every table: its scenario, and what it is called. In the order of the page.
fn scenarios() -> impl Iterator<Item = (&'static str, &'static str)> {
    let named = |load: &loads::Load| (load.name, load.title);
    let backlog = "A backlog received and acknowledged, 4 connections × 4 polls of up to 32";
    let process = "The process: from exec to the first acknowledged send, and memory of its own (RssAnon)";
    let recovery = "After kill -9 with a full log: from exec to the first acknowledged send";
    let drain = "That log received and acknowledged from the page cache, bodies of 4 KiB";
    let idle = "Idle clients, each with a telemetry stream and a parked poll";
    let others = [("process", process), ("recovery", recovery), ("drain", drain), ("idle", idle)];
    let asynchronous = loads::ASYNC.iter().map(named).chain([("backlog", backlog)]);
    asynchronous.chain(loads::SYNC.iter().map(named)).chain(others)
}

/// Everything that was measured.
pub(crate) struct Results {
    rows: Vec<Row>,
    head: String,
    file: PathBuf,
}

impl Results {
    pub(crate) fn new(args: &Args) -> anyhow::Result<Self> {
        Ok(Self { rows: Vec::new(), head: head::head(args)?, file: args.results.clone() })
    }

    /// Adds rows, prints them, and writes the page.
    pub(crate) fn add(&mut self, rows: Vec<Row>) -> anyhow::Result<()> {
        for row in &rows {
            let mut line = format!("round {} {:<16} {:<12}", row.round, row.who.name(), row.scenario);
            for column in &COLUMNS {
                if let Some(value) = (column.of)(&row.figures) {
                    let _ = write!(line, "  {value:.*} {}", column.digits, column.head);
                }
            }
            line += &row.void.as_ref().map(|why| format!("  VOID: {why}")).unwrap_or_default();
            line += &row.note.as_ref().map(|what| format!("  ({what})")).unwrap_or_default();
            println!("{line}");
        }
        self.rows.extend(rows);
        Ok(std::fs::write(&self.file, self.page())?)
    }

    fn page(&self) -> String {
        let mut page = self.head.clone();
        for (scenario, words) in scenarios() {
            page += &self.table(scenario, words);
        }
        if self.rows.iter().any(|row| matches!(row.who, Who::Nats | Who::Kafka)) {
            page += OTHERS;
        }
        page += &goals::chapter(&|scenario, who, figure| self.median(scenario, who, figure));
        page += &self.comparison();
        page += &self.remarks(
            "Too slow for the rate",
            "Nothing that was due stayed unsent; the tables show which rate was reached.",
            |row| row.note.as_ref(),
        );
        page += &self.remarks("What does not count", "Nothing: no row was void.", |row| row.void.as_ref());
        page
    }

    /// A chapter of what is to be said about rows.
    fn remarks(&self, title: &str, nothing: &str, of: fn(&Row) -> Option<&String>) -> String {
        let rows = self.rows.iter().filter_map(|row| Some((row, of(row)?)));
        let lines: String = rows
            .map(|(row, what)| {
                format!("- {}, {}, round {}: {what}\n", row.who.name(), row.scenario, row.round)
            })
            .collect();
        let lines = if lines.is_empty() { format!("{nothing}\n") } else { lines };
        format!("\n## {title}\n\n{lines}")
    }

    fn values(&self, scenario: &str, who: Who, figure: Figure) -> Vec<f64> {
        let rows =
            self.rows.iter().filter(|row| row.scenario == scenario && row.who == who && row.void.is_none());
        rows.filter_map(|row| figure(&row.figures)).collect()
    }

    fn median(&self, scenario: &str, who: Who, figure: Figure) -> Option<f64> {
        median(self.values(scenario, who, figure))
    }

    fn table(&self, scenario: &str, words: &str) -> String {
        let servers: BTreeSet<Who> =
            self.rows.iter().filter(|row| row.scenario == scenario).map(|row| row.who).collect();
        let shown: Vec<_> = COLUMNS
            .iter()
            .filter(|column| servers.iter().any(|who| !self.values(scenario, *who, column.of).is_empty()))
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
            let rounds = shown
                .iter()
                .map(|column| self.values(scenario, who, column.of).len())
                .max()
                .unwrap_or_default();
            let cells =
                shown.iter().map(|column| cell(&self.values(scenario, who, column.of), column.digits));
            let cells: Vec<_> = cells.collect();
            let _ = writeln!(table, "| {} | {rounds} | {} |", who.name(), cells.join(" | "));
        }
        table
    }

    /// Every figure that Gantry and the Java broker both have.
    fn comparison(&self) -> String {
        let (mut ahead, mut behind) = (String::new(), String::new());
        for (scenario, words) in scenarios() {
            // At a fixed rate everybody keeps it or does not: that is no race.
            let paced =
                loads::ASYNC.iter().chain(&loads::SYNC).any(|load| load.name == scenario && load.is_paced());
            for column in COLUMNS.iter().filter(|column| !(paced && column.head == "messages/s")) {
                let of = |who| self.median(scenario, who, column.of);
                for rival in [Who::Java, Who::Nats, Who::Kafka] {
                    let Some((ours, theirs)) = of(Who::Gantry).zip(of(rival)) else { continue };
                    let (better, worse) = if column.less_is_better { (theirs, ours) } else { (ours, theirs) };
                    let times = better / worse;
                    let digits = column.digits;
                    let line = format!(
                        "| {words} | {} | {ours:.digits$} | {}: {theirs:.digits$} | {times:.1} × |\n",
                        column.head,
                        rival.name()
                    );
                    if times >= 1.0 { ahead += &line } else { behind += &line }
                }
            }
        }
        let head = "| scenario | figure | Gantry | other | better by |\n|---|---|---|---|---|\n";
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

#[cfg(test)]
mod tests {
    use super::*;

    fn results(rows: &[(Who, f64, Option<&str>)]) -> Results {
        let rows = rows.iter().enumerate().map(|(round, (who, cpu_us, void))| {
            let figures =
                Figures { cpu_us: Some(*cpu_us), rate: Some(1000.0 * cpu_us), ..Figures::default() };
            Row { void: void.map(str::to_owned), ..Row::new("closed", *who, round, figures) }
        });
        Results { rows: rows.collect(), head: String::new(), file: PathBuf::new() }
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
        assert!(wins.contains("CPU µs/message | 30.0 | RocketMQ (Java): 120.0 | 4.0 ×"), "{page}");
        assert!(losses.contains("messages/s | 30000 | RocketMQ (Java): 120000 | 0.2 ×"), "{page}");
        let page = results(&[(Who::Gantry, 30.0, None), (Who::Nats, 10.0, None)]).page();
        assert!(page.contains("CPU µs/message | 30.0 | NATS JetStream: 10.0 | 0.3 ×"), "{page}");
    }

    #[test]
    fn a_row_that_was_too_slow_counts_and_is_told() {
        let mut results = results(&[(Who::Java, 90.0, None)]);
        results.rows[0].note = Some("7 messages were due and never sent".to_owned());
        let page = results.page();
        assert!(page.contains("| RocketMQ (Java) | 1 | 90000 |"), "{page}");
        assert!(page.contains("- RocketMQ (Java), closed, round 0: 7 messages were due"), "{page}");
    }

    #[test]
    fn others_are_explained_when_they_are_there() {
        assert!(results(&[(Who::Nats, 1.0, None)]).page().contains("How far NATS"));
        assert!(!results(&[(Who::Java, 1.0, None)]).page().contains("How far NATS"));
    }

    #[test]
    fn every_table_has_a_scenario_of_its_own() {
        let names: Vec<_> = scenarios().map(|(name, _)| name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
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
