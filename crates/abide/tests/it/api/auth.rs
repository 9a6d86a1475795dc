//! Who may speak to the server: keys, origins, and which operations need none.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use abide_model::ProblemCode;
use serde_json::{Value, json};

use super::http::{Answer, Api, Composition as _};

/// Operations of the OpenAPI document that answer without a key. A change of this list is a
/// change of what strangers may ask.
const OPEN: &[&str] = &[
    "GET /",
    "GET /docs",
    "GET /healthz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /readyz",
];
/// The same for probes of older clients, which the document leaves out.
const OPEN_BESIDES: &[&str] = &["GET /health/live", "GET /health/ready"];
/// Guarded, and not in the document.
const GUARDED_BESIDES: &[&str] = &["GET /health"];

fn operations(document: &Value) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap();
    let mut all = Vec::new();
    for (path, item) in paths {
        for method in item.as_object().unwrap().keys() {
            let method = method.to_ascii_uppercase();
            if ["GET", "POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()) {
                all.push(format!("{method} {path}"));
            }
        }
    }
    all.sort();
    all
}

/// A path with something in place of its parameters.
fn concrete(path: &str) -> String {
    let parts = path.split('/').map(|part| {
        if part.starts_with('{') {
            "0191e7a0-7c1e-7000-8000-0000000000ff"
        } else {
            part
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn every_operation_but_the_listed_ones_needs_a_key() {
    let api = Api::cold();
    let document = Answer::of(api.bare("GET", "/openapi.json"))
        .await
        .check(200);
    let documented = operations(&document);
    assert!(documented.len() > 20, "{documented:?}");
    let mut open = BTreeSet::new();
    let besides = OPEN_BESIDES.iter().chain(GUARDED_BESIDES);
    let all = documented
        .iter()
        .map(String::as_str)
        .chain(besides.copied());
    for operation in all {
        let (method, path) = operation.split_once(' ').unwrap();
        let path = concrete(path);
        let answer = Answer::of(api.bare(method, &path)).await;
        let slashed = Answer::of(api.bare(method, &format!("{path}/"))).await;
        assert_eq!(answer.status, slashed.status, "{operation}");
        if answer.status == 401 {
            answer.problem(ProblemCode::AuthenticationRequired);
        } else {
            assert_eq!(answer.status, 200, "{operation}");
            open.insert(operation);
        }
        // What the document says of it.
        let (method, path) = operation.split_once(' ').unwrap();
        let item = &document["paths"][path][method.to_ascii_lowercase()];
        if !item.is_null() {
            let says_open = item["security"] == json!([{}]) || item["security"] == json!([]);
            assert_eq!(says_open, OPEN.contains(&operation), "{operation}: {item}");
        }
    }
    let expected: BTreeSet<&str> = OPEN.iter().chain(OPEN_BESIDES).copied().collect();
    assert_eq!(open, expected);
    // What this test did not reach, of which there is nothing.
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/untested-authorization.txt");
    assert_eq!(std::fs::read_to_string(list).unwrap(), "");
}

#[tokio::test]
async fn keys_are_taken_in_three_ways_and_refused_in_two() {
    let api = Api::cold();
    let key = api.key.clone();
    for (header, value) in [
        ("x-api-key", key.clone()),
        ("authorization", format!("Bearer {key}")),
        ("authorization", format!("bearer {key}")),
        ("authorization", key.clone()),
    ] {
        let request = api.bare("GET", "/sessions").header(header, &value);
        assert_eq!(
            Answer::of(request).await.check(200),
            json!([]),
            "{header} {value}"
        );
    }
    let missing = Answer::of(api.bare("GET", "/sessions")).await;
    let missing = missing.problem(ProblemCode::AuthenticationRequired);
    let methods = json!({"supported_methods": ["X-API-Key", "Authorization Bearer"]});
    assert_eq!(missing["details"], methods);
    for (wrong, prefix) in [
        ("wrong-key-of-mine", "wrong-ke"),
        ("exactly8", "exactly8"),
        ("short", "***"),
        (&key[..key.len() - 1], &key[..8]),
    ] {
        for (header, value) in [
            ("x-api-key", wrong.to_owned()),
            ("authorization", format!("Bearer {wrong}")),
        ] {
            let answer = Answer::of(api.bare("GET", "/sessions").header(header, value)).await;
            let problem = answer.problem(ProblemCode::InvalidApiKey);
            assert_eq!(problem["message"], "Invalid API key provided");
            assert_eq!(
                problem["details"],
                json!({ "key_prefix": prefix }),
                "{wrong}"
            );
            assert!(answer.header("www-authenticate").is_empty());
        }
    }
    // The key is looked at before anything else is told.
    let request = api.bare("GET", "/sessions/0191e7a0-7c1e-7000-8000-0000000000ff");
    Answer::of(request)
        .await
        .problem(ProblemCode::AuthenticationRequired);
}

#[tokio::test]
async fn a_web_page_cannot_drive_the_server() {
    let api = Api::with(&["warm_python=0", "allowed_hosts=box.example"]);
    let port = api.server.url().rsplit(':').next().unwrap();
    let ask = |header: &'static str, value: String, key: bool| {
        let request = if key {
            api.request("GET", "/sessions")
        } else {
            api.bare("GET", "/")
        };
        Answer::of(request.header(header, value))
    };
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "10.0.0.1",
    ] {
        for key in [true, false] {
            let answer = ask("host", host.to_owned(), key).await;
            answer.problem(ProblemCode::ForbiddenOrigin);
        }
    }
    for host in ["localhost", "127.0.0.1", "[::1]", "box.example"] {
        assert_eq!(
            ask("host", format!("{host}:{port}"), true).await.status,
            200,
            "{host}"
        );
    }
    for origin in [
        "https://evil.example",
        "null",
        "http://localhost.evil.example",
        "x",
    ] {
        for key in [true, false] {
            let answer = ask("origin", origin.to_owned(), key).await;
            answer.problem(ProblemCode::ForbiddenOrigin);
        }
    }
    for origin in [
        format!("http://localhost:{port}"),
        "https://box.example".to_owned(),
    ] {
        let answer = ask("origin", origin.clone(), true).await;
        assert_eq!(answer.status, 200, "{origin}");
        // No other page may read the answer.
        assert!(answer.header("access-control-allow-origin").is_empty());
    }
}

#[tokio::test]
async fn the_key_and_the_data_are_the_owners_alone() {
    let mut api = Api::cold();
    let data = api.server.own_files();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("key")), 0o600);
    assert_eq!(mode(&data.join("server.json")), 0o600);
    assert_eq!(mode(&data.join("abide.db")), 0o600);
    let path = api.session(json!({})).await;
    api.run(&path, "1").await;
    for dir in api.server.private() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            assert_eq!(mode(&entry.unwrap().path()), 0o700, "{}", dir.display());
        }
    }
    assert!(api.key.len() >= 32, "{}", api.key);
    let key = api.key.clone();
    api.kill_and_up();
    assert_eq!(api.server.key().unwrap(), key, "made once");
}
