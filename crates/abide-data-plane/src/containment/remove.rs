//! Removing a tree that somebody may be playing with.
//!
//! The tree is first renamed into a directory of ours (one rename: its own name is free at once,
//! and what a crash leaves behind is found by its prefix). There it is taken apart level by level:
//! whatever is found inside a directory is unlinked, and a directory inside a directory is moved up
//! beside it, so that however deep the tree is, three directories are open and no stack grows.

use std::ffi::{CString, OsStr};
use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use rustix::fs::{AtFlags, Dir, Mode, OFlags};
use rustix::io::Errno;
use tracing::warn;

/// How often a directory is listed again because something was put into it meanwhile. Whoever
/// keeps putting things there must be ended first.
const PASSES: u32 = 64;

/// Removes `name` in `parent`, by way of a directory in `root` whose name begins with `prefix`;
/// whether there was one.
pub(super) fn tree(
    root: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    prefix: &str,
) -> io::Result<bool> {
    let trash_name = format!("{prefix}{}", uuid::Uuid::now_v7().simple());
    rustix::fs::mkdirat(root, &trash_name, Mode::RWXU)?;
    let taken = Trash::open(root, OsStr::new(&trash_name)).and_then(|trash| {
        let there = trash.take(parent, name)?;
        trash.empty()?;
        Ok(there)
    });
    let gone = rustix::fs::unlinkat(root, &trash_name, AtFlags::REMOVEDIR);
    let there = taken?;
    gone?;
    Ok(there)
}

/// Removes what an earlier [`tree`] left in `root`. What resists is logged and left.
pub(super) fn sweep(root: BorrowedFd<'_>, prefix: &str) {
    let sweep = || -> io::Result<()> {
        for name in list(root)? {
            if !name.as_bytes().starts_with(prefix.as_bytes()) {
                continue;
            }
            let name = OsStr::from_bytes(name.as_bytes());
            let emptied = Trash::open(root, name).and_then(|trash| trash.empty());
            let removed =
                emptied.and_then(|()| Ok(rustix::fs::unlinkat(root, name, AtFlags::REMOVEDIR)?));
            if let Err(error) = removed {
                warn!(?name, %error, "cannot finish removing a workspace");
            }
        }
        Ok(())
    };
    if let Err(error) = sweep() {
        warn!(%error, "cannot look for workspaces that were not removed completely");
    }
}

/// A directory of ours whose content has no right to live.
struct Trash {
    directory: OwnedFd,
}

impl Trash {
    fn open(root: BorrowedFd<'_>, name: &OsStr) -> io::Result<Self> {
        let directory = open_directory(root, name)?;
        Ok(Self { directory })
    }

    /// Moves something in here, under a name that nobody can know; whether it was there.
    fn take(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
        let new = uuid::Uuid::new_v4().simple().to_string();
        let rename = || rustix::fs::renameat(parent, name, &self.directory, &new);
        let moved = match rename() {
            // Its `..` changes, so one must be allowed to write to it.
            Err(Errno::ACCESS) => {
                open_directory(parent, name)?;
                rename()
            }
            done => done,
        };
        match moved {
            Err(Errno::NOENT) => Ok(false),
            moved => Ok(moved.map(|()| true)?),
        }
    }

    /// Removes everything in it.
    fn empty(&self) -> io::Result<()> {
        loop {
            let names = list(self.directory.as_fd())?;
            if names.is_empty() {
                return Ok(());
            }
            for name in &names {
                let name = OsStr::from_bytes(name.as_bytes());
                if !unlink(self.directory.as_fd(), name)? {
                    self.take_apart(name)?;
                }
            }
        }
    }

    /// Unlinks what is in one of its directories, moves that one's directories up, and removes it.
    fn take_apart(&self, name: &OsStr) -> io::Result<()> {
        let directory = open_directory(self.directory.as_fd(), name)?;
        for _ in 0..PASSES {
            for inner in list(directory.as_fd())? {
                let inner = OsStr::from_bytes(inner.as_bytes());
                if !unlink(directory.as_fd(), inner)? {
                    self.take(directory.as_fd(), inner)?;
                }
            }
            match rustix::fs::unlinkat(&self.directory, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                removed => return Ok(removed?),
            }
        }
        Err(Errno::NOTEMPTY.into())
    }
}

/// Removes anything but a directory that has something in it; whether it is gone.
fn unlink(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => {
            // An empty one goes here; whatever speaks against another one shows later.
            let removed = rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR);
            Ok(matches!(removed, Ok(()) | Err(Errno::NOENT)))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Opens a directory to list and change it, whatever its mode was.
fn open_directory(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = rustix::fs::openat(parent, name, flags | OFlags::PATH, Mode::empty())?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
    if !mode.contains(Mode::RWXU) {
        // The way to change the mode of what is open by path only; it names this very directory.
        let path = format!("/proc/self/fd/{}", found.as_raw_fd());
        std::fs::set_permissions(path, Permissions::from_mode(0o700))?;
    }
    let flags = flags | OFlags::RDONLY;
    Ok(rustix::fs::openat(&found, ".", flags, Mode::empty())?)
}

/// The names in a directory.
fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}
