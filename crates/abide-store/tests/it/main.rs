//! The store on real files.

mod concurrency;
mod conformance;
mod fixtures;
mod kill;
mod opening;
mod sqlite;
mod transitions;
