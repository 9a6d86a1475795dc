//! One method per operation of the API.

mod agents;
mod events;
mod server;
mod sessions;
mod steps;

pub use events::EventQuery;
pub use server::{ServerStatus, ShutdownWorkers, WarmCounts};
pub use sessions::{CreateSession, ListSessions, SessionPage, UpdateSession};
