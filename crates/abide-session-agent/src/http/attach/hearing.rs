//! What a viewer says, and what comes of it.

use abide_keeper::WindowSize;
use abide_model::{
    AttachmentError, MAX_VIEWER_NAME, SizePolicy, TerminalFrame, ToTerminal, ViewerRole,
};
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket, close_code};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{AttachmentHost, Complaint, Goodbye};
use crate::terminal::{Introduction, TerminalHandle};

const WRONG: Goodbye = Some((close_code::INVALID, "not a message of an attachment"));

/// See the module.
pub(super) struct Hearing<'a> {
    pub(super) host: &'a dyn AttachmentHost,
    pub(super) terminal: &'a TerminalHandle,
    /// Its number.
    pub(super) viewer: u64,
    /// What it may do now.
    pub(super) role: ViewerRole,
    pub(super) acknowledged: watch::Sender<Option<u64>>,
    pub(super) typed: mpsc::Sender<Bytes>,
    pub(super) complaints: mpsc::Sender<Complaint>,
}

impl Hearing<'_> {
    /// Does what the viewer says, until it leaves or gives no sign of life.
    pub(super) async fn hear(mut self, mut receiver: SplitStream<WebSocket>) -> Goodbye {
        let limit = self.host.signs_of_life().read_timeout;
        loop {
            let message = match tokio::time::timeout(limit, receiver.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(_)) | None) => return None,
                Err(_) => return Some((close_code::AWAY, "no sign of life")),
            };
            match message {
                Message::Binary(bytes) => match TerminalFrame::decode(&bytes) {
                    Some(frame) if frame.kind == TerminalFrame::INPUT => {
                        let typed = bytes.slice_ref(frame.bytes);
                        self.types(typed).await;
                    }
                    _ => return WRONG,
                },
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(said) => self.says(said).await,
                    Err(_) => return WRONG,
                },
                Message::Close(_) => return None,
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }

    async fn types(&self, typed: Bytes) {
        if self.role == ViewerRole::Drive {
            self.terminal.is_active(self.viewer);
            // Fails only when this ends.
            let _ = self.typed.send(typed).await;
        } else {
            self.complain(
                AttachmentError::NotDriving,
                "one who only looks does not type; a hello with role drive changes that",
            );
        }
    }

    async fn says(&mut self, said: ToTerminal) {
        match said {
            ToTerminal::Hello {
                name,
                role,
                size_policy,
            } => self.greets(name, role, size_policy).await,
            ToTerminal::Resize { cols, rows } => {
                let size = WindowSize::new(cols.clamp(2, 1000), rows.clamp(2, 1000));
                self.terminal.resize(self.viewer, size);
            }
            ToTerminal::Ack { offset } => {
                self.acknowledged.send_if_modified(|acked| {
                    let news = acked.is_none_or(|acked| acked < offset);
                    if news {
                        *acked = Some(offset);
                    }
                    news
                });
            }
        }
    }

    async fn greets(
        &mut self,
        name: Option<String>,
        role: Option<ViewerRole>,
        size_policy: Option<SizePolicy>,
    ) {
        let fits = |name: &String| {
            name.chars().count() <= MAX_VIEWER_NAME && !name.contains(char::is_control)
        };
        if !name.as_ref().is_none_or(fits) {
            let message = format!("a name has at most {MAX_VIEWER_NAME} characters, all printable");
            return self.complain(AttachmentError::InvalidInput, &message);
        }
        self.role = role.unwrap_or(self.role);
        let as_whom = Introduction { name, role };
        self.terminal.introduce(self.viewer, as_whom);
        let Some(policy) = size_policy else {
            return;
        };
        if self.role != ViewerRole::Drive {
            return self.complain(
                AttachmentError::NotDriving,
                "one who only looks does not change whose size the terminal has",
            );
        }
        let changed = self.host.size_policy_changes(self.terminal, policy);
        if let Err(problem) = changed.await {
            self.complain(AttachmentError::NotChanged, &problem.message);
        }
    }

    /// Told unless the viewer has been told a lot and does not read it.
    fn complain(&self, code: AttachmentError, message: &str) {
        let _ = self.complaints.try_send((code, message.to_owned()));
    }
}

/// Passes on what was typed, as fast as it is taken, to the end. Apart from hearing: who types into a
/// program that waits for its output to be acknowledged must be heard acknowledging.
pub(super) async fn type_on(
    mut typed: mpsc::Receiver<Bytes>,
    terminal: TerminalHandle,
    stopping: CancellationToken,
) {
    let all = async {
        while let Some(bytes) = typed.recv().await {
            if terminal.input(bytes).await.is_err() {
                // Nobody reads it any more; what is to be seen of that is told.
                return;
            }
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = all => {}
    }
}
