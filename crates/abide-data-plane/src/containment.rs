//! Workspaces stay beneath their root, whatever they are called and whatever is done to them.
//!
//! A reference is a relative path that a client chose; the directories beneath the root belong to
//! user code, which may put symbolic links anywhere and swap them at any time. So nothing here
//! checks a path and then uses it: every step goes from an open directory to the next one, and the
//! kernel refuses what leads elsewhere (`openat2` with `RESOLVE_BENEATH`, `RESOLVE_NO_SYMLINKS` and
//! `RESOLVE_NO_MAGICLINKS`).
//!
//! Everything here blocks on the file system.

mod remove;

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Longest reference, in bytes.
pub const MAX_REFERENCE_BYTES: usize = 1024;
/// Longest name between two slashes, in bytes: what Linux file systems take.
const MAX_NAME_BYTES: usize = 255;
/// Directories that are being removed have such names at the top, so no reference may.
const REMOVING: &str = ".removing-";
/// How often a walk is begun again because something was renamed meanwhile. Renaming without end
/// is an attack, and the answer to it is an error.
const RETRIES: u32 = 64;

/// The directory that all workspaces are beneath.
#[derive(Debug)]
pub struct WorkspaceRoot {
    directory: OwnedFd,
    path: PathBuf,
}

/// A workspace that was found beneath the root.
#[derive(Debug)]
pub struct Contained {
    /// Its absolute path, free of symbolic links when it was looked up.
    pub path: PathBuf,
    /// The directory itself, which stays the same one whatever its path leads to later
    /// (`O_PATH`).
    pub directory: OwnedFd,
    /// It was not there before.
    pub created: bool,
}

