//! Terminals: what is asked for, what is shown, and what goes over an attachment.
//!
//! An attachment is a WebSocket at `/sessions/{id}/workers/{worker_id}/attach`. Its query may have
//! `role`, `cols`, `rows`, `resume_from` (the output offset up to which the viewer has everything)
//! and `scrollback` (bytes of scrolled-off lines in a snapshot). Text messages are JSON:
//! [`FromTerminal`] and [`ToTerminal`]. Binary messages are [`TerminalFrame`]s: bytes as the
//! terminal's programs wrote them, or read them.
//!
//! ```text
//! server   attached
//!          viewers                       who is attached; again with each change of that
//!          snapshot, frame SNAPSHOT      unless it resumes: in place of everything seen so far; first with
//!                                        little scrollback, then, if there is more, with all of it
//!          frame OUTPUT …  resize …      as it happens; a snapshot again for who was too slow
//!          exit                          when the program that was started has ended
//!          error                         what was said in vain; before the server closes, why
//! client   hello                         who it is, if others are to know; what it wants to change
//!          frame INPUT, resize, ack      at any time
//! ```
//!
//! Who sends `ack` is never sent more than [`ACK_WINDOW`] bytes beyond the offset it named last, so it
//! must not wait for more than that before it sends the next.
//! Frames are not compressed: `permessage-deflate` is never agreed to.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Exit, SizePolicy, ViewerRole, Worker, WorkerId};

/// Longest name of a viewer, in characters.
pub const MAX_VIEWER_NAME: usize = 64;

/// Bytes of output that are sent beyond the last acknowledged offset; one who had to be waited for and is
/// behind by as much again is moved forward to a snapshot. Whoever digests 8 MB/s is done with both in 24 ms:
/// so long it takes at most to see that a flood has ended.
pub const ACK_WINDOW: u64 = 96 * 1024;
/// Length of a frame before its bytes.
pub const TERMINAL_FRAME_HEAD: usize = 9;

/// A terminal to be started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalSpec {
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Program and arguments; a shell if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// A shell is to be a login shell.
    #[serde(default)]
    pub login: bool,
    /// Columns before anybody looks at it; 80 if not given.
    #[serde(default)]
    pub cols: Option<u16>,
    /// Rows before anybody looks at it; 24 if not given.
    #[serde(default)]
    pub rows: Option<u16>,
    /// Whose window it is as large as; `latest` if not given.
    #[serde(default)]
    pub size_policy: Option<SizePolicy>,
    /// The terminal in whose place it was started. Set by the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<WorkerId>,
    /// Output that is kept of it, in bytes; `journal_bytes` of the configuration if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_bytes: Option<u64>,
}

/// What is to be changed of a terminal; what is not given stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalChanges {
    /// What people call it; nothing any more if empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whose window it is as large as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_policy: Option<SizePolicy>,
}

/// A worker as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TerminalState {
    /// The worker.
    #[serde(flatten)]
    pub worker: Worker,
    /// What a terminal has that can be looked at, and an interpreter has not.
    #[serde(flatten)]
    #[schema(value_type = ScreenState)]
    pub screen: Option<ScreenState>,
}

/// What can be told of a terminal without drawing it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScreenState {
    /// Columns now.
    #[schema(required = false)]
    pub cols: u16,
    /// Rows now.
    #[schema(required = false)]
    pub rows: u16,
    /// The title that its program has set.
    #[schema(required = false)]
    pub title: Option<String>,
    /// How many are attached.
    #[schema(required = false)]
    pub viewers: usize,
    /// First output offset that can still be read.
    #[schema(required = false)]
    pub output_start: u64,
    /// Output offset after the last byte.
    #[schema(required = false)]
    pub output_end: u64,
}

/// What the server says over an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromTerminal {
    /// The first message.
    Attached {
        /// The terminal.
        worker_id: WorkerId,
        /// The viewer, as it stands among the `viewers`.
        #[serde(default)]
        viewer_id: u64,
        /// What the viewer may do.
        role: ViewerRole,
        /// Columns now.
        cols: u16,
        /// Rows now.
        rows: u16,
    },
    /// Who is attached now. Of several changes in a row the last alone may be told.
    Viewers {
        /// Whose window the terminal is as large as.
        size_policy: SizePolicy,
        /// In the order in which they came.
        viewers: Vec<Presence>,
    },
    /// A [`TerminalFrame::SNAPSHOT`] follows, drawn for this size.
    Snapshot {
        /// Why it comes.
        #[serde(default)]
        reason: SnapshotReason,
        /// Output offset of what comes after it.
        offset: u64,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The terminal has another size from here on.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// The program that was started has ended. What it left running may write on.
    Exit {
        /// How.
        exit: Exit,
    },
    /// What the viewer said was in vain; or, right before the server closes, why it does.
    Error {
        /// What is the matter.
        code: AttachmentError,
        /// A sentence for people.
        message: String,
    },
}

