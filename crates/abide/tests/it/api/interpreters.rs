//! Interpreters as the API shows them: state, values, input, environment, ends.

use abide_model::ProblemCode;
use serde_json::{Value, json};

use super::http::{Answer, Api, Composition as _};

fn text(step: &Value) -> &str {
    step["result"]["text"]
        .as_str()
        .unwrap_or_else(|| panic!("no value: {step}"))
}

#[tokio::test]
async fn python_keeps_its_state_and_tells_values() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(
        &path,
        "x = 41\nclass Shown:\n    def _repr_html_(self): return '<b>x</b>'",
    )
    .await;
    assert_eq!(text(&api.run(&path, "x + 1").await), "42");
    assert_eq!(api.run(&path, "x = 5").await["result"], Value::Null);
    assert_eq!(api.run(&path, "None").await["result"], Value::Null);
    let rich = api.run(&path, "Shown()").await;
    assert_eq!(rich["result"]["data"]["text/html"], "<b>x</b>", "{rich}");
    assert_eq!(rich["stdout"], "", "a value is not printed");
    let bundle = "class B:\n    def _repr_mimebundle_(self, **_):\n        \
                  return {'text/plain': 'p', 'application/json': {'a': 1}}\nB()";
    let bundle = api.run(&path, bundle).await;
    assert_eq!(
        bundle["result"]["data"]["application/json"], r#"{"a": 1}"#,
        "{bundle}"
    );
    let waits = "import asyncio\nawait asyncio.wait_for(asyncio.Event().wait(), 0.001)";
    assert_eq!(api.run(&path, waits).await["error"]["type"], "TimeoutError");
    let ended = api.run(&path, "import sys\nsys.exit(3)").await;
    assert_eq!(ended["error"]["type"], "SystemExit", "{ended}");
    assert_eq!(
        text(&api.run(&path, "x").await),
        "5",
        "sys.exit ends the step only"
    );
    let captured =
        "import os, subprocess\nsubprocess.run(['echo', 'child'])\nos.system('echo shell >&2')";
    let captured = api.run(&path, captured).await;
    assert_eq!(captured["stdout"], "child\n");
    assert_eq!(captured["stderr"], "shell\n");
    let forged = r#"import os; os.write(1, b'{"stdout":"","stderr":""}\n'); 'mine'"#;
    assert_eq!(text(&api.run(&path, forged).await), "'mine'");
    assert_eq!(
        text(&api.run(&path, "'in step'").await),
        "'in step'",
        "nothing is shifted"
    );
}

#[tokio::test]
async fn input_comes_from_the_request_or_is_an_error() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let code = "name = input('name? ')\nimport sys\nname, sys.stdin.read()";
    let step = api
        .step(&path, json!({"code": code, "stdin": "Ada\nrest\nof it"}))
        .await;
    assert_eq!(text(&step), "('Ada', 'rest\\nof it')");
    assert_eq!(step["stdout"], "name? ");
    let none = api.run(&path, "input()").await;
    assert_eq!(none["status"], "error");
    assert_eq!(none["error"]["type"], "EOFError");
    let message = none["error"]["message"].as_str().unwrap();
    assert!(message.contains("`stdin`"), "it says what to do: {message}");
    assert_eq!(
        text(&api.run(&path, "sys.stdin.read()").await),
        "''",
        "empty by default"
    );
    let child = json!({
        "code": "import subprocess\nsubprocess.run(['cat'], capture_output=True).stdout",
        "stdin": "for a child",
    });
    assert_eq!(text(&api.step(&path, child).await), "b'for a child'");
}

#[tokio::test]
async fn user_code_sees_only_the_explicit_environment() {
    let api = Api::with(&["warm_node=0"]);
    let server = format!("/proc/{}/environ", api.server.pid().unwrap());
    let server = std::fs::read_to_string(server).unwrap();
    assert!(
        server.contains("ABIDE_DATA_DIR="),
        "there is something to leak"
    );
    let allowed = [
        "ABIDE_SESSION_ID",
        "ABIDE_WORKER",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LC_ALL",
        "LC_CTYPE",
        "LOGNAME",
        "MPLBACKEND",
        "PATH",
        "PWD",
        "SHELL",
        "TMPDIR",
        "TZ",
        "USER",
    ];
    let check = |names: &str| {
        let names: Vec<String> = serde_json::from_str(names).unwrap();
        for name in &names {
            assert!(allowed.contains(&&**name), "{name} in {names:?}");
        }
        assert!(names.iter().any(|name| name == "PATH"), "{names:?}");
    };
    let path = api.session(json!({})).await;
    let code = "import json, os, subprocess\nprint(json.dumps(sorted(os.environ)))";
    check(api.run(&path, code).await["stdout"].as_str().unwrap());
    let child = "print(json.dumps([line.split('=')[0] for line in \
                 subprocess.run(['env'], capture_output=True, text=True).stdout.splitlines()]))";
    check(api.run(&path, child).await["stdout"].as_str().unwrap());
    let ids = "os.environ['ABIDE_SESSION_ID'], os.environ['PWD'] == os.getcwd()";
    let ids = api.run(&path, ids).await;
    assert_eq!(text(&ids), format!("('{}', True)", &path[10..]));
    let node = api.session(json!({ "runtime": "node" })).await;
    let code = "console.log(JSON.stringify(Object.keys(process.env)))";
    check(api.run(&node, code).await["stdout"].as_str().unwrap());
    // Neither is the key or the database within reach of descriptors.
    let open = "[os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') \
                if os.path.exists(f'/proc/self/fd/{fd}')]";
    let open = api.run(&path, open).await;
    assert!(
        !text(&open).contains("abide.db") && !text(&open).contains("key"),
        "{open}"
    );
}

