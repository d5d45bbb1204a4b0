//! The charts: linted, rendered and compared with what a reviewer has seen.
//!
//! `charts/X/tests/cases/C.yaml` are values, `charts/X/tests/golden/C.yaml` what they render;
//! `charts/X/tests/refused/C.yaml` are values that must not render, and their first line says why:
//! `# refused: words of the error`. The plain manifests are the operator's chart rendered once.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::run::{output, run};
use crate::tools::Tools;

const CHARTS: &[&str] = &["gantry-crds", "gantry-operator", "gantry"];

/// What charts are rendered for; without a cluster Helm would take the one that it was built with.
const KUBERNETES: &str = "1.34.0";

/// Where the plain manifests install the operator.
const MANIFESTS: &str = "deploy/manifests/operator.yaml";

/// Lints, renders and compares; with `accept` writes instead of comparing, and accepts the crates' snapshots too.
pub(crate) fn golden(root: &Path, accept: bool) -> Result<()> {
    let tools = Tools::get(root)?;
    for chart in CHARTS {
        run(tools
            .helm()
            .current_dir(root)
            .args(["lint", "--strict", "--quiet"])
            .arg(format!("charts/{chart}")))?;
    }
    let mut rendered = BTreeMap::new();
    for chart in CHARTS {
        for case in values(root, chart, "cases")? {
            let golden = Path::new("charts")
                .join(chart)
                .join("tests/golden")
                .join(case.file_name().unwrap_or_default());
            rendered.insert(golden, template(&tools, root, chart, "messaging", &case)?);
        }
        for case in values(root, chart, "refused")? {
            must_be_refused(&tools, root, chart, &case)?;
        }
    }
    let all_namespaces = root.join("charts/gantry-operator/tests/cases/all-namespaces.yaml");
    let operator = template(&tools, root, "gantry-operator", "gantry-system", &all_namespaces)?;
    rendered.insert(MANIFESTS.into(), plain(&operator));
    if accept {
        for (file, text) in &rendered {
            let path = root.join(file);
            fs::create_dir_all(path.parent().context("a golden file lies in a folder")?)?;
            fs::write(path, text)?;
        }
        return run(Command::new("cargo").current_dir(root).env("INSTA_UPDATE", "always").args([
            "test",
            "--workspace",
            "--locked",
            "--quiet",
        ]));
    }
    compare(root, &rendered)
}

fn compare(root: &Path, rendered: &BTreeMap<PathBuf, String>) -> Result<()> {
    let mut changed = 0;
    for (file, text) in rendered {
        let expected = fs::read_to_string(root.join(file)).unwrap_or_default();
        if expected != *text {
            changed += 1;
            eprintln!("    {} renders otherwise:", file.display());
            for (number, (old, new)) in
                expected.lines().zip(text.lines()).enumerate().filter(|(_, (o, n))| o != n).take(5)
            {
                eprintln!("      line {}\n        - {old}\n        + {new}", number + 1);
            }
        }
    }
    println!("charts: {} renders compared", rendered.len());
    ensure!(changed == 0, "{changed} renders changed; look at them, then `cargo xtask golden --accept`");
    Ok(())
}

fn template(tools: &Tools, root: &Path, chart: &str, namespace: &str, values: &Path) -> Result<String> {
    let release = if chart == "gantry-operator" { chart } else { "gantry" };
    output(
        tools
            .helm()
            .current_dir(root)
            .args(["template", release])
            .arg(format!("charts/{chart}"))
            .args(["--kube-version", KUBERNETES, "--namespace", namespace, "--values"])
            .arg(values),
    )
}

fn must_be_refused(tools: &Tools, root: &Path, chart: &str, values: &Path) -> Result<()> {
    let text = fs::read_to_string(values)?;
    let name = values.display();
    let words = text
        .lines()
        .next()
        .and_then(|l| l.strip_prefix("# refused: "))
        .with_context(|| format!("{name}: the first line says `# refused: words of the error`"))?;
    match template(tools, root, chart, "messaging", values) {
        Ok(_) => bail!("{name} must be refused"),
        Err(e) => {
            ensure!(e.to_string().contains(words), "{name} is refused, but not because of {words:?}: {e}")
        }
    }
    Ok(())
}

/// The values files of one sort, sorted by name.
fn values(root: &Path, chart: &str, sort: &str) -> Result<Vec<PathBuf>> {
    let folder = root.join("charts").join(chart).join("tests").join(sort);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

/// A chart's output as manifests of their own: nothing says that Helm keeps them.
fn plain(rendered: &str) -> String {
    let lines = rendered.lines().filter(|l| !l.trim_start().starts_with("helm.sh/chart:"));
    let text: String = lines
        .map(|l| {
            l.replace("app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kustomize") + "\n"
        })
        .collect();
    format!("# Generated by `cargo xtask golden --accept` from charts/gantry-operator.\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_manifests_do_not_claim_to_be_helms() {
        let text = plain("  labels:\n    helm.sh/chart: x-1\n    app.kubernetes.io/managed-by: Helm\n");
        assert!(text.ends_with("  labels:\n    app.kubernetes.io/managed-by: kustomize\n"), "{text}");
    }
}
