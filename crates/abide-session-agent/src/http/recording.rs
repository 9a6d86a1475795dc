//! A terminal's recording as it is sent, in every plane the same.

use std::time::Duration;

use abide_keeper::WindowSize;
use abide_model::{CastFormat, CastHeader, CastWriter, Worker};
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::terminal::{Happened, TerminalHandle, TerminalRecording};

/// Marks where a recording goes on with a screen because the ring was faster than whoever read it.
const LOST: &str = "output is missing before this";

/// Asciicast of everything that a terminal's journal still has, up to now, or until `stopping`.
pub async fn recorded(
    worker: &Worker,
    terminal: &TerminalHandle,
    format: CastFormat,
    stopping: CancellationToken,
) -> Response {
    let mut recording = terminal.recording();
    let first = recording.next().await;
    let size = match first.first() {
        Some((_, Happened::Screen { size, .. })) => *size,
        _ => recording.size(),
    };
    let command = worker.terminal.as_ref().map(|spec| spec.command.join(" "));
    // When what is left of it began is not known: times count from the start of the machine.
    let begun = (!recording.is_cut()).then(|| worker.created_at.as_micros() / 1_000_000);
    let header = CastHeader {
        cols: size.columns,
        rows: size.rows,
        timestamp: begun,
        title: terminal.title(),
        command: command.filter(|command| !command.is_empty()),
    };
    let mut text = String::new();
    let cast = CastWriter::new(format, &header, &mut text);
    let mut film = Film {
        recording,
        cast,
        size,
        is_begun: false,
    };
    film.take(first, &mut text);
    let head = futures_util::stream::once(std::future::ready(Ok::<_, std::io::Error>(text)));
    let rest = futures_util::stream::unfold(film, |mut film| async {
        let happened = film.recording.next().await;
        if happened.is_empty() {
            return None;
        }
        let mut text = String::new();
        film.take(happened, &mut text);
        Some((Ok(text), film))
    });
    let stream = head.chain(rest);
    let stream = stream.take_until(stopping.cancelled_owned());
    let headers = [(header::CONTENT_TYPE, "application/x-asciicast")];
    (headers, Body::from_stream(stream)).into_response()
}

/// A recording that is being written down.
struct Film {
    recording: TerminalRecording,
    cast: CastWriter,
    size: WindowSize,
    is_begun: bool,
}

impl Film {
    fn take(&mut self, happened: Vec<(Duration, Happened)>, out: &mut String) {
        for (at, what) in happened {
            match what {
                Happened::Screen { size, bytes } => {
                    if self.is_begun {
                        self.cast.marker(at, LOST, out);
                    }
                    self.resize(at, size, out);
                    self.cast.output(at, &bytes, out);
                }
                Happened::Output(bytes) => self.cast.output(at, &bytes, out),
                Happened::Resized(size) => self.resize(at, size, out),
                Happened::Exited(exit) => {
                    let killed = exit.signal.map(|signal| 128 + signal);
                    if let Some(status) = exit.code.or(killed) {
                        self.cast.exit(at, status, out);
                    }
                }
            }
            self.is_begun = true;
        }
    }

    fn resize(&mut self, at: Duration, size: WindowSize, out: &mut String) {
        if self.size != size {
            self.size = size;
            self.cast.resize(at, size.columns, size.rows, out);
        }
    }
}
