//! Starting a keeper.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::files;
use crate::keeper::Announcement;
use crate::spec::{KeeperRecord, KeeperSpec};

/// Why a keeper could not be launched.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its directory cannot be made, or belongs to another keeper.
    #[error("cannot make the worker's directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file in its directory cannot be written.
    #[error("cannot write to the worker's directory {}", path.display())]
    Prepare {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The keeper's program cannot be run.
    #[error("cannot run the keeper {}", path.display())]
    Spawn {
        /// Which program.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The keeper says why it, or the worker's program, could not be started.
    #[error("{0}")]
    Refused(String),
    /// The keeper ended without a word.
    #[error("the keeper ended before it was ready; its log says: {log}")]
    Died {
        /// Last lines of `keeper.log`.
        log: String,
    },
    /// What the keeper says cannot be read.
    #[error("cannot hear from the keeper")]
    Listen(#[source] io::Error),
}

/// A keeper that was started and is about to say how that went.
#[derive(Debug)]
pub struct LaunchedKeeper {
    dir: PathBuf,
    ready: OwnedFd,
    /// The process that forks the keeper and ends at once.
    starter: Starter,
}

/// Starts a keeper for a worker. `dir` is created, mode 0700, if it is not there, and must not
/// have been a keeper's before. The keeper is run as `exe`, `exe_args`…, `dir` with an empty
/// environment; that must come to [`crate::run`].
///
/// The keeper forks itself off, so it is nobody's child but the init process's: it need not be
/// waited for, does not care who launched it, and its end is seen through
/// [`crate::KeeperClient::pid_fd`] by those who launched it and those who found it alike. A
/// process that runs as init itself must reap its orphans, as every init must.
///
/// Returns before the keeper is ready; nothing here waits for anything but the file system.
///
/// # Errors
/// See [`LaunchError`].
pub fn launch(
    exe: &Path,
    exe_args: &[&str],
    dir: &Path,
    spec: &KeeperSpec,
) -> Result<LaunchedKeeper, LaunchError> {
    let directory = |source| LaunchError::Directory {
        path: dir.to_owned(),
        source,
    };
    let prepare = |source| LaunchError::Prepare {
        path: dir.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(directory)?;
    std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(directory)?;
    if dir.join(files::JOURNAL).exists() {
        return Err(directory(io::ErrorKind::AlreadyExists.into()));
    }
    files::write_json(dir, files::SPEC, spec).map_err(prepare)?;
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(dir.join(files::LOG))
        .map_err(prepare)?;
    let (ready, announce) = io::pipe().map_err(prepare)?;
    let starter = Command::new(exe)
        // What people see in a list of processes, however it was found.
        .arg0("abide")
        .args(exe_args)
        .arg(dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(announce)
        .stderr(log)
        .spawn()
        .map_err(|source| LaunchError::Spawn {
            path: exe.to_owned(),
            source,
        })?;
    Ok(LaunchedKeeper {
        dir: dir.to_owned(),
        ready: ready.into(),
        starter: Starter(starter),
    })
}

impl LaunchedKeeper {
    /// Its directory, for [`crate::KeeperClient::connect`].
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Becomes readable when [`Self::wait_ready`] will not block. Nonblocking readiness only:
    /// do not read from it.
    pub fn ready_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// Waits until the worker's program runs and the keeper listens, or one of them cannot.
    ///
    /// # Errors
    /// [`LaunchError::Refused`] with the reason, [`LaunchError::Died`], or
    /// [`LaunchError::Listen`].
    pub fn wait_ready(self) -> Result<KeeperRecord, LaunchError> {
        let Self {
            dir,
            ready,
            starter,
        } = self;
        let mut text = Vec::new();
        std::fs::File::from(ready)
            .read_to_end(&mut text)
            .map_err(LaunchError::Listen)?;
        drop(starter);
        match serde_json::from_slice(&text) {
            Ok(Announcement::Running(record)) => Ok(record),
            Ok(Announcement::Failed(reason)) => Err(LaunchError::Refused(reason)),
            Err(_) => Err(LaunchError::Died {
                log: last_lines(&dir.join(files::LOG)),
            }),
        }
    }
}

impl AsFd for LaunchedKeeper {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ready_fd()
    }
}

impl AsRawFd for LaunchedKeeper {
    fn as_raw_fd(&self) -> RawFd {
        self.ready.as_raw_fd()
    }
}

#[derive(Debug)]
struct Starter(Child);

impl Drop for Starter {
    fn drop(&mut self) {
        // It ends within a millisecond of starting, long before the keeper is ready.
        let _ = self.0.wait();
    }
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
