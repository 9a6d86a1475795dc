//! Terminals through the API: real shells, attachments as a client makes them, bytes compared.

#[path = "terminals/attachments.rs"]
mod attachments;
#[path = "terminals/crowds.rs"]
mod crowds;
#[path = "terminals/journal.rs"]
mod journal;
#[path = "terminals/presence.rs"]
mod presence;
#[path = "terminals/requests.rs"]
mod requests;
#[path = "terminals/restarts.rs"]
mod restarts;
#[path = "terminals/survival.rs"]
mod survival;
#[path = "terminals/viewers.rs"]
mod viewers;

use std::collections::VecDeque;

use abide_model::{FromTerminal, TerminalFrame, ToTerminal};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::http::{Api, Composition as _};

/// A shell that says nothing but `$ `.
pub(super) const SHELL: [&str; 3] = ["/bin/sh", "-c", "PS1='$ ' exec /bin/sh"];

/// A terminal in a session of its own.
pub(super) struct Terminal {
    pub(super) api: Api,
    /// `/sessions/{id}`
    pub(super) session: String,
    /// `/sessions/{id}/workers/{worker_id}`
    pub(super) path: String,
    pub(super) id: String,
}

impl Terminal {
    /// A shell that says nothing but `$ `.
    pub(super) async fn shell(settings: &[&str]) -> Self {
        Self::start(settings, json!({ "command": SHELL })).await
    }

    pub(super) async fn start(settings: &[&str], spec: Value) -> Self {
        let mut all = vec!["warm_python=0"];
        all.extend(settings);
        Self::on(Api::with(&all), spec).await
    }

    pub(super) async fn on(api: Api, spec: Value) -> Self {
        let session = api.session(json!({})).await;
        let (path, id) = started(&api, &session, spec).await;
        Self {
            api,
            session,
            path,
            id,
        }
    }

    /// Attached: what is typed from here on is seen coming back, and is in no first snapshot.
    pub(super) async fn attach(&self, query: &str) -> Attachment {
        let mut attachment = self.try_attach(query).await.unwrap();
        while !query.contains("resume_from") && attachment.snapshots == 0 {
            assert!(attachment.step().await, "ended before it began");
        }
        attachment
    }

    pub(super) async fn try_attach(&self, query: &str) -> Result<Attachment, Error> {
        let url = self.api.server.base_url();
        let address = url.strip_prefix("http://").unwrap();
        let path = format!("ws://{address}{}/attach?{query}", self.path);
        let mut request = path.into_client_request().unwrap();
        let key = format!("Bearer {}", self.api.key);
        request
            .headers_mut()
            .insert("authorization", key.parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
        Ok(Attachment {
            socket,
            seen: Vec::new(),
            offset: 0,
            snapshots: 0,
            drawn: Vec::new(),
            others: VecDeque::new(),
        })
    }

    pub(super) async fn screen(&self) -> String {
        let answer = self.api.get(&format!("{}/screen", self.path)).await;
        assert_eq!(answer.status, 200);
        String::from_utf8(answer.body).unwrap()
    }

    /// Until the screen shows this, which may be a moment after viewers have been told.
    pub(super) async fn shows(&self, text: &str) {
        while !self.screen().await.contains(text) {
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn state(&self) -> Value {
        self.api.get(&self.path).await.check(200)
    }
}

pub(super) async fn started(api: &Api, session: &str, mut spec: Value) -> (String, String) {
    spec["kind"] = json!("terminal");
    let path = format!("{session}/workers");
    let answer = api.request("POST", &path).json(&spec);
    let started = super::http::Answer::of(answer).await.check(201);
    let id = started["id"].as_str().unwrap().to_owned();
    (format!("{path}/{id}"), id)
}

/// One who is attached.
pub(super) struct Attachment {
    pub(super) socket: WebSocketStream<TcpStream>,
    /// What was written since the last snapshot, as it came.
    pub(super) seen: Vec<u8>,
    /// The last snapshot.
    drawn: Vec<u8>,
    /// Output offset up to which it has everything.
    pub(super) offset: u64,
    /// Snapshots that came.
    pub(super) snapshots: usize,
    /// Control messages that nobody has looked at.
    pub(super) others: VecDeque<FromTerminal>,
}

impl Attachment {
    /// Takes the next message; `false` at the end.
    pub(super) async fn step(&mut self) -> bool {
        match self.socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                let frame = TerminalFrame::decode(&bytes).unwrap();
                if frame.kind == TerminalFrame::SNAPSHOT {
                    self.snapshots += 1;
                    self.seen.clear();
                    self.drawn = frame.bytes.to_vec();
                    self.offset = frame.offset;
                } else {
                    assert_eq!(frame.kind, TerminalFrame::OUTPUT);
                    assert_eq!(frame.offset, self.offset, "a gap, or twice the same");
                    self.seen.extend_from_slice(frame.bytes);
                    self.offset += frame.bytes.len() as u64;
                }
                true
            }
            Some(Ok(Message::Text(text))) => {
                self.others.push_back(serde_json::from_str(&text).unwrap());
                true
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => true,
            Some(Ok(Message::Close(_) | Message::Frame(_)) | Err(_)) | None => false,
        }
    }

    /// Until what was written contains this.
    pub(super) async fn until(&mut self, text: &str) {
        let mut searched = 0;
        while !self.has_from(searched, text) {
            searched = self.seen.len().saturating_sub(text.len());
            assert!(
                self.step().await,
                "ended before {text:?} came: {}",
                self.text()
            );
            // A snapshot in place of what was seen.
            searched = searched.min(self.seen.len());
        }
    }

    /// Until a control message comes that this picks.
    pub(super) async fn told<T>(&mut self, pick: impl Fn(&FromTerminal) -> Option<T>) -> T {
        loop {
            while let Some(message) = self.others.pop_front() {
                if let Some(picked) = pick(&message) {
                    return picked;
                }
            }
            assert!(self.step().await, "ended before it was told");
        }
    }

    /// Why the server closed it.
    pub(super) async fn closed(&mut self) -> (CloseCode, String) {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return (frame.code, frame.reason.to_string());
                }
                Some(Ok(_)) => {}
                other => panic!("not closed in order: {other:?}"),
            }
        }
    }

    pub(super) fn has(&self, text: &str) -> bool {
        self.has_from(0, text)
    }

    pub(super) fn has_from(&self, start: usize, text: &str) -> bool {
        let text = text.as_bytes();
        let mut windows = self.seen[start..].windows(text.len());
        windows.any(|window| window == text)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    pub(super) async fn types(&mut self, text: &str) {
        let frame = TerminalFrame {
            kind: TerminalFrame::INPUT,
            offset: 0,
            bytes: text.as_bytes(),
        };
        let message = Message::Binary(frame.encode().into());
        self.socket.send(message).await.unwrap();
    }

    pub(super) async fn says(&mut self, what: &ToTerminal) {
        let text = serde_json::to_string(what).unwrap();
        self.socket.send(Message::Text(text.into())).await.unwrap();
    }
}
