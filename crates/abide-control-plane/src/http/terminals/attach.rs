//! Attachments: `GET …/workers/{id}/attach` as a WebSocket. What goes over it is described in
//! [`abide_model::FromTerminal`]'s module.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use abide_model::{ACK_WINDOW, FromTerminal, Problem, TerminalFrame, ToTerminal, ViewerRole};
use abide_session_agent::{TerminalHandle, View, Viewer, Visit, WindowSize};
use axum::body::Bytes;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{of_path, side};
use crate::http::App;
use crate::http::body::Fields;
use crate::http::error::Answer;

/// Longest message of a viewer, in bytes: longer input comes in pieces.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Scrollback in a snapshot where the viewer does not say, and at most, in bytes.
const SCROLLBACK: (i64, i64) = (1024 * 1024, 16 * 1024 * 1024);
/// Messages of input that may wait for the program to read.
const TYPED_AHEAD: usize = 64;
/// How often a viewer is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A viewer that takes longer for a message is slow.
const SLOW: Duration = Duration::from_millis(20);
/// How long a viewer that is told goodbye may take to hear it.
const GOODBYE: Duration = Duration::from_millis(500);

/// What becomes of a viewer that is slower than the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// It is moved forward to a snapshot.
    Skip,
    /// The program waits for it.
    Block,
}

impl Flow {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "skip" => Some(Self::Skip),
            "block" => Some(Self::Block),
            _ => None,
        }
    }
}

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(attach))
}

