//! A terminal, wherever it runs, and whoever looks at it for a connection of the dialect.

use std::sync::Arc;

use abide_model::{CastFormat, Exit, ScreenState, SizePolicy, Worker, WorkerId};
use abide_session_agent::http::AttachmentHost;
use abide_session_agent::{OutputReader, Visit, WindowSize};
use axum::http::request::Parts;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::watch;

use super::Answer;
use crate::service::Outcome;

/// A terminal that can be looked at, whether its program lives or has ended.
pub(crate) trait Terminal: Send + Sync + std::fmt::Debug {
    /// Which worker.
    fn id(&self) -> WorkerId;

    /// How the program that was started ended, once that is recorded.
    fn exit(&self) -> Option<Exit>;

    /// The same, once it is there.
    fn ended(&self) -> Answer<'_, Exit>;

    /// Changes whenever something is known to have been written to it.
    fn activity(&self) -> watch::Receiver<u64>;

    /// What can be told of it without drawing it; `None` if nothing of it is left, or nobody can say.
    fn shown(&self) -> Answer<'_, Option<ScreenState>>;

    /// The visible screen as text; with looks and links if `ansi`.
    fn screen(&self, ansi: bool) -> Answer<'_, Outcome<String>>;

    /// Types, as one of those who look or nobody in particular; answers once the keeper has it all. A
    /// program that does not read makes it wait.
    fn input(&self, bytes: Bytes, viewer: Option<u64>) -> Answer<'_, Outcome<()>>;

    /// Gives it a size, whoever looks at it.
    fn set_size(&self, size: WindowSize) -> Answer<'_, Outcome<()>>;

    /// Changes whose size it has when several look at it.
    fn set_size_policy(&self, policy: SizePolicy) -> Answer<'_, Outcome<()>>;

    /// What its programs wrote, from output offset `from` (the earliest there is by default) to `to`, or
    /// to what is there now, or on as they write; `None` if its journal is gone.
    fn output(
        &self,
        from: Option<u64>,
        to: Option<u64>,
        follow: bool,
    ) -> Answer<'_, Outcome<Option<OutputReader>>>;

    /// Everything that its journal still has, as asciicast.
    fn recording<'a>(
        &'a self,
        worker: &'a Worker,
        format: CastFormat,
    ) -> Answer<'a, Outcome<Response>>;

    /// Answers a request for an attachment, and serves that: here, with what `host` has to do with it, or
    /// below.
    fn attach<'a>(
        &'a self,
        request: &'a mut Parts,
        visit: Visit,
        host: Arc<dyn AttachmentHost>,
    ) -> Answer<'a, Outcome<Response>>;

    /// Begins to look.
    fn look(&self, visit: Visit) -> Look;
}

/// One who looks: what it sees, and where it acts.
pub(crate) struct Look {
    pub(crate) eye: Box<dyn Eye>,
    pub(crate) hand: Arc<dyn Hand>,
}

/// What one who looks sees. Dropping it ends the looking.
pub(crate) trait Eye: Send + Sync {
    /// What comes next, when it comes; `patience` as for [`abide_session_agent::Viewer::next`]. May be
    /// given up and called again.
    fn next(&mut self, patience: Option<u64>) -> Answer<'_, Sight>;
}

/// Where one who looks acts.
pub(crate) trait Hand: Send + Sync + std::fmt::Debug {
    /// Its number among the terminal's viewers, once it has one.
    fn viewer(&self) -> Option<u64>;

    /// Its window has this size.
    fn resizes(&self, size: WindowSize);
}

/// What one who looks sees next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The whole state, in place of everything seen so far.
    Snapshot(Bytes),
    /// What programs wrote.
    Output(Bytes),
    /// The program that was started has ended; what it left running may write on.
    Exited(Exit),
    /// The terminal is gone: nothing more will come.
    Gone,
}
