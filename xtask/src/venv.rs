//! Python packages in virtual environments of their own, below the target directory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::command::Command;

/// Makes a virtual environment in `home` with `packages` from PyPI; `modules` are what they are
/// imported as. Returns its `python`. Nothing to do when everything is there.
pub(crate) fn install(home: &Path, packages: &[&str], modules: &[&str]) -> Result<PathBuf> {
    let python = home.join("bin/python");
    // Looks for them without importing them, which would take seconds.
    let script = "import sys, importlib.util as util\n\
                  sys.exit(None in map(util.find_spec, sys.argv[1:]))";
    let complete = Command::new(&python).arguments(["-c", script]);
    if python.exists() && complete.arguments(modules).probe().is_some() {
        return Ok(python);
    }
    println!(
        "Installing {} from PyPI; this happens once.",
        packages.join(", ")
    );
    let started = Instant::now();
    Command::new("python3")
        .arguments(["-m", "venv"])
        .arguments([home])
        .run()
        .context("cannot make a virtual environment")?;
    Command::new(&python)
        .arguments(["-m", "pip", "install", "--quiet", "--only-binary", ":all:"])
        .arguments(["--disable-pip-version-check"])
        .arguments(packages)
        .run()
        .with_context(|| format!("pip cannot install {}", packages.join(", ")))?;
    println!("Installed in {:.0} s.", started.elapsed().as_secs_f64());
    Ok(python)
}
