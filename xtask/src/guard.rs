//! `cargo xtask guard`: what the three hot calls cost, counted: instructions and heap allocations of a fixed replay.
//!
//! No clock is involved, so a busy machine counts the same. The replay is `broker/benches/hot_calls`, built as the images are
//! and run under callgrind, which counts within [`COUNTED`] and its thread only. What was counted last is committed beside
//! it; growth beyond [`MOST_GROWTH`] is an error until the new figures are accepted.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use crate::image::target_folder;
use crate::run::{output, step};

const SCENES: [&str; 4] = ["send", "receive", "acknowledge", "end-to-end"];
const FIGURES: &str = "broker/benches/hot_calls/figures.json";
/// Seeds of hash maps and addresses make a hundredth of it from run to run.
const MOST_GROWTH: f64 = 0.03;
/// The function that is counted.
const COUNTED: &str = "hot_calls::counted";
/// Of a profile that is cut before and after it: the second part, of the first thread.
const PART: &str = "2-01";
/// By what the allocator of the programs begins to allocate.
const ALLOCATES: [&str; 7] = [
    "mi_malloc",
    "mi_malloc_aligned",
    "mi_zalloc",
    "mi_zalloc_aligned",
    "mi_realloc",
    "mi_realloc_aligned",
    "mi_rezalloc_aligned",
];

/// What one message costs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

type Costs = BTreeMap<String, Cost>;

/// Counts and compares; with `accept` writes instead of comparing.
pub(crate) fn run(root: &Path, accept: bool) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        eprintln!("    the figures are of x86_64, nothing is compared here");
        return Ok(());
    }
    output(Command::new("valgrind").arg("--version")).context("install valgrind; ./test does so")?;
    let program = step("the replay of the hot calls", || build(root))?;
    let profiles = target_folder(root)?.join("guard");
    make_empty(&profiles)?;
    let counted: Costs = thread::scope(|scope| {
        let runs: Vec<_> =
            SCENES.iter().map(|scene| scope.spawn(|| count(&program, scene, &profiles))).collect();
        let costs = SCENES.iter().zip(runs).map(|(scene, run)| {
            let cost = run.join().map_err(|_| anyhow!("counting {scene} panicked"))??;
            Ok(((*scene).to_owned(), cost))
        });
        costs.collect::<Result<_>>()
    })?;
    let path = root.join(FIGURES);
    if accept {
        return Ok(fs::write(path, serde_json::to_string_pretty(&counted)? + "\n")?);
    }
    let accepted = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let grown = compare(&serde_json::from_str(&accepted)?, &counted);
    ensure!(
        grown.is_empty(),
        "{}: `callgrind_annotate {}/SCENE.{PART}` shows where; if it is worth its cost, `cargo xtask guard --accept`, and commit {FIGURES}",
        grown.join(", "),
        profiles.display()
    );
    Ok(())
}

/// A profile of an earlier run would be compared where callgrind writes none, or another part of it.
fn make_empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    Ok(fs::create_dir_all(folder)?)
}

/// The target of the images, so that what they are made of is built once.
fn build(root: &Path) -> Result<PathBuf> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let told = output(
        Command::new("cargo")
            .current_dir(root)
            .args(["build", "--release", "--locked", "--quiet", "--target", &target])
            .args(["--package=broker", "--bench=hot_calls", "--message-format=json"]),
    )?;
    let mut programs = told.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    programs
        .find(|program| program.to_string_lossy().contains("hot_calls"))
        .context("cargo built no hot_calls")
}

fn count(program: &Path, scene: &str, profiles: &Path) -> Result<Cost> {
    let whole = profiles.join(scene);
    let counted = profiles.join(format!("{scene}.{PART}"));
    let said = output(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--separate-threads=yes"])
            .args([format!("--dump-before={COUNTED}"), format!("--dump-after={COUNTED}")])
            .arg(format!("--callgrind-out-file={}", whole.display()))
            .arg(program)
            .arg(scene),
    )?;
    let messages: f64 = said.trim().parse().context("the replay says how many messages it played")?;
    let totals = totals(&fs::read_to_string(&counted)?).context("callgrind counted nothing")?;
    let Cost { instructions, allocations } = totals;
    Ok(Cost {
        instructions: (instructions / messages).round(),
        allocations: (allocations / messages * 100.0).round() / 100.0,
    })
}

