//! What the commands for terminals share: which one is meant, and being attached to it.

mod display;
mod keys;
mod raw;
mod target;
mod viewing;

pub(crate) use keys::DetachKey;
pub(crate) use target::{Target, Which, find, label};
pub(crate) use viewing::{Viewing, view, window};
