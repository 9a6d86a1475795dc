//! Finding the user's interpreter, and everything needed to start it without its own slow start.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use abide_model::Runtime;
use serde::{Deserialize, Serialize};

/// Oldest accepted versions, (major, minor).
const OLDEST_PYTHON: (u32, u32) = (3, 9);
const OLDEST_NODE: (u32, u32) = (18, 0);

/// Stands before the probe's answer, because code run at start-up may print something too.
const ANSWER: &str = "abide-probe:";
const PROBE_PYTHON: &str = include_str!("../harness/probe.py");
const PROBE_NODE: &str = "console.log('abide-probe:' + JSON.stringify({ \
     binary: process.execPath, version: process.versions.node }))";

/// An interpreter that can run the harness. Serialise it to spare the next start the discovery;
/// use it as long as [`Interpreter::is_current`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interpreter {
    /// Its language.
    pub runtime: Runtime,
    /// The real executable (a virtual environment's own `python`, never a version manager's shim).
    pub binary: PathBuf,
    /// `3.11.7` or `20.20.2`.
    pub version: String,
    /// What was found on `PATH`, or was given: possibly a shim.
    found: PathBuf,
    given: bool,
    stamps: Vec<Stamp>,
    pub(crate) python: Option<PythonSettings>,
}

/// What Python's own start-up would have worked out; the harness starts without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PythonSettings {
    path: Vec<String>,
    prefix: String,
    exec_prefix: String,
    /// `import` lines of `.pth` files as (directory, file, line).
    lines: Vec<(String, String, String)>,
}

/// A file as it was at discovery; `None` when it did not exist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    path: PathBuf,
    seen: Option<(i64, i64, u64)>,
}

/// Why there is no usable interpreter.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// Neither in the virtual environment nor on `PATH`.
    #[error("no {runtime} interpreter found; looked for {names} on PATH")]
    NotFound {
        /// The language.
        runtime: Runtime,
        /// The names tried.
        names: String,
    },
    /// It could not be started.
    #[error("cannot run {}", path.display())]
    Run {
        /// What was started.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It ran, but did not tell about itself.
    #[error("{} did not answer the probe: {answer}", path.display())]
    Answer {
        /// What was started.
        path: PathBuf,
        /// The end of what it said instead.
        answer: String,
    },
    /// Too old.
    #[error("{} is {runtime} {version}; {oldest} or newer is needed", path.display())]
    TooOld {
        /// What was asked.
        path: PathBuf,
        /// The language.
        runtime: Runtime,
        /// What it is.
        version: String,
        /// What it must be at least.
        oldest: String,
    },
}

#[derive(Deserialize)]
struct Answer {
    binary: PathBuf,
    version: String,
    #[serde(default)]
    watched: Vec<PathBuf>,
    #[serde(flatten)]
    python: Option<PythonSettings>,
}

/// Finds the interpreter at `given`, or else the one that the user's shell would start: that of
/// the active virtual environment, then the first on `PATH`. It is run once to ask it about
/// itself.
///
/// # Errors
/// See [`DiscoverError`].
pub fn discover(runtime: Runtime, given: Option<&Path>) -> Result<Interpreter, DiscoverError> {
    let found = match given {
        Some(path) => path.to_path_buf(),
        None => find(runtime).ok_or_else(|| DiscoverError::NotFound {
            runtime,
            names: names(runtime).join(", "),
        })?,
    };
    let answer = ask(runtime, &found)?;
    let oldest = match runtime {
        Runtime::Python => OLDEST_PYTHON,
        Runtime::Node => OLDEST_NODE,
    };
    if major_minor(&answer.version) < Some(oldest) {
        return Err(DiscoverError::TooOld {
            path: found,
            runtime,
            version: answer.version,
            oldest: format!("{}.{}", oldest.0, oldest.1),
        });
    }
    let mut watched = vec![found.clone(), answer.binary.clone()];
    if found != answer.binary {
        // Shims stay as they are when another version is selected; this file (of pyenv, nodenv
        // and their kin) says which one is.
        watched.extend(
            found
                .parent()
                .and_then(Path::parent)
                .map(|root| root.join("version")),
        );
    }
    watched.extend(answer.watched);
    Ok(Interpreter {
        runtime,
        binary: answer.binary,
        version: answer.version,
        given: given.is_some(),
        found,
        stamps: watched.into_iter().map(Stamp::of).collect(),
        python: answer.python,
    })
}

impl Interpreter {
    /// Whether discovery would still find the same: same place on `PATH`, same executable, same
    /// packages. Costs some `stat` calls.
    pub fn is_current(&self) -> bool {
        (self.given || find(self.runtime).as_ref() == Some(&self.found))
            && self
                .stamps
                .iter()
                .all(|stamp| Stamp::of(stamp.path.clone()) == *stamp)
    }

    /// Changes with anything that a prepared harness depends on.
    pub(crate) fn fingerprint(&self) -> String {
        format!("{self:?}")
    }
}

impl Stamp {
    fn of(path: PathBuf) -> Self {
        let seen = fs::metadata(&path)
            .ok()
            .map(|m| (m.mtime(), m.mtime_nsec(), m.size()));
        Self { path, seen }
    }
}

const fn names(runtime: Runtime) -> &'static [&'static str] {
    match runtime {
        Runtime::Python => &["python3", "python"],
        Runtime::Node => &["node", "nodejs"],
    }
}

fn find(runtime: Runtime) -> Option<PathBuf> {
    let environment = std::env::var_os("VIRTUAL_ENV")
        .filter(|root| runtime == Runtime::Python && !root.is_empty())
        .map(|root| PathBuf::from(root).join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories: Vec<_> = environment
        .into_iter()
        .chain(std::env::split_paths(&path))
        .collect();
    names(runtime)
        .iter()
        .flat_map(|name| {
            directories
                .iter()
                .map(move |directory| directory.join(name))
        })
        .find(|path| path.is_absolute() && is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

fn ask(runtime: Runtime, path: &Path) -> Result<Answer, DiscoverError> {
    let (flag, probe) = match runtime {
        Runtime::Python => ("-c", PROBE_PYTHON),
        Runtime::Node => ("-e", PROBE_NODE),
    };
    let output = Command::new(path)
        .args([flag, probe])
        // The module path must be the interpreter's, not that of whoever started the server; a
        // session's own PYTHONPATH or NODE_PATH is honoured by the harness.
        .env_remove("PYTHONPATH")
        .env_remove("NODE_OPTIONS")
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| DiscoverError::Run {
            path: path.to_path_buf(),
            source,
        })?;
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .find_map(|line| line.strip_prefix(ANSWER))
        .and_then(|answer| serde_json::from_str(answer).ok())
        .ok_or_else(|| {
            let complaint = String::from_utf8_lossy(&output.stderr);
            let text = if complaint.trim().is_empty() {
                said
            } else {
                complaint
            };
            let last = text.lines().rev().find(|line| !line.trim().is_empty());
            DiscoverError::Answer {
                path: path.to_path_buf(),
                answer: last.map_or_else(|| output.status.to_string(), str::to_owned),
            }
        })
}

fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}
