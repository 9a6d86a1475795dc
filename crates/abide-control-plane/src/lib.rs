//! The public API: sessions, steps, agents and events over HTTP.
//!
//! Guarantees
//! - An answer that says something was stored was given after it was committed; the end of a step
//!   may be told a moment before, while a journal vouches for it, and no read misses it.
//! - A step that anybody can hear of before it ends is recorded before it is handed over; any other
//!   is recorded with its outcome, and the journal vouches for it in between. Either way the same
//!   step id is executed at most once, whoever repeats it and whichever server answers.
//! - Every route but the health checks, the metrics and the documentation needs a key.
//!
//! The control plane knows nothing of processes, keepers or journals: it asks the session agent of
//! its process, or a data plane.

mod config;
mod disk;
mod expiry;
mod http;
mod locks;
mod metrics;
mod runtimes;
mod service;
mod store_recorder;
mod trace;

pub use config::{ControlPlaneConfig, DialectConfig};
pub use http::openapi;
pub use metrics::METRIC_NAMES;
pub use service::{ControlPlane, ShutdownRequest, WorkersAfterShutdown};
