//! `cargo xtask fuzz`: the targets of `fuzz/`, each for a bounded time.
//!
//! What `cargo fuzz` does, on the pinned toolchain: the passes it asks the compiler for need no
//! nightly one. Only the address sanitizer does, so memory errors are seen where they are faults.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::command::Command;
use crate::repository::Repository;

/// Where the instrumented build goes, below the target directory.
const DIRECTORY: &str = "fuzz";

/// Coverage feedback for libFuzzer: counters per edge, a table of their places, and the operands
/// of comparisons.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module \
     -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares \
     -Ccodegen-units=1";

/// Longest time one input may take, in seconds.
const INPUT_SECONDS: u32 = 10;

/// Builds the targets and runs one of them, or all, for so many seconds each. An input that fails
/// is kept in `fuzz/artifacts` and printed. `seed`: where the made-up bytes begin; each time elsewhere
/// if `None`.
pub(crate) fn run(
    repository: &Repository,
    only: Option<&str>,
    seconds: u32,
    seed: Option<u32>,
) -> Result<()> {
    let fuzz = repository.root().join("fuzz");
    let targets = targets(&fuzz)?;
    if let Some(only) = only {
        let known = targets.join(", ");
        ensure!(
            targets.iter().any(|target| target == only),
            "there is no target {only}; there are {known}"
        );
    }
    let build = repository.target()?.join(DIRECTORY);
    let build = build.to_str().context("the path is not UTF-8")?;
    let host = host(repository)?;
    repository
        .cargo(["build", "--release", "--locked", "--quiet"])
        .arguments(["--manifest-path", "fuzz/Cargo.toml"])
        // Named, so that what runs while building is not instrumented.
        .arguments(["--target", &host, "--target-dir", build])
        .variable("RUSTFLAGS", INSTRUMENTED)
        .run()?;
    for target in targets {
        if only.is_some_and(|only| only != target) {
            continue;
        }
        println!("{target}: {seconds} s");
        let directory = |name: &str| -> Result<String> {
            let path = fuzz.join(name).join(&target);
            std::fs::create_dir_all(&path)?;
            Ok(path.to_str().context("the path is not UTF-8")?.to_owned())
        };
        let (corpus, artifacts) = (directory("corpus")?, directory("artifacts")?);
        Command::new(format!("{build}/{host}/release/{target}"))
            .arguments([
                corpus,
                format!("-artifact_prefix={artifacts}/"),
                format!("-max_total_time={seconds}"),
                // 0 is libFuzzer's word for elsewhere each time.
                format!("-seed={}", seed.unwrap_or(0)),
                format!("-timeout={INPUT_SECONDS}"),
                "-print_final_stats=1".to_owned(),
                "-verbosity=0".to_owned(),
            ])
            .run()
            .with_context(|| format!("{target} found something, see fuzz/artifacts/{target}"))?;
    }
    Ok(())
}

/// The targets by name.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let mut targets = Vec::new();
    for file in std::fs::read_dir(fuzz.join("targets"))? {
        let path = file?.path();
        let name = path.file_stem().and_then(|name| name.to_str());
        targets.push(name.context("a target's name is not UTF-8")?.to_owned());
    }
    targets.sort();
    Ok(targets)
}

/// The triple of this machine.
fn host(repository: &Repository) -> Result<String> {
    let version = Command::new("rustc")
        .arguments(["-vV"])
        .directory(repository.root())
        .output()?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}
