//! The multi-terminal dialect over a raw protocol client, which knows what the contract says and nothing
//! of the server.

mod basics;

use std::collections::{HashMap, VecDeque};

use abide_testkit::{Came, JsonSocket, Refused};
use serde_json::{Value, json};

use crate::api::http::Api;

const MULTI: &str = "/terminal/ws/multi";

/// A shell that says nothing but `$ `.
const SHELL: &str = concat!(
    "terminal_shell=",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/scripts/quiet-shell"
);

/// A server whose terminals are quiet shells.
fn server(settings: &[&str]) -> Api {
    let mut all = vec!["warm_python=0", SHELL];
    all.extend(settings);
    Api::with(&all)
}

/// One connection.
struct Client {
    socket: JsonSocket,
    /// What was shown of each terminal since its last scrollback.
    seen: HashMap<String, String>,
    /// Messages other than output that nobody has looked at.
    others: VecDeque<Value>,
}

impl Client {
    /// With the server's own key.
    async fn of(api: &Api) -> Self {
        Self::with_token(api, &api.key).await
    }

    async fn with_token(api: &Api, token: &str) -> Self {
        let path = format!("{MULTI}?token={token}");
        Self::connect(api, &path, &[]).await.unwrap()
    }

    async fn connect(api: &Api, path: &str, headers: &[(&str, &str)]) -> Result<Self, Refused> {
        let socket = JsonSocket::connect(api.server.url(), path, headers).await;
        Ok(Self {
            socket: socket.unwrap()?,
            seen: HashMap::new(),
            others: VecDeque::new(),
        })
    }

    async fn say(&mut self, kind: &str, data: Value) {
        let message = json!({ "type": kind, "data": data });
        self.socket.send(&message).await.unwrap();
    }

    async fn say_to(&mut self, kind: &str, id: &str, data: Value) {
        let message = json!({ "type": kind, "sessionId": id, "data": data });
        self.socket.send(&message).await.unwrap();
    }

    async fn types(&mut self, id: &str, text: &str) {
        self.say_to("input", id, json!({ "data": text })).await;
    }

    /// A new terminal that has shown its prompt.
    async fn create(&mut self, id: &str) {
        self.create_with(json!({ "sessionId": id, "rows": 24, "cols": 80 }))
            .await;
    }

    async fn create_with(&mut self, data: Value) {
        let id = data["sessionId"].as_str().unwrap().to_owned();
        self.say("create_session", data).await;
        let created = self.told("session_created").await;
        assert_eq!(created["sessionId"], id.as_str());
        assert_eq!(created["data"]["sessionId"], id.as_str());
        self.until(&id, "$ ").await;
    }

    /// Until the scrollback has come, which is answered.
    async fn reattach(&mut self, id: &str) -> String {
        let data = json!({ "sessionId": id, "rows": 24, "cols": 80 });
        self.say("reattach_session", data).await;
        self.reattached(id).await
    }

    async fn reattached(&mut self, id: &str) -> String {
        let reattached = self.told("session_reattached").await;
        assert_eq!(reattached["sessionId"], id);
        let scrollback = self.told("scrollback").await;
        assert_eq!(scrollback["sessionId"], id);
        scrollback["data"]["data"].as_str().unwrap().to_owned()
    }

    /// The present list.
    async fn list(&mut self) -> Vec<Value> {
        self.socket
            .send(&json!({ "type": "list_sessions" }))
            .await
            .unwrap();
        let list = self.told("session_list").await;
        list["data"]["sessions"].as_array().unwrap().clone()
    }

    /// The ids of the present list.
    async fn ids(&mut self) -> Vec<String> {
        let list = self.list().await;
        let ids = list.iter().map(|it| it["sessionId"].as_str().unwrap().to_owned());
        ids.collect()
    }

    /// What an error said, and to which id.
    async fn error(&mut self) -> (String, Value) {
        let error = self.told("error").await;
        let text = error["data"]["error"].as_str().unwrap().to_owned();
        (text, error["sessionId"].clone())
    }

    /// Takes the next message; `false` at the end.
    async fn step(&mut self) -> bool {
        let message = match self.socket.next().await.unwrap() {
            Came::Json(message) => message,
            Came::Closed(..) | Came::Cut => return false,
        };
        let id = message["sessionId"].as_str().unwrap_or_default().to_owned();
        let data = message["data"]["data"].as_str();
        match message["type"].as_str().unwrap() {
            "output" => self.seen.entry(id).or_default().push_str(data.unwrap()),
            kind => {
                if kind == "scrollback" {
                    self.seen.insert(id, data.unwrap().to_owned());
                }
                self.others.push_back(message);
            }
        }
        true
    }

    /// Until this was shown.
    async fn until(&mut self, id: &str, text: &str) {
        while !self.seen.get(id).is_some_and(|seen| seen.contains(text)) {
            assert!(self.step().await, "ended before {text:?} came: {:?}", self.seen);
        }
    }

    /// The next message of this type; those of others that came before it are passed over.
    async fn told(&mut self, kind: &str) -> Value {
        loop {
            while let Some(message) = self.others.pop_front() {
                if message["type"] == kind {
                    return message;
                }
                assert_ne!(message["type"], "error", "{message}");
            }
            assert!(self.step().await, "ended before {kind} came");
        }
    }

    /// Everything that was sent before is answered: nothing but this ping's answer is on its way.
    async fn settled(&mut self) {
        self.socket
            .send(&json!({ "type": "ping", "sessionId": "settled" }))
            .await
            .unwrap();
        while !self
            .others
            .iter()
            .any(|it| it["type"] == "pong" && it["sessionId"] == "settled")
        {
            assert!(self.step().await);
        }
        self.others.retain(|it| it["type"] != "pong");
    }
}
