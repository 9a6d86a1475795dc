//! The binary itself: its size, and what starting it costs.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::row::{Claim, Contest, Kind, Row, Unit};

/// Starts per run: a run of the slower contender stays below a second.
const STARTS: usize = 50;

/// How large the release binary is.
pub(super) fn size() -> Row {
    Row {
        name: "binary-size",
        what: "size of the release binary",
        contenders: &["abide"],
        kind: Kind::Once,
        unit: Unit::Mebibytes,
        open: |bench| Ok(Box::new(Size(bench.abide.clone()))),
        claims: |outcome| {
            let megabytes = outcome.summary(0).median * MEBIBYTE / 1e6;
            vec![Claim::at_most("≤ 40 MB", megabytes, 40.0)]
        },
    }
}

/// How long `exec` to exit takes: what every keeper's start includes.
pub(super) fn start() -> Row {
    Row {
        name: "binary-start",
        what: "start and end of the binary (`--version`), part of every keeper's start",
        contenders: &["abide", "/bin/true"],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| {
            Ok(Box::new(Start([
                bench.abide.clone(),
                PathBuf::from("/bin/true"),
            ])))
        },
        claims: |_| Vec::new(),
    }
}

const MEBIBYTE: f64 = 1_048_576.0;

struct Size(PathBuf);

impl Contest for Size {
    fn run(&mut self, _contender: usize) -> Result<Vec<f64>> {
        let metadata = std::fs::metadata(&self.0).context("cannot look at the binary")?;
        Ok(vec![metadata.len() as f64 / MEBIBYTE])
    }
}

struct Start([PathBuf; 2]);

impl Contest for Start {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let program = &self.0[contender];
        let start = |_| {
            let started = Instant::now();
            let status = Command::new(program)
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .with_context(|| format!("cannot start {}", program.display()))?;
            ensure!(
                status.success(),
                "{} ended with {status}",
                program.display()
            );
            Ok(started.elapsed().as_secs_f64() * 1000.0)
        };
        (0..STARTS).map(start).collect()
    }
}