/// Attach to a terminal
///
/// A WebSocket. Binary messages are one byte (1 output, 2 snapshot, 3 input), eight bytes of output
/// offset, most significant first, and bytes as programs write and read them. Text messages are JSON.
/// The first is `attached`; then, unless it resumes, a `snapshot` that stands for everything before.
#[utoipa::path(
    get, path = "/sessions/{session_id}/workers/{worker_id}/attach", tag = "terminals",
    params(
        ("session_id" = String, Path, description = "The session's id or name"),
        ("worker_id" = String, Path, description = "The worker's id"),
        ("role" = Option<ViewerRole>, Query, description = "`drive` (default) or `view`"),
        ("cols" = Option<u16>, Query, description = "The viewer's window"),
        ("rows" = Option<u16>, Query, description = "The viewer's window"),
        ("resume_from" = Option<u64>, Query, description = "Output offset up to which it has everything"),
        ("flow" = Option<String>, Query, description = "`skip` (default): who is too slow is moved forward to a snapshot; `block`: the program waits for it"),
        ("scrollback" = Option<u64>, Query, description = "Most scrollback in a snapshot, in bytes"),
    ),
    responses(
        (status = 101, description = "Attached", body = FromTerminal),
        (status = 404, description = "`session_not_found`, `worker_not_found`", body = Problem),
        (status = 410, description = "`worker_gone`", body = Problem),
        (status = 422, description = "`invalid_input`", body = Problem),
    )
)]
async fn attach(
    State(app): State<App>,
    Path((session, worker)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    upgrade: WebSocketUpgrade,
) -> Answer<Response> {
    let mut fields = Fields::of_query(query.as_deref());
    let role = fields.one_of("role", ViewerRole::parse, &["drive", "view"]);
    let window = (side(&mut fields, "cols"), side(&mut fields, "rows"));
    let resume_from = fields.integer(&["resume_from"], 0, i64::MAX);
    let flow = fields.one_of("flow", Flow::parse, &["skip", "block"]);
    let scrollback = fields.integer(&["scrollback"], 0, SCROLLBACK.1);
    fields.done()?;
    let visit = Visit {
        role: role.unwrap_or(ViewerRole::Drive),
        size: match window {
            (Some(cols), Some(rows)) => Some(WindowSize::new(cols, rows)),
            _ => None,
        },
        resume_from: resume_from.and_then(|offset| u64::try_from(offset).ok()),
        blocks: flow == Some(Flow::Block),
        scrollback: usize::try_from(scrollback.unwrap_or(SCROLLBACK.0)).unwrap_or(0),
    };
    let (session, worker) = of_path(&app, &session, &worker).await?;
    let (_, terminal) = app.terminal(session, worker).await?;
    let stopping = app.tasks.stopping();
    Ok(upgrade
        .max_message_size(MAX_MESSAGE)
        .on_upgrade(move |socket| serve(socket, terminal, visit, stopping)))
}

/// Serves one viewer until it leaves, the terminal is gone or the server stops.
async fn serve(
    socket: WebSocket,
    terminal: TerminalHandle,
    visit: Visit,
    stopping: CancellationToken,
) {
    let viewer = terminal.attach(visit);
    let id = viewer.id();
    let (sender, receiver) = socket.split();
    let (acknowledged, acks) = watch::channel(None);
    let (typed, to_type) = mpsc::channel(TYPED_AHEAD);
    let mut output = Output { sender, acks };
    let hears = hear(receiver, &terminal, id, visit.role, &acknowledged, &typed);
    let said = tokio::select! {
        said = output.tell(&terminal, viewer, visit.role) => said,
        heard = hears => heard,
        never = type_on(to_type, &terminal) => match never {},
        () = stopping.cancelled() => Some((close_code::RESTART, "the server is stopping")),
    };
    if let Some((code, reason)) = said {
        let goodbye = CloseFrame {
            code,
            reason: reason.into(),
        };
        let closing = output.sender.send(Message::Close(Some(goodbye)));
        // Heard or not.
        let _ = tokio::time::timeout(GOODBYE, closing).await;
    }
}

/// Why an attachment ends; `None` if the viewer left.
type Goodbye = Option<(u16, &'static str)>;

/// What goes to a viewer.
struct Output {
    sender: SplitSink<WebSocket, Message>,
    /// The last acknowledged offset, once the viewer acknowledges.
    acks: watch::Receiver<Option<u64>>,
}

impl Output {
    async fn tell(
        &mut self,
        terminal: &TerminalHandle,
        mut viewer: Viewer,
        role: ViewerRole,
    ) -> Goodbye {
        let size = terminal.size().unwrap_or(WindowSize::new(0, 0));
        let attached = FromTerminal::Attached {
            worker_id: terminal.id(),
            role,
            cols: size.columns,
            rows: size.rows,
        };
        self.say(&attached).await?;
        let mut was_slow = false;
        let mut pings = tokio::time::interval(PING_EVERY);
        pings.reset();
        loop {
            tokio::select! {
                biased;
                waited = self.wait_for_acks(viewer.offset()) => was_slow |= waited,
                _ = pings.tick() => {
                    // However long it reads nothing, it is to know that somebody is here.
                    was_slow = true;
                    self.ping().await?;
                    continue;
                }
            }
            let view = tokio::select! {
                biased;
                view = viewer.next(was_slow) => view,
                _ = pings.tick() => {
                    self.ping().await?;
                    continue;
                }
            };
            let begun = Instant::now();
            match view {
                View::Output { offset, bytes } => {
                    self.frame(TerminalFrame::OUTPUT, offset, &bytes).await?;
                }
                View::Snapshot(snapshot) => {
                    let offset = snapshot.offset;
                    let announced = FromTerminal::Snapshot {
                        offset,
                        cols: snapshot.size.cols(),
                        rows: snapshot.size.rows(),
                    };
                    self.say(&announced).await?;
                    self.frame(TerminalFrame::SNAPSHOT, offset, &snapshot.bytes)
                        .await?;
                }
                View::Resized(size) => {
                    let (cols, rows) = (size.columns, size.rows);
                    self.say(&FromTerminal::Resize { cols, rows }).await?;
                }
                View::Exited(exit) => {
                    let exit = abide_session_agent::described(Some(&exit));
                    self.say(&FromTerminal::Exit { exit }).await?;
                }
                View::Closed => return Some((close_code::NORMAL, "the terminal is gone")),
            }
            was_slow = begun.elapsed() > SLOW;
        }
    }

    /// Waits until what was sent is acknowledged as far as it must be; whether there was a wait.
    async fn wait_for_acks(&mut self, sent: u64) -> bool {
        let near = |acked: &Option<u64>| acked.is_none_or(|acked| sent < acked + ACK_WINDOW);
        if near(&self.acks.borrow()) {
            return false;
        }
        // Gone with whoever hears them: then this ends, too.
        let _ = self.acks.wait_for(near).await;
        true
    }

    async fn ping(&mut self) -> Option<()> {
        self.send(Message::Ping(Bytes::new())).await
    }

    async fn frame(&mut self, kind: u8, offset: u64, bytes: &[u8]) -> Option<()> {
        let frame = TerminalFrame {
            kind,
            offset,
            bytes,
        };
        self.send(Message::Binary(frame.encode().into())).await
    }

    async fn say(&mut self, what: &FromTerminal) -> Option<()> {
        // Only maps with non-text keys can fail, and there are none.
        let text = serde_json::to_string(what).unwrap_or_default();
        self.send(Message::Text(text.into())).await
    }

    /// `None`: the viewer is gone.
    async fn send(&mut self, message: Message) -> Option<()> {
        self.sender.send(message).await.ok()
    }
}

/// Passes on what was typed, as fast as it is taken. Apart from hearing: who types into a program that
/// waits for its output to be acknowledged must be heard acknowledging.
async fn type_on(mut typed: mpsc::Receiver<Bytes>, terminal: &TerminalHandle) -> Infallible {
    while let Some(bytes) = typed.recv().await {
        // Where nobody reads it any more, what is to be seen of that is told all the same.
        let _ = terminal.input(bytes).await;
    }
    std::future::pending().await
}

/// Does what a viewer says, until it leaves.
async fn hear(
    mut receiver: SplitStream<WebSocket>,
    terminal: &TerminalHandle,
    viewer: u64,
    role: ViewerRole,
    acknowledged: &watch::Sender<Option<u64>>,
    typed: &mpsc::Sender<Bytes>,
) -> Goodbye {
    let wrong = Some((close_code::INVALID, "not a message of an attachment"));
    while let Some(Ok(message)) = receiver.next().await {
        match message {
            Message::Binary(bytes) => match TerminalFrame::decode(&bytes) {
                Some(frame) if frame.kind == TerminalFrame::INPUT => {
                    if role != ViewerRole::Drive {
                        return Some((close_code::POLICY, "a viewer does not type"));
                    }
                    terminal.is_active(viewer);
                    // Fails only when this ends.
                    let _ = typed.send(bytes.slice_ref(frame.bytes)).await;
                }
                _ => return wrong,
            },
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ToTerminal::Resize { cols, rows }) => {
                    terminal.resize(
                        viewer,
                        WindowSize::new(cols.clamp(2, 1000), rows.clamp(2, 1000)),
                    );
                }
                Ok(ToTerminal::Ack { offset }) => {
                    acknowledged.send_if_modified(|acked| {
                        let news = acked.is_none_or(|acked| acked < offset);
                        if news {
                            *acked = Some(offset);
                        }
                        news
                    });
                }
                Err(_) => return wrong,
            },
            Message::Close(_) => return None,
            Message::Ping(_) | Message::Pong(_) => {}
        }
    }
    None
}