/// One who is attached to a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Presence {
    /// Counts those who came, from 0.
    pub id: u64,
    /// What it wants to be called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it may do.
    pub role: ViewerRole,
    /// Columns of its window, once it has said.
    pub cols: Option<u16>,
    /// Rows of its window, once it has said.
    pub rows: Option<u16>,
    /// The terminal has its size from this viewer's window.
    pub drives_size: bool,
}

crate::closed_set! {
    /// Why a viewer is given a snapshot.
    SnapshotReason {
        /// It has just come.
        Attach = "attach",
        /// It was too slow, and is moved forward to the present.
        Slow = "slow",
        /// What it would have seen next has left the journal.
        Expired = "expired",
        /// It has seen the screen, and now it is given all the scrollback it asked for.
        Scrollback = "scrollback",
    }
}

#[expect(
    clippy::derivable_impls,
    reason = "a closed set's members take no attribute"
)]
impl Default for SnapshotReason {
    fn default() -> Self {
        Self::Attach
    }
}

crate::closed_set! {
    /// What is the matter with an attachment.
    AttachmentError {
        /// Only those who drive can do that; the viewer stays.
        NotDriving = "not_driving",
        /// A value cannot be; the viewer stays, and nothing was changed.
        InvalidInput = "invalid_input",
        /// The change could not be recorded; the viewer stays.
        NotChanged = "not_changed",
        /// Not a message of an attachment; the server closes.
        InvalidMessage = "invalid_message",
        /// The server is stopping, and closes; the terminal goes on.
        ShuttingDown = "shutting_down",
    }
}

/// What a viewer says over an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToTerminal {
    /// Who it is, and what it wants to be otherwise than it was; what is not given stays.
    Hello {
        /// What the other viewers see it called, [`MAX_VIEWER_NAME`] characters at most.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// What it may do from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        role: Option<ViewerRole>,
        /// Whose window the terminal is as large as from now on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size_policy: Option<SizePolicy>,
    },
    /// Its window has this size.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// It has dealt with all output before this offset.
    Ack {
        /// Output offset.
        offset: u64,
    },
}

/// A binary message of an attachment: what it is (one byte), an output offset (eight bytes, most
/// significant first), and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalFrame<'a> {
    /// One of the constants.
    pub kind: u8,
    /// Output offset of the first byte; of what follows, for a snapshot; 0 for input.
    pub offset: u64,
    /// As they are.
    pub bytes: &'a [u8],
}

impl<'a> TerminalFrame<'a> {
    /// What programs wrote.
    pub const OUTPUT: u8 = 1;
    /// What gives a terminal of the announced size the whole state.
    pub const SNAPSHOT: u8 = 2;
    /// What a viewer types.
    pub const INPUT: u8 = 3;

    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(TERMINAL_FRAME_HEAD + self.bytes.len());
        message.push(self.kind);
        message.extend_from_slice(&self.offset.to_be_bytes());
        message.extend_from_slice(self.bytes);
        message
    }

    /// The frame of a message; `None` if it is too short to be one.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        let (offset, bytes) = rest.split_first_chunk()?;
        Some(Self {
            kind: *kind,
            offset: u64::from_be_bytes(*offset),
            bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_they_were() {
        let frame = TerminalFrame {
            kind: TerminalFrame::OUTPUT,
            offset: 0x0102_0304_0506_0708,
            bytes: b"\x1b[m\xff",
        };
        let message = frame.encode();
        assert_eq!(message, b"\x01\x01\x02\x03\x04\x05\x06\x07\x08\x1b[m\xff");
        assert_eq!(TerminalFrame::decode(&message), Some(frame));
        assert_eq!(TerminalFrame::decode(&message[..8]), None);
    }

    #[test]
    fn messages_are_spelled_like_this() {
        let said = ToTerminal::Ack { offset: 7 };
        let text = r#"{"type":"ack","offset":7}"#;
        assert_eq!(serde_json::to_string(&said).unwrap(), text);
        assert_eq!(serde_json::from_str::<ToTerminal>(text).unwrap(), said);
        let said = ToTerminal::Hello {
            name: Some("ada".to_owned()),
            role: Some(ViewerRole::View),
            size_policy: None,
        };
        let text = r#"{"type":"hello","name":"ada","role":"view"}"#;
        assert_eq!(serde_json::to_string(&said).unwrap(), text);
        assert_eq!(serde_json::from_str::<ToTerminal>(text).unwrap(), said);
        let said = FromTerminal::Resize { cols: 80, rows: 24 };
        let text = r#"{"type":"resize","cols":80,"rows":24}"#;
        assert_eq!(serde_json::to_string(&said).unwrap(), text);
    }
}