/// Why a workspace could not be had or removed.
#[derive(Debug, thiserror::Error)]
pub enum ContainmentError {
    /// It can never name a workspace.
    #[error("{reference:?} cannot name a workspace: {reason}")]
    Reference {
        /// What was asked for, shortened.
        reference: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// There is a symbolic link on the way, or it leads out of the root.
    #[error("{reference:?} leads out of the workspaces")]
    Escapes {
        /// What was asked for.
        reference: String,
    },
    /// There is something on the way that is no directory.
    #[error("{reference:?} is no directory")]
    NotADirectory {
        /// What was asked for.
        reference: String,
    },
    /// The root cannot be made or opened.
    #[error("cannot open the workspaces' root {}", path.display())]
    Root {
        /// Which directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The workspace cannot be made or opened.
    #[error("cannot open the workspace {reference:?}")]
    Open {
        /// What was asked for.
        reference: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The workspace cannot be removed, or not all of it. What is left has a name of its own and
    /// goes when the root is opened again.
    #[error("cannot remove the workspace {reference:?}")]
    Remove {
        /// What was asked for.
        reference: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl WorkspaceRoot {
    /// Opens the root; makes it, with mode 0700, if it is missing. Symbolic links on the way to the
    /// root itself are followed: whoever configured it is trusted. Removes what an earlier removal
    /// left unfinished.
    ///
    /// # Errors
    /// [`ContainmentError::Root`].
    pub fn open(path: &Path) -> Result<Self, ContainmentError> {
        let open = || -> io::Result<Self> {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)?;
            let path = path.canonicalize()?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = rustix::fs::open(&path, flags, Mode::empty())?;
            Ok(Self { directory, path })
        };
        let root = open().map_err(|source| ContainmentError::Root {
            path: path.to_owned(),
            source,
        })?;
        remove::sweep(root.directory.as_fd(), REMOVING);
        Ok(root)
    }

    /// Where it is: absolute, without symbolic links when it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The workspace that a reference names. Directories that are missing on the way are made with
    /// mode 0700.
    ///
    /// A reference is a relative path of at most [`MAX_REFERENCE_BYTES`] without `.`, `..`, empty
    /// names and control characters.
    ///
    /// # Errors
    /// All of [`ContainmentError`] but `Root` and `Remove`. Directories that were made before the
    /// error stay.
    pub fn resolve(&self, reference: &str) -> Result<Contained, ContainmentError> {
        let names = names(reference)?;
        let failed = |errno| refusal(reference, errno);
        let found = |directory, created| Contained {
            path: self.path.join(reference),
            directory,
            created,
        };
        match open_beneath(self.directory.as_fd(), reference) {
            Ok(directory) => return Ok(found(directory, false)),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(errno)),
        }
        let mut created = false;
        let mut at: Option<OwnedFd> = None;
        for name in names {
            let parent = at.as_ref().map_or(self.directory.as_fd(), |fd| fd.as_fd());
            created = match rustix::fs::mkdirat(parent, name, Mode::RWXU) {
                Ok(()) => true,
                // Also when a symbolic link has the name; the next line refuses that.
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(failed(errno)),
            };
            at = Some(open_beneath(parent, name).map_err(failed)?);
        }
        match at {
            Some(directory) => Ok(found(directory, created)),
            None => Err(failed(Errno::NOENT)),
        }
    }

    /// Removes a workspace with all that is in it; whether there was one. Symbolic links are
    /// removed, never followed. Its name is free at once, before its content is gone; what is above
    /// it stays.
    ///
    /// # Errors
    /// All of [`ContainmentError`] but `Root`.
    pub fn remove(&self, reference: &str) -> Result<bool, ContainmentError> {
        names(reference)?;
        let failed = |errno| refusal(reference, errno);
        let (above, name) = match reference.rsplit_once('/') {
            None => (None, reference),
            Some((above, name)) => match open_beneath(self.directory.as_fd(), above) {
                Ok(directory) => (Some(directory), name),
                Err(Errno::NOENT) => return Ok(false),
                Err(errno) => return Err(failed(errno)),
            },
        };
        let parent = above
            .as_ref()
            .map_or(self.directory.as_fd(), |fd| fd.as_fd());
        // What is to be removed must be a directory: a link in its place is somebody's trick.
        match open_beneath(parent, name) {
            Ok(_) => {}
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed(errno)),
        }
        remove::tree(self.directory.as_fd(), parent, OsStr::new(name), REMOVING).map_err(|source| {
            ContainmentError::Remove {
                reference: reference.to_owned(),
                source,
            }
        })
    }
}

/// Opens a directory beneath another one.
fn open_beneath(directory: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    // Without `NOFOLLOW`, which would open a link at the end instead of refusing it.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut last = Errno::AGAIN;
    for _ in 0..RETRIES {
        match rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve) {
            Err(errno @ (Errno::AGAIN | Errno::INTR)) => last = errno,
            done => return done,
        }
    }
    Err(last)
}

fn refusal(reference: &str, errno: Errno) -> ContainmentError {
    let reference = reference.to_owned();
    match errno {
        Errno::LOOP | Errno::XDEV => ContainmentError::Escapes { reference },
        Errno::NOTDIR => ContainmentError::NotADirectory { reference },
        _ => ContainmentError::Open {
            reference,
            source: errno.into(),
        },
    }
}

/// The names in a reference, from the top.
fn names(reference: &str) -> Result<Vec<&str>, ContainmentError> {
    let refuse = |reason| {
        Err(ContainmentError::Reference {
            reference: reference.chars().take(100).collect(),
            reason,
        })
    };
    if reference.is_empty() {
        return refuse("it is empty");
    }
    if reference.len() > MAX_REFERENCE_BYTES {
        return refuse("it is longer than 1024 bytes");
    }
    if reference.starts_with('/') {
        return refuse("it is an absolute path");
    }
    if reference.chars().any(char::is_control) {
        return refuse("it contains a control character");
    }
    let names: Vec<&str> = reference.split('/').collect();
    for name in &names {
        match *name {
            "" => return refuse("it contains an empty name"),
            "." | ".." => return refuse("it contains `.` or `..`"),
            name if name.len() > MAX_NAME_BYTES => {
                return refuse("it contains a name longer than 255 bytes");
            }
            _ => {}
        }
    }
    if names[0].starts_with(REMOVING) {
        return refuse("such names are for what is being removed");
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