/// The sums in a profile of callgrind: `totals:` and the calls of the allocator from outside of it.
fn totals(profile: &str) -> Option<Cost> {
    let mut names = HashMap::new();
    let (mut instructions, mut allocations) = (None, 0.0);
    let (mut caller, mut callee) = ("", "");
    for line in profile.lines() {
        if let Some(function) = line.strip_prefix("fn=") {
            caller = name_of(function, &mut names)?;
        } else if let Some(function) = line.strip_prefix("cfn=") {
            callee = name_of(function, &mut names)?;
        } else if let Some(calls) = line.strip_prefix("calls=")
            && ALLOCATES.contains(&callee)
            && !caller.starts_with("mi_")
            && !caller.starts_with("_mi_")
        {
            allocations += calls.split(' ').next()?.parse::<f64>().ok()?;
        } else if let Some(total) = line.strip_prefix("totals: ") {
            instructions = total.trim().parse().ok();
        }
    }
    Some(Cost { instructions: instructions.filter(|total| *total > 0.0)?, allocations })
}

/// `(number) name` the first time, `(number)` from then on.
fn name_of<'a>(text: &'a str, names: &mut HashMap<&'a str, &'a str>) -> Option<&'a str> {
    let (number, name) = text.split_once(')')?;
    match name.trim() {
        "" => names.get(number).copied(),
        // What recursion makes of a name.
        name => Some(*names.entry(number).or_insert(name.split('\'').next()?)),
    }
}

/// Shows the figures; what has grown too much, in words.
fn compare(accepted: &Costs, counted: &Costs) -> Vec<String> {
    let mut grown = Vec::new();
    for (scene, now) in counted {
        let before = accepted.get(scene);
        let figures = [
            ("instructions", before.map(|cost| cost.instructions), now.instructions),
            ("allocations", before.map(|cost| cost.allocations), now.allocations),
        ];
        for (what, before, now) in figures {
            let share = before.map_or(f64::INFINITY, |before| now / before - 1.0);
            eprintln!("    {scene:12} {now:>9} {what} a message, {:+.1} %", share * 100.0);
            if share > MOST_GROWTH {
                grown.push(format!("{scene} takes {:.1} % more {what}", share * 100.0));
            }
        }
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_summed_up() {
        let profile = "fn=(1) broker::send\n1 10\ncfn=(2) mi_malloc_aligned\ncalls=7 0\n1 70\n\
                       fn=(2)\n1 5\ncfn=(3) mi_malloc\ncalls=7 0\n1 9\nfn=(4) other\ncfn=(2)\ncalls=2 +5\n1 4\ntotals: 98\n";
        assert_eq!(totals(profile), Some(Cost { instructions: 98.0, allocations: 9.0 }));
        assert_eq!(totals("totals: 0\n"), None);
    }

    #[test]
    fn profiles_of_an_earlier_run_are_not_there_any_more() {
        let folder = std::env::temp_dir().join(format!("gantry-guard-{}", std::process::id()));
        for _ in 0..2 {
            make_empty(&folder).unwrap();
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
            fs::write(folder.join(format!("send.{PART}")), "totals: 1").unwrap();
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn growth_beyond_the_limit_is_told() {
        let costs = |instructions, allocations| {
            Costs::from([("send".to_owned(), Cost { instructions, allocations })])
        };
        let check =
            |now: &Costs, expected: usize| assert_eq!(compare(&costs(1000.0, 100.0), now).len(), expected);
        check(&costs(1029.0, 102.9), 0);
        check(&costs(1031.0, 100.0), 1);
        check(&costs(900.0, 104.0), 1);
        check(&costs(2000.0, 200.0), 2);
        assert_eq!(compare(&Costs::new(), &costs(1.0, 1.0)).len(), 2, "what nobody accepted is new");
    }
}
