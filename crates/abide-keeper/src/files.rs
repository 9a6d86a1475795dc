//! The files of a keeper's directory.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) const SPEC: &str = "spec.json";
pub(crate) const KEEPER: &str = "keeper.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const JOURNAL: &str = "journal";
pub(crate) const CONTROL: &str = "control.sock";
pub(crate) const LOG: &str = "keeper.log";

/// Writes `value` as JSON, mode 0600, so that the file is whole or not there.
pub(crate) fn write_json(dir: &Path, name: &str, value: &impl Serialize) -> std::io::Result<()> {
    let text = serde_json::to_vec(value)?;
    let draft = dir.join(format!(".{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&text)?;
    drop(file);
    std::fs::rename(&draft, dir.join(name))
}

/// Reads what [`write_json`] wrote; `None` when there is no such file.
pub(crate) fn read_json<T: DeserializeOwned>(dir: &Path, name: &str) -> std::io::Result<Option<T>> {
    match std::fs::read(dir.join(name)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A path to the control socket that fits a socket address (108 bytes), however long the
/// directory's own path is. Valid in this process while `dir` is open.
pub(crate) fn socket_path(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{CONTROL}", dir.as_raw_fd()))
}
