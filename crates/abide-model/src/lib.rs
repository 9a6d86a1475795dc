//! The vocabulary of Abide as types: identifiers, records, states, rules and every wire shape.
//!
//! This crate does no I/O, starts no task and knows no framework; every other crate may use it.
//! A wire shape exists exactly once, here: the store persists these records, the API serialises
//! them, the client parses them.

mod agent;
mod asciicast;
mod bytes;
mod dialect;
mod event;
mod ids;
mod job;
mod json;
mod plane;
mod problem;
mod run;
mod runtime;
mod server;
mod session;
mod step;
mod terminal;
mod timestamp;
mod worker;

pub use agent::{Agent, AgentChanges, AgentStatus, NewAgent};
pub use asciicast::{CastError, CastEvent, CastFormat, CastHeader, CastReader, CastWriter};
pub use dialect::{
    DIALECT_MAX_SIDE, DIALECT_USUAL_SIZE, DialectCounts, DialectCreate, DialectMessage,
    DialectReason, DialectRequest, DialectStatus, DialectTerminal,
};
pub use event::{Event, EventKind, NewEvent};
pub use ids::{AgentId, EventId, InvalidId, JobId, SessionId, StepId, WorkerId, new_uuid};
pub use job::{Job, JobEnd, JobStatus};
pub use json::{JsonObject, NotAnObject};
pub use plane::{
    AgentHealth, AgentSession, AgentStep, AuthMode, BOOT_ID_HEADER, PlaneNews, RegisterSession,
    Route, RouteStatus, RunStep, SESSION_TOKEN_HEADER, STEP_FRAMES, SessionNews, StartTerminal,
    StepFrame, WorkerNews, is_session_label, session_id_of_label, step_id_of_label,
};
pub use problem::{FieldError, Problem, ProblemCode};
pub use run::{Run, RunStatus};
pub use runtime::{Runtime, UnknownRuntime};
pub use server::{ServerStatus, TerminalCounts, WarmCounts};
pub use session::{
    CreateSession, NewSession, RuntimeBackend, Session, SessionChanges, SessionFilter,
    SessionStatus, UpdateSession, Workspace, WorkspaceKind,
};
pub use step::{
    MimeBundle, NewStep, OutputView, Step, StepError, StepFilter, StepOutcome, StepResult,
    StepStatus, SubmitStep, VIEW_HEAD_BYTES, VIEW_TAIL_BYTES,
};
pub use terminal::{
    ACK_WINDOW, AttachmentError, FromTerminal, MAX_VIEWER_NAME, Presence, ScreenState,
    SnapshotReason, TERMINAL_FRAME_HEAD, TerminalChanges, TerminalFrame, TerminalSpec,
    TerminalState, ToTerminal,
};
pub use timestamp::Timestamp;
pub use worker::{Exit, NewWorker, SizePolicy, ViewerRole, Worker, WorkerKind, WorkerState};

/// A closed set that is spelled the same in JSON, in the database and in a query string.
///
/// `parse` is exact (case-sensitive), as the session service's contract asks.
#[macro_export]
macro_rules! closed_set {
    ($(#[doc = $about:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $text)] $variant,)+
        }
        impl $name {
            /// Every member, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The spelling on the wire and in the store.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
            /// What it means: the documentation of the member, in Markdown.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii()),+ }
            }
            /// Exact, case-sensitive inverse of [`Self::as_str`].
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        // Written out, since the derived one would not see the spelling.
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::Type::String)
                    .description(Some([$($about),+].map(|line| line.strip_prefix(' ').unwrap_or(line)).join("\n")))
                    .enum_values(Some(Self::ALL.iter().map(|member| member.as_str())))
                    .into()
            }
        }
        impl utoipa::ToSchema for $name {}
    };
}
