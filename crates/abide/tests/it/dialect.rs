//! The multi-terminal dialect over a raw protocol client, which knows what the contract says and nothing
//! of the server.

#[path = "dialect/acceptance.rs"]
mod acceptance;
#[path = "dialect/basics.rs"]
mod basics;
#[path = "dialect/lifetimes.rs"]
mod lifetimes;
#[path = "dialect/protocol.rs"]
mod protocol;
#[path = "dialect/requirements.rs"]
mod requirements;
#[path = "dialect/single.rs"]
mod single;
#[path = "dialect/stories.rs"]
mod stories;
#[path = "dialect/ways_in.rs"]
mod ways_in;

use std::collections::{HashMap, VecDeque};
use std::path::Path;

use abide_testkit::{Came, JsonSocket, Refused, processes_of_worker_dir, still_alive};
use serde_json::{Value, json};

use super::http::{Api, Composition as _};

const MULTI: &str = "/terminal/ws/multi";

/// A shell that says nothing but `$ `.
const SHELL: &str = concat!(
    "terminal_shell=",
    env!("CARGO_MANIFEST_DIR"),
    "/tests/scripts/quiet-shell"
);

/// A server whose terminals are quiet shells.
pub(super) fn server(settings: &[&str]) -> Api {
    let mut all = vec!["warm_python=0", SHELL];
    all.extend(settings);
    Api::with(&all)
}

/// Signs the tokens of users.
const SECRET: &str = "a secret that the tokens of these users are signed with";

/// A server that takes users' tokens besides its key.
pub(super) fn server_of_users(settings: &[&str]) -> Api {
    let secret = format!("jwt_secret={SECRET}");
    let mut all = vec![secret.as_str()];
    all.extend(settings);
    server(&all)
}

/// What a user shows who is signed in with this account; another one each time.
pub(super) fn token(claims: Value) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let mut claims = claims;
    claims["exp"] = json!(4_000_000_000_u64);
    claims["jti"] = json!(uuid::Uuid::new_v4());
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(json!({ "alg": "HS256" })), part(claims));
    let mut mac: Hmac<sha2::Sha256> = Hmac::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    format!("{signed}.{signature}")
}

/// The session that a client's id stands for, as the rest of the API has it.
pub(super) async fn session_of(api: &Api, id: &str) -> Value {
    let sessions = api.get("/sessions").await.check(200);
    let mut all = sessions.as_array().unwrap().iter();
    let found = all.find(|it| it["runtime_metadata"]["client_session_id"] == id);
    found
        .unwrap_or_else(|| panic!("no session of {id}: {sessions}"))
        .clone()
}

/// Where the shell of a session of this API begins.
pub(super) fn workspace_of(api: &Api, session: &Value) -> std::path::PathBuf {
    let (scratch, _) = api.server.scratch();
    scratch.join(session["id"].as_str().unwrap())
}

/// The processes of a terminal: its keeper, its shell and what that has started.
pub(super) async fn processes_of(api: &Api, id: &str) -> Vec<u32> {
    let session = session_of(api, id).await;
    let session = session["id"].as_str().unwrap();
    let workers = api
        .get(&format!("/sessions/{session}/workers"))
        .await
        .check(200);
    let worker = workers[0]["id"].as_str().unwrap();
    let mut found = processes_of_worker_dir(Path::new(worker));
    found.extend(processes_of_worker_dir(Path::new(session)));
    found
}

/// Until none of these lives.
pub(super) async fn gone(processes: &[u32]) {
    while processes.iter().any(|pid| still_alive(*pid)) {
        tokio::task::yield_now().await;
    }
}

/// `GET /health`.
pub(super) async fn health(api: &Api) -> Value {
    api.get("/health").await.check(200)
}

/// Until `/health` says this.
pub(super) async fn healthy(api: &Api, field: &str, expected: u64) {
    while health(api).await[field] != expected {
        tokio::task::yield_now().await;
    }
}

/// What is drawn, without the sequences that say how.
pub(super) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, sequence)) = rest.split_once('\x1b') {
        plain.push_str(before);
        let ends = |c: char| ('\x40'..='\x7e').contains(&c);
        rest = match sequence.as_bytes().first() {
            Some(b'[') => sequence[1..].split_once(ends).map_or("", |(_, rest)| rest),
            Some(b']') => sequence.split_once("\x1b\\").map_or("", |(_, rest)| rest),
            Some(b'(' | b')' | b'#') => &sequence[2..],
            _ => &sequence[1..],
        };
    }
    plain.push_str(rest);
    plain
}

/// What a client's terminal has that was written everything that came, with what scrolled off: a snapshot draws
/// the character before the cursor once more, so that its text alone is not to be trusted where it ends.
pub(super) fn drawn(everything: &str) -> String {
    let screen = screen_of(everything);
    let above = String::from_utf8(screen.scrollback(usize::MAX)).unwrap();
    format!("{}\n{}", plain(&above), screen.text())
}

/// The numbers of lines such as `n=7;`, which must follow each other without a gap; the last one.
pub(super) fn counted(text: &str) -> u64 {
    let mut last = None;
    for piece in drawn(text).split("n=").skip(1) {
        // What came last may end within a number.
        let Some((Ok(number), _)) = piece
            .split_once(';')
            .map(|(number, rest)| (number.parse::<u64>(), rest))
        else {
            continue;
        };
        assert!(
            last.is_none_or(|last| number == last + 1),
            "{number} after {last:?}"
        );
        last = Some(number);
    }
    last.unwrap_or_default()
}

/// What a client's terminal shows that was written everything that came.
pub(super) fn shown(everything: &str) -> String {
    screen_of(everything).text()
}

