//! Python and Node harnesses and the framed protocol they speak.
//!
//! A *harness* is a small program, embedded in this crate, that runs inside a real `python3` or
//! `node`, keeps the user's state and executes one step after another. It speaks on a private
//! channel (descriptor 3 at start), so that nothing user code writes to descriptors 1 and 2 can
//! be mistaken for an answer.
//!
//! ```text
//! let python = discover(Runtime::Python, None)?;     // once, cached while `is_current()`
//! python.prepare(dir)?;                              // writes the harness, idempotent
//! let command = python.command(dir);                 // argv and environment for the keeper
//! channel.write(&ToHarness::Configure { .. }.encode());
//! channel.write(&ToHarness::Step { .. }.encode());   // the next only after `Finished`
//! while let Some((payload, used)) = split_frame(&buffer)? { FromHarness::decode(payload)?; }
//! ```
//!
//! Guarantees of a harness:
//! - `Ready` once, then for each step one `Finished` with the step's id. What a step printed is in
//!   the pipes before its `Finished` is on the channel.
//! - SIGINT interrupts the running step and nothing else. A caller that wants to stop a step writes
//!   `Interrupt` and then sends the signal; no matter whether the step has begun, runs or has
//!   ended, it is this step or none that is stopped.
//! - A signal can come right before a wait in the kernel and not be found until the wait is over. So
//!   the caller sends SIGURG now and then to the interpreter alone (not to its children) until the
//!   step has ended. It ends such a wait and is not an interrupt.
//! - The end of the channel ends the interpreter.
//!
//! This crate starts no session process; it only says how to (discovery runs the interpreter
//! briefly to ask it about itself).

mod command;
mod discover;
mod frame;
mod message;

pub use command::{HarnessCommand, PrepareError};
pub use discover::{DiscoverError, Interpreter, discover};
pub use frame::{FrameError, MAX_PAYLOAD_BYTES, split_frame};
pub use message::{FromHarness, ToHarness};
