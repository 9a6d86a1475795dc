//! One who looks at a terminal, with a place of its own in the journal.

use std::sync::Arc;

use abide_keeper::{ExitRecord, Lifecycle, ReadError, Tag, WindowSize};
use abide_model::SnapshotReason;
use abide_terminal::Size;
use bytes::Bytes;
use tokio::sync::watch;

use super::screens::Moment;
use super::{Shared, Visit};

/// Output in one piece at most, in bytes.
const PIECE: usize = 64 * 1024;
/// How far behind one who took long to take something may be before it is better moved forward, in bytes:
/// see [`Viewer::next`].
pub const TOO_FAR_BEHIND: u64 = 1024 * 1024;
/// Most scrollback that comes together with a screen which somebody waits for, in bytes: one who was too slow has
/// not got the time for more, and one who has just come is given the rest behind it.
const SCROLLBACK_AT_ONCE: usize = 64 * 1024;

/// What a viewer sees next.
#[derive(Debug, Clone)]
pub enum View {
    /// The whole state, in place of everything seen so far.
    Snapshot(Snapshot),
    /// What the terminal's programs wrote.
    Output {
        /// Output offset of the first byte.
        offset: u64,
        /// As they wrote it.
        bytes: Bytes,
    },
    /// The terminal has another size from here on.
    Resized(WindowSize),
    /// The program that was started has ended; what it left running may write on.
    Exited(ExitRecord),
    /// The terminal is gone: nothing more will come.
    Closed,
}

/// What gives a terminal of this size the whole state.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Why it comes.
    pub reason: SnapshotReason,
    /// Output offset of what follows it.
    pub offset: u64,
    /// Columns and rows that it was drawn for.
    pub size: Size,
    /// A full reset, scrollback, and what is visible: no queries, bells or clipboard writes.
    pub bytes: Bytes,
}

/// See the module. Dropping it ends the viewing.
#[derive(Debug)]
pub struct Viewer {
    shared: Arc<Shared>,
    id: u64,
    head: watch::Receiver<u64>,
    /// How the program ended, and whether this viewer was told.
    ended: watch::Receiver<Option<ExitRecord>>,
    is_end_told: bool,
    /// The end that it is to be told of once that is recorded.
    telling: Option<ExitRecord>,
    /// Sequence number of the entry to read next.
    next: u64,
    /// Output offset up to which it has been served.
    offset: u64,
    /// The program waits for it.
    blocks: bool,
    /// A snapshot comes next, for this reason.
    begins_anew: Option<SnapshotReason>,
    /// Bytes of scrollback in a snapshot.
    scrollback: usize,
    /// The first snapshot is to have little scrollback, and another one the rest.
    screen_first: bool,
    buffer: Vec<u8>,
}

impl Viewer {
    /// From the output offset where it left, if that is still there, else from a snapshot.
    pub(super) fn new(shared: Arc<Shared>, id: u64, visit: &Visit) -> Self {
        let head = shared.head.clone();
        let known = visit
            .resume_from
            .filter(|offset| *offset <= shared.journal.output_end());
        let next = known.and_then(|offset| shared.journal.seq_at_output_offset(offset).ok());
        Self {
            id,
            head,
            ended: shared.follower.ended(),
            telling: None,
            is_end_told: false,
            next: next.unwrap_or(0),
            offset: known.unwrap_or(0),
            blocks: visit.blocks,
            begins_anew: match (next, visit.resume_from) {
                (Some(_), _) => None,
                (None, None) => Some(SnapshotReason::Attach),
                (None, Some(_)) => Some(SnapshotReason::Expired),
            },
            scrollback: visit.scrollback,
            screen_first: visit.screen_first,
            buffer: Vec::new(),
            shared,
        }
    }

    /// Names it among the terminal's viewers.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Output offset up to which it has been served.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Has the program wait for what it has not read, if it is one who is waited for.
    fn hold(&self) {
        if self.blocks && self.begins_anew.is_none() {
            self.shared.follower.hold(self.id, self.next);
        }
    }

    /// What comes next, when it comes. `patience`: it could not be asked for a while, and if it is further
    /// behind than that many bytes, it rather sees the present state than everything on the way there. May
    /// be given up and called again.
    pub async fn next(&mut self, patience: Option<u64>) -> View {
        self.hold();
        let behind = self.shared.journal.output_end().saturating_sub(self.offset);
        let is_late = patience.is_some_and(|patience| !self.blocks && behind > patience);
        if let Some(reason) = self.begins_anew.or(is_late.then_some(SnapshotReason::Slow)) {
            return self.snapshot(reason).await;
        }
        loop {
            if self.telling.is_some() {
                return self.tell_end().await;
            }
            self.head.borrow_and_update();
            // Asked before the journal is read, so that all that came before the end is read first.
            let ended = self.ended.borrow_and_update().clone();
            match self.read() {
                Ok(Some(View::Exited(exit))) => {
                    self.telling = Some(exit).filter(|_| !self.is_end_told);
                    continue;
                }
                Ok(Some(view)) => return view,
                Ok(None) => {}
                Err(Gone) => return self.snapshot(SnapshotReason::Expired).await,
            }
            if !self.is_end_told && ended.is_some() {
                // The entry that says so lies before the place where this viewer began.
                self.telling = ended;
                continue;
            }
            self.hold();
            let more = tokio::select! {
                more = self.head.changed() => more,
                Ok(()) = self.ended.changed() => Ok(()),
            };
            // Nothing is written any more once the task that follows the keeper has ended.
            if more.is_err() && self.has_all() {
                return View::Closed;
            }
        }
    }

