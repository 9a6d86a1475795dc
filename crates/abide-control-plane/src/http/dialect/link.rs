//! A connection of the dialect: what is written to it and in which order, and how it is read.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use abide_model::{DialectMessage, DialectRequest};
use abide_session_agent::http::SignsOfLife;
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::allowance::Allowance;
use crate::ControlPlaneConfig;

/// Answers that may wait for a client to read; then no more requests of it are read.
const ANSWERS: usize = 256;
/// How long a client that is told goodbye may take to hear it.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why a connection ends; `None` if the client left.
pub(super) type Goodbye = Option<(u16, &'static str)>;

/// Something that goes on while the connection lasts.
pub(super) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What is to be sent: answers at once, output as fast as the client takes it.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    answers: mpsc::Sender<String>,
    frames: mpsc::Sender<String>,
}

/// The two ends of what is sent, and whatever goes on meanwhile.
pub(super) struct Link {
    sink: SplitSink<WebSocket, Message>,
    answers: mpsc::Receiver<String>,
    frames: mpsc::Receiver<String>,
    jobs: mpsc::UnboundedReceiver<Job>,
    signs_of_life: SignsOfLife,
}

/// What comes from the client.
pub(super) struct Inbox {
    stream: SplitStream<WebSocket>,
    allowance: Allowance,
    timeout: Duration,
    /// Before the next message is read.
    pause: Duration,
}

/// Takes a connection apart.
pub(super) fn open(
    socket: WebSocket,
    config: &ControlPlaneConfig,
) -> (Link, Inbox, Outbox, mpsc::UnboundedSender<Job>) {
    let (sink, stream) = socket.split();
    let (answers, answered) = mpsc::channel(ANSWERS);
    // One: what waits for a slow client had better wait where it can still be skipped.
    let (frames, framed) = mpsc::channel(1);
    let (jobs, started) = mpsc::unbounded_channel();
    let link = Link {
        sink,
        answers: answered,
        frames: framed,
        jobs: started,
        signs_of_life: config.signs_of_life,
    };
    let dialect = &config.dialect;
    let inbox = Inbox {
        stream,
        allowance: Allowance::new(dialect.message_rate, dialect.message_burst, Instant::now()),
        timeout: config.signs_of_life.read_timeout,
        pause: Duration::ZERO,
    };
    (link, inbox, Outbox { answers, frames }, jobs)
}

impl Outbox {
    /// Sends an answer, before all output that waits. Fails only when the connection ends.
    pub(super) async fn answer(&self, message: &DialectMessage) {
        let _ = self.answers.send(message.encode()).await;
    }

    /// Sends output, or something that belongs where it stands in it; answers once the client has taken
    /// most of what was sent before. Fails only when the connection ends.
    pub(super) async fn show(&self, message: &DialectMessage) {
        let _ = self.frames.send(message.encode()).await;
    }
}

impl Link {
    /// Runs until `heard` says why not to go on, the client is gone or the server stops.
    pub(super) async fn run(
        self,
        heard: impl Future<Output = Goodbye>,
        stopping: impl Future<Output = ()>,
    ) {
        let Self {
            mut sink,
            mut answers,
            mut frames,
            jobs,
            signs_of_life,
        } = self;
        let said = tokio::select! {
            said = write(&mut sink, &mut answers, &mut frames, signs_of_life) => said,
            said = heard => said,
            never = work(jobs) => match never {},
            () = stopping => Some((close_code::RESTART, "the server is stopping")),
        };
        if let Some((code, reason)) = said {
            let goodbye = CloseFrame {
                code,
                reason: reason.into(),
            };
            let closing = async {
                while let Ok(answer) = answers.try_recv() {
                    sink.send(Message::Text(answer.into())).await?;
                }
                sink.send(Message::Close(Some(goodbye))).await
            };
            // Heard or not.
            let _ = tokio::time::timeout(GOODBYE, closing).await;
        }
    }
}

/// Sends whatever is to be sent, answers first. A client that takes nothing for too long is gone.
async fn write(
    sink: &mut SplitSink<WebSocket, Message>,
    answers: &mut mpsc::Receiver<String>,
    frames: &mut mpsc::Receiver<String>,
    signs_of_life: SignsOfLife,
) -> Goodbye {
    let mut pings = tokio::time::interval(signs_of_life.ping_interval);
    pings.reset();
    loop {
        let message = tokio::select! {
            biased;
            Some(answer) = answers.recv() => Message::Text(answer.into()),
            _ = pings.tick() => Message::Ping(Bytes::new()),
            Some(frame) = frames.recv() => Message::Text(frame.into()),
        };
        match tokio::time::timeout(signs_of_life.read_timeout, sink.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return None,
        }
    }
}

/// Does what is to be done besides, all of it at once.
async fn work(mut jobs: mpsc::UnboundedReceiver<Job>) -> Infallible {
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(job) = jobs.recv() => running.push(job),
            Some(()) = running.next(), if !running.is_empty() => {}
            else => std::future::pending().await,
        }
    }
}

impl Inbox {
    /// The client's next request. What is none is passed over.
    pub(super) async fn next(&mut self) -> Result<DialectRequest, Goodbye> {
        loop {
            if !self.pause.is_zero() {
                tokio::time::sleep(std::mem::take(&mut self.pause)).await;
            }
            let message = tokio::time::timeout(self.timeout, self.stream.next()).await;
            let message = match message {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return Err(too_long(&error)),
                Ok(None) => return Err(None),
                Err(_) => return Err(Some((close_code::AWAY, "no sign of life"))),
            };
            let request = match &message {
                Message::Text(text) => DialectRequest::parse(text),
                Message::Binary(bytes) => std::str::from_utf8(bytes)
                    .ok()
                    .and_then(DialectRequest::parse),
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Close(_) => return Err(None),
            };
            self.pause = self.allowance.take(Instant::now());
            if let Some(request) = request {
                return Ok(request);
            }
        }
    }
}

fn too_long(error: &axum::Error) -> Goodbye {
    let text = error.to_string();
    text.contains("too long")
        .then_some((close_code::SIZE, "the message is too long"))
}
