//! Whether the disk of the data directory has room for what is to be recorded.

use std::path::Path;

use rustix::fs::{CWD, FallocateFlags, Mode, OFlags, fallocate, openat, statvfs};

/// What the record of a step may take with all that belongs to it, in bytes.
const ROOM: u64 = 2 << 20;

/// Whether records can still be written below `dir`; the error says why not. Asks the file system
/// for a number. Only when that is low it tries: space may be kept for the one who asks, and what
/// is free may be denied by a quota.
pub(crate) fn has_room(dir: &Path) -> Result<(), String> {
    let at = |error: rustix::io::Errno| {
        format!("cannot ask for the space in the data directory: {error}")
    };
    let space = statvfs(dir).map_err(at)?;
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if free >= ROOM || claim(dir).is_ok() {
        return Ok(());
    }
    Err(format!(
        "the disk of the data directory is full: {free} bytes are free; free some space"
    ))
}

/// Takes the room and gives it back, in a file without a name.
fn claim(dir: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = openat(CWD, dir, flags, Mode::RUSR | Mode::WUSR)?;
    fallocate(file, FallocateFlags::empty(), 0, ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_room_and_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(has_room(dir.path()), Ok(()));
        assert_eq!(claim(dir.path()), Ok(()));
        let missing = has_room(&dir.path().join("missing")).unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
        // It has no blocks at all.
        let none = has_room(Path::new("/proc/self")).unwrap_err();
        assert!(none.contains("is full: 0 bytes"), "{none}");
    }
}
