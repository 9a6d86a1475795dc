//! A terminal below a data plane, as the rest of the control plane sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use abide_data_plane::forward::Forward;
use abide_model::{
    CastFormat, Exit, Problem, ProblemCode, ScreenState, SessionId, SizePolicy, TerminalChanges,
    Worker, WorkerId,
};
use abide_session_agent::http::{AttachmentHost, query_of};
use abide_session_agent::{OutputReader, StreamFilter, Visit, WindowSize};
use axum::body::{Body, to_bytes};
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::watch;

use super::super::{Answer, Look, Terminal, Wanted};
use super::Remote;
use crate::service::Outcome;
use crate::trace;

/// Largest screen that is read whole, in bytes: of the largest terminal, every cell with a look of its own.
const LARGEST_SCREEN: usize = 64 * 1024 * 1024;

/// What is known of a terminal without asking anybody.
#[derive(Debug)]
pub(super) struct KnownTerminal {
    pub(super) id: WorkerId,
    pub(super) session: SessionId,
    /// How its program ended, once that is recorded.
    pub(super) exit: watch::Sender<Option<Exit>>,
    /// Grows with what those see who look at it by way of this server.
    pub(super) seen: watch::Sender<u64>,
    /// Attachments by way of this server.
    pub(super) viewers: AtomicU64,
}

/// One attachment by way of this server, until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<KnownTerminal>);

impl KnownTerminal {
    pub(super) fn new(id: WorkerId, session: SessionId, exit: Option<Exit>) -> Arc<Self> {
        Arc::new(Self {
            id,
            session,
            exit: watch::channel(exit).0,
            seen: watch::channel(0).0,
            viewers: AtomicU64::new(0),
        })
    }

    pub(super) fn is_viewed(self: &Arc<Self>) -> Counted {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct RemoteTerminal {
    pub(super) remote: Arc<Remote>,
    pub(super) known: Arc<KnownTerminal>,
}

impl RemoteTerminal {
    /// Asks the plane below about it.
    async fn ask(&self, forward: &Forward) -> Outcome<Response> {
        let remote = &self.remote;
        let session = self.known.session.to_string();
        let (tasks, trace) = (&remote.config.tasks, trace::current());
        let answer = remote.client.forward(&session, forward, tasks, &trace);
        answer.await.map_err(|problem| self.of_terminal(problem))
    }

    /// It is gone below: looks whether that is news.
    fn learn(&self) {
        if self.known.exit.borrow().is_none() {
            self.remote
                .look_terminal_up(self.known.id, self.known.session);
        }
    }

    fn rest(&self, rest: &str) -> String {
        format!("/{}{rest}", self.known.id)
    }

    /// What a refusal says of the terminal: that this server knows it and the plane below does not means
    /// that it is gone.
    fn of_terminal(&self, problem: Problem) -> Problem {
        if !is_gone(&problem) {
            return problem;
        }
        self.learn();
        let exit = self.known.exit.borrow();
        let how = exit
            .as_ref()
            .map_or("nobody saw how", |exit| exit.reason.as_str());
        Problem::new(
            ProblemCode::WorkerGone,
            format!("the terminal has ended ({how}), and nothing of it is left to look at"),
        )
    }
}

/// Whether nothing of a terminal is left below.
pub(super) fn is_gone(problem: &Problem) -> bool {
    [
        ProblemCode::WorkerNotFound,
        ProblemCode::SessionNotFound,
        ProblemCode::SessionExpired,
        ProblemCode::RuntimeIdentityMismatch,
    ]
    .iter()
    .any(|code| problem.code == code.as_str())
}

impl Terminal for RemoteTerminal {
    fn id(&self) -> WorkerId {
        self.known.id
    }

    fn exit(&self) -> Option<Exit> {
        self.known.exit.borrow().clone()
    }

    fn ended(&self) -> Answer<'_, Exit> {
        let mut exit = self.known.exit.subscribe();
        Box::pin(async move {
            let ended = exit.wait_for(Option::is_some).await;
            // The sender lives as long as this.
            let exit = ended.ok().and_then(|exit| exit.clone());
            exit.unwrap_or_default()
        })
    }

    fn activity(&self) -> watch::Receiver<u64> {
        self.known.seen.subscribe()
    }

    fn shown(&self) -> Answer<'_, Option<ScreenState>> {
        Box::pin(async move {
            let session = self.known.session.to_string();
            let (client, trace) = (&self.remote.client, trace::current());
            let asked = client.terminal(&session, self.known.id, &trace);
            let asked = asked.await.inspect_err(|problem| {
                if is_gone(problem) {
                    self.learn();
                }
            });
            let state = asked.ok()?;
            self.remote.note_end(&state.worker).await;
            state.screen
        })
    }

