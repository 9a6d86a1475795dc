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
/// Id, digest of the code, end in microseconds, bytes of output and of error output, status, zeros.
const ENTRY_BYTES: usize = 64;
/// How many are remembered: who repeats a step after that many others gets it run again. Each takes
/// about a hundred bytes of memory.
pub(super) const REMEMBERED: usize = 16_384;

/// What is left of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OlderStep {
    pub(super) id: StepId,
    pub(super) digest: CodeDigest,
    pub(super) status: StepStatus,
    pub(super) finished_at: Timestamp,
    /// How much it wrote to standard output and to standard error.
    pub(super) bytes: [u64; 2],
}

/// The ids in the file, oldest first.
#[derive(Debug, Default)]
pub(super) struct Older {
    order: VecDeque<StepId>,
    /// Entries in the file, among them those that count no more.
    written: usize,
}

impl Older {
    /// Reads what there is; an entry that a kill tore is not there.
    pub(super) fn load(dir: &Path) -> std::io::Result<(Self, Vec<OlderStep>)> {
        let bytes = read(dir)?;
        let (entries, torn) = bytes.as_chunks::<ENTRY_BYTES>();
        let skip = entries.len().saturating_sub(REMEMBERED);
        let steps: Vec<_> = entries[skip..].iter().filter_map(decode).collect();
        let mut older = Self {
            order: steps.iter().map(|step| step.id).collect(),
            written: entries.len(),
        };
        if !torn.is_empty() {
            older.rewrite(dir)?;
        }
        Ok((older, steps))
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
        self.order.extend(steps.iter().map(|step| step.id));
        let surplus = self.order.len().saturating_sub(REMEMBERED);
        let forgotten = self.order.drain(..surplus).collect();
        if self.written > 2 * REMEMBERED {
            self.rewrite(dir)?;
        }
        Ok(forgotten)
    }

    /// Leaves what counts no more out of the file.
    fn rewrite(&mut self, dir: &Path) -> std::io::Result<()> {
        let (new, path) = (dir.join("older.new"), dir.join(NAME));
        let bytes = read(dir)?;
        let (entries, _) = bytes.as_chunks::<ENTRY_BYTES>();
        let skip = entries.len().saturating_sub(REMEMBERED);
        private_file(&new)?.write_all(entries[skip..].as_flattened())?;
        std::fs::rename(new, path)?;
        self.written = entries.len() - skip;
        Ok(())
    }
}

fn read(dir: &Path) -> std::io::Result<Vec<u8>> {
    match std::fs::read(dir.join(NAME)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn encode(step: &OlderStep) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..16].copy_from_slice(step.id.0.as_bytes());
    entry[16..32].copy_from_slice(&step.digest.0);
    entry[32..40].copy_from_slice(&step.finished_at.as_micros().to_le_bytes());
    entry[40..48].copy_from_slice(&step.bytes[0].to_le_bytes());
    entry[48..56].copy_from_slice(&step.bytes[1].to_le_bytes());
    let status = StepStatus::ALL.iter().position(|it| *it == step.status);
    entry[56] = u8::try_from(status.unwrap_or_default()).unwrap_or_default();
    entry
}

fn decode(entry: &[u8; ENTRY_BYTES]) -> Option<OlderStep> {
    let number = |at: usize| Some(u64::from_le_bytes(entry[at..at + 8].try_into().ok()?));
    Some(OlderStep {
        id: StepId(Uuid::from_slice(&entry[..16]).ok()?),
        digest: CodeDigest(entry[16..32].try_into().ok()?),
        finished_at: Timestamp::from_micros(number(32)?.cast_signed()),
        bytes: [number(40)?, number(48)?],
        status: *StepStatus::ALL.get(usize::from(entry[56]))?,
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
            bytes: [n as u64, 7],
        };
        let (mut older, none) = Older::load(dir.path()).unwrap();
        assert_eq!(none, []);
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
        let (mut again, steps) = Older::load(dir.path()).unwrap();
        assert_eq!(steps, all[10..]);
        for round in 0..3 {
            let more = again.add(dir.path(), &all).unwrap();
            assert_eq!(more.len(), all.len(), "{round}");
        }
        again.add(dir.path(), &[step(7)]).unwrap();
        let (_, steps) = Older::load(dir.path()).unwrap();
        assert_eq!((steps.len(), steps.last()), (REMEMBERED, Some(&step(7))));
        let length = std::fs::metadata(dir.path().join(NAME)).unwrap().len();
        assert!(length <= (2 * REMEMBERED * ENTRY_BYTES) as u64, "{length}");
    }
}
