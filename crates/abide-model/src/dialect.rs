//! The multi-terminal dialect: what goes over `/terminal/ws/multi` and `/terminal/ws`.
//!
//! Text messages, one JSON object each: `{"type", "sessionId"?, "data"?}`. Ids are made by the clients;
//! `docs/dialect.md` tells what each message does.
//!
//! ```text
//! client   create_session, reattach_session, list_sessions, close_session, rename_session,
//!          input, resize, ping
//! server   session_created  output …
//!          session_reattached  scrollback  output …  scrollback (who was too slow) output …
//!          session_closed, session_renamed     also what others did, or the program
//!          session_list, pong, error           answers
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Timestamp;

/// Size of a terminal where a client asks for none, or for one out of bounds: rows and columns.
pub const DIALECT_USUAL_SIZE: (u16, u16) = (24, 80);
/// Largest number of rows, and of columns.
pub const DIALECT_MAX_SIDE: i64 = 500;

/// What a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialectRequest {
    /// Start a terminal under this id, and attach to it.
    Create(DialectCreate),
    /// End a terminal.
    Close {
        /// Which.
        session_id: String,
    },
    /// Give a terminal another name.
    Rename {
        /// Which.
        session_id: String,
        /// What people are to call it.
        name: String,
    },
    /// Which terminals are there.
    List,
    /// Attach to a terminal that is there.
    Reattach {
        /// Which.
        session_id: String,
        /// The viewer's rows; 0 and below: it does not say.
        rows: i64,
        /// The viewer's columns, likewise.
        cols: i64,
    },
    /// Type.
    Input {
        /// Which; the only one attached if it does not say.
        session_id: Option<String>,
        /// What.
        data: String,
    },
    /// The viewer's window has another size.
    Resize {
        /// Which; the only one attached if it does not say.
        session_id: Option<String>,
        /// Rows.
        rows: i64,
        /// Columns.
        cols: i64,
    },
    /// Is somebody there.
    Ping {
        /// Comes back.
        session_id: Option<String>,
    },
}

/// A terminal that a client asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DialectCreate {
    /// The client's id for it.
    #[serde(default)]
    pub session_id: String,
    /// Rows.
    #[serde(default)]
    pub rows: i64,
    /// Columns.
    #[serde(default)]
    pub cols: i64,
    /// What people call it.
    #[serde(default)]
    pub name: Option<String>,
    /// The directory to start in.
    #[serde(default)]
    pub work_dir: Option<String>,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialectMessage {
    /// A terminal was started.
    Created {
        /// Its id.
        session_id: String,
        /// Where it was started.
        working_directory: String,
    },
    /// What follows is the state of a terminal, and then its output.
    Reattached {
        /// Its id.
        session_id: String,
        /// Where it was started.
        working_directory: String,
    },
    /// The whole state, in place of everything seen so far; begins with a full reset.
    Scrollback {
        /// Of which.
        session_id: String,
        /// To be written to the viewer's terminal.
        data: String,
    },
    /// What programs wrote.
    Output {
        /// In which; none in single mode.
        session_id: Option<String>,
        /// What.
        data: String,
    },
    /// A terminal is gone.
    Closed {
        /// Which.
        session_id: String,
        /// Why.
        reason: DialectReason,
        /// How its program ended, if it did by itself.
        exit_code: Option<i32>,
    },
    /// A terminal has another name.
    Renamed {
        /// Which.
        session_id: String,
        /// Its name now.
        name: String,
    },
    /// Every terminal of the caller.
    List(Vec<DialectTerminal>),
    /// Something was refused.
    Error {
        /// What it was about.
        session_id: Option<String>,
        /// What is wrong.
        error: String,
        /// More of that.
        details: Option<String>,
    },
    /// Somebody is here.
    Pong {
        /// What the ping had.
        session_id: Option<String>,
    },
    /// Single mode: the terminal of this connection.
    Single {
        /// Made by the server.
        session_id: String,
    },
    /// Single mode: something went wrong.
    SingleError(&'static str),
}

crate::closed_set! {
    /// Why a terminal is gone.
    DialectReason {
        /// Somebody closed it.
        UserRequested = "user_requested",
        /// Its program has ended.
        ProcessExit = "process_exit",
        /// What kept it is gone, and nobody saw how its program ended.
        Error = "error",
    }
}

crate::closed_set! {
    /// Whether a terminal's program lives.
    DialectStatus {
        /// It does.
        Running = "running",
        /// It has ended.
        Exited = "exited",
    }
}

/// A terminal in a `session_list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DialectTerminal {
    /// The client's id.
    pub session_id: String,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// See [`DialectStatus`].
    pub status: DialectStatus,
    /// Where it was started.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub working_directory: String,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it was typed into or written to last, to the second.
    pub last_activity_at: Timestamp,
}

