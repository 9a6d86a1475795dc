//! The client against a scripted server: what it sends, and what it makes of broken answers.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod resume;
mod scripted;
