//! Starting, killing and restarting `abide data-plane`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{AgentOptions, Exited};

/// A running data plane. Dropping it ends the data plane, the session agent that it launched, their
/// workers and its directory.
#[derive(Debug)]
pub struct TestDataPlane {
    options: AgentOptions,
    dir: TempDir,
    child: Option<Child>,
    url: String,
}

impl TestDataPlane {
    /// Starts a data plane in a fresh directory, on a free port, and waits until it is ready.
    pub fn start(options: AgentOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("abide-").tempdir()?;
        let mut plane = Self {
            options,
            dir,
            child: None,
            url: String::new(),
        };
        plane.up()?;
        Ok(plane)
    }

    /// Gives it one more setting from its next start on, as `name=value`.
    pub fn set(&mut self, setting: &str) {
        self.options.settings.push(setting.to_owned());
    }

    /// Starts the data plane again in the same directory.
    pub fn up(&mut self) -> anyhow::Result<()> {
        match self.try_up()? {
            None => Ok(()),
            Some(exited) => bail!("the data plane did not start: {exited:?}"),
        }
    }

    /// Starts the data plane; `Some` if it ended before it was ready.
    pub fn try_up(&mut self) -> anyhow::Result<Option<Exited>> {
        if self.child.is_some() {
            bail!("it is running");
        }
        let settings = self.options.settings.iter();
        let mut child = self
            .command(&["data-plane", "--port", "0"])
            .args(settings.flat_map(|setting| ["--set", setting]))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the data plane")?;
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

    /// The program with arguments, for this directory, in a clean environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.options.exe);
        let kept = ["PATH", "LANG"].iter();
        let variables = self.options.variables.iter();
        command
            .args(args)
            .env_clear()
            .envs(kept.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("HOME", self.dir.path())
            .env("ABIDE_DATA_DIR", self.dir.path().join("data"))
            .envs(variables.map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    /// The data plane's files.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("data/data-plane")
    }

    /// A directory that belongs to the test.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// Base URL of the running data plane.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The data plane's process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Process id of the session agent that it launched last.
    pub fn agent_pid(&self) -> Option<i32> {
        let record = std::fs::read(self.files().join("agent/launched.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
        i32::try_from(record["pid"].as_i64()?).ok()
    }

    /// Ends the session agent that it launched with `SIGKILL`.
    pub fn kill_agent(&self) -> anyhow::Result<()> {
        let pid = self.agent_pid().and_then(Pid::from_raw);
        kill_process(pid.context("no agent was launched")?, Signal::KILL)?;
        Ok(())
    }

    /// Tells the data plane to stop, and waits for its end.
    pub fn stop(&mut self) -> anyhow::Result<Exited> {
        let child = self.child.as_ref().context("it is not running")?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no process id")?, Signal::TERM)?;
        self.wait()
    }

    /// Ends the data plane with `SIGKILL`; its agent and workers go on.
    pub fn kill(&mut self) -> anyhow::Result<Exited> {
        if let Some(child) = &mut self.child {
            child.kill()?;
        }
        self.wait()
    }

    /// Waits for the data plane's own end.
    pub fn wait(&mut self) -> anyhow::Result<Exited> {
        let mut child = self.child.take().context("it is not running")?;
        let status = child.wait()?;
        Ok(Exited {
            code: status.code(),
            signal: status.signal(),
        })
    }
}

impl Drop for TestDataPlane {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let agent = self.files().join("agent");
        if crate::agent_is_there(&agent, self.agent_pid()) {
            let _ = self.kill_agent();
        }
        // Workers live on by design; a test's must not.
        let _ = self
            .command(&["down", "--data-dir"])
            .arg(agent.join("session-agent"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
