//! `/terminal/ws`: one terminal, which lives as long as its connection.

use std::sync::Arc;

use abide_model::{DialectMessage, DialectRequest, ViewerRole};
use abide_session_agent::{TOO_FAR_BEHIND, Visit, WindowSize};
use axum::extract::ws::{WebSocket, close_code};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::link::{Goodbye, Inbox, Outbox, open};
use super::tab::Tab;
use super::typist::Typist;
use super::{App, clamped};
use crate::runtimes::Hand;
use crate::service::{Found, Owner};

/// Serves one connection until the client leaves or the server stops.
pub(super) async fn serve(app: App, owner: Owner, size: (u16, u16), socket: WebSocket) {
    let (link, inbox, outbox, jobs) = open(socket, &app.config);
    let stopping = app.tasks.stopping();
    let hears = async {
        let Ok((found, attachment)) = app.dialect_create_single(owner, size).await else {
            let failed = DialectMessage::SingleError("Failed to create terminal session");
            outbox.answer(&failed).await;
            return Some((close_code::ERROR, "there is no terminal"));
        };
        let session_id = found.session.0.simple().to_string();
        outbox.answer(&DialectMessage::Single { session_id }).await;
        let look = found.terminal.look(Visit {
            role: ViewerRole::Drive,
            size: Some(WindowSize::new(size.1, size.0)),
            resume_from: Some(0),
            scrollback: 0,
            screen_first: false,
            blocks: false,
            ack_window: TOO_FAR_BEHIND,
        });
        let tab = Tab {
            client_id: None,
            eye: look.eye,
            attachment,
            connection: app.dialect.connection(),
            outbox: outbox.clone(),
            closed: CancellationToken::new(),
        };
        let typist = Typist::new(Arc::clone(&found.terminal), &app.tasks);
        // Fails only when the connection ends.
        let _ = jobs.send(Box::pin(tab.show()));
        hear(&app, inbox, &found, &*look.hand, &typist, &outbox).await
    };
    link.run(hears, stopping.cancelled()).await;
}

async fn hear(
    app: &App,
    mut inbox: Inbox,
    found: &Found,
    hand: &dyn Hand,
    typist: &Typist,
    outbox: &Outbox,
) -> Goodbye {
    loop {
        match inbox.next().await {
            Ok(DialectRequest::Input { data, .. }) => {
                app.dialect_active(found.session);
                // Where too much waits already there is no word for it in single mode.
                let piece = app.dialect.config.piece_bytes;
                typist.types(Bytes::from(data), piece, hand.viewer());
            }
            Ok(DialectRequest::Resize { rows, cols, .. }) => {
                let (rows, cols) = clamped(app.dialect.config.size, rows, cols);
                hand.resizes(WindowSize::new(cols, rows));
            }
            Ok(DialectRequest::Ping { session_id }) => {
                outbox.answer(&DialectMessage::Pong { session_id }).await;
            }
            Ok(_) => {}
            Err(goodbye) => return goodbye,
        }
    }
}
