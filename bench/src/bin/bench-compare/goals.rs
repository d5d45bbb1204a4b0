//! What is promised in figures, and what was seen.

use std::fmt::Write as _;

use crate::results::Figure;
use crate::servers::Who;

/// The median of a figure in a scenario.
pub(crate) type Medians<'a> = &'a dyn Fn(&str, Who, Figure) -> Option<f64>;

/// A promise.
struct Goal {
    words: String,
    seen: Option<f64>,
    bound: f64,
    unit: &'static str,
    more_is_better: bool,
}

fn at_least(words: impl Into<String>, bound: f64, unit: &'static str, seen: Option<f64>) -> Goal {
    Goal { words: words.into(), seen, bound, unit, more_is_better: true }
}

fn at_most(words: impl Into<String>, bound: f64, unit: &'static str, seen: Option<f64>) -> Goal {
    Goal { words: words.into(), seen, bound, unit, more_is_better: false }
}

/// The chapter about them.
pub(crate) fn chapter(medians: Medians<'_>) -> String {
    let mut page = "\n## Goals\n\n| goal | | seen | |\n|---|---|---|---|\n".to_owned();
    for Goal { words, seen, bound, unit, more_is_better } in goals(medians) {
        let sign = if more_is_better { "≥" } else { "≤" };
        let (seen, verdict) = match seen {
            None => ("–".to_owned(), "not measured"),
            Some(seen) => {
                let kept = if more_is_better { seen >= bound } else { seen <= bound };
                let digits = if bound < 2.0 { 2 } else { 1 };
                (format!("{seen:.digits$} {unit}"), if kept { "kept" } else { "**not kept**" })
            }
        };
        let _ = writeln!(page, "| {words} | {sign} {bound} {unit} | {} | {verdict} |", seen.trim());
    }
    page + "\nNot measured here: 100,000 topics (`bench/run topics`), producers beside a reader of an old backlog (`bench/run store`), memory of a\n\
            name server by itself (`bench/kubernetes`).\n"
}

