//! What clients of the dialect say.

use serde::Deserialize;
use serde_json::Value;

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
            // An array of values in the right order would do, too.
            data.is_object()
                .then(|| serde_json::from_value(data).ok())?
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
}
