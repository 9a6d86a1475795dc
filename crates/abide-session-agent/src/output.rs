//! Reading a worker's output in place, by output offset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use abide_interpreter::FromHarness;
use abide_keeper::{FrameAssembler, JournalReader, ReadError, Tag};
use abide_model::Exit;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::worker::Phase;

/// How much one chunk carries at most, in bytes.
const CHUNK_BYTES: usize = 256 * 1024;

/// Which streams a reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamFilter {
    /// Both, in the order in which the keeper saw them.
    All,
    /// Standard output only.
    Stdout,
    /// Standard error only.
    Stderr,
}

impl StreamFilter {
    pub(crate) fn wants(self, tag: Tag) -> bool {
        match tag {
            Tag::Stdout => self != Self::Stderr,
            Tag::Stderr => self != Self::Stdout,
            Tag::Control | Tag::Input | Tag::Lifecycle => false,
        }
    }
}

/// A piece of output, or the lack of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputChunk {
    /// Bytes of one stream; `end` is the output offset after them.
    Bytes {
        /// From standard error rather than standard output.
        stderr: bool,
        /// What was written.
        data: Bytes,
        /// Output offset after the last byte.
        end: u64,
    },
    /// The output between these offsets has left the journal.
    Gap {
        /// First missing output offset.
        from: u64,
        /// First offset there is again.
        to: u64,
    },
}

/// How far the ring may turn: what the agent itself has passed, and the readers that hold the
/// program back so that a client that streams a step gets every byte.
#[derive(Debug)]
pub(crate) struct Taps {
    journal: Arc<JournalReader>,
    inner: Mutex<TapsInner>,
}

#[derive(Debug, Default)]
struct TapsInner {
    own: u64,
    taps: Vec<Arc<TapState>>,
}

/// One such reader.
#[derive(Debug)]
struct TapState {
    /// Sequence number of the next journal entry it needs; `u64::MAX` until its step starts.
    next: AtomicU64,
    /// `next` when the stall guard last looked.
    seen: AtomicU64,
    /// Too slow for too long, or gone: the ring may turn past it.
    released: AtomicBool,
}

/// A hold on the journal; released when dropped.
#[derive(Debug)]
pub(crate) struct Tap {
    taps: Arc<Taps>,
    state: Arc<TapState>,
}

impl Taps {
    pub(crate) fn new(journal: Arc<JournalReader>) -> Self {
        Self {
            journal,
            inner: Mutex::default(),
        }
    }

    /// A hold that begins once [`Tap::hold_from`] is called.
    pub(crate) fn tap(self: &Arc<Self>) -> Tap {
        let state = Arc::new(TapState {
            next: AtomicU64::new(u64::MAX),
            seen: AtomicU64::new(u64::MAX),
            released: AtomicBool::new(false),
        });
        self.inner.lock().taps.push(Arc::clone(&state));
        Tap {
            taps: Arc::clone(self),
            state,
        }
    }

    /// The agent itself has passed every entry before `own`.
    pub(crate) fn passed(&self, own: u64) {
        self.publish(Some(own));
    }

    /// Nobody streams.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().taps.is_empty()
    }

    /// Releases readers that have not moved since the last call though there was more to read.
    pub(crate) fn release_stalled(&self) {
        {
            let inner = self.inner.lock();
            for tap in &inner.taps {
                let next = tap.next.load(Ordering::Acquire);
                if next < inner.own && tap.seen.swap(next, Ordering::Relaxed) == next {
                    tap.released.store(true, Ordering::Relaxed);
                }
            }
        }
        self.publish(None);
    }

    /// Under the lock, so that an older, lower cursor never overwrites a newer one.
    fn publish(&self, own: Option<u64>) {
        {
            let mut inner = self.inner.lock();
            inner.own = own.unwrap_or(inner.own);
            inner
                .taps
                .retain(|tap| !tap.released.load(Ordering::Relaxed));
            let keep = inner
                .taps
                .iter()
                .map(|tap| tap.next.load(Ordering::Acquire))
                .fold(inner.own, u64::min);
            self.journal.set_cursor(keep);
        }
    }
}

