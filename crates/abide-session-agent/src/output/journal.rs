//! Output read in place, from the journal of a worker on this host.

use std::collections::VecDeque;
use std::sync::Arc;

use abide_interpreter::FromHarness;
use abide_keeper::{FrameAssembler, JournalReader, ReadError, Tag};
use abide_model::Exit;
use bytes::Bytes;
use tokio::sync::watch;

use super::taps::Tap;
use super::{OutputChunk, StreamFilter};
use crate::worker::Phase;

/// How much one chunk carries at most, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks on their way to a client whose memory a reader waits to have back.
const MAX_LENT: usize = 4;

/// Reads one worker's output from some point on, and follows it if asked.
pub(crate) struct JournalOutput {
    journal: Arc<JournalReader>,
    tap: Option<Tap>,
    progress: watch::Receiver<u64>,
    /// Ends the stream when the worker does.
    exit: Option<watch::Receiver<Option<Exit>>>,
    /// Ends the stream when the step does.
    phase: Option<watch::Receiver<Phase>>,
    filter: StreamFilter,
    next: u64,
    /// Output offset up to which the reader has been served.
    offset: u64,
    /// Output offset at which to stop.
    end: Option<u64>,
    follow: bool,
    /// The step's last output has been read.
    at_boundary: bool,
    frames: FrameAssembler,
    /// Chunks that were given out, oldest first, to be used again.
    lent: VecDeque<Bytes>,
    /// An entry that was read but did not fit the chunk under way.
    pending: Option<(bool, Bytes, u64)>,
}

