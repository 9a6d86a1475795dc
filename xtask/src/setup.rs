//! Installs what a fresh Debian machine lacks; takes no time when nothing does.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::command::{Command, find};
use crate::repository::Repository;
use crate::{venv, versions};

/// Runs the tests. The version CI has; a newer one on `PATH` is as good.
const NEXTEST: &str = "0.9.143";
/// Checks licences, bans and sources. See docs/decisions/0005-cargo-deny-from-source.md.
const DENY: &str = "0.20.2";

/// A program from the distribution.
struct Package {
    /// What it is for, as a person would say it.
    purpose: &'static str,
    /// Whether the machine has it, new enough.
    present: fn() -> bool,
    /// Debian packages that bring it.
    apt: &'static [&'static str],
}

const TO_RUN: [Package; 3] = [
    Package {
        purpose: "a C compiler, for the bundled SQLite",
        present: has_c_compiler,
        apt: &["gcc", "libc6-dev"],
    },
    Package {
        purpose: "Python 3.9 or newer",
        present: has_python,
        apt: &["python3"],
    },
    Package {
        purpose: "Node 18 or newer",
        present: has_node,
        apt: &["nodejs"],
    },
];

const TO_TEST: [Package; 4] = [
    Package {
        purpose: "git",
        present: || find("git").is_some(),
        apt: &["git"],
    },
    Package {
        purpose: "a C++ compiler, for libFuzzer",
        present: || find("c++").is_some(),
        apt: &["g++"],
    },
    Package {
        purpose: "npm, for versions of Node and what the screen is compared with",
        present: || find("npm").is_some(),
        apt: &["npm"],
    },
    Package {
        purpose: "virtual environments for Python",
        present: has_venv,
        apt: &["python3-venv"],
    },
];

/// What terminals are compared with.
const TMUX: Package = Package {
    purpose: "tmux",
    present: || find("tmux").is_some(),
    apt: &["tmux"],
};

/// Libraries whose own forms of showing things are tested.
const LIBRARIES: [&str; 2] = ["matplotlib", "pandas"];

/// What building and running Abide needs.
pub(crate) fn for_running() -> Result<()> {
    packages(&TO_RUN)
}

/// What building, running and every check needs.
pub(crate) fn for_testing(repository: &Repository) -> Result<()> {
    packages(&TO_RUN)?;
    packages(&TO_TEST)?;
    components(repository)?;
    nextest(repository)?;
    deny(repository)?;
    // Where crates/abide/tests/it/api/libraries.rs looks for it.
    let home = repository.target()?.join("tools/libraries");
    venv::install(&home, &LIBRARIES, &LIBRARIES)?;
    xterm(repository)?;
    versions::install(repository)?;
    println!("everything needed is here");
    Ok(())
}

/// What measuring terminals needs besides.
pub(crate) fn tmux() -> Result<()> {
    packages(&[TMUX])
}

/// cargo-deny, installed below the target directory when the machine has none that is new
/// enough; returns its path.
pub(crate) fn deny(repository: &Repository) -> Result<PathBuf> {
    let tools = repository.target()?.join("tools");
    let ours = tools.join("bin/cargo-deny");
    let global = find("cargo-deny");
    for candidate in global.into_iter().chain([ours.clone()]) {
        let version = Command::new(&candidate).arguments(["--version"]).probe();
        if version.is_some_and(|text| at_least(&text, DENY)) {
            return Ok(candidate);
        }
    }
    let root = tools
        .to_str()
        .context("the target directory's path is not UTF-8")?;
    install(repository, "cargo-deny", DENY, &["--root", root])?;
    Ok(ours)
}

