//! Server-sent events (WHATWG HTML, "Server-sent events"), written straight into byte buffers.

use std::time::Duration;

use crate::output::OutputChunk;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

/// A comment is sent after this long without an event, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One event. `data` must serialise to JSON, which has no raw line breaks.
pub fn event(name: &str, id: Option<String>, data: &impl Serialize) -> Bytes {
    let mut text = Vec::with_capacity(256);
    text.extend_from_slice(b"event: ");
    text.extend_from_slice(name.as_bytes());
    if let Some(id) = id {
        text.extend_from_slice(b"\nid: ");
        text.extend_from_slice(id.as_bytes());
    }
    text.extend_from_slice(b"\ndata: ");
    // Only maps with non-text keys can fail, and there are none.
    let _ = serde_json::to_writer(&mut text, data);
    text.extend_from_slice(b"\n\n");
    text.into()
}

/// Whether the caller wants a stream.
pub fn wanted(headers: &axum::http::HeaderMap) -> bool {
    headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/event-stream"))
}

/// A response that sends `events` as they come, and ends with them or when the server stops.
pub fn response(
    events: impl Stream<Item = Bytes> + Send + 'static,
    stopping: CancellationToken,
) -> Response {
    let events = Box::pin(events.take_until(stopping.cancelled_owned()));
    let stream = futures_util::stream::unfold(events, |mut events| async {
        match tokio::time::timeout(KEEP_ALIVE, events.next()).await {
            Ok(Some(event)) => Some((event, events)),
            Ok(None) => None,
            Err(_) => Some((Bytes::from_static(b": keep-alive\n\n"), events)),
        }
    });
    (
        [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-cache"),
            // Reverse proxies that buffer by default are told not to.
            (header::HeaderName::from_static("x-accel-buffering"), "no"),
        ],
        Body::from_stream(stream.map(Ok::<_, std::convert::Infallible>)),
    )
        .into_response()
}

/// Turns chunks of output into `stdout`, `stderr` and `gap` events. Bytes that are UTF-8 go as
/// text, with a character that is cut by a chunk's end carried over to the next; others go as
/// base64, so that every byte arrives as it was written.
///
/// An event's id is the offset after its own last byte, and the next event begins there, so that
/// a client that goes on from an id loses nothing: what is carried counts as not sent, and goes
/// out by itself before output of the other stream or a gap.
#[derive(Debug, Default)]
pub struct OutputEvents {
    /// The first bytes of a cut character.
    carried: Vec<u8>,
    /// They are of standard error.
    carried_stderr: bool,
    /// Output offset after them.
    offset: u64,
}

#[derive(Serialize)]
struct Text<'a> {
    text: &'a str,
}

#[derive(Serialize)]
struct Binary {
    base64: String,
}

#[derive(Serialize)]
struct Gap {
    from: u64,
    to: u64,
}

impl OutputEvents {
    /// The events of a piece of output; none where it holds but the beginning of a character.
    pub fn encode(&mut self, chunk: OutputChunk) -> Bytes {
        match chunk {
            OutputChunk::Gap { from, to } => {
                let rest = self.finish();
                self.offset = to;
                [rest, event("gap", None, &Gap { from, to })]
                    .concat()
                    .into()
            }
            OutputChunk::Bytes { stderr, data, end } => {
                let other = if self.carried_stderr == stderr {
                    Bytes::new()
                } else {
                    self.finish()
                };
                let mut joined = std::mem::take(&mut self.carried);
                let data: &[u8] = if joined.is_empty() {
                    &data
                } else {
                    joined.extend_from_slice(&data);
                    &joined
                };
                let (sent, cut) = data.split_at(complete_characters(data));
                self.carried = cut.to_owned();
                self.carried_stderr = stderr;
                self.offset = end;
                let events = output_event(stderr, end - cut.len() as u64, sent);
                if other.is_empty() {
                    return events;
                }
                [other, events].concat().into()
            }
        }
    }

    /// What is still carried when the stream ends.
    pub fn finish(&mut self) -> Bytes {
        let carried = std::mem::take(&mut self.carried);
        output_event(self.carried_stderr, self.offset, &carried)
    }
}

fn output_event(stderr: bool, end: u64, data: &[u8]) -> Bytes {
    if data.is_empty() {
        return Bytes::new();
    }
    let name = if stderr { "stderr" } else { "stdout" };
    match std::str::from_utf8(data) {
        Ok(text) => event(name, Some(end.to_string()), &Text { text }),
        Err(_) => event(
            name,
            Some(end.to_string()),
            &Binary {
                base64: STANDARD.encode(data),
            },
        ),
    }
}

/// How many bytes of `data` end on a character boundary; at most three are left over.
fn complete_characters(data: &[u8]) -> usize {
    match std::str::from_utf8(data) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => data.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_are_cut_arrive_whole() {
        let bytes = "grün 🦀".as_bytes();
        for cut in 0..=bytes.len() {
            let mut events = OutputEvents::default();
            let mut sent = String::new();
            for (part, end) in [(&bytes[..cut], cut), (&bytes[cut..], bytes.len())] {
                let data = Bytes::copy_from_slice(part);
                let chunk = OutputChunk::Bytes {
                    stderr: false,
                    data,
                    end: end as u64,
                };
                sent.push_str(std::str::from_utf8(&events.encode(chunk)).unwrap());
            }
            sent.push_str(std::str::from_utf8(&events.finish()).unwrap());
            let text: String = sent
                .lines()
                .filter_map(|line| line.strip_prefix("data: "))
                .map(|data| {
                    let value: serde_json::Value = serde_json::from_str(data).unwrap();
                    value["text"].as_str().unwrap().to_owned()
                })
                .collect();
            assert_eq!(text, "grün 🦀", "cut at {cut}");
        }
    }

    #[test]
    fn ids_count_what_was_sent_and_not_what_is_carried() {
        let mut events = OutputEvents::default();
        let mut sent = Vec::new();
        for (stderr, data, end) in [
            (false, &b"a\xf0\x9f"[..], 3),
            (false, b"\xa6\x80b\xf0", 7),
            (true, b"err\xf0", 11),
        ] {
            let data = Bytes::from_static(data);
            sent.extend_from_slice(&events.encode(OutputChunk::Bytes { stderr, data, end }));
        }
        sent.extend_from_slice(&events.finish());
        let sent = String::from_utf8(sent).unwrap();
        let fields = |name| {
            let lines = sent.lines().filter_map(move |line| line.strip_prefix(name));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(fields("id: "), ["1", "6", "7", "10", "11"]);
        let expected = ["stdout", "stdout", "stdout", "stderr", "stderr"];
        assert_eq!(fields("event: "), expected);
    }

    #[test]
    fn bytes_that_are_no_text_arrive_as_they_are() {
        let mut events = OutputEvents::default();
        let data = Bytes::from_static(b"a\xff\xfeb");
        let sent = events.encode(OutputChunk::Bytes {
            stderr: true,
            data,
            end: 4,
        });
        assert_eq!(
            &sent[..],
            b"event: stderr\nid: 4\ndata: {\"base64\":\"Yf/+Yg==\"}\n\n"
        );
    }
}
