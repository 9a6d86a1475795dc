//! Starting, killing and restarting `abide up`.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use abide_client::Client;
use anyhow::{Context as _, bail};
use tempfile::TempDir;

use crate::Terminal;

/// How to start a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The built program (`env!("CARGO_BIN_EXE_abide")`).
    pub exe: PathBuf,
    /// Settings as `--set` takes them: `warm_python=0`.
    pub settings: Vec<String>,
    /// More arguments of `abide up`.
    pub args: Vec<String>,
}

impl ServerOptions {
    /// The program with small, fast settings.
    pub fn new(exe: impl Into<PathBuf>) -> Self {
        Self {
            exe: exe.into(),
            settings: vec!["warm_python=1".to_owned(), "log=warn".to_owned()],
            args: Vec::new(),
        }
    }

    /// The same with another setting.
    #[must_use]
    pub fn set(mut self, setting: &str) -> Self {
        self.settings.push(setting.to_owned());
        self
    }
}

/// How a server's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exited {
    /// Its exit status.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// A running server. Dropping it ends the server, its workers and its directory.
#[derive(Debug)]
pub struct TestServer {
    options: ServerOptions,
    dir: TempDir,
    child: Option<Child>,
    url: String,
}

impl TestServer {
    /// Starts a server in a fresh directory and waits until it is ready.
    pub fn start(options: ServerOptions) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("abide-").tempdir()?;
        let mut server = Self {
            options,
            dir,
            child: None,
            url: String::new(),
        };
        server.up(&[])?;
        Ok(server)
    }

    /// Starts the server again in the same directory, with more arguments.
    pub fn up(&mut self, more: &[String]) -> anyhow::Result<()> {
        match self.try_up(more)? {
            None => Ok(()),
            Some(exited) => bail!("the server did not start: {exited:?}"),
        }
    }

    /// Starts the server; `Some` if it ended before it was ready.
    pub fn try_up(&mut self, more: &[String]) -> anyhow::Result<Option<Exited>> {
        if self.child.is_some() {
            bail!("it is running");
        }
        let mut child = self
            .command(&["up", "--port", "0"])
            .args(
                self.options
                    .settings
                    .iter()
                    .flat_map(|setting| ["--set", setting]),
            )
            .args(&self.options.args)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
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

    /// The program with arguments, for this server's directory, in a clean environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.options.exe);
        self.prepare(&mut command, args);
        command.stdin(Stdio::null());
        command
    }

    /// The program with arguments on a terminal, otherwise as [`TestServer::command`] starts it.
    pub fn terminal(&self, args: &[&str]) -> anyhow::Result<Terminal> {
        Terminal::start(&self.options.exe, |command| {
            self.prepare(command, args);
            command.env("TERM", "xterm");
        })
    }

    fn prepare(&self, command: &mut Command, args: &[&str]) {
        command
            .args(args)
            .env_clear()
            .envs(
                ["PATH", "LANG"]
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .env("HOME", self.dir.path())
            .env("ABIDE_DATA_DIR", self.data_dir())
            .current_dir(self.dir.path());
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A directory that belongs to the test.
    pub fn home(&self) -> &Path {
        self.dir.path()
    }

    /// Base URL of the running server.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The API key.
    pub fn key(&self) -> anyhow::Result<String> {
        let key = std::fs::read_to_string(self.data_dir().join("key")).context("no key")?;
        Ok(key.trim().to_owned())
    }

    /// A client with the key.
    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.url, Some(&self.key()?))?)
    }

    /// The server's process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Ends the server with `SIGKILL`; its workers go on.
    pub fn kill(&mut self) -> anyhow::Result<Exited> {
        if let Some(child) = &mut self.child {
            child.kill()?;
        }
        self.wait()
    }

    /// Waits for the server's own end.
    pub fn wait(&mut self) -> anyhow::Result<Exited> {
        let mut child = self.child.take().context("it is not running")?;
        let status = child.wait()?;
        Ok(Exited {
            code: status.code(),
            signal: status.signal(),
        })
    }

    /// `abide down`: ends the server and every worker.
    pub fn down(&mut self) -> anyhow::Result<()> {
        let output = self.command(&["down"]).output()?;
        if !output.status.success() {
            bail!("abide down: {}", String::from_utf8_lossy(&output.stderr));
        }
        self.wait()?;
        Ok(())
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Workers live on by design; a test's must not.
        let _ = self
            .command(&["down"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
