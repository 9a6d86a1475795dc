//! Typed client of Abide's public API, used by the command line and by tests.
//!
//! - [`Client`] holds a connection pool; cloning it is cheap and shares the pool.
//! - Requests carry no deadline of their own: a step may run for days. Only connecting is bounded.
//! - Streams ([`StepStream`], [`EventStream`], [`OutputStream`]) can be dropped at any time.
//! - [`ResumableStep`] follows one step to its end across lost connections and server restarts:
//!   every byte of output once, and the step executed at most once, because its id is chosen here.
//! - [`ResumableAttachment`] does the same for what a terminal shows.

mod api;
mod attachment;
mod client;
mod download;
mod error;
mod events;
mod output;
mod resume;
mod resume_attachment;
mod sse;
mod step_stream;

pub use api::{EventQuery, ListSessions, SessionPage, ShutdownWorkers};
pub use attachment::{Attach, Attachment, Shown};
pub use client::Client;
pub use download::Download;
pub use error::Error;
pub use events::EventStream;
pub use output::{Output, OutputFrom, OutputStream};
pub use resume::{Locate, ResumableStep, ResumePolicy};
pub use resume_attachment::ResumableAttachment;
pub use sse::{MAX_MESSAGE_BYTES, Message, SseParser, TooLarge};
pub use step_stream::{StepEvent, StepStream};
