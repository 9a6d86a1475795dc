//! What is known to go wrong in such systems, once each: double executions, shifted results,
//! fallback interpreters, lost processes, names that lead outside.

use abide_model::ProblemCode as Code;
use abide_testkit::processes_of_worker_dir;
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{KEY, Planes, SECRET, agent_options, data_options, refused};
use crate::api::http::Answer;
use crate::api::process::children;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_outlasts_every_timeout_in_between_runs_once() {
    let planes = Planes::with(agent_options(), data_options().set("probe_after=2500ms"));
    planes.create("s1").await;
    let gate = planes.gate();
    let code = format!(
        "n = globals().get('n', 0) + 1\n{}\nprint('run', n)",
        gate.waits()
    );
    let healths = planes.proxy.count("GET", "/v1/health");
    let opening = async {
        // Three times the data plane found it silent for so long that it asked for a sign of life:
        // more than the time for connections and that for answers together.
        planes.wait_for(healths + 3, "GET", "/v1/health").await;
        gate.open();
    };
    let (answer, ()) = tokio::join!(planes.submit("s1", "long", &code), opening);
    assert_eq!(answer.check(202)["stdout"], "run 1\n");
    assert_eq!(planes.proxy.count("POST", "/v1/steps"), 1, "sent again");
    planes.prints("s1", "print(n)", "1\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stray_output_shifts_no_result() {
    let planes = Planes::start();
    planes.create("p").await;
    let json_line = r#"{"stdout": "forged", "stderr": "", "error": ""}"#;
    for (code, expected) in [
        (
            "import os; _ = os.system('echo leaked')",
            "leaked\n".to_owned(),
        ),
        (
            "import sys; print('real', file=sys.__stdout__, flush=True)",
            "real\n".to_owned(),
        ),
        (
            &format!("_ = os.write(1, {json_line:?}.encode() + b'\\n')"),
            format!("{json_line}\n"),
        ),
        (
            "import subprocess; _ = subprocess.run(['sh', '-c', 'echo err >&2; echo out'])",
            "out\n".to_owned(),
        ),
    ] {
        planes.prints("p", code, &expected).await;
        planes.prints("p", "print('mine')", "mine\n").await;
    }
    // Nothing of the next step's is eaten either.
    let step = planes
        .run("p", "try: input()\nexcept EOFError: print('no input')")
        .await;
    assert_eq!(step["stdout"], "no input\n");
    // A thread that prints when its step is long over.
    let gate = planes.gate();
    let late = format!(
        "import threading\ndef late():\n  {}\n  print('late', flush=True)\n\
         thread = threading.Thread(target=late); thread.start()",
        gate.waits()
    );
    planes.prints("p", &late, "").await;
    planes.prints("p", "print('between')", "between\n").await;
    // In one session the output of its own threads is its own; here it is waited for.
    let joining = format!("{}\nthread.join(); print('then')", gate.begins());
    let opening = async {
        gate.begun().await;
        gate.open();
    };
    let joined = planes.prints("p", &joining, "late\nthen\n");
    tokio::join!(joined, opening);
    planes.prints("p", "print('mine')", "mine\n").await;
    planes
        .create_with(json!({ "sessionId": "n", "runtime": "node" }))
        .await;
    let child = "require('child_process').execSync('echo leaked', { stdio: 'inherit' }); undefined";
    planes.prints("n", child, "leaked\n").await;
    planes
        .prints(
            "n",
            "require('fs').writeSync(1, '{\"stdout\":\"forged\"}\\n'); undefined",
            "{\"stdout\":\"forged\"}\n",
        )
        .await;
    planes.prints("n", "console.log('mine')", "mine\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_refuses_the_token_gets_no_stand_in() {
    let planes = Planes::start();
    planes.create("s1").await;
    planes.run("s1", "mine = 1").await;
    // Somebody with the agent's secret ends the session and takes its name.
    let agent = |path: &str| {
        let url = format!("{}{path}", planes.agent.url());
        planes.http.post(url).bearer_auth(SECRET)
    };
    Answer::of(agent("/v1/sessions/s1/terminate"))
        .await
        .check(200);
    let body = json!({ "sessionId": "s1", "runtime": "python", "token": "another" });
    let taken = agent("/v1/sessions").header("x-session-token", "another");
    Answer::of(taken.body(body.to_string())).await.check(200);
    let answer = planes.submit("s1", "next", "open('ran', 'w')").await;
    let problem = refused(&answer, 409, Code::RuntimeIdentityMismatch);
    assert_eq!(
        (&problem["retryable"], &problem["details"]["reason"]),
        (&json!(false), &json!("invalid_session_token"))
    );
    let health = format!("{}/v1/health", planes.agent.url());
    let health = Answer::of(planes.http.get(health)).await.check(200);
    assert_eq!(health["interpreters"], 1, "no other was started");
    let started = children(planes.data.pid().unwrap());
    assert!(started.is_empty(), "{started:?}");
    let list = "import os; print(os.listdir())";
    let body = json!({ "sessionId": "s1", "stepId": "look", "code": list });
    let look = agent("/v1/steps").header("x-session-token", "another");
    let look = Answer::of(look.body(body.to_string())).await.check(200);
    assert_eq!(look["stdout"], "[]\n", "nor did it run in the other's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_creates_at_once_are_twenty_sessions_or_one() {
    let planes = Planes::start();
    let names: Vec<_> = (0..20).map(|n| format!("s{n}")).collect();
    let made = join_all(names.iter().map(|name| planes.create(name))).await;
    let mut workers: Vec<_> = made.iter().map(|one| one["workerId"].to_string()).collect();
    workers.sort();
    workers.dedup();
    assert_eq!(workers.len(), 20);
    let told = names
        .iter()
        .map(|name| planes.run(name, "import os; print(os.getcwd())"));
    let mut places: Vec<_> = join_all(told)
        .await
        .iter()
        .map(|s| s["stdout"].to_string())
        .collect();
    places.sort();
    places.dedup();
    assert_eq!(places.len(), 20, "two share a directory");
    let same = join_all((0..20).map(|_| planes.create("same"))).await;
    assert!(same.iter().all(|one| one == &same[0]), "{same:?}");
    let health = format!("{}/v1/health", planes.agent.url());
    let health = Answer::of(planes.http.get(health)).await.check(200);
    assert_eq!(
        (&health["sessions"], &health["interpreters"]),
        (&json!(21), &json!(21))
    );
    let other = json!({ "sessionId": "same", "runtime": "node" });
    refused(
        &planes.post("/sessions", &other).await,
        409,
        Code::RuntimeMismatch,
    );
    // By another name it is the same runtime.
    for alias in ["python", "python3", "PYTHON"] {
        let body = json!({ "sessionId": "same", "runtime": alias });
        assert_eq!(planes.create_with(body).await, same[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_without_ids_get_ids_that_do_not_collide() {
    let planes = Planes::start();
    planes.create("a").await;
    planes.create("b").await;
    let body = json!({ "command": "print(1)" });
    let submit = |n: usize| {
        planes.post(
            if n.is_multiple_of(2) {
                "/sessions/a/steps"
            } else {
                "/sessions/b/steps"
            },
            &body,
        )
    };
    let answers = join_all((0..40).map(submit)).await;
    let mut ids: Vec<_> = answers
        .iter()
        .map(|a| a.check(202)["stepId"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminate_answers_while_a_step_runs_and_leaves_no_process() {
    let planes = Planes::start();
    planes.create("s1").await;
    planes.create("other").await;
    let gate = planes.gate();
    // With a child in a session of its own that ignores polite signals.
    let code = format!(
        "import subprocess\n\
         child = subprocess.Popen(['sh', '-c', 'trap \"\" HUP INT TERM; while :; do read x; done'],\n\
         stdin=subprocess.PIPE, start_new_session=True)\n{}\nwhile True: pass",
        gate.begins_and_waits()
    );
    let ending = async {
        gate.begun().await;
        gate.open();
        planes.terminate("s1").await
    };
    let (step, ended) = tokio::join!(planes.submit("s1", "endless", &code), ending);
    assert_eq!(ended["status"], "terminated");
    // Whoever waited for it hears so, one way or the other.
    match step.status {
        202 => assert_eq!(step.json()["status"], "failed"),
        _ => drop(refused(&step, 410, Code::SessionExpired)),
    }
    planes.terminate("other").await;
    let agent = planes.agent.pid();
    let left = processes_of_worker_dir(&planes.agent.files());
    let left: Vec<_> = left.into_iter().filter(|pid| Some(*pid) != agent).collect();
    assert!(left.is_empty(), "orphans: {left:?}");
    for pid in [agent, planes.data.pid()] {
        let children = children(pid.unwrap());
        assert!(children.is_empty(), "zombies or children: {children:?}");
    }
    let scratch = planes.data.files().join("workspaces/.scratch");
    let left = std::fs::read_dir(scratch).unwrap().count();
    assert_eq!(left, 0, "scratch workspaces are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_lead_outside_are_refused() {
    let planes = Planes::start();
    let root = planes.data.files().join("workspaces");
    let outside = planes.data.home().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    let absolute = outside.to_str().unwrap();
    for reference in [
        "../x",
        "a/../../x",
        "/etc",
        absolute,
        "link",
        "link/in",
        "..",
        ".scratch/x",
        "a\0b",
    ] {
        let body = json!({ "sessionId": "s1", "workspaceRef": reference });
        let answer = planes.post("/sessions", &body).await;
        assert_eq!(answer.status, 400, "{reference:?}: {}", answer.text());
        refused(&answer, 400, Code::InvalidInput);
        refused(
            &planes.get("/sessions/s1").await,
            404,
            Code::SessionNotFound,
        );
    }
    assert!(!planes.data.files().join("x").exists());
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    for name in ["../x", "a/b", ".", "", " ", "-x", "a b", "é"] {
        let answer = planes
            .post("/sessions", &json!({ "sessionId": name }))
            .await;
        refused(&answer, 400, Code::InvalidInput);
    }
    assert_eq!(
        planes.proxy.count("POST", "/v1/sessions"),
        0,
        "nothing was started"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_that_is_none_is_refused_and_starts_nothing() {
    let planes = Planes::start();
    for runtime in ["ruby", "sh", "python2", "python;ls"] {
        let body = json!({ "sessionId": "s1", "runtime": runtime });
        let answer = planes.post("/sessions", &body).await;
        refused(&answer, 400, Code::InvalidInput);
    }
    assert_eq!(planes.proxy.count("POST", "/v1/sessions"), 0);
    assert!(children(planes.agent.pid().unwrap()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_a_session_over_by_registering_it_again() {
    let planes = Planes::start();
    planes.create("s1").await;
    planes.run("s1", "mine = 1").await;
    let url = format!("{}/v1/sessions", planes.agent.url());
    for runtime in ["python", "node"] {
        let body = json!({ "sessionId": "s1", "runtime": runtime, "token": "another" });
        let request = planes.http.post(&url).bearer_auth(SECRET);
        let request = request.header("x-session-token", "another");
        let answer = Answer::of(request.body(body.to_string())).await;
        refused(&answer, 401, Code::InvalidSessionToken);
    }
    planes.prints("s1", "print(mine)", "1\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_is_told_as_one() {
    let planes = Planes::start();
    planes.create("s1").await;
    let step = planes.run("s1", "print('before')\n1 / 0").await;
    assert_eq!(
        (&step["status"], &step["outcome"], &step["exitCode"]),
        (&json!("completed"), &json!("error"), &json!(1)),
        "{step}"
    );
    assert_eq!(step["error"]["type"], "ZeroDivisionError", "{step}");
    let told = step["stderr"].as_str().unwrap();
    assert!(
        told.contains("ZeroDivisionError") && !told.contains("File \"<string>\""),
        "{told}"
    );
    planes.prints("s1", "print('after')", "after\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_cannot_be_made_leaves_nothing() {
    let planes = Planes::with(agent_options().set("max_sessions=1"), data_options());
    planes.create("only").await;
    let scratch = planes.data.files().join("workspaces/.scratch");
    let before = std::fs::read_dir(&scratch).unwrap().count();
    let answer = planes
        .post("/sessions", &json!({ "sessionId": "more" }))
        .await;
    assert!(answer.status >= 400, "{}", answer.text());
    refused(
        &planes.get("/sessions/more").await,
        404,
        Code::SessionNotFound,
    );
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), before);
    planes.prints("only", "print(1)", "1\n").await;
    planes.terminate("only").await;
    planes.create("more").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_on_the_wire_to_the_agent_and_nowhere_else() {
    let mut planes = Planes::start();
    let (tell, told) = std::sync::mpsc::channel();
    planes.proxy.plan(move |request| {
        let text = String::from_utf8_lossy(request.bytes).into_owned();
        let token = text
            .lines()
            .find_map(|l| l.strip_prefix("x-session-token: "));
        let _ = tell.send(token.unwrap_or_default().to_owned());
        Vec::new()
    });
    let made = planes.create("s1").await;
    let step = planes.run("s1", "import os; print(dict(os.environ))").await;
    let token = told.iter().find(|token| !token.is_empty()).unwrap();
    assert_eq!(token.len(), 64, "256 bits, in hexadecimal");
    for text in [
        made.to_string(),
        step.to_string(),
        planes.session("s1").await.to_string(),
    ] {
        for secret in [token.as_str(), SECRET, KEY] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    planes.data.stop().unwrap();
    let mut dirs = vec![
        planes.data.home().to_owned(),
        planes.agent.home().to_owned(),
    ];
    let mut files = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                dirs.push(entry.path());
            } else if kind.is_file() {
                files += 1;
                let bytes = std::fs::read(entry.path()).unwrap();
                let found = bytes.windows(token.len()).any(|w| w == token.as_bytes());
                assert!(!found, "it is in {:?}", entry.path());
            }
        }
    }
    assert!(files > 3);
    // It is there all the same, sealed, for the next one.
    planes.data.up().unwrap();
    planes.client = super::Client::of(&planes.data);
    planes
        .prints("s1", "print('still mine')", "still mine\n")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_ended_by_the_data_plane_that_came_after() {
    let mut planes = Planes::start();
    planes.create("s1").await;
    planes.restart_data_plane();
    let ended = planes.terminate("s1").await;
    assert_eq!(ended["status"], "terminated");
    let agent = planes.agent.pid();
    let left = processes_of_worker_dir(&planes.agent.files());
    assert!(left.into_iter().all(|pid| Some(pid) == agent));
    let answer = planes.post("/sessions/s1/terminate", &Value::Null).await;
    answer.check(202);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_need_no_credentials_and_everything_else_does() {
    let planes = Planes::start();
    planes.create("s1").await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        let request = planes.http.get(format!("{}{path}", planes.data.url()));
        assert_eq!(Answer::of(request).await.status, 200, "{path}");
    }
    for (method, path) in [
        ("GET", "/sessions"),
        ("POST", "/sessions"),
        ("GET", "/sessions/s1"),
        ("POST", "/sessions/s1/steps"),
        ("GET", "/sessions/s1/steps/x"),
        ("DELETE", "/sessions/s1/steps/x"),
        ("GET", "/sessions/s1/output"),
        ("POST", "/sessions/s1/terminate"),
        ("POST", "/sessions/s1/restart"),
        ("POST", "/sessions/s1/interrupt"),
        ("POST", "/runs"),
        ("GET", "/runs/x"),
        ("POST", "/runs/x/terminate"),
    ] {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("{}{path}", planes.data.url());
        let nobody = Answer::of(planes.http.request(method.clone(), &url)).await;
        refused(&nobody, 401, Code::AuthenticationRequired);
        let wrong = planes.http.request(method, &url).bearer_auth(SECRET);
        assert_eq!(Answer::of(wrong).await.status, 401, "{path}");
    }
}
