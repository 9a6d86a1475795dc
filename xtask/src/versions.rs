//! The harness's tests with other versions of Python and Node than those on `PATH`.
//!
//! npm has Node as a package, in every version. No registry has CPython, so other versions of that
//! are those that the machine has: `python3.N` on `PATH`, or what pyenv has installed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command::{Command, find};
use crate::repository::Repository;

/// The oldest that are promised, and what people have besides; tested two and two.
const VERSIONS: [(&str, &str); 3] = [("3.9", "18"), ("3.12", "22"), ("3.13", "26")];

/// Where the wanted versions of Node stand, and what npm found them to be.
const MANIFEST: &str = "crates/abide-interpreter/tests/versions";

/// Installs the versions of Node below the target directory; nothing to do when they are there.
pub(crate) fn install(repository: &Repository) -> Result<()> {
    let (from, home) = (repository.root().join(MANIFEST), home(repository)?);
    let lock = fs::read(from.join("package-lock.json")).context("cannot read the versions")?;
    let there = fs::read(home.join("package-lock.json")).is_ok_and(|there| there == lock);
    // npm writes this when everything else is there.
    if there && home.join("node_modules/.package-lock.json").is_file() {
        return Ok(());
    }
    println!("Installing versions of Node from npm for the tests; this happens once.");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(from.join(file), home.join(file))
            .with_context(|| format!("cannot copy {file} to {}", home.display()))?;
    }
    Command::new("npm")
        .arguments(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .directory(&home)
        .run()
}

/// Runs the tests of the harness with each version that can be had, and says which cannot.
pub(crate) fn run(repository: &Repository) -> Result<()> {
    for (python_version, node_version) in VERSIONS {
        let python = python(python_version);
        let node = node(repository, node_version)?;
        let mut suites = vec!["interrupt", "threads", "forgery"];
        let mut names = Vec::new();
        // Everything that was built is used as it is: the same packages with the same features.
        let mut tests = repository.cargo(["nextest", "run", "--workspace", "--locked"]);
        for (language, version, variable, found) in [
            ("python", python_version, "ABIDE_TEST_PYTHON", python),
            ("node", node_version, "ABIDE_TEST_NODE", node),
        ] {
            let Some(path) = found else {
                println!("SKIPPED: the tests with {language} {version}, which this machine lacks");
                continue;
            };
            tests = tests.variable(variable, &path.to_string_lossy());
            suites.push(language);
            names.push(format!("{language} {version} ({})", path.display()));
        }
        if names.is_empty() {
            continue;
        }
        println!("\nThe harness with {}:", names.join(" and "));
        let filter = format!(
            "package(abide-interpreter) & binary(it) & test(/^({})::/)",
            suites.join("|")
        );
        tests
            .arguments(["--status-level", "fail", "-E", &filter])
            .variable("CARGO_INCREMENTAL", "0")
            .run()?;
    }
    Ok(())
}

fn home(repository: &Repository) -> Result<PathBuf> {
    Ok(repository.target()?.join("tools/node"))
}

fn node(repository: &Repository, version: &str) -> Result<Option<PathBuf>> {
    let processor = match std::env::consts::ARCH {
        "x86_64" => "x64",
        "aarch64" => "arm64",
        other => other,
    };
    let path = home(repository)?.join(format!("node_modules/node-{version}-{processor}/bin/node"));
    Ok(path.is_file().then_some(path))
}

/// The interpreter itself, behind whatever stands on `PATH`.
fn python(version: &str) -> Option<PathBuf> {
    let on_path = format!("python{version}");
    if let Some(path) = executable(&on_path) {
        return Some(path);
    }
    let installed = Command::new(find("pyenv")?)
        .arguments(["versions", "--bare"])
        .probe()?;
    let prefix = format!("{version}.");
    let mut installed = installed.lines().map(str::trim);
    let full = installed.rfind(|full| full.starts_with(&prefix))?;
    let home = Command::new("pyenv").arguments(["prefix", full]).probe()?;
    executable(&format!("{}/bin/python3", home.trim()))
}

fn executable(program: &str) -> Option<PathBuf> {
    let script = "import sys; print(sys.executable)";
    let path = Command::new(program).arguments(["-c", script]).probe()?;
    Some(PathBuf::from(path.trim()))
}