/// xterm.js without a window, where the tests of the screen look for it.
fn xterm(repository: &Repository) -> Result<()> {
    let home = repository.root().join("crates/abide-terminal/tests/xterm");
    if home.join("node_modules/@xterm/headless").is_dir() {
        return Ok(());
    }
    println!("Installing xterm.js for the tests of the screen.");
    Command::new("npm")
        .arguments(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .directory(&home)
        .run()
}

fn nextest(repository: &Repository) -> Result<()> {
    let version = repository.cargo(["nextest", "--version"]).probe();
    if version.is_some_and(|text| at_least(&text, NEXTEST)) {
        return Ok(());
    }
    install(repository, "cargo-nextest", NEXTEST, &[])
}

/// Builds a Cargo tool from source without optimisation: it runs for seconds, and compiling it
/// with optimisation would take several times as long.
fn install(repository: &Repository, tool: &str, version: &str, extra: &[&str]) -> Result<()> {
    println!(
        "Installing {tool} {version}: there is no ready-made one here, so it is compiled from \
         source, which takes a minute or two. This happens once."
    );
    let started = Instant::now();
    repository
        .cargo([
            "install",
            tool,
            "--version",
            version,
            "--locked",
            "--debug",
            "--quiet",
        ])
        .arguments(extra)
        .variable("CARGO_PROFILE_DEV_DEBUG", "0")
        .run()?;
    println!(
        "Installed {tool} in {:.0} s.",
        started.elapsed().as_secs_f64()
    );
    Ok(())
}

fn components(repository: &Repository) -> Result<()> {
    for (component, probe) in [("clippy", "clippy"), ("rustfmt", "fmt")] {
        if repository.cargo([probe, "--version"]).probe().is_some() {
            continue;
        }
        println!("Installing {component} for the pinned toolchain.");
        Command::new("rustup")
            .arguments(["component", "add", component])
            .directory(repository.root())
            .run()
            .with_context(|| format!("Rust's {component} is missing and rustup cannot add it"))?;
    }
    Ok(())
}

fn packages(wanted: &[Package]) -> Result<()> {
    let missing: Vec<&Package> = wanted
        .iter()
        .filter(|package| !(package.present)())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let purposes: Vec<&str> = missing.iter().map(|package| package.purpose).collect();
    let names: Vec<&str> = missing
        .iter()
        .flat_map(|package| package.apt)
        .copied()
        .collect();
    ensure!(
        find("apt-get").is_some(),
        "this machine lacks {} and is no Debian; install what your distribution calls {}",
        purposes.join(", "),
        names.join(", ")
    );
    println!("Installing {}.", purposes.join(", "));
    apt_get(&["update", "-qq"])?;
    apt_get(
        &["install", "-y", "-qq", "--no-install-recommends"]
            .iter()
            .chain(&names)
            .copied()
            .collect::<Vec<_>>(),
    )?;
    for package in missing {
        if !(package.present)() {
            bail!(
                "installed {}, but there is still no {}: the one that `PATH` finds first is too \
                 old or broken",
                package.apt.join(", "),
                package.purpose
            );
        }
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Result<()> {
    let root = Command::new("id")
        .arguments(["-u"])
        .probe()
        .is_some_and(|id| id.trim() == "0");
    let prefix: &[&str] = match (root, find("sudo")) {
        (true, _) => &["env"],
        (false, Some(_)) => &["sudo"],
        (false, None) => bail!(
            "needs root for `apt-get {}`: run that as root, then try again",
            arguments.join(" ")
        ),
    };
    Command::new(prefix[0])
        .arguments(["DEBIAN_FRONTEND=noninteractive", "apt-get"])
        .arguments(arguments)
        .run()
}

/// Looks for a header too, because a compiler without the C library's headers is of no use.
fn has_c_compiler() -> bool {
    let script = "echo '#include <stdio.h>' | cc -E -xc -";
    Command::new("sh")
        .arguments(["-c", script])
        .probe()
        .is_some()
}

fn has_python() -> bool {
    let script = "import sys; sys.exit(sys.version_info < (3, 9))";
    Command::new("python3")
        .arguments(["-c", script])
        .probe()
        .is_some()
}

fn has_venv() -> bool {
    Command::new("python3")
        .arguments(["-c", "import venv, ensurepip"])
        .probe()
        .is_some()
}

fn has_node() -> bool {
    Command::new("node")
        .arguments(["--version"])
        .probe()
        .is_some_and(|text| at_least(&text, "18"))
}

/// Whether the first version number in `text` is `wanted` or newer.
fn at_least(text: &str, wanted: &str) -> bool {
    let number = text
        .split_whitespace()
        .find_map(|word| numbers(word.trim_start_matches('v')));
    number.is_some_and(|number| Some(number) >= numbers(wanted))
}

fn numbers(version: &str) -> Option<Vec<u32>> {
    version.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(at_least(
            "cargo-nextest 0.9.143 (60fa45f63 2026-08-04)\nrelease: 0.9.1",
            "0.9.143"
        ));
        assert!(at_least("cargo-deny 0.20.10", "0.20.2"));
        assert!(!at_least("cargo-deny 0.14.2", "0.20.2"));
        assert!(at_least("v20.20.2", "18"));
        assert!(!at_least("v16.1.0", "18"));
        assert!(!at_least("", "18"));
    }
}
