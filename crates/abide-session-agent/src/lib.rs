//! Runs the workers of one host: starts interpreters under keepers, hands them steps, reads
//! their journals, and finds them again after a restart.
//!
//! Guarantees
//! - A step is handed to an interpreter at most once, however often the agent is restarted.
//! - Every step that was accepted is reported to the [`Recorder`] with exactly one terminal
//!   state, and again after a crash (the recorder ignores the second report). Who waits for it hears
//!   of it once that is durable, or once it is handed in if the recorder says so
//!   ([`Recorder::tells_before_durable`]).
//! - An interpreter that died stays dead until somebody asks for a new one.
//!
//! [`SessionAgent`] does that for whoever keeps the records. [`SessionHost`] keeps them itself,
//! in files, and [`http`] serves it: that is the session agent as a service of its own.
//!
//! The agent knows nothing of tenants, policy or the public API.

mod agent;
mod config;
pub mod crash_points;
mod host;
pub mod http;
mod ledger;
mod link;
pub mod metrics;
mod output;
mod pool;
mod recorder;
mod schedule;
mod tasks;
mod terminal;
mod wakeup;
mod worker;

pub use abide_keeper::WindowSize;
pub use agent::{Adoption, AgentCounts, SessionAgent, TerminalFailed};
pub use config::AgentConfig;
pub use host::{
    Credentials, HostConfig, HostedOutput, HostedStep, Outcome, SessionHost, StepState,
};
pub use metrics::METRIC_NAMES;
pub use output::{OutputChunk, OutputReader, StreamFilter};
pub use pool::{IdleInterpreter, LaunchFailed};
pub use recorder::{RecordFailed, Recorder, Recording};
pub use tasks::Tasks;
pub use terminal::{
    Attendance, Happened, Introduction, NewTerminal, Snapshot, TOO_FAR_BEHIND, TerminalGone,
    TerminalHandle, TerminalRecording, View, Viewer, Visit, described, shown,
};
pub use worker::{Acceptance, Ended, LEFT_NOTHING, Peek, Phase, Refusal, RunHandle, WorkerHandle};
