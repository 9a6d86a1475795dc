//! Steps whose outcomes are no longer kept in full: that they ran, and how they ended.
//!
//! One fixed-size entry each in `older.bin`, appended when outcomes leave `steps.jsonl`.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use abide_model::{StepId, StepStatus, Timestamp};
use uuid::Uuid;

use super::digest::CodeDigest;
use super::record::private_file;

const NAME: &str = "older.bin";
/// Id, digest of the code, end in microseconds, status, zeros.
const ENTRY_BYTES: usize = 48;
/// How many are remembered: who repeats a step after that many others gets it run again.
pub(super) const REMEMBERED: usize = 65_536;

/// What is left of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OlderStep {
    pub(super) id: StepId,
    pub(super) digest: CodeDigest,
    pub(super) status: StepStatus,
    pub(super) finished_at: Timestamp,
}

/// The ids in the file, oldest first.
#[derive(Debug, Default)]
pub(super) struct Older {
    order: VecDeque<OlderStep>,
    /// Entries in the file, among them those that count no more.
    written: usize,
}

impl Older {
    /// Reads what there is; an entry that a kill tore is not there.
    pub(super) fn load(dir: &Path) -> std::io::Result<Self> {
        let bytes = match std::fs::read(dir.join(NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self::default());
            }
            Err(error) => return Err(error),
        };
        let (entries, torn) = bytes.as_chunks::<ENTRY_BYTES>();
        let skip = entries.len().saturating_sub(REMEMBERED);
        let mut older = Self {
            order: entries[skip..].iter().filter_map(decode).collect(),
            written: entries.len(),
        };
        if !torn.is_empty() {
            older.rewrite(dir)?;
        }
        Ok(older)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &OlderStep> {
        self.order.iter()
    }

    /// Adds steps; answers with those that are forgotten for it.
    pub(super) fn add(&mut self, dir: &Path, steps: &[OlderStep]) -> std::io::Result<Vec<StepId>> {
        let bytes: Vec<u8> = steps.iter().flat_map(encode).collect();
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join(NAME))?;
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(&bytes) {
            // Half an entry would shift all that follow.
            file.set_len(before)?;
            return Err(error);
        }
        self.written += steps.len();
        self.order.extend(steps);
        let surplus = self.order.len().saturating_sub(REMEMBERED);
        let forgotten = self.order.drain(..surplus).map(|step| step.id).collect();
        if self.written > 2 * REMEMBERED {
            self.rewrite(dir)?;
        }
        Ok(forgotten)
    }

    fn rewrite(&mut self, dir: &Path) -> std::io::Result<()> {
        let (new, path) = (dir.join("older.new"), dir.join(NAME));
        let bytes: Vec<u8> = self.order.iter().flat_map(encode).collect();
        private_file(&new)?.write_all(&bytes)?;
        std::fs::rename(new, path)?;
        self.written = self.order.len();
        Ok(())
    }
}

fn encode(step: &OlderStep) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..16].copy_from_slice(step.id.0.as_bytes());
    entry[16..32].copy_from_slice(&step.digest.0);
    entry[32..40].copy_from_slice(&step.finished_at.as_micros().to_le_bytes());
    let status = StepStatus::ALL.iter().position(|it| *it == step.status);
    entry[40] = u8::try_from(status.unwrap_or_default()).unwrap_or_default();
    entry
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<OlderStep> {
    Some(OlderStep {
        id: StepId(Uuid::from_slice(&entry[..16]).ok()?),
        digest: CodeDigest(entry[16..32].try_into().ok()?),
        finished_at: Timestamp::from_micros(i64::from_le_bytes(entry[32..40].try_into().ok()?)),
        status: *StepStatus::ALL.get(usize::from(entry[40]))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_whole_and_the_oldest_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let step = |n: usize| OlderStep {
            id: StepId(Uuid::from_u128(n as u128)),
            digest: CodeDigest::of(&n.to_string()),
            status: StepStatus::ALL[n % StepStatus::ALL.len()],
            finished_at: Timestamp::from_micros(n as i64),
        };
        let mut older = Older::load(dir.path()).unwrap();
        let all: Vec<_> = (0..REMEMBERED + 10).map(step).collect();
        let forgotten = older.add(dir.path(), &all).unwrap();
        assert_eq!(
            forgotten,
            all[..10].iter().map(|s| s.id).collect::<Vec<_>>()
        );
        // Torn by a kill.
        let mut file = OpenOptions::new()
            .append(true)
            .open(dir.path().join(NAME))
            .unwrap();
        file.write_all(&[1; 20]).unwrap();
        let mut again = Older::load(dir.path()).unwrap();
        assert!(again.iter().eq(&all[10..]));
        again.add(dir.path(), &[step(7)]).unwrap();
        assert_eq!(
            Older::load(dir.path()).unwrap().iter().last(),
            Some(&step(7))
        );
    }
}
