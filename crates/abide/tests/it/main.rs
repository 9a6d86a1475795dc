//! The program as its users see it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::duplicate_mod,
    reason = "one suite, run against one process and against three"
)]

mod abide;
mod api;
mod completions;
mod data_plane;
mod offline;
mod online;
mod packets;
mod pages;
mod planes;
mod session_agent;
mod split;
mod survival;
mod terminal;
