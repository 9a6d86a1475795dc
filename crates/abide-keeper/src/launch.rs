//! Starting a keeper.

use std::ffi::OsString;
use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::io::{self, PipeWriter, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::files;
use crate::keeper::Announcement;
use crate::spec::{KeeperRecord, KeeperSpec};

/// Bytes of a directory's name that a list of processes shows of a keeper; of a longer one the end is cut off.
const ROOM_FOR_DIRECTORY: usize = 255;

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

/// Whether a process that was started with these arguments is to be a keeper, and so call [`crate::run`]: if a
/// [`Launcher`] with the argument `keeper` started it, and nobody else.
pub fn is_keeper(args: impl Iterator<Item = OsString>) -> bool {
    let mut args = args.skip(1);
    args.next().is_some_and(|arg| arg == "keeper")
        && args.next().is_some_and(|room| room == blank().as_str())
}

fn blank() -> String {
    " ".repeat(ROOM_FOR_DIRECTORY)
}

/// Starts keepers, and keeps one in reserve, so that a worker need not wait for a process to start before
/// its own does.
///
/// A keeper is run as `exe`, `exe_args`… and a last argument that leaves room for the name of its directory, with
/// an empty environment; that must come to [`crate::run`]. It forks itself off, so it is nobody's child but the
/// init process's: it need not be waited for, does not care who launched it, and its end is seen through
/// [`crate::KeeperClient::pid_fd`] by those who launched it and those who found it alike. A process that runs as
/// init itself must reap its orphans, as every init must. One in reserve ends with whoever keeps it.
#[derive(Debug)]
pub struct Launcher {
    exe: PathBuf,
    exe_args: Vec<String>,
    reserve: Mutex<Option<Recruit>>,
}

/// A keeper that was started and is about to say how that went.
#[derive(Debug)]
pub struct LaunchedKeeper {
    dir: PathBuf,
    ready: OwnedFd,
    /// The process that forks the keeper and ends at once.
    starter: Starter,
}

/// A keeper that does not know its worker yet.
#[derive(Debug)]
struct Recruit {
    ready: OwnedFd,
    starter: Starter,
    /// Takes the worker's directory. The keeper ends if it takes none.
    order: PipeWriter,
}

impl Launcher {
    /// Nothing is in reserve yet.
    pub fn new(exe: impl Into<PathBuf>, exe_args: &[&str]) -> Self {
        Self {
            exe: exe.into(),
            exe_args: exe_args.iter().map(|arg| (*arg).to_owned()).collect(),
            reserve: Mutex::default(),
        }
    }

    /// Starts a keeper for a worker. `dir` is created, mode 0700, if it is not there, and must not
    /// have been a keeper's before.
    ///
    /// Returns before the keeper is ready; nothing here waits for anything but the file system.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn launch(&self, dir: &Path, spec: &KeeperSpec) -> Result<LaunchedKeeper, LaunchError> {
        let directory = |source| LaunchError::Directory {
            path: dir.to_owned(),
            source,
        };
        let prepare = |source| LaunchError::Prepare {
            path: dir.to_owned(),
            source,
        };
        // The keeper's working directory is another one.
        let dir = &std::path::absolute(dir).map_err(directory)?;
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
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join(files::LOG))
            .map_err(prepare)?;
        // The one in reserve may have been killed.
        if let Some(launched) = self.take().and_then(|reserve| reserve.assign(dir).ok()) {
            return Ok(launched);
        }
        let spawn = |source| LaunchError::Spawn {
            path: self.exe.clone(),
            source,
        };
        self.recruit().map_err(spawn)?.assign(dir).map_err(spawn)
    }

    /// Puts a keeper in reserve if there is none, and waits until that is started. Without one, starting a
    /// worker takes longer, and that is all.
    pub fn restock(&self) {
        let is_stocked = |reserve: &Option<Recruit>| reserve.is_some();
        if is_stocked(&self.lock()) {
            return;
        }
        if let Ok(mut recruit) = self.recruit() {
            recruit.starter.wait();
            let mut reserve = self.lock();
            // Whoever came first stays; the other one hears of it and ends.
            if !is_stocked(&reserve) {
                *reserve = Some(recruit);
            }
        }
    }

    fn take(&self) -> Option<Recruit> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Recruit>> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recruit(&self) -> io::Result<Recruit> {
        let (ready, announce) = io::pipe()?;
        let (orders, order) = io::pipe()?;
        let starter = Command::new(&self.exe)
            // What people see in a list of processes, however it was found.
            .arg0("abide")
            .args(&self.exe_args)
            .arg(blank())
            .env_clear()
            .stdin(orders)
            .stdout(announce)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Recruit {
            ready: ready.into(),
            starter: Starter(starter),
            order,
        })
    }
}

impl Recruit {
    /// Gives it its worker.
    fn assign(self, dir: &Path) -> io::Result<LaunchedKeeper> {
        let Self {
            ready,
            starter,
            mut order,
        } = self;
        // A path is shorter than what a pipe takes at once.
        order.write_all(dir.as_os_str().as_bytes())?;
        Ok(LaunchedKeeper {
            dir: dir.to_owned(),
            ready,
            starter,
        })
    }
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

impl Starter {
    /// It ends within a millisecond of starting, long before the keeper is ready.
    fn wait(&mut self) {
        let _ = self.0.wait();
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        self.wait();
    }
}

fn last_lines(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("; ")
}
