//! Who is let in, and who is given up.

use abide_testkit::{Came, JsonSocket, Refused};
use serde_json::json;

use super::super::http::Composition as _;
use super::{Client, MULTI, server, server_of_users, token};
use crate::api::http::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_or_a_token_comes_in_the_query_a_header_or_a_cookie() {
    let api = server_of_users(&[]);
    let user = token(json!({ "agent_id": "alice" }));
    for credential in [api.key.clone(), user] {
        let bearer = format!("Bearer {credential}");
        let cookie = format!("other=1; vm_session={credential}");
        let scoped = format!("vm_session_ws1={credential}");
        let query = format!("{MULTI}?token={credential}");
        for (path, headers) in [
            (query.as_str(), vec![]),
            (MULTI, vec![("authorization", bearer.as_str())]),
            (MULTI, vec![("x-api-key", credential.as_str())]),
            (MULTI, vec![("cookie", cookie.as_str())]),
            (MULTI, vec![("cookie", scoped.as_str())]),
            // What is no good does not spoil what is.
            (query.as_str(), vec![("cookie", "vm_session=old")]),
            (query.as_str(), vec![("origin", "http://localhost:3000")]),
            (query.as_str(), vec![("x-sam-workspace-id", "ws1")]),
        ] {
            let client = Client::connect(&api, path, &headers).await;
            let mut client = client.unwrap_or_else(|refused| panic!("{headers:?}: {refused:?}"));
            assert!(client.list().await.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_else_is_refused_before_the_upgrade() {
    let api = server_of_users(&[]);
    let unauthorized = Refused {
        status: 401,
        body: "Unauthorized".to_owned(),
    };
    let forged = format!("{}x", token(json!({ "sub": "alice" })));
    for path in ["/terminal/ws/multi", "/terminal/ws"] {
        for query in [
            String::new(),
            "?token=no".to_owned(),
            format!("?token={forged}"),
        ] {
            let refused = Client::connect(&api, &format!("{path}{query}"), &[]).await;
            assert_eq!(refused.err(), Some(unauthorized.clone()), "{path}{query}");
        }
        // A page elsewhere, and a name that was pointed here.
        let path = format!("{path}?token={}", api.key);
        for header in [("origin", "http://evil.example"), ("host", "evil.example")] {
            let refused = Client::connect(&api, &path, &[header]).await;
            assert_eq!(refused.err().map(|it| it.status), Some(403), "{header:?}");
        }
    }
    let resize = Answer::of(api.bare("POST", "/terminal/resize").body("{}")).await;
    assert_eq!((resize.status, resize.text()), (401, "Unauthorized"));
    // Without a secret no token is one.
    let keys_only = server(&[]);
    let path = format!("{MULTI}?token={}", token(json!({ "sub": "alice" })));
    assert!(Client::connect(&keys_only, &path, &[]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_no_sign_of_life_is_given_up() {
    let api = server(&["terminal_ping_interval=20ms", "terminal_read_timeout=300ms"]);
    let path = format!("{MULTI}?token={}", api.key);
    let connect = JsonSocket::connect(api.server.base_url(), &path, &[]);
    let mut lively = connect.await.unwrap().unwrap();
    for _ in 0..50 {
        lively.pinged().await.unwrap();
    }
    // Longer than the limit, and it is still there: it has answered the pings.
    lively.send(&json!({ "type": "ping" })).await.unwrap();
    assert_eq!(
        lively.next().await.unwrap(),
        Came::Json(json!({ "type": "pong" }))
    );
    let silent = JsonSocket::connect(api.server.base_url(), &path, &[])
        .await
        .unwrap()
        .unwrap();
    silent.deaf().cut().await.unwrap();
}
