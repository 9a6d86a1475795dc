//! `steps.jsonl`: the steps of one session, one line for each end of a step's life.
//!
//! A line is appended before what it says may be acted on. In memory only where the lines are and
//! what they say in short is kept. A line that a kill tore is dropped; when outcomes have become
//! many, the file is replaced by one with the newest, and the others move to `older.bin`.

use std::collections::{HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use abide_model::{NewStep, OutputView, StepId, StepOutcome};
use tracing::warn;

use super::digest::CodeDigest;
use super::lines::{Accepted, Line, Read, write_line};
use super::older::{Older, OlderStep};

const NAME: &str = "steps.jsonl";
/// How many outcomes are kept in full at least, as long as they fit into [`KEEP_BYTES`].
pub(super) const KEEP: usize = 256;
/// What they may take, in bytes.
const KEEP_BYTES: u64 = 16 << 20;

/// What the ledger knows of a step.
#[derive(Debug, Clone)]
pub(crate) enum KnownStep {
    /// Accepted, and not ended.
    Unfinished,
    /// Ended like this.
    Ended(Arc<StepOutcome>),
}

/// The same in short, with where the rest is.
#[derive(Debug)]
enum Entry {
    Unfinished(Unfinished),
    Ended {
        short: OlderStep,
        sequence: i64,
        /// Where its line is.
        at: u64,
        len: usize,
    },
    Older(OlderStep),
}

/// A step that has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Unfinished {
    pub(crate) step: Arc<NewStep>,
    pub(crate) sequence: i64,
    /// See [`abide_model::RunStep::queue_timeout_ms`].
    pub(crate) queue_timeout_ms: Option<u64>,
    digest: CodeDigest,
}

#[derive(Debug)]
pub(super) struct Steps {
    dir: PathBuf,
    file: File,
    /// Bytes that count; a write that failed may have left some behind.
    len: u64,
    entries: HashMap<StepId, Entry>,
    /// Those that ended and are in the file in full, oldest first.
    full: VecDeque<StepId>,
    older: Older,
    last_sequence: i64,
}

