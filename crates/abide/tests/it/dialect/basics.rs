//! Create, type, see, come back.

use serde_json::json;

use super::{Client, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_is_created_typed_into_listed_and_come_back_to() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    assert!(client.list().await.is_empty());
    client
        .create_with(json!({ "sessionId": "b1", "rows": 31, "cols": 101, "name": "build" }))
        .await;
    client.types("b1", "X=kept; stty size\r").await;
    client.until("b1", "31 101\r\n$ ").await;
    let list = client.list().await;
    assert_eq!(list.len(), 1);
    assert_eq!(
        (&list[0]["sessionId"], &list[0]["name"], &list[0]["status"]),
        (&json!("b1"), &json!("build"), &json!("running"))
    );
    drop(client);
    let mut client = Client::of(&api).await;
    assert_eq!(client.ids().await, ["b1"]);
    let scrollback = client.reattach("b1").await;
    assert!(scrollback.starts_with("\x1bc"), "{scrollback:?}");
    assert!(scrollback.contains("31 101"), "{scrollback:?}");
    client.types("b1", "echo $X''\r").await;
    client.until("b1", "kept\r\n$ ").await;
    client
        .say("close_session", json!({ "sessionId": "b1" }))
        .await;
    let closed = client.told("session_closed").await;
    assert_eq!(closed["data"]["reason"], "user_requested");
    assert!(client.list().await.is_empty());
}
