//! What a terminal's journal still has, from its first entry to the one that is the last now.
//!
//! Once the ring has turned, the beginning of the output is gone and with it what the rest is drawn
//! upon. So the recording then begins with a screen: that of the oldest keyframe which the ring has not
//! left behind. The same happens in its midst when the ring overtakes it, since nobody waits for it.

use std::sync::Arc;
use std::time::Duration;

use abide_keeper::{ExitRecord, Lifecycle, ReadError, Record, Tag, WindowSize};

use super::screens::screen_size;
use super::{Shared, keyframes};

/// Bytes after which what was read is handed over.
const PIECE: usize = 64 * 1024;

/// Something that happened on a terminal.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// The whole state, in place of everything before.
    Screen {
        /// The size that it was drawn for.
        size: WindowSize,
        /// What gives a terminal of this size the state.
        bytes: Vec<u8>,
    },
    /// What programs wrote.
    Output(Vec<u8>),
    /// Another size.
    Resized(WindowSize),
    /// The program that was started ended.
    Exited(ExitRecord),
}

/// See the module.
#[derive(Debug)]
pub struct TerminalRecording {
    shared: Arc<Shared>,
    /// Size at the beginning.
    size: WindowSize,
    /// The ring had turned when it began.
    is_cut: bool,
    next: u64,
    /// One past the last entry that is part of it.
    end: u64,
    /// Where the output was that is lost, if a screen is to stand for it.
    lost: bool,
    /// `CLOCK_BOOTTIME` at its first entry, in nanoseconds.
    begun: Option<u64>,
    buffer: Vec<u8>,
}

impl TerminalRecording {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let journal = &shared.journal;
        let (end, earliest) = (journal.head_seq(), journal.earliest());
        let size = journal.window_size_at(earliest.seq).ok().flatten();
        let size = screen_size(size.unwrap_or(WindowSize::new(0, 0)));
        let is_cut = earliest.output_offset > 0;
        Self {
            size: WindowSize::new(size.cols(), size.rows()),
            is_cut,
            next: earliest.seq,
            end,
            lost: is_cut,
            begun: None,
            buffer: Vec::new(),
            shared,
        }
    }

    /// Columns and rows at its beginning; the screen that it begins with, if it does, has its own.
    pub fn size(&self) -> WindowSize {
        self.size
    }

    /// Whether it begins later than the terminal did.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// What happened next, each with the time since the beginning; nothing at the end.
    pub async fn next(&mut self) -> Vec<(Duration, Happened)> {
        let mut happened = Vec::new();
        let mut bytes = 0;
        if self.lost {
            self.lost = false;
            let Some(screen) = self.screen().await else {
                return happened;
            };
            // Timed with the first entry behind it.
            happened.push((Duration::ZERO, screen));
        }
        while bytes < PIECE && self.next < self.end {
            self.buffer.clear();
            let journal = &self.shared.journal;
            let record = match journal.next(&mut self.next, &mut self.buffer) {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(ReadError::Damaged { seq }) => {
                    self.next = seq + 1;
                    continue;
                }
                Err(ReadError::Expired { .. }) => {
                    self.lost = true;
                    if happened.is_empty() {
                        return Box::pin(self.next()).await;
                    }
                    break;
                }
            };
            let at = self.time(&record);
            if let [(first @ Duration::ZERO, Happened::Screen { .. })] = &mut happened[..] {
                *first = at;
            }
            let what = match record.tag {
                Tag::Terminal => Happened::Output(std::mem::take(&mut self.buffer)),
                Tag::Lifecycle => match serde_json::from_slice(&self.buffer) {
                    Ok(Lifecycle::Resized { size, .. }) => Happened::Resized(size),
                    Ok(Lifecycle::Exited(exit)) => Happened::Exited(exit),
                    _ => continue,
                },
                Tag::Stdout | Tag::Stderr | Tag::Control | Tag::Input => continue,
            };
            bytes += record.len as usize;
            happened.push((at, what));
        }
        happened
    }

    fn time(&mut self, record: &Record) -> Duration {
        let begun = *self.begun.get_or_insert(record.time_ns);
        Duration::from_nanos(record.time_ns.saturating_sub(begun))
    }

    /// The oldest screen that everything after it is still there for; `None` if the end lies before it.
    async fn screen(&mut self) -> Option<Happened> {
        let shared = Arc::clone(&self.shared);
        let found = tokio::task::spawn_blocking(move || {
            let earliest = shared.journal.earliest().seq;
            if let Some((next, screen)) = keyframes::oldest(&shared.dir, earliest) {
                let mut bytes = screen.visible();
                bytes.extend_from_slice(&screen.unfinished());
                return (next, screen.size(), bytes);
            }
            let moment = shared.follower.moment(|screen| {
                let mut bytes = screen.visible();
                bytes.extend_from_slice(&screen.unfinished());
                bytes
            });
            (moment.next, moment.size, moment.drawn)
        });
        // Fails when the runtime is shutting down.
        let (next, size, bytes) = found.await.ok()?;
        self.next = next;
        let size = WindowSize::new(size.cols(), size.rows());
        Some(Happened::Screen { size, bytes })
    }
}
