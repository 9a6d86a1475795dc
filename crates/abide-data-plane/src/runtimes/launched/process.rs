//! The process of a launched session agent, and the files about it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt as _, BufReader, Interest};
use tokio::process::{Child, ChildStdout, Command};

use super::LaunchConfig;

/// What a session agent writes down about itself.
#[derive(Debug, Deserialize)]
pub(super) struct About {
    pub(super) pid: i32,
    pub(super) url: String,
    pub(super) boot_id: String,
}

/// What we write down about its process: the number alone may be another process's by now.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    pid: i32,
    /// In clock ticks since the machine was started.
    start_time: u64,
}

/// A session agent's process, a child of ours or of the data plane before.
#[derive(Debug)]
pub(super) struct AgentProcess {
    pid: i32,
    handle: AsyncFd<OwnedFd>,
    /// To be waited for, if it is ours.
    child: Option<Child>,
    out: Option<ChildStdout>,
}

impl AgentProcess {
    /// Starts one and writes that down.
    pub(super) fn spawn(config: &LaunchConfig, secret: &str, record: &Path) -> io::Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(log_path(&config.dir))?;
        let mut command = std::process::Command::new(&config.program);
        command
            .args(&config.arguments)
            .args(["--addr", "127.0.0.1:0", "--data-dir"])
            .arg(&config.dir)
            .env_clear()
            .envs(config.environment.iter().map(|(name, value)| (name, value)))
            .env("ABIDE_AGENT_SECRET", secret)
            .current_dir(&config.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C in a terminal is for the data plane, which ends the agent itself.
            .process_group(0);
        let mut child = Command::from(command).spawn()?;
        let out = child.stdout.take();
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .ok_or_else(|| io::Error::other("it has no process id"))?;
        let process = Self {
            pid,
            // Not waited for yet, so that the number is still its.
            handle: handle(pid)?,
            child: Some(child),
            out,
        };
        let start_time = start_time(pid).ok_or_else(|| io::Error::other("it ended at once"))?;
        let record_of_it = Record { pid, start_time };
        write_private(record, &serde_json::to_vec(&record_of_it)?)?;
        Ok(process)
    }

    /// The one that was written down, if it is still there.
    pub(super) fn recorded(record: &Path) -> Option<Self> {
        let record: Record = serde_json::from_slice(&std::fs::read(record).ok()?).ok()?;
        // The handle first: what is looked at afterwards is about the process that it holds.
        let handle = handle(record.pid).ok()?;
        (start_time(record.pid) == Some(record.start_time)).then_some(Self {
            pid: record.pid,
            handle,
            child: None,
            out: None,
        })
    }

    pub(super) const fn pid(&self) -> i32 {
        self.pid
    }

    /// The first line it writes, which says that it is ready; `None` if it ends without.
    pub(super) async fn announced(&mut self) -> Option<String> {
        let mut lines = BufReader::new(self.out.take()?).lines();
        lines.next_line().await.ok()?
    }

    /// Waits until it has ended; how, as far as that is known.
    pub(super) async fn ended(&mut self) -> String {
        if let Some(child) = &mut self.child {
            return match child.wait().await {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
        }
        // Readable once the process has ended.
        match self.handle.readable().await {
            Ok(_) => "taken over, so nobody can tell".to_owned(),
            Err(error) => error.to_string(),
        }
    }

    /// Tells it to end, and makes it if it does not within `limit`.
    pub(super) async fn end(&mut self, limit: Duration) {
        // Fails only for a process that has ended.
        let _ = pidfd_send_signal(self.handle.get_ref().as_fd(), Signal::TERM);
        if tokio::time::timeout(limit, self.ended()).await.is_err() {
            let _ = pidfd_send_signal(self.handle.get_ref().as_fd(), Signal::KILL);
            self.ended().await;
        }
    }
}

/// What a session agent says of itself in this file.
pub(super) fn about(path: &Path) -> Option<About> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Where it logs.
pub(super) fn log_path(dir: &Path) -> PathBuf {
    dir.join("session-agent.log")
}

/// Made for its owner alone.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// The secret in a file; made on first use.
pub(super) fn secret(path: &Path) -> io::Result<String> {
    kept(path, || {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
    })
}

/// The name of the runtime whose files are in `dir`, which is made if it is not there; kept in a
/// file there, made on first use.
pub fn runtime_id(dir: &Path) -> io::Result<String> {
    make_dir(dir)?;
    kept(&dir.join("runtime-id"), || {
        Ok(format!("local-{}", abide_model::new_uuid()))
    })
}

fn kept(path: &Path, make: impl FnOnce() -> io::Result<String>) -> io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if !text.trim().is_empty() => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let text = make()?;
    write_private(path, text.as_bytes())?;
    Ok(text)
}

/// All or nothing, readable by the owner only.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file: File = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(content)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

fn handle(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    let handle = pidfd_open(pid, PidfdFlags::NONBLOCK)?;
    #[expect(
        deprecated,
        reason = "the replacement is unsafe because other types than `OwnedFd` could lie about \
                  the descriptor they own"
    )]
    AsyncFd::with_interest(handle, Interest::READABLE)
}

/// When a process started (proc_pid_stat(5), field 22); `None` if it has ended.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything.
    let fields = &stat[stat.rfind(')')? + 2..];
    let mut fields = fields.split(' ');
    let state = fields.next()?;
    // Field 3 was the state; 22 is 18 after the one behind it.
    let start = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_that_of_the_process() {
        let own = i32::try_from(std::process::id()).unwrap();
        let time = start_time(own).unwrap();
        assert_eq!(start_time(own), Some(time));
        // Process 1 started before.
        assert!(start_time(1).unwrap() <= time);
        assert_eq!(start_time(i32::MAX), None);
    }

    #[tokio::test]
    async fn another_process_under_the_same_number_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("launched.json");
        let pid = i32::try_from(std::process::id()).unwrap();
        let start_time = start_time(pid).unwrap();
        for (started, taken) in [(start_time, true), (start_time + 1, false)] {
            let record = Record {
                pid,
                start_time: started,
            };
            write_private(&path, &serde_json::to_vec(&record).unwrap()).unwrap();
            assert_eq!(AgentProcess::recorded(&path).is_some(), taken);
        }
        assert!(AgentProcess::recorded(&dir.path().join("none")).is_none());
    }

    #[test]
    fn secrets_are_kept_and_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let made = secret(&path).unwrap();
        assert_eq!(made.len(), 64);
        assert_eq!(secret(&path).unwrap(), made);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
