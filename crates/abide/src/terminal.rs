//! What the commands for terminals share: which one is meant, and being attached to it.

mod display;
mod film;
mod keys;
mod playing;
mod raw;
mod signals;
mod target;
mod viewing;

pub(crate) use film::Film;
pub(crate) use keys::DetachKey;
pub(crate) use playing::{Pace, play};
pub(crate) use target::{Target, Which, find, label};
pub(crate) use viewing::{Viewing, view, window};
