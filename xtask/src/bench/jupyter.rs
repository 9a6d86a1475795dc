//! jupyter_server, the baseline of everything about sessions: installed from PyPI, stock settings.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use anyhow::{Context, Result, bail, ensure};

use serde::Deserialize;

use super::Bench;
use crate::venv;

/// The server, a client of it, and the loop that takes commands.
const DRIVER: &str = include_str!("jupyter.py");
/// What the driver needs.
const PACKAGES: [&str; 3] = ["jupyter_server", "ipykernel", "websocket-client"];
/// As which they are imported.
const MODULES: [&str; 3] = ["jupyter_server", "ipykernel", "websocket"];

/// A running jupyter_server. Dropping it ends it with its kernels.
#[derive(Debug)]
pub(super) struct Jupyter {
    driver: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// Of jupyter_server.
    version: String,
}

/// What the driver answers to a command.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Answer {
    Times(Vec<f64>),
    Failure(String),
}

impl Jupyter {
    /// Starts it, installed first if need be; the reason where there can be none.
    pub(super) fn start(bench: &Bench) -> std::result::Result<Self, String> {
        Self::try_start(&bench.tools.join("jupyter")).map_err(|error| format!("{error:#}"))
    }

    fn try_start(home: &Path) -> Result<Self> {
        let python = venv::install(home, &PACKAGES, &MODULES)?;
        let mut driver = std::process::Command::new(python)
            .args(["-c", DRIVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start jupyter_server")?;
        let input = driver.stdin.take();
        let output = driver.stdout.take().context("no standard output")?;
        let mut jupyter = Self {
            driver,
            input,
            output: BufReader::new(output),
            version: String::new(),
        };
        let version = jupyter.line().context("jupyter_server did not start")?;
        version
            .trim()
            .trim_matches('"')
            .clone_into(&mut jupyter.version);
        Ok(jupyter)
    }

    /// A line about it for the reader of a row.
    pub(super) fn note(&self) -> String {
        format!("jupyter_server {}, stock settings", self.version)
    }

    /// Times in milliseconds of `command`, done `count` times.
    pub(super) fn times(&mut self, command: &str, count: usize) -> Result<Vec<f64>> {
        let input = self.input.as_mut().context("its input is closed")?;
        writeln!(input, "{command} {count}")?;
        let line = self.line()?;
        match serde_json::from_str(&line).context("it sent no JSON")? {
            Answer::Times(times) => Ok(times),
            Answer::Failure(reason) => bail!(reason),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let count = self.output.read_line(&mut line)?;
        ensure!(count > 0, "the driver ended");
        Ok(line)
    }
}

impl Drop for Jupyter {
    fn drop(&mut self) {
        // It ends, with the server, when its input does.
        self.input = None;
        let _ = self.driver.wait();
    }
}