impl Tap {
    /// The same hold for the worker's side, which says where it begins.
    pub(crate) fn starter(&self) -> TapStarter {
        TapStarter(Arc::clone(&self.state))
    }

    fn moved_to(&self, next: u64) {
        self.state.next.store(next, Ordering::Release);
        self.taps.publish(None);
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.state.released.store(true, Ordering::Relaxed);
        self.taps.publish(None);
    }
}

/// Says from which entry on a [`Tap`] holds.
#[derive(Debug)]
pub(crate) struct TapStarter(Arc<TapState>);

impl TapStarter {
    pub(crate) fn hold_from(&self, next: u64) {
        self.0.next.store(next, Ordering::Release);
    }
}

/// Reads one worker's output from some point on, and follows it if asked.
pub struct OutputReader {
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
    buffer: Vec<u8>,
    /// An entry that was read but did not fit the chunk under way.
    pending: Option<(bool, Bytes, u64)>,
}

impl std::fmt::Debug for OutputReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OutputReader")
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

impl OutputReader {
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
            buffer: Vec::new(),
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
            buffer: Vec::new(),
            pending: None,
        }
    }

    /// The earliest output offset still there; everything before it is gone.
    pub fn earliest(&self) -> u64 {
        self.journal.earliest().output_offset
    }

    /// Output offset after the last byte there is now.
    pub fn head(&self) -> u64 {
        self.journal.output_end()
    }

    /// The same reader from another offset on, for one stream only.
    #[must_use]
    pub fn starting_at(mut self, from: u64, filter: StreamFilter) -> Self {
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
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<OutputChunk> {
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
        let mut collected: Vec<u8> = Vec::new();
        let mut stream = false;
        if let Some((stderr, data, end)) = self.pending.take() {
            stream = stderr;
            self.offset = end;
            collected = data.into();
        }
        while collected.len() < CHUNK_BYTES && !self.at_boundary {
            if self.end.is_some_and(|end| self.offset >= end) {
                break;
            }
            self.buffer.clear();
            match self.journal.next(&mut self.next, &mut self.buffer) {
                Ok(None) => break,
                Ok(Some(record)) => {
                    if !matches!(record.tag, Tag::Stdout | Tag::Stderr) {
                        if self.phase.is_some() && self.is_end_of_step(&record) {
                            self.at_boundary = true;
                            break;
                        }
                        continue;
                    }
                    let end = record.output_offset + self.buffer.len() as u64;
                    // The first entry may begin before the offset asked for.
                    let skip = self.offset.saturating_sub(record.output_offset);
                    let skip = usize::try_from(skip)
                        .unwrap_or(usize::MAX)
                        .min(self.buffer.len());
                    let keep = self.end.map_or(self.buffer.len(), |limit| {
                        let keep = limit.saturating_sub(record.output_offset);
                        usize::try_from(keep)
                            .unwrap_or(usize::MAX)
                            .min(self.buffer.len())
                    });
                    let data = &self.buffer[skip.min(keep)..keep];
                    if data.is_empty() || !self.filter.wants(record.tag) {
                        self.offset = self.offset.max(end);
                        continue;
                    }
                    let stderr = record.tag == Tag::Stderr;
                    if collected.is_empty() {
                        stream = stderr;
                    } else if stream != stderr {
                        self.pending = Some((stderr, Bytes::copy_from_slice(data), end));
                        break;
                    }
                    collected.extend_from_slice(data);
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
        Some(OutputChunk::Bytes {
            stderr: stream,
            data: collected.into(),
            end: self.offset,
        })
    }

    /// Whether the entry just read says that the step under way is over. Where exactly its
    /// output ended, its outcome will say.
    fn is_end_of_step(&mut self, record: &abide_keeper::Record) -> bool {
        match record.tag {
            // The next step's hand-over.
            Tag::Input => record.is_first(),
            Tag::Control => {
                let frame = self.frames.push(record, &self.buffer);
                frame.is_some_and(|(_, frame)| {
                    matches!(FromHarness::decode(frame), Ok(FromHarness::Finished { .. }))
                })
            }
            Tag::Stdout | Tag::Stderr | Tag::Lifecycle => false,
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
