//! What travels over a keeper's control socket.
//!
//! ```text
//! client -> keeper   Hello
//! keeper -> client   Welcome and descriptors, or a refusal
//! client -> keeper   frames: u32 length, u8 kind, body           (all numbers little-endian)
//! ```
//!
//! The keeper says nothing more: everything it has to tell is in the journal.
//!
//! Keepers outlive the binary that started them, so whoever comes later speaks the version that
//! `keeper.json` names, and says so in Hello:
//!
//! | version | what it has |
//! |---|---|
//! | 2 | [`Message::Deliver`], `Interrupt`, `Signal`, `Stop`, `Kill` |
//! | 3 | terminals: [`Message::Input`], `Resize`, and Welcome's `input` |
//! | 4 | the terminal or the program's control socket comes along with Welcome, behind the two event |
//! |   | descriptors, to be written to; [`Message::Repeat`] |

use uuid::Uuid;

use crate::process::ProcessStamp;
use crate::terminal::WindowSize;

/// Version of the handshake and the messages.
pub const PROTOCOL_VERSION: u32 = 4;
/// The oldest version that both sides still speak.
pub const OLDEST_PROTOCOL: u32 = 2;
/// From this version on a client is given what input is written to.
pub(crate) const GIVES_INPUT: u32 = 4;
/// Longest frame either way, in bytes: control frames of the program, and messages to it.
pub const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Bytes of input that a keeper holds for a terminal that does not take them. More than a person
/// types and little enough for a thousand terminals that nobody reads.
pub const INPUT_WINDOW: usize = 256 * 1024;

pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"ABKP");
const MAGIC_LEN: usize = 4;
/// Magic and version come first in every version of Hello and Welcome.
pub(crate) const PREAMBLE_LEN: usize = 8;
pub(crate) const HELLO_LEN: usize = 32;
pub(crate) const REFUSAL_LEN: usize = 12;
pub(crate) const WELCOME_LEN: usize = 104;

/// Welcome's third word.
const ACCEPTED: u32 = 0;
const WRONG_VERSION: u32 = 1;

const DELIVER: u8 = 1;
const SIGNAL: u8 = 2;
const STOP: u8 = 3;
const KILL: u8 = 4;
const INTERRUPT: u8 = 5;
const INPUT: u8 = 6;
const RESIZE: u8 = 7;
const REPEAT: u8 = 8;

/// Who is to get a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum SignalScope {
    /// The program itself.
    Leader = 1,
    /// The program's process group.
    Group = 2,
    /// The program and every descendant, in whatever session or group.
    Tree = 3,
}

/// What a client can tell a keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Journal the payload as input and write it to the program's control descriptor as it is;
    /// once only for each id.
    Deliver {
        /// Chosen by the sender; the keeper remembers the last 1024.
        id: [u8; 16],
        /// At most [`MAX_FRAME`] less 32 bytes.
        payload: &'a [u8],
    },
    /// Write the payload to the program's control descriptor behind everything delivered before,
    /// and then send SIGINT to its process group. Whoever finds the signal finds the payload, and
    /// so knows which delivery it is about. Not journalled: it gets through when output does not.
    Interrupt {
        /// At most [`MAX_FRAME`] less 16 bytes; a few in practice.
        payload: &'a [u8],
    },
    /// Send a signal, whatever else is under way.
    Signal {
        /// Its number.
        signal: i32,
        /// To whom.
        scope: SignalScope,
    },
    /// End the whole tree: hang up, terminate (on a terminal, hang up once more), kill, with the
    /// graces of the specification.
    Stop,
    /// Kill the whole tree now.
    Kill,
    /// Write the payload to the terminal behind all input before. Not journalled: what is typed
    /// may be a secret. See [`crate::TerminalInput`] for how much may be sent.
    Input {
        /// At most [`INPUT_WINDOW`] bytes, less what was sent and is not written yet.
        payload: &'a [u8],
    },
    /// Give the terminal another size and note that in the journal, behind all output that was
    /// written before. Waits while nothing can go into the journal; input does not, and overtakes it.
    Resize(WindowSize),
    /// Write the message that was handed over last to the program's control descriptor; see
    /// [`crate::HandOver`].
    Repeat,
}

