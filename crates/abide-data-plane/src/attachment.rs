//! An attachment to a terminal of the plane below, for a plane that shows it to somebody in another form.

use std::time::Duration;

use abide_model::{FromTerminal, TerminalFrame, ToTerminal};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// How long goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub struct RemoteAttachment {
    socket: WebSocketStream<TokioIo<Upgraded>>,
}

/// What comes over an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Anything but bytes.
    Said(FromTerminal),
    /// What programs wrote from this output offset on.
    Output(u64, Bytes),
    /// The whole state up to this output offset.
    Snapshot(u64, Bytes),
    /// The terminal is gone, which ends the attachment.
    Gone,
    /// The attachment ended, and the terminal may go on.
    Broke,
}

impl RemoteAttachment {
    pub(crate) async fn over(connection: Upgraded) -> Self {
        // A snapshot may have all that is kept of a terminal.
        let config = WebSocketConfig::default()
            .max_message_size(None)
            .max_frame_size(None);
        let socket = TokioIo::new(connection);
        let socket = WebSocketStream::from_raw_socket(socket, Role::Client, Some(config)).await;
        Self { socket }
    }

    /// What comes next. May be given up and called again.
    pub async fn next(&mut self) -> Told {
        loop {
            return match self.socket.next().await {
                Some(Ok(Message::Binary(bytes))) => match TerminalFrame::decode(&bytes) {
                    Some(frame) => {
                        let (offset, content) = (frame.offset, bytes.slice_ref(frame.bytes));
                        match frame.kind {
                            TerminalFrame::SNAPSHOT => Told::Snapshot(offset, content),
                            _ => Told::Output(offset, content),
                        }
                    }
                    None => Told::Broke,
                },
                Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                    Ok(said) => Told::Said(said),
                    // Of a later version.
                    Err(_) => continue,
                },
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Close(Some(frame)))) if frame.code == CloseCode::Normal => {
                    Told::Gone
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => Told::Broke,
            };
        }
    }

    /// Says something; that it did not get there shows in what comes next.
    pub async fn say(&mut self, what: &ToTerminal) {
        // Only maps with keys that are no text cannot be encoded.
        let text = serde_json::to_string(what).unwrap_or_default();
        let _ = self.socket.send(Message::Text(text.into())).await;
    }

    /// Leaves.
    pub async fn leave(mut self) {
        let _ = tokio::time::timeout(GOODBYE, self.socket.close(None)).await;
    }
}
