//! The store on real files.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod concurrency;
mod conformance;
mod fixtures;
mod kill;
mod opening;
mod sqlite;
mod transitions;
