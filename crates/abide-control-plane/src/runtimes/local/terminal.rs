//! A terminal of this process's session agent, as the rest of the control plane sees it.

use std::sync::Arc;

use abide_model::{CastFormat, Exit, ScreenState, SizePolicy, Worker, WorkerId};
use abide_session_agent::http::{AttachmentHost, attach, recorded};
use abide_session_agent::{
    OutputReader, Tasks, TerminalHandle, View, Viewer, Visit, WindowSize, described, shown,
};
use axum::extract::FromRequestParts as _;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio::sync::watch;

use super::super::{Answer, Eye, Hand, Look, Sight, Terminal};
use crate::service::Outcome;

/// See the module.
#[derive(Debug)]
pub(super) struct LocalTerminal {
    pub(super) handle: TerminalHandle,
    pub(super) tasks: Tasks,
}

fn now<T: Send + 'static>(answer: T) -> Answer<'static, T> {
    Box::pin(std::future::ready(answer))
}

impl Terminal for LocalTerminal {
    fn id(&self) -> WorkerId {
        self.handle.id()
    }

    fn exit(&self) -> Option<Exit> {
        self.handle.exit()
    }

    fn ended(&self) -> Answer<'_, Exit> {
        Box::pin(self.handle.ended())
    }

    fn activity(&self) -> watch::Receiver<u64> {
        self.handle.changes()
    }

    fn shown(&self) -> Answer<'_, Option<ScreenState>> {
        now(Some(shown(&self.handle)))
    }

    fn screen(&self, ansi: bool) -> Answer<'_, Outcome<String>> {
        Box::pin(async move {
            self.handle.catch_up().await;
            Ok(self.handle.screen(ansi))
        })
    }

    fn input(&self, bytes: Bytes, viewer: Option<u64>) -> Answer<'_, Outcome<()>> {
        if let Some(viewer) = viewer {
            self.handle.is_active(viewer);
        }
        Box::pin(async move { Ok(self.handle.input(bytes).await?) })
    }

    fn set_size(&self, size: WindowSize) -> Answer<'_, Outcome<()>> {
        now(self.handle.set_size(size).map_err(Into::into))
    }

    fn set_size_policy(&self, policy: SizePolicy) -> Answer<'_, Outcome<()>> {
        self.handle.set_size_policy(policy);
        now(Ok(()))
    }

    fn output(
        &self,
        from: Option<u64>,
        to: Option<u64>,
        follow: bool,
    ) -> Answer<'_, Outcome<Option<OutputReader>>> {
        let from = from.unwrap_or_else(|| self.handle.output_range().0);
        now(Ok(Some(self.handle.output(from, to, follow))))
    }

    fn recording<'a>(
        &'a self,
        worker: &'a Worker,
        format: CastFormat,
    ) -> Answer<'a, Outcome<Response>> {
        Box::pin(async move {
            let stopping = self.tasks.stopping();
            Ok(recorded(worker, &self.handle, format, stopping).await)
        })
    }

    fn attach<'a>(
        &'a self,
        request: &'a mut Parts,
        visit: Visit,
        host: Arc<dyn AttachmentHost>,
    ) -> Answer<'a, Outcome<Response>> {
        Box::pin(async move {
            // Whoever asks for none of it is told so.
            Ok(
                match WebSocketUpgrade::from_request_parts(request, &()).await {
                    Ok(upgrade) => attach(
                        upgrade,
                        self.handle.clone(),
                        visit,
                        host,
                        self.tasks.clone(),
                    ),
                    Err(refusal) => refusal.into_response(),
                },
            )
        })
    }

    fn look(&self, visit: Visit) -> Look {
        let viewer = self.handle.attach(visit);
        let hand = LocalHand {
            handle: self.handle.clone(),
            viewer: viewer.id(),
        };
        let catches_up = visit.resume_from.is_none();
        let eye = LocalEye {
            viewer,
            catches_up: catches_up.then(|| self.handle.clone()),
        };
        Look {
            eye: Box::new(eye),
            hand: Arc::new(hand),
        }
    }
}

struct LocalEye {
    viewer: Viewer,
    /// Until the first snapshot: it is to have what was seen of the terminal before, by whomever.
    catches_up: Option<TerminalHandle>,
}

impl Eye for LocalEye {
    fn next(&mut self, patience: Option<u64>) -> Answer<'_, Sight> {
        Box::pin(async move {
            if let Some(terminal) = &self.catches_up {
                terminal.catch_up().await;
                self.catches_up = None;
            }
            loop {
                return match self.viewer.next(patience).await {
                    View::Output { bytes, .. } => Sight::Output(bytes),
                    View::Snapshot(snapshot) => Sight::Snapshot(snapshot.bytes),
                    View::Resized(_) => continue,
                    View::Exited(exit) => Sight::Exited(described(Some(&exit))),
                    View::Closed => Sight::Gone,
                };
            }
        })
    }
}

#[derive(Debug)]
struct LocalHand {
    handle: TerminalHandle,
    viewer: u64,
}

impl Hand for LocalHand {
    fn viewer(&self) -> Option<u64> {
        Some(self.viewer)
    }

    fn resizes(&self, size: WindowSize) {
        self.handle.resize(self.viewer, size);
    }
}