impl Steps {
    /// Opens the file in `dir`, or makes it.
    pub(super) fn open(dir: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(NAME))?;
        let (older, known) = Older::load(dir)?;
        let entries = known.into_iter().map(|step| (step.id, Entry::Older(step)));
        let mut steps = Self {
            dir: dir.to_owned(),
            file,
            len: 0,
            entries: entries.collect(),
            full: VecDeque::new(),
            older,
            last_sequence: 0,
        };
        steps.read_lines()?;
        Ok(steps)
    }

    fn read_lines(&mut self) -> std::io::Result<()> {
        let bytes = std::fs::read(self.dir.join(NAME))?;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if line.last() != Some(&b'\n') {
                // Torn by a kill: nobody has acted on it.
                break;
            }
            match serde_json::from_slice(line) {
                Ok(Read::Accepted(accepted)) => self.note_accepted(accepted),
                Ok(Read::Ended(ended)) => {
                    let sequence = ended.sequence;
                    let short = ended.outcome.with(ended.digest);
                    let (at, len) = (self.len, line.len());
                    self.last_sequence = self.last_sequence.max(sequence);
                    self.note_ended(short, sequence, at, len);
                }
                Err(error) => {
                    warn!(dir = %self.dir.display(), at = self.len, %error, "damaged line");
                }
            }
            self.len += line.len() as u64;
        }
        if self.len < bytes.len() as u64 {
            self.file.set_len(self.len)?;
        }
        Ok(())
    }

    fn note_accepted(&mut self, accepted: Accepted<'static>) {
        let sequence = accepted.sequence;
        self.last_sequence = self.last_sequence.max(sequence);
        let (id, digest) = (accepted.id, CodeDigest::of(&accepted.code));
        let unfinished = Unfinished {
            queue_timeout_ms: accepted.queue_timeout_ms,
            sequence,
            digest,
            step: Arc::new(accepted.into_step()),
        };
        self.entries
            .entry(id)
            .or_insert(Entry::Unfinished(unfinished));
    }

    fn note_ended(&mut self, short: OlderStep, sequence: i64, at: u64, len: usize) {
        let entry = Entry::Ended {
            short,
            sequence,
            at,
            len,
        };
        self.entries.insert(short.id, entry);
        self.full.push_back(short.id);
    }

    /// What is known of a step, and the digest of its code.
    pub(super) fn find(&self, id: StepId) -> std::io::Result<Option<(CodeDigest, KnownStep)>> {
        Ok(match self.entries.get(&id) {
            None => None,
            Some(Entry::Unfinished(unfinished)) => Some((unfinished.digest, KnownStep::Unfinished)),
            Some(Entry::Ended { short, at, len, .. }) => {
                let mut line = vec![0; *len];
                self.file.read_exact_at(&mut line, *at)?;
                let outcome = Line::outcome(&line)?;
                Some((short.digest, KnownStep::Ended(Arc::new(outcome))))
            }
            Some(Entry::Older(older)) => {
                let outcome = Arc::new(in_short(older));
                Some((older.digest, KnownStep::Ended(outcome)))
            }
        })
    }

    /// Records that a step was accepted; it has the sequence number that is answered.
    pub(super) fn accept(
        &mut self,
        mut step: NewStep,
        queue_timeout_ms: Option<u64>,
    ) -> std::io::Result<Unfinished> {
        let sequence = self.last_sequence + 1;
        step.sequence = Some(sequence);
        let accepted = Accepted::of(&step, sequence, queue_timeout_ms);
        self.append(&write_line(&Line::Accepted(accepted))?)?;
        self.last_sequence = sequence;
        let unfinished = Unfinished {
            digest: CodeDigest::of(&step.code),
            step: Arc::new(step),
            sequence,
            queue_timeout_ms,
        };
        let entry = Entry::Unfinished(unfinished.clone());
        self.entries.insert(unfinished.step.id, entry);
        Ok(unfinished)
    }

    /// Records how a step ended: `true` for the first time. A step that was never accepted here is
    /// recorded too: it ran.
    pub(super) fn finish(
        &mut self,
        step: &NewStep,
        outcome: &StepOutcome,
    ) -> std::io::Result<(bool, i64)> {
        let (digest, sequence) = match self.entries.get(&step.id) {
            Some(Entry::Unfinished(unfinished)) => (unfinished.digest, unfinished.sequence),
            Some(Entry::Ended { sequence, .. }) => return Ok((false, *sequence)),
            Some(Entry::Older(_)) => return Ok((false, 0)),
            None => (CodeDigest::of(&step.code), self.last_sequence + 1),
        };
        let line = write_line(&Line::Ended {
            sequence,
            digest,
            outcome,
        })?;
        let (at, len) = (self.append(&line)?, line.len());
        self.last_sequence = self.last_sequence.max(sequence);
        let short = OlderStep {
            id: step.id,
            digest,
            status: outcome.status,
            finished_at: outcome.finished_at,
            bytes: [outcome.stdout.bytes, outcome.stderr.bytes],
        };
        self.note_ended(short, sequence, at, len);
        // At twice the size, so that each outcome is copied about once.
        if self.full.len() >= 2 * KEEP || self.len > 2 * KEEP_BYTES {
            self.compact().unwrap_or_else(|error| {
                warn!(dir = %self.dir.display(), %error, "steps.jsonl stays large");
            });
        }
        Ok((true, sequence))
    }

    /// Steps that have not ended, in order of acceptance.
    pub(super) fn unfinished(&self) -> Vec<Unfinished> {
        let mut all: Vec<_> = self
            .entries
            .values()
            .filter_map(|entry| match entry {
                Entry::Unfinished(unfinished) => Some(unfinished.clone()),
                Entry::Ended { .. } | Entry::Older(_) => None,
            })
            .collect();
        all.sort_by_key(|unfinished| unfinished.sequence);
        all
    }

    /// Answers with where the line is.
    fn append(&mut self, line: &[u8]) -> std::io::Result<u64> {
        let at = self.len;
        if let Err(error) = self.file.write_all_at(line, at) {
            // A part may be there; the next line must not be followed by its rest.
            self.file.set_len(at)?;
            return Err(error);
        }
        self.len += line.len() as u64;
        Ok(at)
    }

    /// Replaces the file by one with the newest outcomes and what has not ended.
    fn compact(&mut self) -> std::io::Result<()> {
        let (mut leaving, mut bytes) = (self.full.len().saturating_sub(KEEP), 0);
        for (n, id) in self.full.iter().enumerate().rev() {
            if let Some(Entry::Ended { len, .. }) = self.entries.get(id) {
                bytes += *len as u64;
            }
            // The newest stays whatever its size.
            if bytes > KEEP_BYTES && n + 1 < self.full.len() {
                leaving = leaving.max(n + 1);
                break;
            }
        }
        let mut text = Vec::new();
        let mut places = Vec::new();
        for id in self.full.iter().skip(leaving) {
            if let Some(Entry::Ended { at, len, .. }) = self.entries.get(id) {
                let begin = text.len();
                text.resize(begin + len, 0);
                self.file.read_exact_at(&mut text[begin..], *at)?;
                places.push((*id, begin as u64));
            }
        }
        for unfinished in self.unfinished() {
            let (sequence, timeout) = (unfinished.sequence, unfinished.queue_timeout_ms);
            let accepted = Accepted::of(&unfinished.step, sequence, timeout);
            text.extend_from_slice(&write_line(&Line::Accepted(accepted))?);
        }
        let older: Vec<_> = self
            .full
            .iter()
            .take(leaving)
            .filter_map(|id| self.short(*id))
            .collect();
        // First there, then gone here: killed in between, a step is in both, which does no harm.
        let forgotten = self.older.add(&self.dir, &older)?;
        let new = self.dir.join("steps.new");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all_at(&text, 0)?;
        std::fs::rename(new, self.dir.join(NAME))?;
        (self.file, self.len) = (file, text.len() as u64);
        self.full.drain(..leaving);
        for (id, place) in places {
            if let Some(Entry::Ended { at, .. }) = self.entries.get_mut(&id) {
                *at = place;
            }
        }
        for step in older {
            self.entries.insert(step.id, Entry::Older(step));
        }
        for id in forgotten {
            if matches!(self.entries.get(&id), Some(Entry::Older(_))) {
                self.entries.remove(&id);
            }
        }
        Ok(())
    }

    fn short(&self, id: StepId) -> Option<OlderStep> {
        match self.entries.get(&id)? {
            Entry::Ended { short, .. } | Entry::Older(short) => Some(*short),
            Entry::Unfinished(_) => None,
        }
    }
}

/// The outcome of a step of which only the status is left.
fn in_short(older: &OlderStep) -> StepOutcome {
    // Nothing of it is left, and the view says how much that was.
    let [stdout, stderr] = older.bytes.map(|bytes| OutputView {
        bytes,
        ..OutputView::default()
    });
    StepOutcome {
        id: older.id,
        status: older.status,
        stdout,
        stderr,
        result: None,
        error: None,
        exit: None,
        started_at: None,
        finished_at: older.finished_at,
        output_start: 0,
        output_end: 0,
        worker: None,
    }
}

#[cfg(test)]
mod tests;
