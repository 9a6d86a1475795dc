//! The three planes, each a process of its own: `abide session-agent`, `abide data-plane` over it and
//! `abide control-plane` over both.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::Bench;
use super::http::Connection;
use super::process;

/// What the planes know each other by.
const SECRET: &str = "agent_secret=bench-agent";
const KEYS: &str = "plane_keys=bench-plane";

/// Three running planes. Dropping them ends them, their workers and their directory.
#[derive(Debug)]
pub(super) struct Stack {
    exe: std::path::PathBuf,
    home: TempDir,
    planes: [Option<Plane>; 3],
}

/// Which plane; the number is its place in [`Stack::planes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Agent = 0,
    Data = 1,
    Control = 2,
}

#[derive(Debug)]
struct Plane {
    child: Child,
    address: SocketAddr,
}

impl Which {
    /// From the bottom up.
    pub(super) const ALL: [Self; 3] = [Self::Agent, Self::Data, Self::Control];
}

impl Stack {
    /// Starts the planes up to this one, from the bottom.
    pub(super) fn start(bench: &Bench, up_to: Which) -> Result<Self> {
        let mut stack = Self {
            exe: bench.abide.clone(),
            home: tempfile::Builder::new().prefix("abide-bench-").tempdir()?,
            planes: [None, None, None],
        };
        for which in Which::ALL {
            if which as usize <= up_to as usize {
                stack.up(which)?;
            }
        }
        Ok(stack)
    }

    /// Starts a plane, again if need be; returns once it says that it is ready.
    pub(super) fn up(&mut self, which: Which) -> Result<()> {
        let below =
            |which: Which| Ok::<_, anyhow::Error>(format!("http://{}", self.address(which)?));
        let mut arguments: Vec<String> = Vec::new();
        let mut set = |pair: &str| arguments.extend(["--set".to_owned(), pair.to_owned()]);
        set("log=warn");
        set("warm_python=0");
        set("max_live=2000");
        set(SECRET);
        set(KEYS);
        let command: &[&str] = match which {
            Which::Agent => {
                // The same place after a restart: that is what the plane above knows.
                let address = self.address(which).unwrap_or(([127, 0, 0, 1], 0).into());
                set(&format!("agent_addr={address}"));
                &["session-agent"]
            }
            Which::Data => {
                set(&format!("agent_endpoint={}", below(Which::Agent)?));
                &["data-plane", "--host", "127.0.0.1", "--port", "0"]
            }
            Which::Control => {
                set(&format!("data_plane_url={}", below(Which::Data)?));
                &["control-plane", "--host", "127.0.0.1", "--port", "0"]
            }
        };
        let log = self.home.path().join(command[0]);
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = self
            .command(command)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", command[0]))?;
        let out = child.stdout.take().context("no standard output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let address = line
            .split(' ')
            .find_map(|word| word.strip_prefix("http://"))
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            let log = std::fs::read_to_string(self.home.path().join(command[0]));
            bail!(
                "{} did not start: {line}{}",
                command[0],
                log.unwrap_or_default()
            );
        };
        self.planes[which as usize] = Some(Plane { child, address });
        Ok(())
    }

    /// Ends a plane with `SIGKILL`; what is below it goes on.
    pub(super) fn kill(&mut self, which: Which) -> Result<()> {
        let plane = self.planes[which as usize].as_mut();
        let plane = plane.context("the plane is not running")?;
        plane.child.kill()?;
        plane.child.wait()?;
        Ok(())
    }

    /// A plane's process.
    pub(super) fn pid(&self, which: Which) -> Result<u32> {
        let plane = self.planes[which as usize].as_ref();
        Ok(plane.context("the plane is not running")?.child.id())
    }

    /// The keepers' processes.
    pub(super) fn keepers(&self) -> Result<Vec<u32>> {
        let home = self.home.path().to_str().context("path is not UTF-8")?;
        process::with_arguments(&["keeper", &format!("{home}/data/session-agent/workers")])
    }

    /// A connection to a plane, with what it asks for.
    pub(super) fn connect(&self, which: Which) -> Result<Connection> {
        let key = match which {
            Which::Agent => "bench-agent".to_owned(),
            Which::Data => "bench-plane".to_owned(),
            Which::Control => {
                let key = self.home.path().join("data/control-plane/key");
                std::fs::read_to_string(key)
                    .context("no key")?
                    .trim()
                    .to_owned()
            }
        };
        Connection::open(self.address(which)?, &key)
    }

    fn address(&self, which: Which) -> Result<SocketAddr> {
        let plane = self.planes[which as usize].as_ref();
        Ok(plane.context("the plane is not running")?.address)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.exe);
        let passed = ["PATH", "LANG"];
        command
            .args(arguments)
            .env_clear()
            .envs(passed.map(|name| (name, std::env::var_os(name).unwrap_or_default())))
            .env("HOME", self.home.path())
            .env("ABIDE_DATA_DIR", self.home.path().join("data"))
            .current_dir(self.home.path())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for plane in self.planes.iter_mut().rev().flatten() {
            let _ = plane.child.kill();
            let _ = plane.child.wait();
        }
        // Workers live on by design; those of a benchmark must not.
        let agent = self.home.path().join("data/session-agent");
        let _ = self
            .command(&["down", "--data-dir"])
            .arg(agent)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