impl<'a> Message<'a> {
    /// Appends the whole frame to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        match self {
            Self::Deliver { id, payload } => {
                out.reserve(17 + payload.len());
                out.push(DELIVER);
                out.extend_from_slice(id);
                out.extend_from_slice(payload);
            }
            Self::Interrupt { payload } => {
                out.push(INTERRUPT);
                out.extend_from_slice(payload);
            }
            Self::Signal { signal, scope } => {
                out.push(SIGNAL);
                out.extend_from_slice(&signal.to_le_bytes());
                out.push(*scope as u8);
            }
            Self::Stop => out.push(STOP),
            Self::Kill => out.push(KILL),
            Self::Input { payload } => {
                out.push(INPUT);
                out.extend_from_slice(payload);
            }
            Self::Resize(size) => {
                out.push(RESIZE);
                out.extend_from_slice(&size.to_bytes());
            }
            Self::Repeat => out.push(REPEAT),
        }
        let len = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    }

    /// Reads a frame without its length; `None` for what is not a message.
    pub(crate) fn decode(frame: &'a [u8]) -> Option<Self> {
        let (kind, body) = frame.split_first()?;
        Some(match (*kind, body) {
            (DELIVER, body) => {
                let (id, payload) = body.split_first_chunk()?;
                Self::Deliver { id: *id, payload }
            }
            (INTERRUPT, payload) => Self::Interrupt { payload },
            (SIGNAL, [a, b, c, d, scope]) => Self::Signal {
                signal: i32::from_le_bytes([*a, *b, *c, *d]),
                scope: match scope {
                    1 => SignalScope::Leader,
                    2 => SignalScope::Group,
                    3 => SignalScope::Tree,
                    _ => return None,
                },
            },
            (STOP, []) => Self::Stop,
            (KILL, []) => Self::Kill,
            (INPUT, payload) => Self::Input { payload },
            (REPEAT, []) => Self::Repeat,
            (RESIZE, size) => Self::Resize(WindowSize::from_bytes(size.try_into().ok()?)),
            _ => return None,
        })
    }
}

/// First words of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u32,
    pub(crate) nonce: Uuid,
    /// Everything before this entry has been seen.
    pub(crate) resume: u64,
}

impl Hello {
    pub(crate) fn encode(&self) -> [u8; HELLO_LEN] {
        let mut bytes = [0; HELLO_LEN];
        bytes[..8].copy_from_slice(&preamble(self.version));
        bytes[8..24].copy_from_slice(self.nonce.as_bytes());
        bytes[24..].copy_from_slice(&self.resume.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HELLO_LEN]) -> Self {
        let mut rest = &bytes[MAGIC_LEN..];
        Self {
            version: u32::from_le_bytes(take(&mut rest)),
            nonce: Uuid::from_bytes(take(&mut rest)),
            resume: u64::from_le_bytes(take(&mut rest)),
        }
    }
}

/// The keeper's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) keeper: ProcessStamp,
    pub(crate) child: ProcessStamp,
    pub(crate) worker_id: Uuid,
    /// From `keeper.json`.
    pub(crate) nonce: Uuid,
    /// From Hello.
    pub(crate) client_nonce: Uuid,
    pub(crate) capacity: u64,
    pub(crate) generation: u64,
    /// Bytes of input that were taken from the clients before.
    pub(crate) input: u64,
}

impl Welcome {
    /// In the version of Hello.
    pub(crate) fn encode(&self, version: u32) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REFUSAL_LEN + WELCOME_LEN);
        bytes.extend_from_slice(&preamble(version));
        bytes.extend_from_slice(&ACCEPTED.to_le_bytes());
        for process in [self.keeper, self.child] {
            bytes.extend_from_slice(&i64::from(process.pid).to_le_bytes());
            bytes.extend_from_slice(&process.start_time.to_le_bytes());
        }
        for id in [self.worker_id, self.nonce, self.client_nonce] {
            bytes.extend_from_slice(id.as_bytes());
        }
        bytes.extend_from_slice(&self.capacity.to_le_bytes());
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&self.input.to_le_bytes());
        bytes
    }

    /// Reads what follows an accepting preamble.
    pub(crate) fn decode(bytes: &[u8; WELCOME_LEN]) -> Option<Self> {
        let mut rest = &bytes[..];
        let mut process = || {
            let pid = i32::try_from(i64::from_le_bytes(take(&mut rest))).ok();
            pid.map(|pid| ProcessStamp {
                pid,
                start_time: u64::from_le_bytes(take(&mut rest)),
            })
        };
        let (keeper, child) = (process()?, process()?);
        Some(Self {
            keeper,
            child,
            worker_id: Uuid::from_bytes(take(&mut rest)),
            nonce: Uuid::from_bytes(take(&mut rest)),
            client_nonce: Uuid::from_bytes(take(&mut rest)),
            capacity: u64::from_le_bytes(take(&mut rest)),
            generation: u64::from_le_bytes(take(&mut rest)),
            input: u64::from_le_bytes(take(&mut rest)),
        })
    }
}

