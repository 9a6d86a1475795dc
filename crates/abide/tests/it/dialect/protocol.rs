//! The letter of the protocol: fields, errors, bounds.

use serde_json::{Value, json};

use super::super::http::Composition as _;
use super::{Client, server, session_of};
use crate::api::http::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_have_a_grammar() {
    let api = server(&["terminal_id_length=20"]);
    let mut client = Client::of(&api).await;
    client.create("Az09-_.:").await;
    for bad in ["a b", "a/b", "é", "a\n", &"x".repeat(21)] {
        for kind in [
            "create_session",
            "reattach_session",
            "close_session",
            "rename_session",
        ] {
            client
                .say(kind, json!({ "sessionId": bad, "name": "n" }))
                .await;
            let error = client.error().await;
            assert_eq!(
                error,
                ("invalid session ID".to_owned(), json!(bad)),
                "{kind}"
            );
        }
    }
    client.say("create_session", json!({ "rows": 24 })).await;
    assert_eq!(
        client.error().await,
        ("invalid session ID".to_owned(), Value::Null)
    );
    assert_eq!(client.ids().await, ["Az09-_.:"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_error_table() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    for (kind, data, expected) in [
        (
            "reattach_session",
            json!({ "sessionId": "u" }),
            "session not found",
        ),
        (
            "close_session",
            json!({ "sessionId": "u" }),
            "session not found",
        ),
        (
            "rename_session",
            json!({ "sessionId": "u", "name": "n" }),
            "session not found",
        ),
        (
            "create_session",
            json!({ "sessionId": "t" }),
            "session already exists: t",
        ),
    ] {
        client.say(kind, data).await;
        assert_eq!(client.error().await.0, expected, "{kind}");
    }
    client.types("t", "exit 3\r").await;
    assert_eq!(client.told("session_closed").await["data"]["exitCode"], 3);
    client
        .say("reattach_session", json!({ "sessionId": "t" }))
        .await;
    let error = client.told("error").await;
    assert_eq!(error["sessionId"], "t");
    assert_eq!(error["data"]["error"], "SESSION_EXITED");
    assert_eq!(error["data"]["details"], "Session t has exited (code: 3)");
    assert_eq!(client.list().await[0]["status"], "exited");
    // It is listed until it is closed.
    client
        .say("close_session", json!({ "sessionId": "t" }))
        .await;
    client.told("session_closed").await;
    assert!(client.list().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn harmless_nonsense_is_passed_over_in_silence() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    for text in [
        "",
        "nonsense",
        "[1]",
        r#"{"type":"dance"}"#,
        r#"{"type":"create_session","data":7}"#,
        r#"{"type":"resize","sessionId":"t","data":{"rows":"many"}}"#,
        r#"{"type":"input","sessionId":"unknown","data":{"data":"x"}}"#,
        r#"{"type":"resize","sessionId":"unknown","data":{"rows":9,"cols":9}}"#,
        r#"{"type":"input","sessionId":"not an id","data":{"data":"x"}}"#,
    ] {
        client.socket.send_text(text).await.unwrap();
    }
    client.socket.send_binary(b"\xff\xfe").await.unwrap();
    // `told` refuses errors that come meanwhile.
    assert_eq!(client.ids().await, ["t"]);
    // A binary message that has JSON in it is one.
    let typed = json!({ "type": "input", "sessionId": "t", "data": { "data": "echo b'in'ary\r" } });
    client
        .socket
        .send_binary(typed.to_string().as_bytes())
        .await
        .unwrap();
    client.until("t", "binary\r\n$ ").await;
    // Where only one terminal can be meant, it is.
    client
        .say("input", json!({ "data": "echo on'l'y\r" }))
        .await;
    client.until("t", "only\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sizes_out_of_bounds_are_the_usual_one() {
    let api = server(&["terminal_rows=30"]);
    let mut client = Client::of(&api).await;
    for (id, rows, cols, expected) in [
        ("a", 0, 0, "30 80"),
        ("b", 501, 500, "30 500"),
        ("c", -1, 100_000, "30 80"),
        ("d", 1, 2, "1 2"),
    ] {
        let data = json!({ "sessionId": id, "rows": rows, "cols": cols });
        client.say("create_session", data).await;
        client.told("session_created").await;
        client.types(id, "stty size; echo en'd'ed\r").await;
        let wrapped = client.until(id, "ended");
        if id == "d" {
            // Two columns tear every line apart.
            drop(wrapped);
            let resize = json!({ "rows": 24, "cols": 80 });
            client.say_to("resize", id, resize).await;
            continue;
        }
        wrapped.await;
        assert!(
            client.seen[id].contains(&format!("{expected}\r\n")),
            "{:?}",
            client.seen
        );
    }
    // Who comes back has a say in the size if it has one.
    for (rows, cols, expected) in [(0, 100, "40 90"), (50, 0, "40 90"), (20, 70, "20 70")] {
        let mut other = Client::of(&api).await;
        client
            .say_to("resize", "a", json!({ "rows": 40, "cols": 90 }))
            .await;
        client.settled().await;
        let data = json!({ "sessionId": "a", "rows": rows, "cols": cols });
        other.say("reattach_session", data).await;
        other.reattached("a").await;
        other.types("a", "clear; stty size; echo d'on'e\r").await;
        other.until("a", &format!("{expected}\r\ndone\r\n")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paste_of_any_size_arrives_and_is_no_reason_to_hang_up() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    client
        .types(
            "t",
            "stty raw -echo; echo g'o'; head -c 1000000 | md5sum; stty sane\r",
        )
        .await;
    client.until("t", "go\n").await;
    // Sixteen times as long as a message should be.
    client.types("t", &"0123456789".repeat(100_000)).await;
    client.until("t", "174ac9a4f023a557a68ab0417355970e").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_program_does_not_read_holds_up_no_other_terminal() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("deaf").await;
    client.create("other").await;
    client
        .types("deaf", "stty raw -echo; echo g'o'; sleep 1005\r")
        .await;
    client.until("deaf", "go\n").await;
    for _ in 0..12 {
        client.types("deaf", &"x".repeat(1_000_000)).await;
    }
    client.types("other", "echo he'ar'd\r").await;
    client.until("other", "heard\r\n$ ").await;
    // Only beyond all measure is any refused, and it is said.
    for _ in 0..6 {
        client.types("deaf", &"x".repeat(1_000_000)).await;
    }
    let (error, id) = client.error().await;
    assert!(error.contains("input not taken") && id == "deaf", "{error}");
    client.others.clear();
    client
        .say("close_session", json!({ "sessionId": "deaf" }))
        .await;
    while client.told_any().await["type"] != "session_closed" {}
    client.types("other", "echo a'ga'in\r").await;
    client.until("other", "again\r\n$ ").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_all_measure_a_message_ends_the_connection_and_nothing_else() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client.create("t").await;
    // It may hang up while this is being sent.
    let _ = client.socket.send_text(&"x".repeat(17 << 20)).await;
    while client.step().await {}
    let mut client = Client::of(&api).await;
    client.reattach("t").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_and_ends_are_told_to_everybody_who_looks_and_once() {
    let api = server(&[]);
    let mut one = Client::of(&api).await;
    one.create("t").await;
    let mut other = Client::of(&api).await;
    other.reattach("t").await;
    one.say(
        "rename_session",
        json!({ "sessionId": "t", "name": "logs\u{7}" }),
    )
    .await;
    for client in [&mut one, &mut other] {
        let renamed = client.told("session_renamed").await;
        assert_eq!(renamed["data"], json!({ "sessionId": "t", "name": "logs" }));
    }
    assert_eq!(other.list().await[0]["name"], "logs");
    other
        .say("close_session", json!({ "sessionId": "t" }))
        .await;
    for client in [&mut one, &mut other] {
        let closed = client.told("session_closed").await;
        assert_eq!(
            closed["data"],
            json!({ "sessionId": "t", "reason": "user_requested" })
        );
        client.settled().await;
        assert!(client.others.is_empty(), "{:?}", client.others);
    }
    // The id is free at once.
    one.create("t").await;
    let long = "é".repeat(60);
    one.say("rename_session", json!({ "sessionId": "t", "name": long }))
        .await;
    let renamed = one.told("session_renamed").await;
    assert_eq!(renamed["data"]["name"], "é".repeat(50).as_str());
    one.say("rename_session", json!({ "sessionId": "t", "name": "" }))
        .await;
    one.told("session_renamed").await;
    assert!(one.list().await[0].get("name").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fields_of_a_list() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    let (directory, named) = api.server.directory("tree");
    let data = json!({ "sessionId": "t", "name": "n", "workDir": named });
    client.create_with(data).await;
    client.types("t", "pwd\r").await;
    client
        .until("t", &format!("{}\r\n", directory.display()))
        .await;
    let list = client.list().await;
    let fields: Vec<_> = list[0]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        fields,
        [
            "createdAt",
            "lastActivityAt",
            "name",
            "sessionId",
            "status",
            "workingDirectory"
        ]
    );
    assert_eq!(list[0]["workingDirectory"], named);
    let time = |field: &str| list[0][field].as_str().unwrap().to_owned();
    assert!(time("lastActivityAt") >= time("createdAt") && time("createdAt").ends_with('Z'));
    for wrong in ["../elsewhere", "/nowhere/at/all", "/etc/passwd"] {
        client
            .say(
                "create_session",
                json!({ "sessionId": "u", "workDir": wrong }),
            )
            .await;
        let (error, id) = client.error().await;
        assert!(!error.is_empty() && id == "u", "{wrong}: {error}");
    }
    assert_eq!(client.ids().await, ["t"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_of_the_api_sees_attaches_and_ends_it() {
    let api = server(&[]);
    let mut client = Client::of(&api).await;
    client
        .create_with(json!({ "sessionId": "t", "name": "build" }))
        .await;
    let session = session_of(&api, "t").await;
    assert_eq!(session["session_type"], "terminal");
    let path = format!("/sessions/{}", session["id"].as_str().unwrap());
    let workers = api.get(&format!("{path}/workers")).await.check(200);
    assert_eq!(workers.as_array().unwrap().len(), 1);
    assert_eq!(workers[0]["terminal"]["name"], "build");
    assert_eq!(workers[0]["terminal"]["output_bytes"], 256 * 1024);
    let worker = format!("{path}/workers/{}", workers[0]["id"].as_str().unwrap());
    let typed = api
        .request("POST", &format!("{worker}/input"))
        .body("echo fr'o'm there\n");
    assert_eq!(Answer::of(typed).await.status, 204);
    client.until("t", "from there\r\n$ ").await;
    assert_eq!(api.get(&worker).await.check(200)["viewers"], 1);
    let resize = json!({ "sessionId": "t", "rows": 12, "cols": 60 });
    assert_eq!(
        api.post("/terminal/resize", &resize).await.check(200),
        json!({ "success": true })
    );
    client.types("t", "stty size\r").await;
    client.until("t", "12 60\r\n").await;
    for (body, status) in [
        (json!({ "sessionId": "u", "rows": 1, "cols": 1 }), 404),
        (json!({ "sessionId": "not an id" }), 400),
        (json!([]), 400),
    ] {
        assert_eq!(
            api.post("/terminal/resize", &body).await.status,
            status,
            "{body}"
        );
    }
    let deleted = api.delete(&format!("{path}?force=true")).await;
    assert_eq!(deleted.status, 204);
    let closed = client.told("session_closed").await;
    assert_eq!(closed["data"]["reason"], "process_exit");
    assert!(client.list().await.is_empty());
    client.create("t").await;
}