#[tokio::test]
async fn a_session_works_in_its_workspace() {
    let api = Api::with(&["warm_node=1"]);
    for runtime in ["python", "node"] {
        let session = api
            .post("/sessions", &json!({ "runtime": runtime }))
            .await
            .check(201);
        let path = format!("/sessions/{}", session["id"].as_str().unwrap());
        let (scratches, named) = api.server.scratch();
        let id = session["id"].as_str().unwrap();
        assert_eq!(session["workspace"]["path"], format!("{named}{id}"));
        let scratch = scratches.join(id);
        let write = match runtime {
            "python" => "open('made', 'w').write('here')",
            _ => "require('fs').writeFileSync('made', 'here')",
        };
        assert_eq!(api.run(&path, write).await["status"], "completed");
        assert_eq!(
            std::fs::read_to_string(scratch.join("made")).unwrap(),
            "here"
        );
        let restart = Answer::of(api.request("POST", &format!("{path}/restart"))).await;
        restart.check(200);
        assert!(scratch.join("made").exists(), "it outlives the interpreter");
        assert_eq!(api.delete(&format!("{path}?force=1")).await.status, 204);
        assert!(!scratch.exists(), "removed with the session");
        let (dir, named) = api.server.directory(runtime);
        let path = api
            .session(json!({"runtime": runtime, "workspace": named}))
            .await;
        api.run(&path, write).await;
        assert_eq!(std::fs::read_to_string(dir.join("made")).unwrap(), "here");
        assert_eq!(api.delete(&format!("{path}?force=1")).await.status, 204);
        assert!(dir.join("made").exists(), "a directory of the user's stays");
    }
}

