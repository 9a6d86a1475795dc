//! Single mode: one terminal, one connection.

use abide_testkit::{Came, JsonSocket};
use serde_json::{Value, json};

use super::super::http::Composition as _;
use super::Api;
use super::{Client, gone, health, healthy, server};
use abide_testkit::processes_of_worker_dir;

struct Single {
    socket: JsonSocket,
    id: String,
    seen: String,
}

impl Single {
    async fn open(api: &Api, query: &str) -> Self {
        let path = format!("/terminal/ws?token={}{query}", api.key);
        let socket = JsonSocket::connect(api.server.base_url(), &path, &[]).await;
        let mut socket = socket.unwrap().unwrap();
        let Came::Json(first) = socket.next().await.unwrap() else {
            panic!("nothing came");
        };
        assert_eq!(first["type"], "session");
        let id = first["data"]["sessionId"].as_str().unwrap().to_owned();
        let hexadecimal = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(hexadecimal, "{id}");
        Self {
            socket,
            id,
            seen: String::new(),
        }
    }

    async fn say(&mut self, kind: &str, data: Value) {
        let message = json!({ "type": kind, "data": data });
        self.socket.send(&message).await.unwrap();
    }

    async fn until(&mut self, text: &str) {
        while !self.seen.contains(text) {
            match self.socket.next().await.unwrap() {
                Came::Json(message) => {
                    assert_eq!(message["type"], "output", "{message}");
                    assert!(message.get("sessionId").is_none(), "{message}");
                    self.seen
                        .push_str(message["data"]["data"].as_str().unwrap());
                }
                other => panic!("{other:?} after {:?}", self.seen),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_typed_into_and_resized_and_goes_with_its_connection() {
    let api = server(&[]);
    let mut single = Single::open(&api, "&rows=33&cols=99").await;
    single.say("input", json!({ "data": "stty size\r" })).await;
    single.until("33 99\r\n$ ").await;
    single
        .say("resize", json!({ "rows": 20, "cols": 70 }))
        .await;
    single.say("list_sessions", json!(null)).await;
    single
        .say("close_session", json!({ "sessionId": single.id }))
        .await;
    single
        .say("input", json!({ "data": "stty size; echo o'n'e\r" }))
        .await;
    single.until("20 70\r\none\r\n$ ").await;
    single.say("ping", json!(null)).await;
    assert_eq!(
        single.socket.next().await.unwrap(),
        Came::Json(json!({ "type": "pong" }))
    );
    let resize = json!({ "sessionId": single.id, "rows": 21, "cols": 71 });
    api.post("/terminal/resize", &resize).await.check(200);
    single.say("input", json!({ "data": "stty size\r" })).await;
    single.until("21 71\r\n$ ").await;
    let session = uuid::Uuid::parse_str(&single.id).unwrap().to_string();
    let processes = processes_of_worker_dir(std::path::Path::new(&session));
    assert!(!processes.is_empty());
    drop(single);
    gone(&processes).await;
    healthy(&api, "sessions", 0).await;
    while api.get("/sessions").await.check(200) != json!([]) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_is_offered_it() {
    let api = server(&[]);
    let mut single = Single::open(&api, "").await;
    single
        .say("input", json!({ "data": "echo mi'n'e\r" }))
        .await;
    single.until("mine\r\n$ ").await;
    assert_eq!(health(&api).await["sessions"], 1);
    let mut client = Client::of(&api).await;
    assert!(client.list().await.is_empty());
    for kind in ["reattach_session", "close_session", "rename_session"] {
        client
            .say(kind, json!({ "sessionId": single.id, "name": "n" }))
            .await;
        assert_eq!(client.error().await.0, "session not found", "{kind}");
    }
    single.say("input", json!({ "data": "stty size\r" })).await;
    single.until("24 80\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_its_shell_it_is_silent_and_there() {
    let api = server(&[]);
    let mut single = Single::open(&api, "").await;
    single.say("input", json!({ "data": "exit 4\r" })).await;
    single.until("exit 4\r\n").await;
    healthy(&api, "sessions", 0).await;
    single.say("ping", json!(null)).await;
    assert_eq!(
        single.socket.next().await.unwrap(),
        Came::Json(json!({ "type": "pong" }))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_server_died_is_ended_by_the_next() {
    let mut api = server(&[]);
    let mut single = Single::open(&api, "").await;
    single
        .say("input", json!({ "data": "echo he'r'e\r" }))
        .await;
    single.until("here\r\n$ ").await;
    let session = uuid::Uuid::parse_str(&single.id).unwrap().to_string();
    let processes = processes_of_worker_dir(std::path::Path::new(&session));
    assert!(!processes.is_empty());
    api.kill_and_up();
    gone(&processes).await;
    while api.get("/sessions").await.check(200) != json!([]) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_none_can_be_started_it_says_so_and_hangs_up() {
    let api = server(&["max_terminals=0"]);
    let path = format!("/terminal/ws?token={}", api.key);
    let socket = JsonSocket::connect(api.server.base_url(), &path, &[]).await;
    let mut socket = socket.unwrap().unwrap();
    let failed = json!({ "type": "error", "data": "Failed to create terminal session" });
    assert_eq!(socket.next().await.unwrap(), Came::Json(failed));
    assert!(matches!(socket.next().await.unwrap(), Came::Closed(..)));
}