/// How many terminals of the dialect there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DialectCounts {
    /// All, those of single mode and those that have ended included.
    pub sessions: usize,
    /// Nobody is attached.
    pub orphaned_sessions: usize,
    /// The program has ended.
    pub exited_sessions: usize,
    /// Bytes of output that can still be read.
    pub buffer_bytes: u64,
}

impl DialectRequest {
    /// A client's message; `None` for one that is none, which is passed over in silence.
    pub fn parse(text: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Envelope {
            #[serde(rename = "type")]
            kind: String,
            #[serde(default, rename = "sessionId")]
            session_id: Option<String>,
            #[serde(default)]
            data: Value,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Named {
            #[serde(default)]
            session_id: String,
            #[serde(default)]
            name: String,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Sized {
            #[serde(default)]
            session_id: String,
            #[serde(default)]
            rows: i64,
            #[serde(default)]
            cols: i64,
        }
        #[derive(Deserialize)]
        struct Typed {
            data: String,
        }
        fn of<T: serde::de::DeserializeOwned>(data: Value) -> Option<T> {
            serde_json::from_value(data).ok()
        }
        let Envelope {
            kind,
            session_id,
            data,
        } = serde_json::from_str(text).ok()?;
        let session_id = session_id.filter(|id| !id.is_empty());
        Some(match kind.as_str() {
            "create_session" => Self::Create(of(data)?),
            "close_session" => Self::Close {
                session_id: of::<Named>(data)?.session_id,
            },
            "rename_session" => {
                let Named { session_id, name } = of(data)?;
                Self::Rename { session_id, name }
            }
            "list_sessions" => Self::List,
            "reattach_session" => {
                let Sized {
                    session_id,
                    rows,
                    cols,
                } = of(data)?;
                Self::Reattach {
                    session_id,
                    rows,
                    cols,
                }
            }
            "input" => Self::Input {
                session_id,
                data: of::<Typed>(data)?.data,
            },
            "resize" => {
                let Sized { rows, cols, .. } = of(data)?;
                Self::Resize {
                    session_id,
                    rows,
                    cols,
                }
            }
            "ping" => Self::Ping { session_id },
            _ => return None,
        })
    }
}

impl DialectMessage {
    /// As it goes over the wire.
    pub fn encode(&self) -> String {
        #[derive(Serialize)]
        struct Text<'a> {
            data: &'a str,
        }
        match self {
            Self::Output { session_id, data } => {
                envelope("output", session_id.as_deref(), Some(Text { data }))
            }
            Self::Scrollback { session_id, data } => {
                envelope("scrollback", Some(session_id), Some(Text { data }))
            }
            Self::Pong { session_id } => envelope::<()>("pong", session_id.as_deref(), None),
            Self::List(sessions) => {
                let data = serde_json::json!({ "sessions": sessions });
                envelope("session_list", None, Some(data))
            }
            Self::SingleError(message) => envelope("error", None, Some(message)),
            Self::Single { session_id } => {
                let data = serde_json::json!({ "sessionId": session_id });
                envelope("session", None, Some(data))
            }
            Self::Error {
                session_id,
                error,
                details,
            } => {
                let mut data = serde_json::json!({ "error": error });
                if let Some(details) = details {
                    data["details"] = details.as_str().into();
                }
                envelope("error", session_id.as_deref(), Some(data))
            }
            Self::Created {
                session_id,
                working_directory,
            } => about("session_created", session_id, |data| {
                data["workingDirectory"] = working_directory.as_str().into();
            }),
            Self::Reattached {
                session_id,
                working_directory,
            } => about("session_reattached", session_id, |data| {
                data["workingDirectory"] = working_directory.as_str().into();
            }),
            Self::Renamed { session_id, name } => about("session_renamed", session_id, |data| {
                data["name"] = name.as_str().into();
            }),
            Self::Closed {
                session_id,
                reason,
                exit_code,
            } => about("session_closed", session_id, |data| {
                data["reason"] = reason.as_str().into();
                if let Some(code) = exit_code {
                    data["exitCode"] = (*code).into();
                }
            }),
        }
    }
}

/// A message about a terminal, whose id is in its data as well.
fn about(kind: &str, session_id: &str, more: impl FnOnce(&mut Value)) -> String {
    let mut data = serde_json::json!({ "sessionId": session_id });
    more(&mut data);
    envelope(kind, Some(session_id), Some(data))
}

fn envelope<T: Serialize>(kind: &str, session_id: Option<&str>, data: Option<T>) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope<'a, T: Serialize> {
        #[serde(rename = "type")]
        kind: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        session_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<T>,
    }
    // Only maps with non-text keys can fail, and there are none.
    serde_json::to_string(&Envelope {
        kind,
        session_id,
        data,
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_say() {
        let check = |text: &str, expected: Option<DialectRequest>| {
            assert_eq!(DialectRequest::parse(text), expected, "{text}");
        };
        check(
            r#"{"type":"create_session","data":{"sessionId":"b1","rows":30,"cols":100,"name":"build","workDir":"/tmp"}}"#,
            Some(DialectRequest::Create(DialectCreate {
                session_id: "b1".to_owned(),
                rows: 30,
                cols: 100,
                name: Some("build".to_owned()),
                work_dir: Some("/tmp".to_owned()),
            })),
        );
        check(
            r#"{"type":"create_session","data":{}}"#,
            Some(DialectRequest::Create(DialectCreate::default())),
        );
        check(r#"{"type":"list_sessions"}"#, Some(DialectRequest::List));
        check(
            r#"{"type":"input","sessionId":"b1","data":{"data":"ls\r"},"more":1}"#,
            Some(DialectRequest::Input {
                session_id: Some("b1".to_owned()),
                data: "ls\r".to_owned(),
            }),
        );
        check(
            r#"{"type":"ping","sessionId":""}"#,
            Some(DialectRequest::Ping { session_id: None }),
        );
        for nonsense in [
            "",
            "[]",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"dance"}"#,
            r#"{"type":"create_session"}"#,
            r#"{"type":"create_session","data":[]}"#,
            r#"{"type":"resize","sessionId":"b1","data":{"rows":"30"}}"#,
            r#"{"type":"input","sessionId":"b1","data":{}}"#,
            r#"{"type":"input","sessionId":"b1","data":"ls"}"#,
        ] {
            check(nonsense, None);
        }
    }

    #[test]
    fn what_the_server_says() {
        let check = |message: DialectMessage, expected: &str| {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(&message.encode()), parse(expected));
        };
        let session_id = || "b1".to_owned();
        check(
            DialectMessage::Created {
                session_id: session_id(),
                working_directory: String::new(),
            },
            r#"{"type":"session_created","sessionId":"b1","data":{"sessionId":"b1","workingDirectory":""}}"#,
        );
        check(
            DialectMessage::Closed {
                session_id: session_id(),
                reason: DialectReason::ProcessExit,
                exit_code: Some(7),
            },
            r#"{"type":"session_closed","sessionId":"b1","data":{"sessionId":"b1","reason":"process_exit","exitCode":7}}"#,
        );
        check(
            DialectMessage::Output {
                session_id: None,
                data: "\u{1b}[m".to_owned(),
            },
            r#"{"type":"output","data":{"data":"\u001b[m"}}"#,
        );
        check(
            DialectMessage::List(Vec::new()),
            r#"{"type":"session_list","data":{"sessions":[]}}"#,
        );
        check(
            DialectMessage::Error {
                session_id: Some(session_id()),
                error: "session not found".to_owned(),
                details: None,
            },
            r#"{"type":"error","sessionId":"b1","data":{"error":"session not found"}}"#,
        );
        check(
            DialectMessage::Pong {
                session_id: Some(session_id()),
            },
            r#"{"type":"pong","sessionId":"b1"}"#,
        );
        check(
            DialectMessage::SingleError("Failed to create terminal session"),
            r#"{"type":"error","data":"Failed to create terminal session"}"#,
        );
    }
}
