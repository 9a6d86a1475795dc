//! The server's own files in the data directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, test_kill_process};

use crate::connect::{ServerFile, key_path};

/// Made for its owner alone.
pub(super) fn make_data_dir(path: &Path) -> anyhow::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the data directory {}", path.display()))
}

/// Makes sure that no other server uses the data directory, for as long as the file is open.
pub(super) fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = data_dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let holder = pid.trim().parse().ok().and_then(Pid::from_raw);
        if holder.is_some_and(|holder| test_kill_process(holder).is_ok()) {
            bail!(
                "another server (pid {}) uses {}; stop it with `abide down`, or give this one a \
                 --data-dir of its own",
                pid.trim(),
                data_dir.display()
            );
        }
        // It was killed while it started a keeper, which has the lock until it runs its program:
        // a moment.
        flock(&file, FlockOperation::LockExclusive)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        file.rewind()?;
    }
    file.set_len(0)?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The API key; made on first use.
pub(super) fn key(data_dir: &Path) -> anyhow::Result<String> {
    let path = key_path(data_dir);
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim().len() >= 16 => return Ok(text.trim().to_owned()),
        Ok(_) => bail!(
            "{} is too short for a key; remove it to have one made",
            path.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", path.display()));
        }
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let key: String = std::iter::once("abide_".to_owned())
        .chain(random.map(|byte| format!("{byte:02x}")))
        .collect();
    write_private(&path, key.as_bytes())?;
    Ok(key)
}

/// Tells commands where the server is.
pub(super) fn write_server_file(data_dir: &Path, server: &ServerFile) -> anyhow::Result<()> {
    write_private(&ServerFile::path(data_dir), &serde_json::to_vec(server)?)
}

/// Nobody is there any more.
pub(super) fn remove_server_file(data_dir: &Path) {
    let _ = std::fs::remove_file(ServerFile::path(data_dir));
}

/// All or nothing, readable by the owner only.
pub(super) fn write_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
