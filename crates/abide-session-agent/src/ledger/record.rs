//! `session.json`: what a session agent must know of a session to find it again.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use abide_model::{Exit, Runtime, SessionId, TerminalSpec, Timestamp, WorkerId};
use serde::{Deserialize, Serialize};

/// Name of the file in the session's directory.
const NAME: &str = "session.json";
/// Interpreters before the present one whose output stays readable.
const EARLIER_WORKERS: usize = 4;

/// A registered session, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SessionRecord {
    /// Names the directory too.
    pub(crate) id: SessionId,
    /// What the client calls it.
    pub(crate) label: String,
    pub(crate) runtime: Runtime,
    /// Directory of its steps.
    pub(crate) workspace: PathBuf,
    /// The agent made the workspace and removes it.
    pub(crate) scratch: bool,
    /// SHA-256 of its token in hexadecimal; none: registered without one.
    pub(crate) token_sha256: Option<String>,
    /// Its present interpreter.
    pub(crate) worker: Option<WorkerId>,
    /// Those before it, oldest first.
    #[serde(default)]
    pub(crate) earlier_workers: Vec<WorkerId>,
    /// How the present interpreter ended.
    pub(crate) exit: Option<Exit>,
    /// It was registered without an interpreter.
    #[serde(default)]
    pub(crate) bare: bool,
    /// Its terminals, oldest first, those included that ended and can still be looked at.
    #[serde(default)]
    pub(crate) terminals: Vec<TerminalRecord>,
    /// It is being removed: what is left of it goes at the next start.
    #[serde(default)]
    pub(crate) terminating: bool,
    pub(crate) created_at: Timestamp,
}

/// A terminal, as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TerminalRecord {
    pub(crate) id: WorkerId,
    /// As it was asked for.
    pub(crate) spec: TerminalSpec,
    pub(crate) created_at: Timestamp,
    /// How and when its program ended.
    pub(crate) ended: Option<(Exit, Timestamp)>,
}

impl SessionRecord {
    /// Reads the record of the session in `dir`.
    pub(crate) fn load(dir: &Path) -> std::io::Result<Self> {
        let text = std::fs::read(dir.join(NAME))?;
        serde_json::from_slice(&text).map_err(std::io::Error::other)
    }

    /// Replaces the record: after a kill there is the old one or the new one.
    pub(crate) fn save(&self, dir: &Path) -> std::io::Result<()> {
        let (new, path) = (dir.join("session.new"), dir.join(NAME));
        let mut file = private_file(&new)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        std::fs::rename(new, path)
    }

    /// The session gets an interpreter; answers with those whose files are no longer needed.
    pub(crate) fn assign(&mut self, worker: WorkerId) -> Vec<WorkerId> {
        self.earlier_workers.extend(self.worker.replace(worker));
        self.exit = None;
        let surplus = self.earlier_workers.len().saturating_sub(EARLIER_WORKERS);
        self.earlier_workers.drain(..surplus).collect()
    }

    /// Every interpreter that has files.
    pub(crate) fn interpreters(&self) -> impl Iterator<Item = WorkerId> {
        self.earlier_workers.iter().copied().chain(self.worker)
    }

    /// Every worker that has files.
    pub(crate) fn workers(&self) -> impl Iterator<Item = WorkerId> {
        let terminals = self.terminals.iter().map(|terminal| terminal.id);
        self.interpreters().chain(terminals)
    }

    /// It was registered without an interpreter, and nobody has asked for one since.
    pub(crate) fn has_had_no_interpreter(&self) -> bool {
        self.bare && self.worker.is_none()
    }

    /// One of its terminals.
    pub(crate) fn terminal(&self, id: WorkerId) -> Option<&TerminalRecord> {
        self.terminals.iter().find(|terminal| terminal.id == id)
    }

    /// The same, to be changed.
    pub(crate) fn terminal_mut(&mut self, id: WorkerId) -> Option<&mut TerminalRecord> {
        self.terminals.iter_mut().find(|terminal| terminal.id == id)
    }
}

/// A fresh file that its owner alone can read.
pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_survives_and_forgets_old_workers() {
        let dir = tempfile::tempdir().unwrap();
        let mut record = SessionRecord {
            id: SessionId::new(),
            label: "s1".to_owned(),
            runtime: Runtime::Node,
            workspace: "/w".into(),
            scratch: true,
            token_sha256: Some("00".to_owned()),
            worker: None,
            earlier_workers: Vec::new(),
            exit: Some(Exit::default()),
            bare: false,
            terminals: Vec::new(),
            terminating: false,
            created_at: Timestamp::now(),
        };
        let workers: Vec<_> = (0..7).map(|_| WorkerId::new()).collect();
        let gone: Vec<_> = workers.iter().flat_map(|id| record.assign(*id)).collect();
        assert_eq!(gone, workers[..2]);
        assert_eq!(record.interpreters().collect::<Vec<_>>(), workers[2..]);
        assert_eq!(record.exit, None);
        record.save(dir.path()).unwrap();
        assert_eq!(SessionRecord::load(dir.path()).unwrap(), record);
    }
}
