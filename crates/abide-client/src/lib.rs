//! Typed client of Abide's public API, used by the command line and by tests.
//!
//! - [`Client`] holds a connection pool; cloning it is cheap and shares the pool.
//! - Requests carry no deadline of their own: a step may run for days. Only connecting is bounded.
//! - Streams ([`StepStream`], [`EventStream`], [`OutputStream`]) can be dropped at any time.
//! - [`ResumableStep`] follows one step to its end across lost connections and server restarts:
//!   every byte of output once, and the step executed at most once, because its id is chosen here.

mod api;
mod client;
mod error;
mod events;
mod output;
mod resume;
mod sse;
mod step_stream;

pub use api::{EventQuery, ListSessions, SessionPage, ShutdownWorkers};
pub use client::Client;
pub use error::Error;
pub use events::EventStream;
pub use output::{Output, OutputFrom, OutputStream};
pub use resume::{Locate, ResumableStep, ResumePolicy};
pub use sse::{MAX_MESSAGE_BYTES, Message, SseParser, TooLarge};
pub use step_stream::{StepEvent, StepStream};