#[tokio::test]
async fn a_crash_tells_how_and_what_was_said_last() {
    let api = Api::with(&[]);
    for (code, exit_code, signal, reason) in [
        ("os._exit(3)", json!(3), Value::Null, "exited with code 3"),
        (
            "os.kill(os.getpid(), 11)",
            Value::Null,
            json!(11),
            "killed by signal 11",
        ),
    ] {
        let path = api.session(json!({})).await;
        let code = format!("import os\nos.write(1, b'out')\nos.write(2, b'last words')\n{code}");
        let running = api.submit(&path, &code).await;
        let behind = api.submit(&path, "1").await;
        let step = api.ended(&running).await;
        assert_eq!(step["status"], "crashed");
        assert_eq!(
            (&step["stdout"], &step["stderr"]),
            (&json!("out"), &json!("last words"))
        );
        assert_eq!(step["exit"]["code"], exit_code);
        assert_eq!(step["exit"]["signal"], signal);
        let said = step["exit"]["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
        let error = step["error"].to_string();
        assert!(
            error.contains("last words"),
            "the last stderr is in the error: {error}"
        );
        let behind = api.ended(&behind).await;
        assert_eq!(behind["status"], "crashed");
        assert_eq!(behind["started_at"], Value::Null);
        let refused = api
            .post(&format!("{path}/steps"), &json!({ "code": "1" }))
            .await;
        let refused = refused.problem(ProblemCode::RuntimeCrashed);
        assert_eq!(refused["details"]["exit"]["code"], exit_code);
        assert_eq!(refused["details"]["exit"]["signal"], signal);
        assert!(refused["message"].as_str().unwrap().contains("/restart"));
        assert_eq!(api.get(&path).await.check(200)["status"], "crashed");
        let told = api
            .get(&format!("/events?aggregate_id={}&limit=2", &path[10..]))
            .await;
        let told = told.check(200);
        let crash = told
            .as_array()
            .unwrap()
            .iter()
            .find(|event| event["event_type"] == "session.updated")
            .unwrap();
        assert_eq!(crash["payload"]["status"], "crashed");
        assert!(
            crash["metadata"]["reason"]
                .as_str()
                .unwrap()
                .contains(reason),
            "{crash}"
        );
        let restart = Answer::of(api.request("POST", &format!("{path}/restart"))).await;
        assert_eq!(restart.check(200)["status"], "active");
        assert_eq!(text(&api.run(&path, "1 + 1").await), "2");
    }
}

#[tokio::test]
async fn node_keeps_redeclarable_names_awaits_and_prints() {
    let api = Api::with(&["warm_node=1", "warm_python=0"]);
    let path = api.session(json!({ "runtime": "javascript" })).await;
    for (code, value) in [
        ("const x = 41; x", "41"),
        ("x + 1", "42"),
        ("const x = 'again'; let y = 1; class C {}", ""),
        ("let y = 2; class C { z() { return y } }", ""),
        ("new C().z() + x", "'2again'"),
        (
            "await Promise.resolve({a: [1, {b: 2}]})",
            "{ a: [ 1, { b: 2 } ] }",
        ),
        ("(await import('node:path')).basename('/a/b')", "'b'"),
        ("require('path').basename('/a/c')", "'c'"),
        (
            "typeof fetch + typeof URL + typeof setImmediate + typeof structuredClone",
            "'functionfunctionfunctionfunction'",
        ),
    ] {
        let step = api.run(&path, code).await;
        assert_eq!(step["status"], "completed", "{step}");
        assert_eq!(
            step["result"]["text"].as_str().unwrap_or_default(),
            value,
            "{code}"
        );
    }
    let printed = api
        .run(
            &path,
            "console.log('%s is %d', 'x', 5, {a: 1}); console.error('err')",
        )
        .await;
    assert_eq!(printed["stdout"], "x is 5 { a: 1 }\n");
    assert_eq!(printed["stderr"], "err\n");
    let value = api.run(&path, "({a: 1})").await;
    assert_eq!(
        value["result"]["data"]["application/json"], r#"{"a":1}"#,
        "{value}"
    );
    for (code, kind) in [
        ("nope", "ReferenceError"),
        ("process.exit(4)", ""),
        (
            "Promise.reject(new TypeError('late')); await new Promise(() => {})",
            "TypeError",
        ),
    ] {
        let step = api.run(&path, code).await;
        assert_eq!(step["status"], "error", "{step}");
        let said = step["error"]["type"].as_str().unwrap();
        assert!(kind.is_empty() || said == kind, "{step}");
    }
    let endless = json!({"code": "for (;;) {}", "timeout_ms": 200});
    assert_eq!(api.step(&path, endless).await["status"], "timeout");
    assert_eq!(
        text(&api.run(&path, "x").await),
        "'again'",
        "state is kept through all of it"
    );
}

#[tokio::test]
async fn a_missing_interpreter_is_named() {
    let api = Api::with(&[
        "node=/nonexistent/node",
        "python=/nonexistent/python",
        "warm_node=1",
    ]);
    for runtime in ["node", "python"] {
        let path = api.session(json!({ "runtime": runtime })).await;
        let refused = api
            .post(&format!("{path}/steps"), &json!({ "code": "1" }))
            .await;
        let refused = refused.problem(ProblemCode::RuntimeUnavailable);
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.contains(&format!("/nonexistent/{runtime}")),
            "{message}"
        );
        // The session is whole, and nothing was recorded.
        assert_eq!(api.get(&path).await.check(200)["status"], "active");
        assert_eq!(
            api.get(&format!("{path}/steps")).await.check(200),
            json!([])
        );
    }
    let ready = Answer::of(api.bare("GET", "/readyz")).await;
    assert_eq!(ready.status, 200, "records are served all the same");
}

/// Takes memory piece by piece, as programs do, until 64 MB more are all the kernel gives.
const PYTHON_FILLS: &str = "
import resource
with open('/proc/self/statm') as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), -1))
x = 41
hold = []
while True:
    hold.append(bytearray(10_000))";
const NODE_FILLS: &str = "
const status = fs.readFileSync('/proc/self/status', 'utf8');
const used = 1024 * Number(status.match(/VmData:\\s+(\\d+)/)[1]);
child_process.execSync(`prlimit --pid ${process.pid} --data=${used + 64e6}`);
const hold = [];
while (true) hold.push(new Array(1e4).fill(hold.length));";

#[tokio::test]
async fn memory_that_runs_out_is_told_as_such() {
    let api = Api::with(&["warm_node=1"]);
    let path = api.session(json!({})).await;
    for code in ["x = 41\nbytearray(1 << 60)", PYTHON_FILLS] {
        let step = api.run(&path, code).await;
        assert_eq!(step["status"], "out_of_memory", "{step}");
        assert_eq!(step["error"]["type"], "MemoryError");
        // Python survives it, also while what filled it is held.
        assert_eq!(text(&api.run(&path, "x").await), "41");
    }
    let freed = api.run(&path, "del hold\nlen(bytearray(30 << 20))").await;
    assert_eq!(text(&freed), (30 << 20).to_string(), "{freed}");

    let path = api.session(json!({ "runtime": "node" })).await;
    let step = api.run(&path, NODE_FILLS).await;
    assert_eq!(step["status"], "out_of_memory", "{step}");
    assert_eq!(step["error"]["type"], "OutOfMemory");
    assert_eq!(step["exit"]["reason"], "node ran out of memory");
    let steps = format!("{path}/steps");
    let refused = api.post(&steps, &json!({ "code": "1" })).await;
    refused.problem(ProblemCode::RuntimeCrashed);
    let restarted = api.post(&format!("{path}/restart"), &json!({})).await;
    restarted.check(200);
    assert_eq!(text(&api.run(&path, "6 * 7").await), "42");
}
