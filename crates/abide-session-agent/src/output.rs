//! Reading a worker's output, by output offset.

mod journal;
mod relayed;
mod taps;

use abide_keeper::Tag;
use bytes::Bytes;
use tokio::sync::mpsc;

pub(crate) use journal::JournalOutput;
use relayed::RelayedOutput;
pub(crate) use taps::{Tap, TapStarter, Taps};

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
            Tag::Stdout => self.wants_stderr(false),
            Tag::Stderr => self.wants_stderr(true),
            // A terminal has one stream.
            Tag::Terminal => self == Self::All,
            Tag::Control | Tag::Input | Tag::Lifecycle => false,
        }
    }

    fn wants_stderr(self, stderr: bool) -> bool {
        match self {
            Self::All => true,
            Self::Stdout => !stderr,
            Self::Stderr => stderr,
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

/// Reads one worker's output from some point on, and follows it if asked.
#[derive(Debug)]
pub struct OutputReader(Source);

#[derive(Debug)]
enum Source {
    Journal(Box<JournalOutput>),
    Relayed(RelayedOutput),
}

impl OutputReader {
    /// Output of a worker of another host: `chunks` come from output offset `offset` on; the worker
    /// has output from `earliest` to `head`.
    pub const fn relayed(
        chunks: mpsc::Receiver<OutputChunk>,
        offset: u64,
        (earliest, head): (u64, u64),
    ) -> Self {
        Self(Source::Relayed(RelayedOutput::new(
            chunks,
            offset,
            (earliest, head),
        )))
    }

    /// The earliest output offset still there; everything before it is gone.
    pub fn earliest(&self) -> u64 {
        match &self.0 {
            Source::Journal(journal) => journal.earliest(),
            Source::Relayed(relayed) => relayed.earliest,
        }
    }

    /// Output offset after the last byte there is now; of another host, there was when asked.
    pub fn head(&self) -> u64 {
        match &self.0 {
            Source::Journal(journal) => journal.head(),
            Source::Relayed(relayed) => relayed.head,
        }
    }

    /// The same reader from another offset on, for one stream only.
    #[must_use]
    pub fn starting_at(self, from: u64, filter: StreamFilter) -> Self {
        Self(match self.0 {
            Source::Journal(journal) => {
                Source::Journal(Box::new(journal.starting_at(from, filter)))
            }
            Source::Relayed(relayed) => Source::Relayed(relayed.starting_at(from, filter)),
        })
    }

    /// Output offset after what was served so far.
    pub const fn offset(&self) -> u64 {
        match &self.0 {
            Source::Journal(journal) => journal.offset(),
            Source::Relayed(relayed) => relayed.offset,
        }
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Option<OutputChunk> {
        match &mut self.0 {
            Source::Journal(journal) => journal.next().await,
            Source::Relayed(relayed) => relayed.next().await,
        }
    }
}

impl From<JournalOutput> for OutputReader {
    fn from(journal: JournalOutput) -> Self {
        Self(Source::Journal(Box::new(journal)))
    }
}
