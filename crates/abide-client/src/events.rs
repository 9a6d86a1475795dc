//! The event log as it grows.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use abide_model::Event;
use futures_util::{Stream, StreamExt};
use reqwest::Response;

use crate::sse::SseParser;
use crate::step_stream::{Body, json};
use crate::{Client, Error};

/// Events in the order of their sequence numbers, without end.
///
/// When the connection breaks the stream yields the error and ends; call
/// [`Client::follow_events`] again with [`EventStream::position`] to go on without a loss.
#[must_use = "a stream does nothing unless it is polled"]
pub struct EventStream {
    client: Client,
    body: Body,
    parser: SseParser,
    position: Option<i64>,
    done: bool,
}

impl EventStream {
    pub(crate) fn new(client: Client, response: Response, after: Option<i64>) -> Self {
        Self {
            client,
            body: Box::pin(response.bytes_stream()),
            parser: SseParser::default(),
            position: after,
            done: false,
        }
    }

    /// Sequence number of the last event that was given out, or the one the stream began after.
    pub const fn position(&self) -> Option<i64> {
        self.position
    }

    /// The next event; after an error nothing more comes. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        StreamExt::next(self).await
    }

    fn parsed(&mut self) -> Result<Option<Event>, Error> {
        while let Some(message) = self.parser.next_message().map_err(|_| Error::Protocol {
            what: "too large an event",
        })? {
            let event: Event = json("event", &message.data)?;
            if self.position.is_none_or(|seen| event.sequence > seen) {
                self.position = Some(event.sequence);
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

impl Stream for EventStream {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        let error = loop {
            match this.parsed() {
                Ok(Some(event)) => return Poll::Ready(Some(Ok(event))),
                Ok(None) => {}
                Err(error) => break error,
            }
            match ready!(this.body.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => this.parser.push(&bytes),
                Some(Err(error)) => break this.client.transport(error),
                None => break this.client.cut_short(),
            }
        };
        this.done = true;
        Poll::Ready(Some(Err(error)))
    }
}
