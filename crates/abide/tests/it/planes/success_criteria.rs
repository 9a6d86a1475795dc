//! The specification's success criteria, counted.

use abide_model::ProblemCode as Code;
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{Planes, agent_options, data_options, refused};

/// How many clients speak at once.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc_001_multi_step_sessions_keep_their_state_at_the_first_try() {
    let planes = Planes::start();
    let sessions = (0..20).map(async |n| {
        let session = format!("s{n}");
        planes.create(&session).await;
        let first = planes.submit(&session, "1", &format!("x = {n}")).await;
        let second = planes.submit(&session, "2", "x += 1").await;
        let third = planes.submit(&session, "3", "print(x)").await;
        let right = third.json()["stdout"] == format!("{}\n", n + 1);
        usize::from(first.status == 202 && second.status == 202 && right)
    });
    let right: Vec<usize> = futures_util::stream::iter(sessions)
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    // 95 of 100 are asked for.
    assert_eq!(right.iter().sum::<usize>(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc_002_100_sessions_no_leak() {
    let planes = Planes::with(
        agent_options().set("max_sessions=200").set("max_live=200"),
        data_options(),
    );
    let secret = |n: usize| format!("secret-{n}-{}", n * 7919 % 10007);
    let sessions = (0..100).map(async |n| {
        let session = format!("s{n}");
        planes.create(&session).await;
        let define = format!("secret = {:?}; open('f', 'w').write(secret)", secret(n));
        planes.submit(&session, "same", &define).await.check(202);
        session
    });
    let made: Vec<String> = futures_util::stream::iter(sessions)
        .buffered(AT_ONCE)
        .collect()
        .await;
    // All of them are there now; each tells its own, under step ids that all of them use.
    for round in 0..3 {
        let telling = made.iter().enumerate().map(async |(n, session)| {
            let code =
                "import sys\nprint(secret)\nprint(open('f').read(), file=sys.stderr)\nsecret";
            let id = format!("round-{round}");
            let told = planes.submit(session, &id, code).await.check(202);
            let own = json!(format!("{}\n", secret(n)));
            assert_eq!(
                (&told["stdout"], &told["stderr"]),
                (&own, &own),
                "{session}"
            );
            assert_eq!(told["result"]["text"], format!("'{}'", secret(n)), "{told}");
            let found = planes.ended(session, &id).await;
            assert_eq!(found, told, "{session}");
        });
        futures_util::stream::iter(telling)
            .buffer_unordered(2 * AT_ONCE)
            .collect::<()>()
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc_003_production_runs_whole_sessions_without_exec() {
    let planes = Planes::with(
        agent_options().env("ABIDE_ENV", "production"),
        data_options().env("ABIDE_ENV", "production"),
    );
    for (session, runtime, code, expected) in [
        ("p", "python", "print('hello')", "hello\n"),
        ("n", "node", "console.log('hello')", "hello\n"),
    ] {
        let body = json!({ "sessionId": session, "runtime": runtime });
        planes.create_with(body).await;
        planes.prints(session, code, expected).await;
        planes.terminate(session).await;
    }
    let started = crate::api::process::children(planes.data.pid().unwrap());
    assert!(started.is_empty(), "{started:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc_004_what_went_wrong_names_the_runtime() {
    let planes = Planes::start();
    planes.create("s1").await;
    let shown = planes.session("s1").await;
    let runtime = planes.proxy.url().trim_start_matches("http://").to_owned();
    assert_eq!(
        (&shown["runtimeId"], &shown["endpoint"]),
        (&json!(runtime), &json!(planes.proxy.url()))
    );
    for named in ["workerId", "bootId", "authMode", "lastSeenAt"] {
        assert!(shown[named].is_string(), "{named} is missing in {shown}");
    }
    // One request id goes through from the client to the answer, also of what fails.
    planes.proxy.refuse(true).unwrap();
    planes.proxy.cut_all();
    let body = json!({ "command": "1" }).to_string();
    let request = planes.request("POST", "/sessions/s1/steps").body(body);
    let request = request.header("x-request-id", "of-the-client");
    let answer = crate::api::http::Answer::of(request).await;
    let problem: Value = refused(&answer, 503, Code::RuntimeUnreachable);
    assert_eq!(problem["request_id"], "of-the-client");
    assert!(problem["details"]["step_id"].is_string());
}
