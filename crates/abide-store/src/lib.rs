//! Records and the event log of Abide: agents, sessions, steps, workers, jobs and events, on SQLite;
//! and the data plane's routes and runs.
//!
//! What it guarantees:
//! - A change and the event that tells of it commit together, and a call answers only after the
//!   commit. [`Synchronous`] says what a commit survives. Changes of routes, runs,
//!   jobs and names of terminals have no events.
//! - Event sequence numbers are given in commit order by the one writer: a reader that has seen
//!   `n` will never find a new event at or below `n`. [`Store::watch_events`] tells of new ones.
//! - Dropping the future of a change does not undo the change; it only loses the answer.
//! - Reads run on the calling thread, in parallel with the writer, and see every change that was
//!   answered before they began; those of steps and events also every end that was handed in.
//! - JSON that clients sent comes back to the letter.
//!
//! What it does not know: HTTP, processes. Limits on sizes are the caller's.

mod agents;
mod cache;
mod checkpoint;
mod dialect;
mod error;
mod events;
mod jobs;
mod open;
mod readers;
mod routes;
mod rows;
mod runs;
mod sessions;
mod steps;
mod store;
mod workers;
mod writer;

pub use dialect::StoredDialectTerminal;
pub use error::{Cause, OpenError, StoreError};
pub use events::EventFilter;
pub use jobs::CreatedJob;
pub use open::{Clock, SCHEMA_VERSION, StoreOptions, Synchronous};
pub use routes::{Inserted, StoredRoute};
pub use runs::CreatedRun;
pub use sessions::{Created, RequestKey};
pub use steps::{Accepted, Finished, OutputRange, UnfinishedStep};
pub use store::Store;
