//! The keeper: the tiny process that owns one worker's pipes or terminal and its journal, so that
//! everything above it may die.
//!
//! A keeper ([`run`]) starts a program, journals what it writes, delivers what it is told, knows
//! how it ended and leaves no process of its tree behind. It is launched ([`Launcher`]) and found
//! again ([`KeeperClient::connect`]) by directory:
//!
//! | file | what it is |
//! |---|---|
//! | `spec.json` | what the keeper was told: [`KeeperSpec`] |
//! | `keeper.json` | who it is: [`KeeperRecord`]; written once it listens and the program runs |
//! | `control.sock` | where it listens for one client at a time |
//! | `journal` | everything the program wrote and was told: [`JournalReader`] |
//! | `exit.json` | how the program ended: [`ExitRecord`] |
//! | `keeper.log` | what went wrong with the keeper itself, usually nothing |
//!
//! What it guarantees:
//! - A reader gets exactly the bytes that were written, or is told that they have left the ring.
//! - What the program wrote before a control frame comes before that frame.
//! - The attached reader loses nothing: rather than overwrite what it has not passed, the keeper
//!   stops reading from the program. When nobody is attached the program is never held up.
//! - A message is delivered at most once by its id, except that one which the client wrote to the
//!   program itself ([`HandOver`]) is written again if the client has died since.
//! - What is typed to a terminal arrives whole and in order. A program that does not read it holds
//!   up who types, who knows it ([`TerminalInput`]); never output, a change of size or a stop.
//! - A reader that begins anywhere knows the size that the terminal had there
//!   ([`JournalReader::window_size_at`]).
//! - No process that was not verified to belong to the worker is ever signalled.
//!
//! It knows nothing of sessions, steps or protocols: frames are bytes to it.

mod client;
mod files;
mod journal;
mod keeper;
mod launch;
mod leftovers;
mod process;
mod protocol;
mod spec;
mod terminal;

pub use client::{
    ConnectError, HandOver, KeeperClient, KeeperParts, TerminalInput, exit_record, journal_path,
};
pub use journal::{
    CreateError, Earliest, FIRST, FrameAssembler, JournalReader, JournalWriter, LAST, MAX_CHUNK,
    MESSAGE_ID_LEN, MIN_CAPACITY, OpenError, OutputChunk, ReadError, Record, StreamFilter, Tag,
    split_input,
};
pub use keeper::run;
pub use launch::{LaunchError, LaunchedKeeper, Launcher, is_keeper};
pub use leftovers::{WORKER_VARIABLE, kill_leftovers};
pub use process::{ProcessStamp, boot_id, boottime_ns};
pub use protocol::{
    INPUT_WINDOW, MAX_FRAME, Message, OLDEST_PROTOCOL, PROTOCOL_VERSION, SignalScope,
};
pub use spec::{ExitRecord, Io, KeeperRecord, KeeperSpec, Lifecycle, Limit, LimitedResource};
pub use terminal::{Terminal, WindowSize};
