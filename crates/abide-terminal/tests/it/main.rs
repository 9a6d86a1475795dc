//! The screen against xterm.js, and against itself.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arbitrary;
mod keyframe;
mod random;
mod recording;
mod replay;
mod resize;
mod scrollback;
mod snapshot;
mod states;
mod text;
mod width;
mod xterm;
