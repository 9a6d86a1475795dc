//! Runs xterm.js without a window in a Node process; `tests/xterm/` holds what it is told to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::recording::Recording;

/// What is compared with what, written down for one Node process.
pub(crate) struct Comparison {
    directory: tempfile::TempDir,
    jobs: Vec<Value>,
    /// Snapshots and tails, one behind the other.
    bytes: Vec<u8>,
}

impl Comparison {
    pub(crate) fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            jobs: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Adds a recording, after which the terminal is resized.
    pub(crate) fn job(&mut self, recording: &Recording, resizes: &[(u16, u16)]) {
        let whole = self.keep(&recording.bytes);
        self.jobs.push(json!({
            "name": recording.name,
            "cols": recording.size.cols(),
            "rows": recording.size.rows(),
            "whole": whole,
            "resizes": resizes,
            "cuts": [],
        }));
    }

    /// Adds a way of getting to what the last job's recording comes to at `end`: `snapshot`, then `tail`, in a
    /// terminal of `size`. With `silent` the tail must cause no answer and no bell. Ends must ascend.
    pub(crate) fn cut(
        &mut self,
        (at, end): (usize, usize),
        size: (u16, u16),
        snapshot: &[u8],
        tail: &[u8],
        silent: bool,
    ) {
        let cut = json!({
            "at": at,
            "end": end,
            "size": size,
            "snapshot": self.keep(snapshot),
            "tail": self.keep(tail),
            "silent": silent,
        });
        let job = self.jobs.last_mut().unwrap();
        job["cuts"].as_array_mut().unwrap().push(cut);
    }

    /// Compares, and panics with the differences if there are any.
    pub(crate) fn run(self) {
        let bytes = self.directory.path().join("bytes");
        fs::write(&bytes, &self.bytes).unwrap();
        let jobs = self.directory.path().join("jobs.json");
        fs::write(&jobs, serde_json::to_vec(&self.jobs).unwrap()).unwrap();
        let output = node("compare.cjs")
            .arg(&jobs)
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{} differences; the first:\n{}\n{complaint}",
            printed.lines().count(),
            printed.lines().take(12).collect::<Vec<_>>().join("\n")
        );
    }

    fn keep(&mut self, bytes: &[u8]) -> Value {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        json!(["bytes", start, self.bytes.len()])
    }
}

/// A Node process that runs one of the programs beside `package.json`.
pub(crate) fn node(program: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(installed().join(program));
    command
}

/// Where xterm.js is; installs it if it is not. `cargo xtask test` has done so before.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/xterm");
        // Tests run in a process each; the lock is released when the file is closed.
        let lock = fs::File::create(home.join("node_modules.lock")).unwrap();
        lock.lock().unwrap();
        if !home.join("node_modules/@xterm/headless").is_dir() {
            let status = Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
                .current_dir(&home)
                .stdout(Stdio::null())
                .status()
                .unwrap();
            assert!(status.success(), "npm ci");
        }
        home
    })
}