    fn screen(&self, ansi: bool) -> Answer<'_, Outcome<String>> {
        Box::pin(async move {
            let format = if ansi { "ansi" } else { "text" };
            let rest = self.rest(&format!("/screen?format={format}"));
            let forward = Forward::new(Method::GET, rest, Bytes::new());
            let answer = self.ask(&forward).await?;
            let bytes = to_bytes(answer.into_body(), LARGEST_SCREEN).await;
            let bytes = bytes.map_err(|_| {
                Problem::new(
                    ProblemCode::RuntimeUnreachable,
                    "the screen did not arrive whole",
                )
            })?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        })
    }

    fn input(&self, bytes: Bytes, viewer: Option<u64>) -> Answer<'_, Outcome<()>> {
        Box::pin(async move {
            let rest = match viewer {
                Some(viewer) => self.rest(&format!("/input?viewer={viewer}")),
                None => self.rest("/input"),
            };
            self.ask(&Forward::new(Method::POST, rest, bytes)).await?;
            Ok(())
        })
    }

    fn set_size(&self, size: WindowSize) -> Answer<'_, Outcome<()>> {
        Box::pin(async move {
            let size = serde_json::json!({ "cols": size.columns, "rows": size.rows });
            let body = Bytes::from(size.to_string());
            let forward = Forward::new(Method::POST, self.rest("/resize"), body);
            self.ask(&forward).await?;
            Ok(())
        })
    }

    fn set_size_policy(&self, policy: SizePolicy) -> Answer<'_, Outcome<()>> {
        Box::pin(async move {
            let changes = TerminalChanges {
                name: None,
                size_policy: Some(policy),
            };
            // Only maps with keys that are no text cannot be encoded.
            let body = serde_json::to_vec(&changes).unwrap_or_default();
            let forward = Forward::new(Method::PATCH, self.rest(""), body.into());
            self.ask(&forward).await?;
            Ok(())
        })
    }

    fn output(
        &self,
        from: Option<u64>,
        to: Option<u64>,
        follow: bool,
    ) -> Answer<'_, Outcome<Option<OutputReader>>> {
        let wanted = Wanted {
            worker: Some(self.known.id),
            filter: StreamFilter::All,
            from,
            tail: None,
            end: to,
            follow,
        };
        Box::pin(self.remote.output(self.known.session, wanted))
    }

    fn recording<'a>(
        &'a self,
        _worker: &'a Worker,
        format: CastFormat,
    ) -> Answer<'a, Outcome<Response>> {
        Box::pin(async move {
            let rest = self.rest(&format!("/recording?format={}", format.as_str()));
            self.ask(&Forward::new(Method::GET, rest, Bytes::new()))
                .await
        })
    }

    fn attach<'a>(
        &'a self,
        request: &'a mut Parts,
        visit: Visit,
        host: Arc<dyn AttachmentHost>,
    ) -> Answer<'a, Outcome<Response<Body>>> {
        let rest = self.rest(&format!("/attach?{}", query_of(&visit)));
        let mut forward = Forward::of_request(request, rest, Bytes::new());
        // Dropped with the last who tells of bytes.
        let counted = self.known.is_viewed();
        forward.sent = Some(Arc::new(move |bytes| {
            host.viewer_was_sent(bytes);
            let grows = |seen: &mut u64| *seen += bytes as u64;
            counted.0.seen.send_modify(grows);
        }));
        Box::pin(async move { self.ask(&forward).await })
    }

    fn look(&self, visit: Visit) -> Look {
        super::viewing::look(&self.remote, &self.known, visit)
    }
}