impl std::fmt::Debug for JournalOutput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JournalOutput")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl JournalOutput {
    /// From output offset `from` up to `end`, or to what is there now, or — with `follow` — on
    /// as the worker writes.
    pub(crate) fn new(
        journal: Arc<JournalReader>,
        progress: watch::Receiver<u64>,
        exit: Option<watch::Receiver<Option<Exit>>>,
        filter: StreamFilter,
        from: u64,
        end: Option<u64>,
        follow: bool,
    ) -> Self {
        // Where the byte is gone, reading begins at its old place and finds the gap.
        let next = journal.seq_at_output_offset(from).unwrap_or(0);
        Self {
            journal,
            tap: None,
            progress,
            exit,
            phase: None,
            filter,
            next,
            offset: from,
            end,
            follow,
            at_boundary: false,
            frames: FrameAssembler::default(),
            lent: VecDeque::new(),
            pending: None,
        }
    }

    /// Follows one step from the entry where its output begins, and ends with it. The program
    /// waits for this reader (within the stall limit), so nothing is skipped.
    pub(crate) fn of_step(
        journal: Arc<JournalReader>,
        progress: watch::Receiver<u64>,
        phase: watch::Receiver<Phase>,
        tap: Option<Tap>,
        start: (u64, u64),
    ) -> Self {
        Self {
            journal,
            tap,
            progress,
            exit: None,
            phase: Some(phase),
            filter: StreamFilter::All,
            next: start.0,
            offset: start.1,
            end: None,
            follow: true,
            at_boundary: false,
            frames: FrameAssembler::default(),
            lent: VecDeque::new(),
            pending: None,
        }
    }

    /// The earliest output offset still there; everything before it is gone.
    pub(super) fn earliest(&self) -> u64 {
        self.journal.earliest().output_offset
    }

    /// Output offset after the last byte there is now.
    pub(super) fn head(&self) -> u64 {
        self.journal.output_end()
    }

    /// The same reader from another offset on, for one stream only.
    #[must_use]
    pub(super) fn starting_at(mut self, from: u64, filter: StreamFilter) -> Self {
        self.filter = filter;
        if from == self.offset {
            return self;
        }
        self.next = self.journal.seq_at_output_offset(from).unwrap_or(0);
        self.offset = from;
        self.passed();
        self
    }

    /// Output offset after what was served so far.
    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<OutputChunk> {
        loop {
            if let Some(chunk) = self.read() {
                return Some(chunk);
            }
            if self.end.is_some_and(|end| self.offset >= end) || !self.follow {
                return None;
            }
            // Subscribed before the look at the journal, so nothing is missed in between.
            let ended = tokio::select! {
                changed = self.progress.changed(), if !self.at_boundary => changed.is_err(),
                () = step_ended(&mut self.phase) => true,
                () = worker_ended(&mut self.exit) => true,
            };
            if ended {
                if let Some(phase) = &self.phase
                    && let Phase::Ended(ended) = &*phase.borrow()
                {
                    self.end = Some(ended.outcome.output_end);
                }
                self.follow = false;
            }
        }
    }

    /// What the journal has now, coalesced.
    fn read(&mut self) -> Option<OutputChunk> {
        self.progress.borrow_and_update();
        let mut collected = self.chunk();
        let mut stream = false;
        if let Some((stderr, data, end)) = self.pending.take() {
            stream = stderr;
            self.offset = end;
            collected.extend_from_slice(&data);
        }
        while collected.len() < CHUNK_BYTES && !self.at_boundary {
            if self.end.is_some_and(|end| self.offset >= end) {
                break;
            }
            let start = collected.len();
            match self.journal.next(&mut self.next, &mut collected) {
                Ok(None) => break,
                Ok(Some(record)) => {
                    if !record.tag.is_output() {
                        let over = self.phase.is_some() && self.is_end_of_step(&record, &collected);
                        collected.truncate(start);
                        if over {
                            self.at_boundary = true;
                            break;
                        }
                        continue;
                    }
                    let end = record.output_offset + u64::from(record.len);
                    // Not beyond what was asked for, which is where the next reader goes on.
                    let end = self.end.map_or(end, |limit| end.min(limit));
                    // The last entry may go on after the end, the first begin before the offset.
                    let within = |offset: u64| {
                        let place = offset.saturating_sub(record.output_offset);
                        start
                            + usize::try_from(place)
                                .unwrap_or(usize::MAX)
                                .min(record.len as usize)
                    };
                    if let Some(limit) = self.end {
                        collected.truncate(within(limit));
                    }
                    let skipped = start..within(self.offset).min(collected.len());
                    if !skipped.is_empty() {
                        collected.drain(skipped);
                    }
                    if collected.len() == start || !self.filter.wants(record.tag) {
                        collected.truncate(start);
                        self.offset = self.offset.max(end);
                        continue;
                    }
                    let stderr = record.tag == Tag::Stderr;
                    if start == 0 {
                        stream = stderr;
                    } else if stream != stderr {
                        let other = Bytes::copy_from_slice(&collected[start..]);
                        collected.truncate(start);
                        self.pending = Some((stderr, other, end));
                        break;
                    }
                    self.offset = end;
                }
                Err(ReadError::Expired { earliest }) => {
                    if !collected.is_empty() {
                        break;
                    }
                    self.next = earliest.seq;
                    if earliest.output_offset > self.offset {
                        let from = std::mem::replace(&mut self.offset, earliest.output_offset);
                        return Some(OutputChunk::Gap {
                            from,
                            to: earliest.output_offset,
                        });
                    }
                }
                Err(ReadError::Damaged { seq }) => self.next = seq + 1,
            }
        }
        self.passed();
        if collected.is_empty() {
            return None;
        }
        let data = Bytes::from(collected);
        if self.lent.len() < MAX_LENT {
            self.lent.push_back(data.clone());
        }
        Some(OutputChunk::Bytes {
            stderr: stream,
            data,
            end: self.offset,
        })
    }

    /// An empty buffer, if possible one whose chunk nobody uses any more: fresh memory costs more
    /// than what is copied into it.
    fn chunk(&mut self) -> Vec<u8> {
        match self.lent.pop_front().map(Bytes::try_into_mut) {
            Some(Ok(free)) => {
                let mut free = Vec::from(free);
                free.clear();
                free
            }
            Some(Err(used)) => {
                self.lent.push_front(used);
                Vec::new()
            }
            None => Vec::new(),
        }
    }

    /// Whether the entry just read says that the step under way is over. Where exactly its
    /// output ended, its outcome will say.
    fn is_end_of_step(&mut self, record: &abide_keeper::Record, buffer: &[u8]) -> bool {
        match record.tag {
            // The next step's hand-over.
            Tag::Input => record.is_first(),
            Tag::Control => {
                let frame = self.frames.push(record, buffer);
                frame.is_some_and(|(_, frame)| {
                    matches!(FromHarness::decode(frame), Ok(FromHarness::Finished { .. }))
                })
            }
            Tag::Stdout | Tag::Stderr | Tag::Terminal | Tag::Lifecycle => false,
        }
    }

    /// Lets the program go on past what was read.
    fn passed(&self) {
        if let Some(tap) = &self.tap {
            tap.moved_to(self.next);
        }
    }
}

async fn step_ended(phase: &mut Option<watch::Receiver<Phase>>) {
    match phase {
        Some(phase) => {
            let _ = phase
                .wait_for(|phase| matches!(phase, Phase::Ended(_)))
                .await;
        }
        None => std::future::pending().await,
    }
}

async fn worker_ended(exit: &mut Option<watch::Receiver<Option<Exit>>>) {
    match exit {
        Some(exit) => {
            let _ = exit.wait_for(Option::is_some).await;
        }
        None => std::future::pending().await,
    }
}
