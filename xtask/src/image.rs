//! The static binaries and the images made of them: one release build for all, an empty base, uid 65532.
//!
//! What is built is kept outside the checkout under the hash of what it is made of, so a second call, also from
//! another clone of the same sources, builds nothing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io::Write};

use anyhow::{Context, Result, bail, ensure};

use crate::files;
use crate::run::{output, run, step};

/// An image and the binary that is its entry point and all its contents.
const IMAGES: &[(&str, &str)] = &[
    ("gantry-operator", "operator"),
    ("gantry-broker", "broker"),
    ("gantry-namesrv", "namesrv"),
    ("gantry-cli", "gantry"),
];

/// The packages that the binaries come from.
const PACKAGES: &[&str] = &["operator", "broker", "namesrv", "cli"];

/// What, besides the workspace's own manifests, decides about the bytes of an image.
const SOURCES: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "rust-toolchain.toml",
    "deploy/local/pack-image",
    "access/",
    "broker/",
    "cli/",
    "crds/",
    "namesrv/",
    "operator/",
    "proto/",
    "replication/",
    "store/",
];

/// An image's file may be this large.
const MOST_BYTES: u64 = 30 * 1024 * 1024;

/// How many builds stay in the cache.
const KEPT: usize = 4;

/// Where images have their name from when no registry is involved.
pub(crate) const PREFIX: &str = "localhost/";

/// Images that are there.
pub(crate) struct Images {
    /// Holds an archive for each image and the command line program `gantry`.
    pub(crate) folder: PathBuf,
    /// The tag of all of them.
    pub(crate) version: String,
    /// The hash of what they are made of.
    pub(crate) key: String,
}

impl Images {
    /// The archives, in the docker-archive format.
    pub(crate) fn archives(&self) -> Vec<PathBuf> {
        IMAGES.iter().map(|(image, _)| self.folder.join(format!("{image}.tar"))).collect()
    }

    /// The command line program, a static binary.
    pub(crate) fn cli(&self) -> PathBuf {
        self.folder.join("gantry")
    }
}

/// Builds what is not there yet.
pub(crate) fn build(root: &Path) -> Result<Images> {
    let version = version(root)?;
    let key = key(root)?;
    let cache = files::cache()?.join("images");
    let images = Images { folder: cache.join(format!("{version}-{key}")), version, key };
    if !images.folder.is_dir() {
        let draft = cache.join(format!("draft-{}", std::process::id()));
        fs::create_dir_all(&draft)?;
        step("static binaries", || compile(root, &draft))?;
        step("images", || pack(root, &images.version, &draft))?;
        // Another run may have been quicker; then its result is as good.
        if fs::rename(&draft, &images.folder).is_err() {
            fs::remove_dir_all(&draft)?;
        }
        forget_the_oldest(&cache)?;
    }
    for archive in images.archives() {
        let bytes = fs::metadata(&archive)?.len();
        let name = archive.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        eprintln!("    {name:16} {:5.1} MiB", bytes as f64 / 1024.0 / 1024.0);
        ensure!(bytes <= MOST_BYTES, "{name} is larger than {} MiB", MOST_BYTES / 1024 / 1024);
    }
    Ok(images)
}

fn compile(root: &Path, out: &Path) -> Result<()> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    let mut build = Command::new("cargo");
    build.current_dir(root).args(["build", "--release", "--locked", "--quiet", "--target", &target]);
    build.args(PACKAGES.iter().flat_map(|p| ["--package", p]));
    run(&mut build)?;
    let built = target_folder(root)?.join(target).join("release");
    for (_, binary) in IMAGES {
        let from = built.join(binary);
        ensure_static(&from)?;
        fs::copy(&from, out.join(binary)).with_context(|| from.display().to_string())?;
    }
    Ok(())
}

/// An image from nothing has no loader: a binary that asks for one would not start.
fn ensure_static(binary: &Path) -> Result<()> {
    let headers = output(Command::new("readelf").arg("--program-headers").arg("--wide").arg(binary))?;
    if headers.contains("INTERP") {
        bail!("{} is not a static binary", binary.display());
    }
    Ok(())
}

fn pack(root: &Path, version: &str, folder: &Path) -> Result<()> {
    for (image, binary) in IMAGES {
        output(
            Command::new(root.join("deploy/local/pack-image"))
                .env("IMAGE_USER", "65532:65532")
                // Also where the machine gives huge pages to whoever does not ask for them.
                .env("IMAGE_ENV", "MIMALLOC_ALLOW_THP=0")
                .arg(format!("{PREFIX}{image}:{version}"))
                .arg(folder.join(format!("{image}.tar")))
                .arg(format!("{binary}={}", folder.join(binary).display())),
        )?;
    }
    for (_, binary) in IMAGES.iter().filter(|(_, b)| *b != "gantry") {
        fs::remove_file(folder.join(binary))?;
    }
    Ok(())
}

pub(crate) fn target_folder(root: &Path) -> Result<PathBuf> {
    let text = output(Command::new("cargo").current_dir(root).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--no-deps",
    ]))?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    Ok(PathBuf::from(all["target_directory"].as_str().context("cargo metadata names no target directory")?))
}

/// The version of the whole workspace.
pub(crate) fn version(root: &Path) -> Result<String> {
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let package =
        manifest.split("[workspace.package]").nth(1).context("Cargo.toml has [workspace.package]")?;
    let line =
        package.lines().find(|l| l.starts_with("version = ")).context("the workspace has a version")?;
    Ok(line.split('"').nth(1).context("the version is quoted")?.to_owned())
}

/// The hash of names and contents of all that images are made of.
fn key(root: &Path) -> Result<String> {
    let mut hash = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("sha256sum is missing (coreutils)")?;
    let mut into = hash.stdin.take().expect("stdin is piped");
    writeln!(into, "{}", std::env::consts::ARCH)?;
    for file in files::all(root)? {
        let name = file.to_string_lossy().into_owned();
        if SOURCES.iter().any(|s| name.starts_with(s))
            && !name.contains("/tests/")
            && !name.contains("/benches/")
        {
            let bytes = fs::read(root.join(&file))?;
            writeln!(into, "{name} {}", bytes.len())?;
            into.write_all(&bytes)?;
        }
    }
    drop(into);
    let said = hash.wait_with_output()?;
    ensure!(said.status.success(), "sha256sum: {}", said.status);
    Ok(String::from_utf8(said.stdout)?.chars().take(12).collect())
}

fn forget_the_oldest(cache: &Path) -> Result<()> {
    let mut builds = Vec::new();
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        builds.push((entry.metadata()?.modified()?, entry.path()));
    }
    builds.sort();
    for (_, old) in builds.iter().rev().skip(KEPT) {
        fs::remove_dir_all(old)?;
    }
    Ok(())
}
