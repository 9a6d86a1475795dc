//! What a list of processes shows of a keeper.
//!
//! It is started before it knows its worker. So its last argument is blank, and the name of the worker's directory is
//! written over it later, as daemons do that tell there what they are busy with.

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where the process keeps its last argument.
pub(super) struct Title {
    memory: File,
    /// Of the argument.
    start: u64,
    length: usize,
}

impl Title {
    /// `None` where the system does not let the process write there.
    pub(super) fn find() -> Option<Self> {
        let length = std::env::args_os().next_back()?.len();
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The 49th field, after a name which may have blanks and parentheses in it (proc(5)).
        let (_, fields) = stat.rsplit_once(')')?;
        let end: u64 = fields.split_ascii_whitespace().nth(46)?.parse().ok()?;
        Some(Self {
            memory: OpenOptions::new().write(true).open("/proc/self/mem").ok()?,
            // A zero byte is behind it.
            start: end.checked_sub(u64::try_from(length).ok()? + 1)?,
            length,
        })
    }

    /// Shows the directory, as much as there is room for.
    pub(super) fn show(self, dir: &Path) {
        let mut text = dir.as_os_str().as_bytes().to_vec();
        text.resize(self.length, 0);
        // Nothing depends on it.
        let _ = self.memory.write_all_at(&text, self.start);
    }
}
