//! What clients of the dialect are told.

use serde::Serialize;
use serde_json::Value;

use super::{DialectReason, DialectTerminal};

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
