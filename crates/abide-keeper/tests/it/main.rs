//! Keepers, journals and clients with real processes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adoption;
mod flow;
mod hand_over;
mod journal;
mod leftovers;
mod program;
mod reserve;
mod shell;
mod stop;
mod support;
mod terminal;
mod typing;
