//! A disk that is full: said at once and as what it is, nothing lost, all well again with space.
//!
//! The disk is a file system in memory that the test mounts where only it sees it. To be in such
//! a place from its first thread on, a test starts itself again.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use abide_model::ProblemCode;
use serde_json::{Value, json};

use super::http::{Answer, Api};
use super::steps::Pipe;

/// Where the disk is; set in the test that was started again.
const DISK: &str = "ABIDE_TEST_SMALL_DISK";
/// Room for a database and a few journals.
const SIZE: &str = "24m";

/// Where a test is.
pub(crate) enum Place {
    /// On the small disk.
    Here(PathBuf),
    /// It was started again there, and has passed.
    Elsewhere,
    /// Nobody may mount a file system of their own here.
    Nowhere,
}

/// Starts the test again on a small disk unless it is there.
pub(crate) fn small_disk(test: &str) -> Place {
    if let Some(disk) = std::env::var_os(DISK) {
        return Place::Here(disk.into());
    }
    let dir = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o size={SIZE} tmpfs \"$0\"");
    let within = |script: &str| {
        let mut command = Command::new("unshare");
        // Root by name at least, who may mount.
        command.args(["--mount", "--map-root-user", "sh", "-c"]);
        command.args([script]).arg(dir.path());
        command
    };
    if !within(&mount).status().is_ok_and(|status| status.success()) {
        return Place::Nowhere;
    }
    let status = within(&format!("{mount} && exec \"$@\""))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DISK, dir.path())
        .env("TMPDIR", dir.path())
        .status()
        .unwrap();
    assert!(status.success(), "on the small disk: {status}");
    Place::Elsewhere
}

/// A file that takes all the space there is, to the byte.
pub(crate) fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = File::create(&path).unwrap();
    for size in [1 << 20, 1 << 12, 1] {
        let piece = vec![0xff; size];
        while file.write_all(&piece).is_ok() {}
    }
    path
}

/// Asks until the answer has this status; `GET` only.
async fn until(api: &Api, path: &str, status: u16) -> Value {
    for _ in 0..10_000 {
        let answer = api.get(path).await;
        if answer.status == status {
            return answer.json();
        }
    }
    panic!("{path} never answers {status}");
}

#[tokio::test]
async fn a_full_disk_is_told_and_loses_nothing() {
    let name = "api::full_disk::a_full_disk_is_told_and_loses_nothing";
    let disk = match small_disk(name) {
        Place::Here(disk) => disk,
        Place::Elsewhere => return,
        Place::Nowhere => return println!("SKIPPED: no file system can be mounted here"),
    };
    let mut api = Api::with(&["journal_bytes=1MiB", "log=off"]);
    let busy = api.session(json!({})).await;
    api.run(&busy, "n = 0").await;
    let pipe = Pipe::new(&api);
    let code = format!("{}\nprint('x' * 2_000_000)\nn += 1\nn", pipe.reads());
    let running = api.submit(&busy, &code).await;
    api.begun(&running).await;
    let idle = api.session(json!({})).await;
    api.run(&idle, "m = 1").await;
    until(&api, "/readyz", 200).await;

    let ballast = fill(&disk);
    // What the write-ahead log still has room for is stored; then the disk is full for everybody.
    let mut sessions = 2;
    loop {
        let answer = api.post("/sessions", &json!({})).await;
        if answer.status != 201 {
            let problem = answer.problem(ProblemCode::StorageFull);
            let message = problem["message"].as_str().unwrap();
            assert!(message.contains("the disk is full"), "{message}");
            break;
        }
        sessions += 1;
    }
    for path in ["/readyz", "/health/ready"] {
        let answer = Answer::of(api.bare("GET", path)).await;
        let body = answer.check(503);
        assert_eq!(body["status"], "not_ready");
        let reason = body["reason"].as_str().unwrap();
        assert!(reason.contains("is full"), "{reason}");
    }
    let alive = Answer::of(api.bare("GET", "/healthz")).await;
    assert_eq!(alive.status, 200, "restarting it would not help");
    assert_eq!(
        until(&api, "/sessions", 200)
            .await
            .as_array()
            .unwrap()
            .len(),
        sessions
    );

    // An interpreter that runs goes on; its journal vouches for what cannot be recorded yet.
    let told = api.run(&idle, "m += 1\nm").await;
    assert_eq!(
        (&told["status"], &told["result"]["text"]),
        (&json!("completed"), &json!("2"))
    );
    let told_path = format!("{idle}/steps/{}", told["id"].as_str().unwrap());
    let unrecorded = api.get(&told_path).await;
    assert!(
        [503, 507].contains(&unrecorded.status),
        "{}",
        unrecorded.text()
    );
    // A step that would have to be recorded first is refused and not run.
    let later = format!("{idle}/steps?wait=0");
    let refused = api.post(&later, &json!({ "code": "m += 100" })).await;
    refused.problem(ProblemCode::StorageFull);
    // What prints more than its journal has claimed waits, and loses none of it.
    pipe.write("opened");
    let waiting = api.get(&format!("{running}?wait=1")).await.check(200);
    assert_eq!(waiting["status"], "running");

    std::fs::remove_file(&ballast).unwrap();
    until(&api, "/readyz", 200).await;
    let ended = api.ended(&running).await;
    assert_eq!(
        (&ended["status"], &ended["result"]["text"]),
        (&json!("completed"), &json!("1"))
    );
    assert_eq!(ended["stdout_bytes"], 2_000_004);
    let tail = api.get(&format!("{running}/output?from=2000000")).await;
    assert_eq!(tail.bytes(200), b"xxx\n");
    let recorded = until(&api, &told_path, 200).await;
    assert_eq!(recorded, told);
    assert_eq!(api.run(&idle, "m").await["result"]["text"], "2");
    api.session(json!({})).await;

    // And all of it is on the disk.
    api.server.kill().unwrap();
    api.up_again();
    assert_eq!(api.get(&told_path).await.check(200), told);
    assert_eq!(api.get(&running).await.check(200), ended);
    let all = api.get("/sessions").await.check(200);
    assert_eq!(all.as_array().unwrap().len(), sessions + 1);
    assert_eq!(api.run(&idle, "m").await["result"]["text"], "2");
}
