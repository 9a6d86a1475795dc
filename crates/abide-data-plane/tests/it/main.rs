//! The data plane against session agents that do what a test tells them to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod expiry;
mod fake_agent;
mod http_api;
mod reconciling;
mod routing_rules;
mod runs;
mod scripted_link;
mod sessions;
mod timing;
mod world;
