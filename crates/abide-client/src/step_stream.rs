//! One step as it happens.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use abide_model::{Step, StepResult};
use base64::Engine as _;
use bytes::{Buf as _, Bytes};
use futures_util::{Stream, StreamExt};
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::sse::{Message, SseParser};
use crate::{Client, Error};

/// What a step does, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum StepEvent {
    /// It was handed to the interpreter.
    Started(Step),
    /// Bytes of its standard output.
    Stdout(Bytes),
    /// Bytes of its standard error.
    Stderr(Bytes),
    /// Output that had left the journal before it could be sent: the offsets `from..to`.
    Gap {
        /// Offset of the first missing byte.
        from: u64,
        /// Offset after the last missing byte.
        to: u64,
    },
    /// Its value, and what it displayed.
    Result(StepResult),
    /// It has ended; always the last event.
    Completed(Step),
}

/// The events of one step. Ends after [`StepEvent::Completed`], or after an error.
///
/// Dropping it closes the connection and leaves the step running.
#[must_use = "a stream does nothing unless it is polled"]
pub struct StepStream {
    client: Client,
    body: Body,
    parser: SseParser,
    /// Output offset after the last byte that was given out.
    position: Option<u64>,
    /// Events that are decoded but not yet given out.
    ready: VecDeque<StepEvent>,
    done: bool,
}

pub(crate) type Body = Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>;

impl StepStream {
    /// `resume_from` is the offset after the last byte of output the caller has; what the server
    /// sends before it is skipped.
    pub(crate) fn new(client: Client, response: Response, resume_from: Option<u64>) -> Self {
        Self {
            client,
            body: Box::pin(response.bytes_stream()),
            parser: SseParser::default(),
            position: resume_from,
            ready: VecDeque::new(),
            done: false,
        }
    }

    /// For a server that answered with the finished step instead of a stream.
    pub(crate) fn finished(client: Client, step: Step, resume_from: Option<u64>) -> Self {
        Self {
            client,
            body: Box::pin(futures_util::stream::empty()),
            parser: SseParser::default(),
            position: resume_from,
            ready: finished_events(step, resume_from.is_some()),
            done: false,
        }
    }

    /// Offset after the last byte of output that was given out; `None` before the first.
    pub const fn position(&self) -> Option<u64> {
        self.position
    }

    /// The next event; nothing comes after the last one. Cancelling loses nothing.
    pub async fn next(&mut self) -> Option<Result<StepEvent, Error>> {
        StreamExt::next(self).await
    }

    fn decode(&mut self, message: &Message) -> Result<Option<StepEvent>, Error> {
        let event = match message.event.as_str() {
            "started" => StepEvent::Started(json("started", &message.data)?),
            "stdout" => match self.fresh(output(message)?, message)? {
                Some(bytes) => StepEvent::Stdout(bytes),
                None => return Ok(None),
            },
            "stderr" => match self.fresh(output(message)?, message)? {
                Some(bytes) => StepEvent::Stderr(bytes),
                None => return Ok(None),
            },
            "gap" => {
                let Gap { from, to } = json("gap", &message.data)?;
                let from = from.max(self.position.unwrap_or(0));
                if from >= to {
                    return Ok(None);
                }
                self.position = Some(to);
                StepEvent::Gap { from, to }
            }
            "result" => StepEvent::Result(json("result", &message.data)?),
            "completed" => StepEvent::Completed(json("completed", &message.data)?),
            // A newer server may tell more.
            _ => return Ok(None),
        };
        Ok(Some(event))
    }

    /// The part of an output event that was not given out before.
    fn fresh(&mut self, mut bytes: Bytes, message: &Message) -> Result<Option<Bytes>, Error> {
        let end = message
            .id
            .as_deref()
            .and_then(|id| id.parse::<u64>().ok())
            .ok_or(Error::Protocol {
                what: "an output event without an offset",
            })?;
        let start = end.saturating_sub(bytes.len() as u64);
        let seen = self.position.unwrap_or(0).saturating_sub(start);
        let seen = usize::try_from(seen).unwrap_or(usize::MAX).min(bytes.len());
        bytes.advance(seen);
        self.position = Some(end.max(self.position.unwrap_or(0)));
        Ok(Some(bytes).filter(|b| !b.is_empty()))
    }

    /// Everything the parser has, until an event comes out.
    fn parsed(&mut self) -> Result<Option<StepEvent>, Error> {
        while let Some(message) = self.parser.next_message().map_err(|_| Error::Protocol {
            what: "too large an event",
        })? {
            if let Some(event) = self.decode(&message)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }
}

impl Stream for StepStream {
    type Item = Result<StepEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        let item = loop {
            if let Some(event) = this.ready.pop_front() {
                break Ok(event);
            }
            match this.parsed() {
                Ok(Some(event)) => break Ok(event),
                Ok(None) => {}
                Err(error) => break Err(error),
            }
            match ready!(this.body.as_mut().poll_next(cx)) {
                Some(Ok(bytes)) => this.parser.push(&bytes),
                Some(Err(error)) => break Err(this.client.transport(error)),
                None => break Err(this.client.cut_short()),
            }
        };
        this.done = matches!(item, Err(_) | Ok(StepEvent::Completed(_)));
        Poll::Ready(Some(item))
    }
}

