//! The public API over real HTTP: what it promises, to the letter.

mod agents;
mod auth;
#[path = "dialect.rs"]
mod dialect;
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
#[path = "shell.rs"]
mod shell;
mod shutdown;
mod snapshots;
mod steps;
mod streams;
mod system;
#[path = "terminals.rs"]
mod terminals;
#[path = "terminals/upgrade.rs"]
mod upgrade;
