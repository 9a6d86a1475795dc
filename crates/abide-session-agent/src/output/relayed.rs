//! Output that another host reads from its journal and sends.

use tokio::sync::mpsc;

use super::{OutputChunk, StreamFilter};

/// Chunks as they come, cut to what is wanted.
#[derive(Debug)]
pub(super) struct RelayedOutput {
    chunks: mpsc::Receiver<OutputChunk>,
    pub(super) offset: u64,
    pub(super) earliest: u64,
    pub(super) head: u64,
    filter: StreamFilter,
}

impl RelayedOutput {
    pub(super) const fn new(
        chunks: mpsc::Receiver<OutputChunk>,
        offset: u64,
        (earliest, head): (u64, u64),
    ) -> Self {
        Self {
            chunks,
            offset,
            earliest,
            head,
            filter: StreamFilter::All,
        }
    }

    pub(super) fn starting_at(mut self, from: u64, filter: StreamFilter) -> Self {
        self.offset = from;
        self.filter = filter;
        self
    }

    pub(super) async fn next(&mut self) -> Option<OutputChunk> {
        loop {
            match self.chunks.recv().await? {
                OutputChunk::Bytes { stderr, data, end } => {
                    let begin = end - data.len() as u64;
                    let skipped = self.offset.saturating_sub(begin);
                    self.offset = self.offset.max(end);
                    let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
                    if skipped < data.len() && self.filter.wants_stderr(stderr) {
                        let data = data.slice(skipped..);
                        return Some(OutputChunk::Bytes { stderr, data, end });
                    }
                }
                OutputChunk::Gap { from, to } => {
                    let from = from.max(self.offset);
                    self.offset = self.offset.max(to);
                    if from < to {
                        return Some(OutputChunk::Gap { from, to });
                    }
                }
            }
        }
    }
}