/// What there is to tell of a step that is only known by its record: the bounded views of its
/// output, unless the caller already has some, then result and end.
fn finished_events(mut step: Step, has_output: bool) -> VecDeque<StepEvent> {
    let mut events = VecDeque::new();
    if !has_output {
        for (text, event) in [
            (&step.stdout, StepEvent::Stdout as fn(Bytes) -> StepEvent),
            (&step.stderr, StepEvent::Stderr),
        ] {
            if !text.is_empty() {
                events.push_back(event(Bytes::copy_from_slice(text.as_bytes())));
            }
        }
    }
    if let Some(result) = step.result.take() {
        step.result = Some(result.clone());
        events.push_back(StepEvent::Result(result));
    }
    events.push_back(StepEvent::Completed(step));
    events
}

#[derive(Deserialize)]
struct Gap {
    from: u64,
    to: u64,
}

#[derive(Deserialize)]
struct OutputData {
    text: Option<String>,
    base64: Option<String>,
}

fn output(message: &Message) -> Result<Bytes, Error> {
    let data: OutputData = json("output", &message.data)?;
    match (data.text, data.base64) {
        (Some(text), _) => Ok(text.into()),
        (None, Some(base64)) => base64::engine::general_purpose::STANDARD
            .decode(base64)
            .map(Bytes::from)
            .map_err(|_| Error::Protocol {
                what: "output that is not base64",
            }),
        (None, None) => Err(Error::Protocol {
            what: "an output event without output",
        }),
    }
}

pub(crate) fn json<T: DeserializeOwned>(what: &'static str, data: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(data).map_err(|source| Error::Decode { what, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(position: Option<u64>) -> StepStream {
        StepStream {
            client: Client::new("http://127.0.0.1:1", None).unwrap(),
            body: Box::pin(futures_util::stream::empty()),
            parser: SseParser::default(),
            position,
            ready: VecDeque::new(),
            done: false,
        }
    }

    fn feed(stream: &mut StepStream, text: &str) -> Vec<StepEvent> {
        stream.parser.push(text.as_bytes());
        std::iter::from_fn(|| stream.parsed().unwrap()).collect()
    }

    #[test]
    fn output_is_decoded_and_counted() {
        let mut s = stream(None);
        let events = feed(
            &mut s,
            "event: stdout\nid: 103\ndata: {\"text\":\"a\\nb\"}\n\n: keep-alive\n\n\
             event: stderr\nid: 105\ndata: {\"base64\":\"//8=\"}\n\n\
             event: news\ndata: {}\n\n",
        );
        assert_eq!(
            events,
            [
                StepEvent::Stdout(Bytes::from_static(b"a\nb")),
                StepEvent::Stderr(Bytes::from_static(b"\xff\xff")),
            ]
        );
        assert_eq!(s.position(), Some(105));
    }

    #[test]
    fn what_the_caller_has_is_skipped_to_the_byte() {
        let replay = "event: stdout\nid: 4\ndata: {\"text\":\"abcd\"}\n\n\
                      event: gap\ndata: {\"from\":4,\"to\":6}\n\n\
                      event: stderr\nid: 8\ndata: {\"text\":\"gh\"}\n\n";
        let gap = |from| StepEvent::Gap { from, to: 6 };
        let stdout = |s| StepEvent::Stdout(Bytes::from_static(s));
        let stderr = |s| StepEvent::Stderr(Bytes::from_static(s));
        for (position, expected) in [
            (None, vec![stdout(b"abcd"), gap(4), stderr(b"gh")]),
            (Some(3), vec![stdout(b"d"), gap(4), stderr(b"gh")]),
            (Some(5), vec![gap(5), stderr(b"gh")]),
            (Some(7), vec![stderr(b"h")]),
            (Some(8), vec![]),
        ] {
            let mut s = stream(position);
            assert_eq!(feed(&mut s, replay), expected, "{position:?}");
            assert_eq!(s.position(), Some(8));
        }
    }

    #[test]
    fn broken_events_are_errors() {
        for text in [
            "event: stdout\ndata: {\"text\":\"no offset\"}\n\n",
            "event: stdout\nid: 1\ndata: {}\n\n",
            "event: stdout\nid: 1\ndata: {\"base64\":\"!\"}\n\n",
            "event: completed\ndata: nonsense\n\n",
        ] {
            let mut s = stream(None);
            s.parser.push(text.as_bytes());
            assert!(s.parsed().is_err(), "{text}");
        }
    }
}