/// Magic and a version.
pub(crate) fn preamble(version: u32) -> [u8; PREAMBLE_LEN] {
    let mut bytes = [0; PREAMBLE_LEN];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..].copy_from_slice(&version.to_le_bytes());
    bytes
}

/// The version in a preamble; `None` if it is not one.
pub(crate) fn version_of(bytes: &[u8; PREAMBLE_LEN]) -> Option<u32> {
    let mut rest = &bytes[..];
    let magic = u32::from_le_bytes(take(&mut rest));
    (magic == MAGIC).then(|| u32::from_le_bytes(take(&mut rest)))
}

/// Whether a client or keeper of this version can be spoken to.
pub(crate) fn is_spoken(version: u32) -> bool {
    (OLDEST_PROTOCOL..=PROTOCOL_VERSION).contains(&version)
}

/// The keeper's answer to a version that it does not speak; its preamble tells the newest that it
/// does.
pub(crate) fn refusal() -> [u8; REFUSAL_LEN] {
    let mut bytes = [0; REFUSAL_LEN];
    bytes[..PREAMBLE_LEN].copy_from_slice(&preamble(PROTOCOL_VERSION));
    bytes[PREAMBLE_LEN..].copy_from_slice(&WRONG_VERSION.to_le_bytes());
    bytes
}

/// Whether the third word of an answer means that Welcome follows.
pub(crate) fn is_accepted(status: [u8; 4]) -> bool {
    u32::from_le_bytes(status) == ACCEPTED
}

/// Takes `N` bytes off the front; callers have checked the length.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    if let Some((head, tail)) = rest.split_first_chunk::<N>() {
        bytes = *head;
        *rest = tail;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_wire() {
        for message in [
            Message::Deliver {
                id: [7; 16],
                payload: b"hello",
            },
            Message::Deliver {
                id: [0; 16],
                payload: b"",
            },
            Message::Interrupt { payload: b"stop" },
            Message::Signal {
                signal: 2,
                scope: SignalScope::Group,
            },
            Message::Stop,
            Message::Kill,
            Message::Input { payload: b"ls\r" },
            Message::Resize(WindowSize::new(80, 24)),
            Message::Repeat,
        ] {
            let mut bytes = vec![9];
            message.encode(&mut bytes);
            let len = u32::from_le_bytes(bytes[1..5].try_into().unwrap()) as usize;
            assert_eq!(len, bytes.len() - 5);
            assert_eq!(Message::decode(&bytes[5..]), Some(message));
        }
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for frame in [
            &b""[..],
            &[0],
            &[9, 1],
            &[DELIVER, 1, 2],
            &[SIGNAL, 2, 0, 0, 0, 9],
            &[STOP, 0],
            &[RESIZE, 80, 0, 24, 0],
        ] {
            assert_eq!(Message::decode(frame), None, "{frame:?}");
        }
    }

    #[test]
    fn handshakes_survive_the_wire() {
        let hello = Hello {
            version: OLDEST_PROTOCOL,
            nonce: Uuid::from_u128(7),
            resume: 99,
        };
        assert_eq!(Hello::decode(&hello.encode()), hello);
        let welcome = Welcome {
            keeper: ProcessStamp {
                pid: 12,
                start_time: 34,
            },
            child: ProcessStamp {
                pid: 56,
                start_time: 78,
            },
            worker_id: Uuid::from_u128(1),
            nonce: Uuid::from_u128(2),
            client_nonce: Uuid::from_u128(3),
            capacity: 4096,
            generation: 5,
            input: 6,
        };
        let bytes = welcome.encode(PROTOCOL_VERSION);
        assert_eq!(bytes.len(), REFUSAL_LEN + WELCOME_LEN);
        let body = bytes[REFUSAL_LEN..].try_into().unwrap();
        assert_eq!(Welcome::decode(body), Some(welcome));
        let preamble = bytes.first_chunk().unwrap();
        assert_eq!(version_of(preamble), Some(PROTOCOL_VERSION));
    }
}