fn goals(medians: Medians<'_>) -> Vec<Goal> {
    let gantry = |scenario: &str, figure: Figure| medians(scenario, Who::Gantry, figure);
    let above = |who: Who, scenario: &str, figure: Figure| {
        Some(medians(scenario, who, figure)? / gantry(scenario, figure)?)
    };
    // By how much less Gantry has than Java; more, where more is better; and how much of the echo's.
    let below_java = |scenario: &str, figure: Figure| above(Who::Java, scenario, figure);
    let over_java = |scenario: &str, figure: Figure| below_java(scenario, figure).map(f64::recip);
    let of_echo = |scenario: &str, figure: Figure| above(Who::Echo, scenario, figure).map(f64::recip);
    let rate: Figure = |f| f.rate;
    let cpu: Figure = |f| f.cpu_us;
    let p50: Figure = |f| f.p50;
    let p99: Figure = |f| f.p99;
    let p999: Figure = |f| f.p999;
    let start: Figure = |f| f.start_ms;
    let memory: Figure = |f| f.idle_mib;

    let mut goals = vec![
        at_least("Send: messages per CPU-second, against Java", 3.5, "×", below_java("closed", cpu)),
        at_most("Send: CPU time, against the echo", 1.2, "×", of_echo("closed", cpu)),
        at_most("Send at 5,000/s: p99 against the echo's", 1.5, "×", of_echo("paced", p99)),
        at_most("Send at 5,000/s: p99.9 against the echo's", 1.5, "×", of_echo("paced", p999)),
        at_least("Send at 5,000/s: p99 below Java's by", 40.0, "×", below_java("paced", p99)),
        at_least("Send at 5,000/s: p99.9 below Java's by", 10.0, "×", below_java("paced", p999)),
    ];
    for (scenario, words, asked) in [("paced-10000", "10,000", 10_000.0), ("paced-20000", "20,000", 20_000.0)]
    {
        let sustained = at_least(
            format!("Send at {words}/s: sustained, within 1 %"),
            asked * 0.99,
            "",
            gantry(scenario, rate),
        );
        let late =
            at_most(format!("Send at {words}/s: p99 against the echo's"), 2.0, "×", of_echo(scenario, p99));
        goals.extend([sustained, late]);
    }
    for (scenario, words) in [("flow", "1,000"), ("flow-5000", "5,000")] {
        let late = below_java(scenario, p99);
        let time = below_java(scenario, cpu);
        goals.extend([
            at_least(format!("End to end at {words}/s: p99 below Java's by"), 15.0, "×", late),
            at_least(format!("End to end at {words}/s: CPU time a message below Java's by"), 10.0, "×", time),
        ]);
    }
    goals.extend([
        at_least("Sync flush, 4 × 32 in flight: rate, against Java", 2.3, "×", over_java("sync", rate)),
        at_least(
            "Sync flush, 256 in flight: messages a flush",
            50.0,
            "",
            gantry("sync-256", |f| f.per_flush),
        ),
        at_most("Sync flush, one in flight: p50, ms", 0.25, "", gantry("sync-one", p50)),
        at_least("Sync flush at 5,000/s: p99 below Java's by", 20.0, "×", below_java("sync-paced", p99)),
        at_least("Backlog: messages per CPU-second, against Java", 4.0, "×", below_java("backlog", cpu)),
        at_least("Backlog: messages a second", 100_000.0, "", gantry("backlog", rate)),
        at_least("A full log drained, MB a second", 400.0, "", gantry("drain", |f| f.megabytes)),
        at_most("Own memory when idle, name server included, MiB", 24.0, "", gantry("process", memory)),
        at_least("Own memory when idle, below Java's by", 25.0, "×", below_java("process", memory)),
        at_most("Exec to the first acknowledged send, ms", 100.0, "", gantry("process", start)),
        at_least(
            "Exec to the first acknowledged send, below Java's by",
            30.0,
            "×",
            below_java("process", start),
        ),
        at_most("The same after kill -9 with a full log, ms", 1000.0, "", gantry("recovery", start)),
        at_least("The same after kill -9, below Java's by", 10.0, "×", below_java("recovery", start)),
        at_most("Idle clients: KiB each", 32.0, "", gantry("idle", |f| f.idle_kib)),
        at_most("Idle clients: % of a CPU for all", 3.0, "", gantry("idle", |f| f.idle_share)),
    ]);
    goals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Figures;

    #[test]
    fn a_goal_is_kept_not_kept_or_not_measured() {
        let page = chapter(&|scenario, who, figure| {
            let cpu_us = match who {
                Who::Gantry => 30.0,
                Who::Java => 120.0,
                _ => 20.0,
            };
            let sent = Figures { cpu_us: Some(cpu_us), rate: Some(100.0 * cpu_us), ..Figures::default() };
            if matches!(scenario, "closed" | "sync") { figure(&sent) } else { None }
        });
        assert!(page.contains("per CPU-second, against Java | ≥ 3.5 × | 4.0 × | kept |"), "{page}");
        assert!(page.contains("against the echo | ≤ 1.2 × | 1.50 × | **not kept** |"), "{page}");
        assert!(page.contains("in flight: rate, against Java | ≥ 2.3 × | 0.2 × | **not kept** |"), "{page}");
        assert!(page.contains("| Idle clients: KiB each | ≤ 32  | – | not measured |"), "{page}");
    }

    #[test]
    fn what_lies_on_the_bound_is_kept() {
        let page = chapter(&|scenario, _, figure| {
            let figures = Figures { start_ms: Some(1000.0), per_flush: Some(50.0), ..Figures::default() };
            if matches!(scenario, "recovery" | "sync-256") { figure(&figures) } else { None }
        });
        assert!(page.contains("| ≤ 1000  | 1000.0 | kept |"), "{page}");
        assert!(page.contains("messages a flush | ≥ 50  | 50.0 | kept |"), "{page}");
    }
}
