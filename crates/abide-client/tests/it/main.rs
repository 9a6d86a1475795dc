//! The client against a scripted server: what it sends, and what it makes of broken answers.

mod resume;
mod scripted;
