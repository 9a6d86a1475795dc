//! Attachments, natively, in every plane the same: what goes over one is described in
//! [`abide_model::FromTerminal`]'s module.

mod hearing;
mod telling;
mod visit;

use std::sync::Arc;
use std::time::Duration;

use abide_model::{AttachmentError, FromTerminal, Problem, SizePolicy, SnapshotReason};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use self::hearing::{Hearing, type_on};
use self::telling::Telling;
pub use self::visit::query_of;
pub(super) use self::visit::visit_of;
use crate::tasks::Tasks;
use crate::terminal::{TerminalHandle, Visit};

/// Longest message of a viewer, in bytes: longer input comes in pieces.
const MAX_MESSAGE: usize = 1024 * 1024;
/// Read from a viewer at once, at most, in bytes. The buffer is cleared for each read, which for eight times
/// as much takes longer than all the rest that is done for a key.
const READ_BYTES: usize = 16 * 1024;
/// Messages of input that may wait for the program to read.
const TYPED_AHEAD: usize = 64;
/// What viewers do in vain and are not told yet; of more than that they are not told.
const COMPLAINTS: usize = 16;
/// How long a viewer that is told goodbye may take to hear it.
const GOODBYE: Duration = Duration::from_millis(500);

/// When a connection to a viewer of terminals is given up, natively and in the dialect.
#[derive(Debug, Clone, Copy)]
pub struct SignsOfLife {
    /// How often a viewer is asked for one.
    pub ping_interval: Duration,
    /// A connection that nothing came over for this long is given up.
    pub read_timeout: Duration,
}

/// What attachments need of the plane that serves them.
pub trait AttachmentHost: Send + Sync + 'static {
    /// See [`SignsOfLife`].
    fn signs_of_life(&self) -> SignsOfLife;

    /// A viewer was sent so many bytes of output or of a snapshot.
    fn viewer_was_sent(&self, bytes: usize);

    /// A viewer was sent a snapshot.
    fn viewer_was_sent_a_snapshot(&self, reason: SnapshotReason);

    /// A viewer changes whose size the terminal has: records that, and has the terminal do it.
    fn size_policy_changes<'a>(
        &'a self,
        terminal: &'a TerminalHandle,
        policy: SizePolicy,
    ) -> BoxFuture<'a, Result<(), Problem>>;
}

/// Answers a request for an attachment, which is served from then on by one of `tasks`.
pub fn attach(
    upgrade: WebSocketUpgrade,
    terminal: TerminalHandle,
    visit: Visit,
    host: Arc<dyn AttachmentHost>,
    tasks: Tasks,
) -> Response {
    upgrade
        .max_message_size(MAX_MESSAGE)
        .read_buffer_size(READ_BYTES)
        .on_upgrade(async move |socket| {
            let serving = serve(socket, terminal, visit, host, tasks.clone());
            // A task of ours, so that the server does not leave before it has said goodbye.
            tasks.spawn("attachment", serving);
        })
}

/// Why an attachment ends; `None` if the viewer left.
type Goodbye = Option<(u16, &'static str)>;

/// What a viewer said in vain.
type Complaint = (AttachmentError, String);

/// Serves one viewer until it leaves, the terminal is gone or the server stops.
async fn serve(
    socket: WebSocket,
    terminal: TerminalHandle,
    visit: Visit,
    host: Arc<dyn AttachmentHost>,
    tasks: Tasks,
) {
    let viewer = terminal.attach(visit);
    let stopping = tasks.stopping();
    let (sender, receiver) = socket.split();
    let (acknowledged, acks) = watch::channel(None);
    let (typed, to_type) = mpsc::channel(TYPED_AHEAD);
    let (complaints, complained) = mpsc::channel(COMPLAINTS);
    let hearing = Hearing {
        host: &*host,
        terminal: &terminal,
        viewer: viewer.id(),
        role: visit.role,
        acknowledged,
        typed,
        complaints,
    };
    // What a viewer typed before it left is typed all the same.
    let typing = type_on(to_type, terminal.clone(), stopping.clone());
    tasks.spawn("typing", typing);
    let mut telling = Telling::new(sender, acks, &terminal, complained, &*host);
    let mut hears = std::pin::pin!(hearing.hear(receiver));
    let said = tokio::select! {
        biased;
        // First: terminals end with the server, and that is not what is to be told.
        () = stopping.cancelled() => Some((close_code::RESTART, "the server is stopping")),
        heard = &mut hears => heard,
        said = telling.tell(&terminal, viewer, &visit) => {
            if said.is_none() {
                // It left; what it had sent before is there to be heard, or it is cut off.
                let _ = tokio::time::timeout(GOODBYE, hears).await;
            }
            said
        }
    };
    let Some((code, reason)) = said else { return };
    let why = match code {
        close_code::RESTART => Some(AttachmentError::ShuttingDown),
        close_code::INVALID => Some(AttachmentError::InvalidMessage),
        // The terminal's end was told.
        _ => None,
    };
    let goodbye = async {
        if let Some(code) = why {
            let message = reason.to_owned();
            telling.say(&FromTerminal::Error { code, message }).await?;
        }
        let reason = reason.into();
        telling
            .send(Message::Close(Some(CloseFrame { code, reason })))
            .await
    };
    // Heard or not.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}
