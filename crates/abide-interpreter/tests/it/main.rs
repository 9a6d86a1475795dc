//! The harnesses in real interpreters, over a socket pair and pipes.
//!
//! `ABIDE_TEST_PYTHON` and `ABIDE_TEST_NODE` choose other interpreters than those on `PATH`.
#![expect(clippy::unwrap_used, reason = "whatever fails fails the test")]

mod discovery;
mod forgery;
mod interrupt;
mod node;
mod python;
mod running;
mod threads;
