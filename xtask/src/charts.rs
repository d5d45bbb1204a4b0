//! The charts: linted, rendered and compared with what a reviewer has seen.
//!
//! `charts/X/tests/cases/C.yaml` are values, `charts/X/tests/golden/C.yaml` what they render;
//! `charts/X/tests/refused/C.yaml` are values that must not render, and their first line says why:
//! `# refused: words of the error`. The plain manifests are the operator's chart rendered once. What the chart of the CRDs
//! renders is generated, so it is compared with what it is generated from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_yaml::Value;

use crate::run::{output, run};
use crate::tools::Tools;

const CHARTS: &[&str] = &["gantry-crds", "gantry-operator", "gantry"];

/// What charts are rendered for; without a cluster Helm would take the one that it was built with.
const KUBERNETES: &str = "1.34.0";

/// Where the plain manifests install the operator.
const MANIFESTS: &str = "deploy/manifests/operator.yaml";

/// What the chart of the CRDs brings, as plain manifests.
const CRDS: &str = "deploy/manifests/crds.yaml";

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
    let nothing_to_choose = root.join("charts/gantry-crds/values.yaml");
    let crds = template(&tools, root, "gantry-crds", "gantry-system", &nothing_to_choose)?;
    same_crds(&crds, &fs::read_to_string(root.join(CRDS)).context(CRDS)?)?;
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

/// The chart of the CRDs brings what the manifests bring, no more and no less, and Helm leaves all of it at its end.
fn same_crds(rendered: &str, manifests: &str) -> Result<()> {
    let mut rendered = objects(rendered)?;
    for (name, object) in &mut rendered {
        let annotations = object.get_mut("metadata").and_then(|m| m.get_mut("annotations"));
        let annotations = annotations.and_then(Value::as_mapping_mut);
        let kept = annotations.and_then(|a| a.remove("helm.sh/resource-policy"));
        ensure!(kept == Some("keep".into()), "{name}: Helm would remove it with the chart");
        drop_empty_annotations(object);
    }
    let manifests = objects(manifests)?;
    let names = |of: &BTreeMap<String, Value>| of.keys().cloned().collect::<Vec<_>>().join(", ");
    ensure!(
        rendered.keys().eq(manifests.keys()),
        "charts/gantry-crds brings {}, {CRDS} {}",
        names(&rendered),
        names(&manifests)
    );
    for (name, object) in &rendered {
        ensure!(manifests.get(name) == Some(object), "charts/gantry-crds renders {name} unlike {CRDS}");
    }
    Ok(())
}

fn drop_empty_annotations(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_mapping_mut) else { return };
    if metadata.get("annotations").and_then(Value::as_mapping).is_some_and(serde_yaml::Mapping::is_empty) {
        metadata.remove("annotations");
    }
}

/// The objects of a stream of YAML documents by `KIND NAME`.
fn objects(text: &str) -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let object = Value::deserialize(document)?;
        if object.is_null() {
            continue;
        }
        let kind = object.get("kind").and_then(Value::as_str).context("an object has a kind")?;
        let name = object.get("metadata").and_then(|m| m.get("name")).and_then(Value::as_str);
        all.insert(format!("{kind} {}", name.context("an object has a name")?), object);
    }
    Ok(all)
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
    fn a_chart_of_crds_that_differs_from_the_manifests_is_named() {
        let kept = |name: &str, value: u8| {
            format!(
                "---\nkind: X\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n  name: {name}\nspec: {value}\n"
            )
        };
        let plain =
            |name: &str, value: u8| format!("---\nkind: X\nmetadata:\n  name: {name}\nspec: {value}\n");
        let why = |rendered: &str, manifests: &str| same_crds(rendered, manifests).unwrap_err().to_string();
        same_crds(&kept("a", 1), &plain("a", 1)).unwrap();
        assert!(why(&kept("a", 1), &plain("a", 2)).contains("renders X a unlike"));
        assert!(why(&kept("a", 1), &plain("b", 1)).contains("brings X a"));
        assert!(why(&plain("a", 1), &plain("a", 1)).contains("would remove it"));
    }

    #[test]
    fn plain_manifests_do_not_claim_to_be_helms() {
        let text = plain("  labels:\n    helm.sh/chart: x-1\n    app.kubernetes.io/managed-by: Helm\n");
        assert!(text.ends_with("  labels:\n    app.kubernetes.io/managed-by: kustomize\n"), "{text}");
    }
}
