//! The public API over real HTTP: what it promises, to the letter.

mod agents;
mod auth;
mod errors;
mod events;
pub(crate) mod full_disk;
pub(crate) mod http;
mod interpreters;
mod jobs;
mod libraries;
mod output;
pub(crate) mod process;
mod sessions;
mod shutdown;
mod snapshots;
mod steps;
mod streams;
mod system;
