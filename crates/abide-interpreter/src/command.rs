//! Writing the harness down and the command that starts it.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use abide_model::Runtime;

use crate::Interpreter;

/// The parts are one program with one namespace, split for the reader.
const PYTHON_PARTS: [&str; 4] = [
    include_str!("../harness/python_site.py"),
    include_str!("../harness/python_streams.py"),
    include_str!("../harness/python_values.py"),
    include_str!("../harness/python.py"),
];
const NODE_PARTS: [(&str, &str); 4] = [
    ("node.js", include_str!("../harness/node.js")),
    ("node_source.js", include_str!("../harness/node_source.js")),
    ("node_values.js", include_str!("../harness/node_values.js")),
    (
        "node_watcher.js",
        include_str!("../harness/node_watcher.js"),
    ),
];
const COMPILE: &str = include_str!("../harness/compile.py");

/// Runs the compiled harness. Given as a script, Python would first look for a zip archive in it.
const PYTHON_LOADER: &str = "import marshal, sys\n\
     with open(sys.argv[1], 'rb') as file: code = marshal.loads(file.read()[16:])\n\
     exec(code)";

/// Moves the channel away from descriptor 3, which user code might guess; Node cannot do that
/// itself. It marks every inherited descriptor close-on-exec when it starts.
const NODE_CHANNEL: &str = "exec \"$0\" \"$@\" 9<&3 3<&-";

/// How to start a harness: with `/dev/null` as descriptor 0, pipes as 1 and 2, and the channel (a
/// connected stream socket) as 3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HarnessCommand {
    /// An absolute program and its arguments.
    pub argv: Vec<String>,
    /// The whole environment of the process. User code never sees it: `Configure` replaces it.
    pub env: Vec<(String, String)>,
}

/// Why a harness could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The directory or a file in it cannot be written.
    #[error("cannot write the harness to {}", path.display())]
    Write {
        /// Which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The interpreter cannot be started to compile it.
    #[error("cannot run {}", path.display())]
    Run {
        /// Which program.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The interpreter refused to compile it.
    #[error("{} could not compile the harness: {complaint}", path.display())]
    Compile {
        /// Which program.
        path: PathBuf,
        /// The end of what it said.
        complaint: String,
    },
}

impl Interpreter {
    /// Writes the harness for this interpreter into `dir` (made if need be); does nothing when it
    /// is there. Safe to call from several processes at once.
    ///
    /// # Errors
    /// See [`PrepareError`].
    pub fn prepare(&self, dir: &Path) -> Result<(), PrepareError> {
        let program = self.program(dir);
        if program.exists() {
            return Ok(());
        }
        match &self.python {
            Some(settings) => {
                fs::create_dir_all(dir).map_err(|source| write_error(dir, source))?;
                self.compile(serde_json::json!({
                    "settings": settings,
                    "source": PYTHON_PARTS.concat(),
                    "target": program,
                }))
            }
            None => write_node(&program),
        }
    }

    /// The command that starts the harness; [`Interpreter::prepare`] it first.
    pub fn command(&self, dir: &Path) -> HarnessCommand {
        let program = self.program(dir).to_string_lossy().into_owned();
        let binary = self.binary.to_string_lossy().into_owned();
        let argv = match self.runtime {
            // -I and -S leave out what discovery has already worked out.
            Runtime::Python => vec![
                binary,
                "-I".into(),
                "-S".into(),
                "-X".into(),
                "utf8".into(),
                "-c".into(),
                PYTHON_LOADER.into(),
                program,
            ],
            Runtime::Node => vec![
                "/bin/sh".into(),
                "-c".into(),
                NODE_CHANNEL.into(),
                binary,
                // An interrupted callback leaves Node's own bookkeeping unbalanced; without this
                // flag that ends the process.
                "--no-force-async-hooks-checks".into(),
                program,
            ],
        };
        HarnessCommand {
            argv,
            env: Vec::new(),
        }
    }

    fn program(&self, dir: &Path) -> PathBuf {
        let mut hash = Fnv::new();
        hash.add(&self.fingerprint());
        match self.runtime {
            Runtime::Python => {
                PYTHON_PARTS.iter().for_each(|part| hash.add(part));
                dir.join(format!("python-{:016x}.pyc", hash.0))
            }
            Runtime::Node => {
                NODE_PARTS.iter().for_each(|(_, part)| hash.add(part));
                dir.join(format!("node-{:016x}", hash.0))
                    .join(NODE_PARTS[0].0)
            }
        }
    }

    fn compile(&self, request: serde_json::Value) -> Result<(), PrepareError> {
        let run_error = |source| PrepareError::Run {
            path: self.binary.clone(),
            source,
        };
        let mut child = Command::new(&self.binary)
            // Nobody sees the harness's columns, and without them it loads faster.
            .args(["-I", "-S", "-X", "utf8", "-X", "no_debug_ranges"])
            .args(["-c", COMPILE])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(run_error)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A child that does not read says why on its standard error.
            let _ = stdin.write_all(request.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(run_error)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let complaint = said.lines().last().unwrap_or("no message").to_owned();
        Err(PrepareError::Compile {
            path: self.binary.clone(),
            complaint,
        })
    }
}

/// The parts are written into a directory of their own, which appears complete.
fn write_node(program: &Path) -> Result<(), PrepareError> {
    let Some(home) = program.parent() else {
        return Ok(());
    };
    let temporary = home.with_extension(std::process::id().to_string());
    fs::create_dir_all(&temporary).map_err(|source| write_error(&temporary, source))?;
    for (name, text) in NODE_PARTS {
        let file = temporary.join(name);
        fs::write(&file, text).map_err(|source| write_error(&file, source))?;
    }
    match fs::rename(&temporary, home) {
        // Another process was faster.
        Err(_) if program.exists() => {
            let _ = fs::remove_dir_all(&temporary);
            Ok(())
        }
        result => result.map_err(|source| write_error(home, source)),
    }
}

fn write_error(path: &Path, source: io::Error) -> PrepareError {
    PrepareError::Write {
        path: path.to_path_buf(),
        source,
    }
}

/// FNV-1a: names files by content; stable across builds, unlike the standard hasher.
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, text: &str) {
        for byte in text.bytes().chain([0]) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
