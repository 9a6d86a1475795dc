//! A new version of the program in the place of the one that runs.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use abide_testkit::{ServerOptions, TestServer};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::http::Api;
use super::terminals::{SHELL, Terminal, started};

/// As long as the present version, so that it can stand in its place.
const NEXT_VERSION: &str = "9.9.9";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_version_takes_over_terminals_that_are_open() {
    let installed = tempfile::tempdir().unwrap();
    let program = installed.path().join("abide");
    install(Path::new(env!("CARGO_BIN_EXE_abide")), &program, |_| {});
    let options = ServerOptions::new(&program).set("warm_python=0");
    let api = Api::of(TestServer::start(options).unwrap());
    let mut terminal = Terminal::on(api, json!({ "command": SHELL })).await;
    let mut viewer = terminal.attach("flow=block").await;
    viewer.types("echo r'e'ady\n").await;
    viewer.until("ready\r\n$ ").await;
    viewer.seen.clear();
    let count = |to: u32| format!("while [ $i -lt {to} ]; do echo $((i=i+1)); done");
    let script = format!(
        "i=0; {}; echo ha'l'f; read go; {}; echo th'e' end\n",
        count(30_000),
        count(40_000)
    );
    viewer.types(&script).await;
    viewer.until("\r\n1000\r\n").await;

    let old = env!("CARGO_PKG_VERSION");
    assert_eq!(terminal.api.get("/status").await.json()["version"], old);
    install(Path::new(env!("CARGO_BIN_EXE_abide")), &program, |bytes| {
        let places: Vec<_> = memchr::memmem::find_iter(bytes, old).collect();
        for place in places {
            bytes[place..place + old.len()].copy_from_slice(NEXT_VERSION.as_bytes());
        }
    });
    // The old version goes on in every respect, and is not disturbed by the new one.
    let second = started(
        &terminal.api,
        &terminal.session,
        json!({ "command": SHELL }),
    )
    .await;
    let up = terminal
        .api
        .server
        .command(&["up", "--port", "0"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&up.stderr);
    assert!(
        !up.status.success() && said.contains("another server"),
        "{said}"
    );

    let pid = terminal
        .api
        .server
        .pid()
        .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    kill_process(pid.unwrap(), Signal::TERM).unwrap();
    while viewer.step().await {}
    terminal.api.server.wait().unwrap();
    terminal.api.up_again();
    assert_eq!(
        terminal.api.get("/status").await.json()["version"],
        NEXT_VERSION
    );

    let mut again = terminal
        .attach(&format!("flow=block&resume_from={}", viewer.offset))
        .await;
    (again.offset, again.seen) = (viewer.offset, viewer.seen);
    again.until("\r\nhalf\r\n").await;
    again.types("\n").await;
    again.until("\r\nthe end\r\n$ ").await;
    assert_eq!(again.snapshots, 0, "the ring holds it all");
    let numbers = |range: std::ops::RangeInclusive<u32>| {
        range.map(|n| format!("{n}\r\n")).collect::<String>()
    };
    let expected = format!(
        "{}\r\n{}half\r\n\r\n{}the end\r\n$ ",
        script.trim_end(),
        numbers(1..=30_000),
        numbers(30_001..=40_000)
    );
    assert!(
        again.seen == expected.as_bytes(),
        "not the bytes that were printed"
    );

    // Terminals of both versions are typed into, and end.
    let third = started(
        &terminal.api,
        &terminal.session,
        json!({ "command": SHELL }),
    )
    .await;
    for (path, id) in [(terminal.path.clone(), terminal.id.clone()), second, third] {
        (terminal.path, terminal.id) = (path, id);
        let mut viewer = terminal.attach("scrollback=0").await;
        viewer.types("echo $((6 * 7)); exit 3\n").await;
        viewer.until("\r\n42\r\n").await;
        while viewer.step().await {}
        assert_eq!(terminal.state().await["exit"]["code"], 3);
    }
    terminal.api.server.down().unwrap();
}

/// Puts a copy of a program in the place of what is there, as package managers do: whoever runs that goes on
/// with it.
fn install(from: &Path, to: &Path, change: impl FnOnce(&mut [u8])) {
    let mut bytes = std::fs::read(from).unwrap();
    change(&mut bytes);
    let new = to.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(&new, to).unwrap();
}