pub(super) fn screen_of(everything: &str) -> abide_terminal::Screen {
    let size = abide_terminal::Size::new(80, 24).unwrap();
    let limit = abide_terminal::ScrollbackLimit(16 << 20);
    let mut screen = abide_terminal::Screen::new(size, limit, 0);
    screen.feed(everything.as_bytes());
    screen
}

/// Terminals as a page makes them, with names.
pub(super) async fn three(api: &Api) -> Client {
    let mut client = Client::of(api).await;
    for (id, name) in [("x", "Terminal 1"), ("y", "build"), ("z", "logs")] {
        client
            .create_with(json!({ "sessionId": id, "rows": 24, "cols": 80, "name": name }))
            .await;
    }
    client
}

/// One connection.
pub(super) struct Client {
    socket: JsonSocket,
    /// What was shown of each terminal since its last scrollback.
    pub(super) seen: HashMap<String, String>,
    /// How many scrollbacks came.
    pub(super) scrollbacks: usize,
    /// Messages other than output that nobody has looked at.
    others: VecDeque<Value>,
}

impl Client {
    /// With the server's own key.
    pub(super) async fn of(api: &Api) -> Self {
        Self::with_token(api, &api.key).await
    }

    pub(super) async fn with_token(api: &Api, token: &str) -> Self {
        let path = format!("{MULTI}?token={token}");
        Self::connect(api, &path, &[]).await.unwrap()
    }

    pub(super) async fn connect(
        api: &Api,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let socket = JsonSocket::connect(api.server.base_url(), path, headers).await;
        Ok(Self {
            socket: socket.unwrap()?,
            seen: HashMap::new(),
            scrollbacks: 0,
            others: VecDeque::new(),
        })
    }

    pub(super) async fn say(&mut self, kind: &str, data: Value) {
        let message = json!({ "type": kind, "data": data });
        self.socket.send(&message).await.unwrap();
    }

    pub(super) async fn say_to(&mut self, kind: &str, id: &str, data: Value) {
        let message = json!({ "type": kind, "sessionId": id, "data": data });
        self.socket.send(&message).await.unwrap();
    }

    pub(super) async fn types(&mut self, id: &str, text: &str) {
        self.say_to("input", id, json!({ "data": text })).await;
    }

    /// A new terminal that has shown its prompt.
    pub(super) async fn create(&mut self, id: &str) {
        self.create_with(json!({ "sessionId": id, "rows": 24, "cols": 80 }))
            .await;
    }

    pub(super) async fn create_with(&mut self, data: Value) {
        let id = data["sessionId"].as_str().unwrap().to_owned();
        self.say("create_session", data).await;
        let created = self.told("session_created").await;
        assert_eq!(created["sessionId"], id.as_str());
        assert_eq!(created["data"]["sessionId"], id.as_str());
        self.until(&id, "$ ").await;
    }

    /// Until the scrollback has come, which is answered.
    pub(super) async fn reattach(&mut self, id: &str) -> String {
        let data = json!({ "sessionId": id, "rows": 24, "cols": 80 });
        self.say("reattach_session", data).await;
        self.reattached(id).await
    }

    pub(super) async fn reattached(&mut self, id: &str) -> String {
        let reattached = self.told("session_reattached").await;
        assert_eq!(reattached["sessionId"], id);
        let scrollback = self.told("scrollback").await;
        assert_eq!(scrollback["sessionId"], id);
        scrollback["data"]["data"].as_str().unwrap().to_owned()
    }

    /// The present list.
    pub(super) async fn list(&mut self) -> Vec<Value> {
        self.socket
            .send(&json!({ "type": "list_sessions" }))
            .await
            .unwrap();
        let list = self.told("session_list").await;
        list["data"]["sessions"].as_array().unwrap().clone()
    }

    /// The ids of the present list.
    pub(super) async fn ids(&mut self) -> Vec<String> {
        let list = self.list().await;
        let ids = list
            .iter()
            .map(|it| it["sessionId"].as_str().unwrap().to_owned());
        ids.collect()
    }

    /// What an error said, and to which id.
    pub(super) async fn error(&mut self) -> (String, Value) {
        let error = self.told("error").await;
        let text = error["data"]["error"].as_str().unwrap().to_owned();
        (text, error["sessionId"].clone())
    }

    /// Takes the next message; `false` at the end.
    pub(super) async fn step(&mut self) -> bool {
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
                    self.scrollbacks += 1;
                    self.seen.insert(id, data.unwrap().to_owned());
                }
                self.others.push_back(message);
            }
        }
        true
    }

    /// Until this was shown.
    pub(super) async fn until(&mut self, id: &str, text: &str) {
        let (mut searched, mut scrollbacks) = (0, 0);
        loop {
            let seen = self.seen.get(id).map_or("", String::as_str);
            if scrollbacks != self.scrollbacks {
                // Something else may stand in place of what was searched.
                (searched, scrollbacks) = (0, self.scrollbacks);
            }
            if seen[seen.floor_char_boundary(searched)..].contains(text) {
                return;
            }
            searched = seen.len().saturating_sub(text.len());
            assert!(
                self.step().await,
                "ended before {text:?} came: {:?}",
                self.seen
            );
        }
    }

    /// The next message of this type; those of others that came before it are passed over.
    pub(super) async fn told(&mut self, kind: &str) -> Value {
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

    /// The next message that is no output.
    pub(super) async fn told_any(&mut self) -> Value {
        loop {
            if let Some(message) = self.others.pop_front() {
                return message;
            }
            assert!(self.step().await, "ended");
        }
    }

    /// Everything that was sent before is answered: nothing but this ping's answer is on its way.
    pub(super) async fn settled(&mut self) {
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
