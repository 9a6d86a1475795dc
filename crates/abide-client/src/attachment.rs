//! An attachment to a terminal: what it shows, as it comes, and what is typed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use abide_model::{
    AttachmentError, Exit, FromTerminal, Presence, SizePolicy, TerminalFrame, ToTerminal,
    ViewerRole,
};
use base64::Engine as _;
use bytes::Bytes;
use futures_util::{Sink as _, Stream as _};
use reqwest::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{RequestBuilder, Response, Upgraded};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::{Client, Error};

/// Input in one message at most, in bytes: the server takes no message of more than a megabyte.
const PIECE: usize = 64 * 1024;
/// A server asks for a sign of life every 30 s; of one that is silent for longer than two of those and
/// some, nothing more will come.
const SILENCE: Duration = Duration::from_secs(75);

/// As whom one attaches.
#[derive(Debug, Clone, Copy)]
pub struct Attach {
    /// What the viewer may do.
    pub role: ViewerRole,
    /// Columns and rows of its window; without them it has no say in the size.
    pub size: Option<(u16, u16)>,
    /// Output offset up to which it has everything.
    pub resume_from: Option<u64>,
    /// Most scrollback in a snapshot, in bytes; the server's choice if not given.
    pub scrollback: Option<u64>,
    /// The program waits for this viewer, who is never given a snapshot in place of output.
    pub blocks: bool,
}

/// What an attachment tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// It is there.
    Attached {
        /// Columns now.
        cols: u16,
        /// Rows now.
        rows: u16,
    },
    /// The connection broke, and attempts are made to attach again. Only of a
    /// [`ResumableAttachment`](crate::ResumableAttachment).
    Away,
    /// In place of everything seen so far.
    Snapshot {
        /// Output offset of what follows it.
        offset: u64,
        /// Columns that it was drawn for.
        cols: u16,
        /// Rows that it was drawn for.
        rows: u16,
        /// What gives a terminal of this size the whole state.
        bytes: Bytes,
    },
    /// What the terminal's programs wrote.
    Output {
        /// Output offset of the first byte.
        offset: u64,
        /// As they wrote it.
        bytes: Bytes,
    },
    /// The terminal has another size from here on.
    Resized {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The program that was started has ended; what it left running may write on.
    Exited(Exit),
    /// Who is attached, now that this has changed.
    Viewers {
        /// Whose window the terminal is as large as.
        size_policy: SizePolicy,
        /// In the order in which they came.
        viewers: Vec<Presence>,
    },
    /// What was said was in vain.
    Refused {
        /// What is the matter.
        code: AttachmentError,
        /// A sentence for people.
        message: String,
    },
}

impl Attach {
    /// The query of the request.
    pub(crate) fn query(&self) -> Vec<(&'static str, String)> {
        let mut pairs = vec![("role", self.role.to_string())];
        if let Some((cols, rows)) = self.size {
            pairs.push(("cols", cols.to_string()));
            pairs.push(("rows", rows.to_string()));
        }
        if self.blocks {
            pairs.push(("flow", "block".to_owned()));
        }
        let mut add = |name, value: Option<u64>| pairs.extend(value.map(|v| (name, v.to_string())));
        add("resume_from", self.resume_from);
        add("scrollback", self.scrollback);
        pairs
    }
}

/// A connection to one terminal. Dropping it detaches.
pub struct Attachment {
    client: Client,
    socket: WebSocketStream<Upgraded>,
    unsent: VecDeque<Message>,
    unsent_bytes: usize,
    /// Something was handed to the socket that may not be on its way.
    flushing: bool,
    /// Nothing can be sent any more.
    deaf: bool,
    /// Size of the snapshot that comes next.
    announced: Option<(u16, u16)>,
    heard: Instant,
}

impl Attachment {
    pub(crate) async fn open(client: Client, response: Response) -> Result<Self, Error> {
        let stream = response
            .upgrade()
            .await
            .map_err(|error| client.transport(error))?;
        Ok(Self {
            socket: WebSocketStream::from_raw_socket(stream, Role::Client, None).await,
            client,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            flushing: false,
            deaf: false,
            announced: None,
            heard: Instant::now(),
        })
    }

    /// Types. Sent while [`Attachment::next`] is awaited, like all that is said.
    pub fn input(&mut self, bytes: &[u8]) {
        for bytes in bytes.chunks(PIECE) {
            let frame = TerminalFrame {
                kind: TerminalFrame::INPUT,
                offset: 0,
                bytes,
            };
            self.queue(Message::Binary(frame.encode().into()));
        }
    }

    /// Says who the viewer is, or what it wants to be otherwise.
    pub fn introduce(&mut self, hello: &ToTerminal) {
        self.say(hello);
    }

