//! Starting, killing and restarting `abide session-agent`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::Exited;

/// How to start a session agent.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The built program (`env!("CARGO_BIN_EXE_abide")`).
    pub exe: PathBuf,
    /// Settings as `--set` takes them: `warm_python=0`.
    pub settings: Vec<String>,
    /// Environment variables.
    pub variables: Vec<(String, String)>,
    /// Where a session agent listens.
    pub addr: String,
    /// The planes of a [`crate::TestStack`] write their logs to files; see [`crate::TestStack::log`].
    pub logs: bool,
}

impl AgentOptions {
    /// The program with small, fast settings.
    pub fn new(exe: impl Into<PathBuf>) -> Self {
        Self {
            exe: exe.into(),
            settings: vec!["warm_python=0".to_owned(), "log=warn".to_owned()],
            variables: Vec::new(),
            addr: "127.0.0.1:0".to_owned(),
            logs: false,
        }
    }

    /// The same with a session agent at this address.
    #[must_use]
    pub fn at(mut self, addr: &str) -> Self {
        addr.clone_into(&mut self.addr);
        self
    }

    /// The same with logs that can be read.
    #[must_use]
    pub const fn keeping_logs(mut self) -> Self {
        self.logs = true;
        self
    }

    /// The same with another setting.
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }

    /// The same with an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A running session agent. Dropping it ends the agent, its workers and its directory.
#[derive(Debug)]
pub struct TestAgent {
    options: AgentOptions,
    dir: TempDir,
    child: Option<Child>,
    url: String,
}

impl TestAgent {
    /// Starts an agent in a fresh directory, on a free port, and waits until it is ready.
    pub fn start(options: AgentOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("abide-").tempdir()?;
        let mut agent = Self {
            options,
            dir,
            child: None,
            url: String::new(),
        };
        agent.up(&[])?;
        Ok(agent)
    }

    /// Starts the agent again in the same directory, with more arguments.
    pub fn up(&mut self, more: &[&str]) -> anyhow::Result<()> {
        match self.try_up(more)? {
            None => Ok(()),
            Some(exited) => bail!("the session agent did not start: {exited:?}"),
        }
    }

    /// Starts the agent; `Some` if it ended before it was ready.
    pub fn try_up(&mut self, more: &[&str]) -> anyhow::Result<Option<Exited>> {
        if self.child.is_some() {
            bail!("it is running");
        }
        let settings = self.options.settings.iter();
        let mut child = self
            .command(&["session-agent", "--addr", &self.options.addr])
            .args(settings.flat_map(|setting| ["--set", setting]))
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the session agent")?;
        let out = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let url = line.split(' ').find(|word| word.starts_with("http://"));
        self.url = url.unwrap_or_default().to_owned();
        self.child = Some(child);
        if self.url.is_empty() {
            self.wait().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The program with arguments, for this agent's directory, in a clean environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.options.exe);
        let kept = ["PATH", "LANG"].iter();
        command
            .args(args)
            .env_clear()
            .envs(kept.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("HOME", self.dir.path())
            .env("ABIDE_DATA_DIR", self.dir.path().join("data"))
            .envs(
                self.options
                    .variables
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// The agent's files.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("data/session-agent")
    }

    /// A directory that belongs to the test.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// Base URL of the running agent.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The agent's process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends the agent with `SIGKILL`; its workers go on.
    pub fn kill(&mut self) -> anyhow::Result<Exited> {
        if let Some(child) = &mut self.child {
            child.kill()?;
        }
        self.wait()
    }

    /// Waits for the agent's own end.
    pub fn wait(&mut self) -> anyhow::Result<Exited> {
        let mut child = self.child.take().context("it is not running")?;
        let status = child.wait()?;
        Ok(Exited {
            code: status.code(),
            signal: status.signal(),
        })
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Workers live on by design; a test's must not.
        let _ = self
            .command(&["down", "--data-dir"])
            .arg(self.files())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
