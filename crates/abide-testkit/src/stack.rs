//! Starting, killing and restarting the three planes as processes of their own.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{AgentOptions, Exited, Terminal};

/// Signs what the planes show each other, and guards the session agent.
const SECRET: &str = "a secret of the test's planes, which is long enough";

/// One of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// `abide session-agent`
    Agent,
    /// `abide data-plane`
    Data,
    /// `abide control-plane`
    Control,
}

/// A control plane over a data plane over a session agent, in one directory. Dropping it ends them,
/// their workers and the directory.
#[derive(Debug)]
pub struct TestStack {
    options: AgentOptions,
    dir: TempDir,
    /// By [`Plane`].
    children: [Option<Child>; 3],
    /// Kept when a plane is started again: those above it know it by its URL.
    urls: [String; 3],
}

impl Plane {
    /// From the lowest to the highest.
    pub const ALL: [Self; 3] = [Self::Agent, Self::Data, Self::Control];

    const fn command(self) -> &'static str {
        match self {
            Self::Agent => "session-agent",
            Self::Data => "data-plane",
            Self::Control => "control-plane",
        }
    }
}

impl TestStack {
    /// A key that the data plane accepts.
    pub const PLANE_KEY: &str = "the key of a test for the data plane";
    /// The secret that tokens of the public API and between the planes are signed with.
    pub const JWT_SECRET: &str = SECRET;

    /// Starts the three in a fresh directory, on free ports, and waits until they are ready. They
    /// ask each other for credentials unless the options let everybody in.
    pub fn start(options: AgentOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("abide-").tempdir()?;
        let mut stack = Self {
            options,
            dir,
            children: [None, None, None],
            urls: Default::default(),
        };
        for plane in Plane::ALL {
            stack.up(plane)?;
        }
        Ok(stack)
    }

    /// Starts a plane, again at the same address.
    pub fn up(&mut self, plane: Plane) -> anyhow::Result<()> {
        self.up_with(plane, &[])
    }

    /// The same with more arguments.
    pub fn up_with(&mut self, plane: Plane, more: &[&str]) -> anyhow::Result<()> {
        let n = plane as usize;
        if self.children[n].is_some() {
            bail!("it is running");
        }
        let port = self.urls[n].rsplit(':').next();
        let port = port.filter(|port| !port.is_empty()).unwrap_or("0");
        let address = match plane {
            Plane::Agent => ["--addr".to_owned(), format!("127.0.0.1:{port}")],
            Plane::Data | Plane::Control => ["--port".to_owned(), port.to_owned()],
        };
        let mut command = self.command(&[plane.command()]);
        if self.options.logs {
            let log = File::options()
                .append(true)
                .create(true)
                .open(self.log_file(plane))?;
            command.stderr(log);
        }
        let mut child = command
            .args(address)
            .args(
                self.options
                    .settings
                    .iter()
                    .flat_map(|setting| ["--set", setting]),
            )
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", plane.command()))?;
        let out = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        self.children[n] = Some(child);
        let url = line.split(' ').find(|word| word.starts_with("http://"));
        let Some(url) = url else {
            let exited = self.wait(plane)?;
            bail!("{} did not start: {exited:?}", plane.command());
        };
        url.clone_into(&mut self.urls[n]);
        Ok(())
    }

    /// The program with arguments, in this place, in a clean environment.
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
            .env("ABIDE_AGENT_SECRET", SECRET)
            .env("AUTH_JWT_SECRET", SECRET)
            .env("ABIDE_PLANE_KEYS", Self::PLANE_KEY)
            .envs(variables.map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        for (name, url) in [
            ("SESSION_AGENT_ENDPOINT", self.plane_url(Plane::Agent)),
            ("DATA_PLANE_URL", self.plane_url(Plane::Data)),
        ] {
            if !url.is_empty() {
                command.env(name, url);
            }
        }
        command
    }

    /// The program with arguments, as whoever uses the control plane.
    pub fn user_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.options.exe);
        self.prepare(&mut command, args);
        command.stdin(Stdio::null());
        command
    }

    /// The same on a terminal.
    pub fn terminal(&self, args: &[&str]) -> anyhow::Result<Terminal> {
        Terminal::start(&self.options.exe, |command| {
            self.prepare(command, args);
            command.env("TERM", "xterm");
        })
    }

    fn prepare(&self, command: &mut Command, args: &[&str]) {
        let kept = ["PATH", "LANG"].iter();
        command
            .args(args)
            .env_clear()
            .envs(kept.filter_map(|name| Some((name, std::env::var_os(name)?))))
            .env("HOME", self.dir.path())
            .env("ABIDE_DATA_DIR", self.files(Plane::Control))
            .current_dir(self.dir.path());
    }

    /// Base URL of the control plane.
    pub fn url(&self) -> &str {
        self.plane_url(Plane::Control)
    }

    /// Base URL of a plane.
    pub fn plane_url(&self, plane: Plane) -> &str {
        &self.urls[plane as usize]
    }

    /// The control plane's API key.
    pub fn key(&self) -> anyhow::Result<String> {
        let path = self.files(Plane::Control).join("key");
        let key = std::fs::read_to_string(path).context("no key")?;
        Ok(key.trim().to_owned())
    }

    /// The control plane's process id.
    pub fn pid(&self) -> Option<u32> {
        self.plane_pid(Plane::Control)
    }

    /// A plane's process id.
    pub fn plane_pid(&self, plane: Plane) -> Option<u32> {
        self.children[plane as usize].as_ref().map(Child::id)
    }

    /// A plane's files.
    pub fn files(&self, plane: Plane) -> PathBuf {
        self.dir.path().join("data").join(plane.command())
    }

    /// What the workspaces of sessions are beneath.
    pub fn workspaces(&self) -> PathBuf {
        self.files(Plane::Data).join("workspaces")
    }

    /// What a plane has logged since the first start, with [`AgentOptions::keeping_logs`].
    pub fn log(&self, plane: Plane) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.log_file(plane))?)
    }

    fn log_file(&self, plane: Plane) -> PathBuf {
        self.dir.path().join(plane.command()).with_extension("log")
    }

    /// A directory that belongs to the test.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// Ends a plane with `SIGKILL`.
    pub fn kill(&mut self, plane: Plane) -> anyhow::Result<Exited> {
        self.signal(plane, Signal::KILL)?;
        self.wait(plane)
    }

    /// Tells a plane to stop, and waits for its end.
    pub fn stop(&mut self, plane: Plane) -> anyhow::Result<Exited> {
        self.signal(plane, Signal::TERM)?;
        self.wait(plane)
    }

    /// Sends a plane a signal.
    pub fn signal(&self, plane: Plane, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .plane_pid(plane)
            .and_then(|pid| i32::try_from(pid).ok());
        let pid = pid.and_then(Pid::from_raw).context("it is not running")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for a plane's own end.
    pub fn wait(&mut self, plane: Plane) -> anyhow::Result<Exited> {
        let child = self.children[plane as usize].take();
        let status = child.context("it is not running")?.wait()?;
        Ok(Exited {
            code: status.code(),
            signal: status.signal(),
        })
    }
}

impl Drop for TestStack {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Workers live on by design; a test's must not.
        let _ = self
            .command(&["down", "--data-dir"])
            .arg(self.files(Plane::Agent))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