    /// Tells the size of the viewer's window.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        self.say(&ToTerminal::Resize { cols, rows });
    }

    /// Tells that all output before `offset` was dealt with. Who tells this once must go on.
    pub fn ack(&mut self, offset: u64) {
        self.say(&ToTerminal::Ack { offset });
    }

    /// Bytes of what was said and not yet sent.
    pub const fn unsent(&self) -> usize {
        self.unsent_bytes
    }

    /// What comes next; `None` once the terminal is gone. Cancelling loses nothing.
    pub async fn next(&mut self) -> Result<Option<Shown>, Error> {
        loop {
            let silent = self.heard + SILENCE;
            let next = poll_fn(|cx| self.poll_next(cx));
            match tokio::time::timeout_at(silent, next).await {
                Ok(next) => return next,
                Err(_) if self.heard + SILENCE > Instant::now() => {}
                Err(_) => return Err(self.client.cut_short()),
            }
        }
    }

    /// What was typed and not sent.
    pub(crate) fn into_unsent_input(self) -> Vec<u8> {
        let mut input = Vec::new();
        for message in &self.unsent {
            if let Message::Binary(frame) = message
                && let Some(frame) = TerminalFrame::decode(frame)
            {
                input.extend_from_slice(frame.bytes);
            }
        }
        input
    }

    fn say(&mut self, what: &ToTerminal) {
        // Only maps with non-text keys can fail, and there are none.
        let text = serde_json::to_string(what).unwrap_or_default();
        self.queue(Message::Text(text.into()));
    }

    fn queue(&mut self, message: Message) {
        self.unsent_bytes += message.len();
        self.unsent.push_back(message);
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Shown>, Error>> {
        // What the server said before it stopped listening is still to be read.
        if !self.deaf && matches!(self.poll_send(cx), Poll::Ready(Err(_))) {
            self.deaf = true;
        }
        loop {
            let message = match Pin::new(&mut self.socket).poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Pending if !self.deaf => return Poll::Pending,
                _ => return Poll::Ready(Err(self.client.cut_short())),
            };
            self.heard = Instant::now();
            let shown = match message {
                Message::Text(text) => self.told(text.as_bytes()),
                Message::Binary(frame) => self.shown(&frame),
                Message::Close(frame) => return Poll::Ready(self.closed(frame.as_ref())),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
            };
            if let Some(shown) = shown.transpose() {
                return Poll::Ready(shown.map(Some));
            }
        }
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), tokio_tungstenite::tungstenite::Error>> {
        while !self.unsent.is_empty() {
            ready!(Pin::new(&mut self.socket).poll_ready(cx))?;
            if let Some(message) = self.unsent.pop_front() {
                self.unsent_bytes -= message.len();
                self.flushing = true;
                Pin::new(&mut self.socket).start_send(message)?;
            }
        }
        if self.flushing {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.flushing = false;
        }
        Poll::Ready(Ok(()))
    }

    fn told(&mut self, text: &[u8]) -> Result<Option<Shown>, Error> {
        let said = serde_json::from_slice(text).map_err(|source| Error::Decode {
            what: "message of a terminal",
            source,
        })?;
        Ok(match said {
            FromTerminal::Attached { cols, rows, .. } => Some(Shown::Attached { cols, rows }),
            FromTerminal::Snapshot { cols, rows, .. } => {
                self.announced = Some((cols, rows));
                None
            }
            FromTerminal::Resize { cols, rows } => Some(Shown::Resized { cols, rows }),
            FromTerminal::Exit { exit } => Some(Shown::Exited(exit)),
            FromTerminal::Viewers {
                size_policy,
                viewers,
            } => Some(Shown::Viewers {
                size_policy,
                viewers,
            }),
            // It is about to close, which is what matters.
            FromTerminal::Error {
                code: AttachmentError::ShuttingDown,
                ..
            } => None,
            FromTerminal::Error { code, message } => Some(Shown::Refused { code, message }),
        })
    }

    fn shown(&mut self, message: &Bytes) -> Result<Option<Shown>, Error> {
        let frame = TerminalFrame::decode(message).ok_or(Error::Protocol {
            what: "a terminal's frame is too short",
        })?;
        let (offset, bytes) = (frame.offset, message.slice_ref(frame.bytes));
        match (frame.kind, self.announced.take()) {
            (TerminalFrame::OUTPUT, None) => Ok(Some(Shown::Output { offset, bytes })),
            (TerminalFrame::SNAPSHOT, Some((cols, rows))) => Ok(Some(Shown::Snapshot {
                offset,
                cols,
                rows,
                bytes,
            })),
            _ => Err(Error::Protocol {
                what: "a terminal's frame of another kind than announced",
            }),
        }
    }

    fn closed(&self, frame: Option<&CloseFrame>) -> Result<Option<Shown>, Error> {
        match frame.map(|frame| frame.code) {
            Some(CloseCode::Normal) => Ok(None),
            Some(CloseCode::Invalid) => Err(Error::Protocol {
                what: "the server did not understand a message",
            }),
            // It restarts, or the connection broke.
            _ => Err(self.client.cut_short()),
        }
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment")
            .field("unsent_bytes", &self.unsent_bytes)
            .finish_non_exhaustive()
    }
}

/// The client's side of RFC 6455, section 4.1.
pub(crate) struct Handshake {
    key: String,
}

impl Handshake {
    pub(crate) fn new() -> Self {
        let nonce = uuid::Uuid::new_v4();
        let key = base64::engine::general_purpose::STANDARD.encode(nonce.as_bytes());
        Self { key }
    }

    pub(crate) fn ask(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &self.key)
    }

    pub(crate) fn is_answered(&self, response: &Response) -> bool {
        response
            .headers()
            .get(SEC_WEBSOCKET_ACCEPT)
            .is_some_and(|accept| *accept == derive_accept_key(self.key.as_bytes()))
    }
}
