//! One method per operation of the API.

mod agents;
mod events;
mod server;
mod sessions;
mod steps;
mod terminals;

pub use events::EventQuery;
pub use server::ShutdownWorkers;
pub use sessions::{ListSessions, SessionPage};
