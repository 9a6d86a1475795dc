//! Raw output bytes.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Response;

use crate::client::header_u64;
use crate::step_stream::Body;
use crate::{Client, Error};

/// Where to begin reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputFrom {
    /// At this absolute offset; an error of code `expired` when it has left the journal.
    Offset(u64),
    /// At most this many bytes before the end.
    Tail(u64),
}

/// A piece of output that was read in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Offset of the first byte.
    pub from: u64,
    /// Offset to read on from.
    pub next: u64,
    /// The bytes.
    pub bytes: Bytes,
}

/// Output as it is written; ends when the interpreter has ended.
#[must_use = "a stream does nothing unless it is polled"]
pub struct OutputStream {
    client: Client,
    body: Body,
    position: u64,
}

impl OutputStream {
    pub(crate) fn new(
        client: Client,
        response: Response,
        asked: OutputFrom,
    ) -> Result<Self, Error> {
        let position = match (header_u64(&response, "x-output-from"), asked) {
            (Some(from), _) | (None, OutputFrom::Offset(from)) => from,
            (None, OutputFrom::Tail(_)) => {
                return Err(Error::Protocol {
                    what: "output without X-Output-From",
                });
            }
        };
        Ok(Self {
            client,
            body: Box::pin(response.bytes_stream()),
            position,
        })
    }

    /// The next bytes; `None` when the interpreter has ended. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        StreamExt::next(self).await
    }

    /// Offset after the last byte that was given out.
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl Stream for OutputStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        Poll::Ready(ready!(this.body.as_mut().poll_next(cx)).map(|chunk| {
            let bytes = chunk.map_err(|e| this.client.transport(e))?;
            this.position += bytes.len() as u64;
            Ok(bytes)
        }))
    }
}