    /// Nothing is left to tell.
    fn has_all(&self) -> bool {
        let has_read_all = self.next >= self.shared.journal.head_seq();
        has_read_all && (self.is_end_told || self.ended.borrow().is_none())
    }

    /// Whoever hears of the end finds it recorded.
    async fn tell_end(&mut self) -> View {
        let mut recorded = self.shared.exit.subscribe();
        // Fails only when the terminal is forgotten, and then nobody is told anything more.
        let _ = recorded.wait_for(Option::is_some).await;
        self.is_end_told = true;
        self.telling.take().map_or(View::Closed, View::Exited)
    }

    async fn snapshot(&mut self, reason: SnapshotReason) -> View {
        let shared = Arc::clone(&self.shared);
        let is_waited_for = match reason {
            SnapshotReason::Slow => true,
            SnapshotReason::Attach | SnapshotReason::Expired => self.screen_first,
            SnapshotReason::Scrollback => false,
        };
        let scrollback = if is_waited_for {
            self.scrollback.min(SCROLLBACK_AT_ONCE)
        } else {
            self.scrollback
        };
        let drawn = tokio::task::spawn_blocking(move || {
            shared.follower.catch_up(shared.journal.head_seq());
            shared.follower.moment(|screen| {
                let mut bytes = screen.snapshot(scrollback);
                // What follows may begin within a character or a sequence.
                bytes.extend_from_slice(&screen.unfinished());
                (bytes, screen.scrollback_len())
            })
        });
        let Ok(moment) = drawn.await else {
            // The runtime is shutting down.
            return View::Closed;
        };
        let Moment {
            next,
            offset,
            size,
            drawn: (bytes, scrolled_off),
        } = moment;
        let lacks = scrollback < self.scrollback && scrollback < scrolled_off;
        self.begins_anew =
            (lacks && reason != SnapshotReason::Slow).then_some(SnapshotReason::Scrollback);
        (self.next, self.offset) = (next, offset);
        View::Snapshot(Snapshot {
            reason,
            offset,
            size,
            bytes: bytes.into(),
        })
    }

    /// Reads what there is, at most a piece.
    fn read(&mut self) -> Result<Option<View>, Gone> {
        let mut output = Vec::new();
        let start = self.offset;
        while output.len() < PIECE {
            let at = self.next;
            self.buffer.clear();
            let record = match self.shared.journal.next(&mut self.next, &mut self.buffer) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(ReadError::Expired { .. }) if output.is_empty() => return Err(Gone),
                // What was read is sound; the next look tells again.
                Err(ReadError::Expired { .. }) => break,
                Err(ReadError::Damaged { seq }) => {
                    self.next = seq + 1;
                    continue;
                }
            };
            match record.tag {
                Tag::Terminal => {
                    // Resuming begins within an entry.
                    let skip = self.offset.saturating_sub(record.output_offset);
                    let skip = usize::try_from(skip)
                        .unwrap_or(usize::MAX)
                        .min(self.buffer.len());
                    output.extend_from_slice(&self.buffer[skip..]);
                    self.offset = record.output_offset + u64::from(record.len);
                }
                Tag::Lifecycle => {
                    let Some(view) = lifecycle(&self.buffer) else {
                        continue;
                    };
                    if output.is_empty() {
                        return Ok(Some(view));
                    }
                    // After what came before it.
                    self.next = at;
                    break;
                }
                Tag::Stdout | Tag::Stderr | Tag::Control | Tag::Input => {}
            }
        }
        Ok((!output.is_empty()).then(|| View::Output {
            offset: start,
            bytes: output.into(),
        }))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.shared.follower.release(self.id);
        self.shared.viewers.leave(self.id);
    }
}

/// What is to be read next has left the ring.
struct Gone;

fn lifecycle(entry: &[u8]) -> Option<View> {
    match serde_json::from_slice(entry).ok()? {
        Lifecycle::Resized { size, .. } => Some(View::Resized(size)),
        Lifecycle::Exited(exit) => Some(View::Exited(exit)),
        Lifecycle::Closed => Some(View::Closed),
        Lifecycle::Started { .. } | Lifecycle::ControlEnded { .. } => None,
    }
}
