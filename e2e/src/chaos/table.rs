//! What came of each fault, as a table in Markdown, and of each kind in sum.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::book::{SENDERS, Sends};
use super::plan::{Fault, Who};

/// One fault and what came of it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// What.
    pub(super) fault: Fault,
    /// Pods and nodes.
    pub(super) whom: String,
    /// Before, and when the group was healthy again.
    pub(super) epochs: (u64, u64),
    /// Of each of [`SENDERS`].
    pub(super) sends: [Sends; 3],
    /// From the blow until the group was healthy again.
    pub(super) healed: Duration,
    /// What is promised of the longest silence.
    pub(super) goal: Option<Duration>,
    /// What went wrong; empty: nothing.
    pub(super) wrong: String,
    /// The group did not heal.
    pub(super) broken: bool,
}

impl Row {
    fn outcome(&self) -> String {
        if !self.wrong.is_empty() {
            return format!("**{}**", self.wrong);
        }
        match self.goal {
            Some(goal) if self.sends[0].gap > goal => format!("slow: {} is the goal", seconds(goal)),
            _ => "ok".to_owned(),
        }
    }
}

/// The head of the table.
#[must_use]
pub(super) fn head() -> String {
    let mut head = "| # | fault | whom | epoch |".to_owned();
    for sender in SENDERS {
        write!(head, " gap {sender} | failed {sender} |").expect("a String takes everything");
    }
    head += " healthy after | outcome |\n|---|---|---|---|";
    head += &"---:|---:|".repeat(SENDERS.len());
    head + "---:|---|"
}

/// A line of it.
#[must_use]
pub(super) fn line(number: usize, row: &Row) -> String {
    let (before, after) = row.epochs;
    let mut line = format!("| {number} | {} | {} | {before} → {after} |", row.fault, row.whom);
    for sends in row.sends {
        let all = sends.failed + sends.acknowledged;
        write!(line, " {} | {} of {all} |", seconds(sends.gap), sends.failed)
            .expect("a String takes everything");
    }
    write!(line, " {} | {} |", seconds(row.healed), row.outcome()).expect("a String takes everything");
    line
}

/// For each kind of fault that has a goal: how often, the median, the 99th percentile and the longest silence.
#[must_use]
pub(super) fn sums(rows: &[Row]) -> String {
    let mut kinds: BTreeMap<&str, (Duration, Vec<[Duration; 3]>)> = BTreeMap::new();
    for row in rows {
        if let (Some(kind), Some(goal)) = (kind(row.fault), row.goal) {
            let gaps = row.sends.map(|sends| sends.gap);
            kinds.entry(kind).or_insert((goal, Vec::new())).1.push(gaps);
        }
    }
    let mut text = "| kind | times | goal |".to_owned();
    for sender in SENDERS {
        write!(text, " {sender} median | p99 | longest |").expect("a String takes everything");
    }
    text += "\n|---|---:|---:|";
    text += &"---:|---:|---:|".repeat(SENDERS.len());
    for (kind, (goal, gaps)) in kinds {
        write!(text, "\n| {kind} | {} | {} |", gaps.len(), seconds(goal)).expect("a String takes everything");
        for sender in 0..SENDERS.len() {
            let mut sorted: Vec<_> = gaps.iter().map(|gaps| gaps[sender]).collect();
            sorted.sort();
            for share in [50, 99, 100] {
                write!(text, " {} |", seconds(sorted[(sorted.len() * share).div_ceil(100) - 1]))
                    .expect("a String takes everything");
            }
        }
    }
    text
}

fn kind(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::Killed(Who::Primary) | Fault::Forced(Who::Primary) | Fault::WithoutOperator => {
            Some("process death")
        }
        Fault::Frozen(Who::Primary, _) | Fault::Resumed(Who::Primary, _) => Some("frozen"),
        Fault::Apart(Who::Primary, ..) | Fault::Unplugged(Who::Primary, _) => Some("cut off"),
        Fault::NodeLost(Who::Primary, _) | Fault::VolumeLost(Who::Primary) => Some("node loss"),
        Fault::Deleted(Who::Primary) | Fault::Switchover | Fault::Command => Some("planned switchover"),
        _ => None,
    }
}

/// `0.31 s`
#[must_use]
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fault: Fault, gap: u64) -> Row {
        let sends = [Sends { gap: Duration::from_millis(gap), failed: 2, acknowledged: 8 }; 3];
        let goal = fault.goal(Duration::from_secs(8));
        Row {
            fault,
            whom: "a".to_owned(),
            epochs: (1, 2),
            sends,
            healed: Duration::ZERO,
            goal,
            wrong: String::new(),
            broken: false,
        }
    }

    #[test]
    fn a_silence_beyond_the_goal_is_told_and_what_went_wrong_comes_first() {
        assert!(line(1, &row(Fault::Killed(Who::Primary), 2900)).ends_with("ok |"));
        let mut slow = row(Fault::Killed(Who::Primary), 3100);
        assert!(line(1, &slow).contains("slow: 3.00 s is the goal"));
        slow.wrong = "3 lost".to_owned();
        assert!(line(1, &slow).contains("**3 lost**"));
        assert!(line(1, &row(Fault::Killed(Who::Replica), 9000)).ends_with("ok |"));
    }

    #[test]
    fn every_line_has_as_many_cells_as_the_head() {
        let cells = |line: &str| line.matches('|').count();
        let columns = cells(head().lines().next().unwrap());
        assert!(head().lines().all(|line| cells(line) == columns));
        assert_eq!(cells(&line(1, &row(Fault::Switchover, 1))), columns);
        let rows = [row(Fault::Switchover, 1), row(Fault::Command, 9), row(Fault::ApiFrozen(3), 5)];
        let sums = sums(&rows);
        assert_eq!(sums.lines().count(), 3, "{sums}");
        assert!(sums.contains("| planned switchover | 2 | 0.50 s | 0.00 s | 0.01 s | 0.01 s |"), "{sums}");
    }
}
