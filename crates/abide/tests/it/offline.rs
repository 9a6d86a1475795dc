//! Without a server: what commands say, and how they end.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use crate::abide::{Place, ended};

#[test]
fn no_server_is_said_clearly() {
    for args in [
        &["status"][..],
        &["run", "1"],
        &["ls"],
        &["show", "x"],
        &["rm", "x"],
        &["restart", "x"],
        &["interrupt", "x"],
        &["logs", "x"],
        &["events"],
        &["checkpoint", "get", "x"],
        &["repl"],
        &["down"],
    ] {
        let place = Place::new();
        let said = place.run(args);
        said.check(
            69,
            &format!(
                "no Abide server is running for {}",
                place.data_dir().display()
            ),
        );
        said.check(69, "hint: start one with `abide up`");
        assert_eq!(said.stdout, "", "{args:?}");
        assert!(!place.data_dir().exists(), "{args:?} left something behind");
    }
}

#[test]
fn a_server_that_was_killed_is_not_running() {
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).unwrap();
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let file = format!(
        r#"{{"pid":{},"url":"http://127.0.0.1:1","version":"0","started_at":"2026-01-01T00:00:00Z"}}"#,
        dead.id()
    );
    std::fs::write(place.data_dir().join("server.json"), file).unwrap();
    place
        .run(&["status"])
        .check(69, "no Abide server is running for");
}

#[test]
fn an_address_without_a_server_is_named() {
    // Bound and closed again: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let place = Place::new();
    let url = format!("http://127.0.0.1:{port}");
    place
        .run(&["status", "--url", &url])
        .check(69, &format!("cannot reach {url}"));
    place
        .run(&["--port", &port.to_string(), "ls"])
        .check(69, &format!("cannot reach {url}"));
    place
        .run(&["ls", "--url", "https://box"])
        .check(64, "is not a URL of an Abide server");
    place
        .run(&["ls", "--url", &url, "--key", "a\nb"])
        .check(64, "characters that a key cannot have");
}

#[test]
fn wrong_usage_is_64() {
    let place = Place::new();
    for (args, said) in [
        (&["frobnicate"][..], "unrecognized subcommand"),
        (&["rm"], "required"),
        (
            &["ls", "--status", "sleepy"],
            "active, paused, completed, crashed",
        ),
        (&["run", "--timeout", "soon", "1"], "not a length of time"),
        (
            &["run", "--runtime", "ruby", "1"],
            "use \"python\" or \"node\"",
        ),
        (&["run", "-f", "x", "1"], "cannot be used with"),
        (&["--set", "prot=1", "ls"], "no setting \"prot\""),
        (&["--set", "port", "ls"], "not NAME=VALUE"),
        (&["--port", "70000", "ls"], "--port: "),
        (&["--config", "missing.toml", "ls"], "missing.toml"),
        (&["up", "--host", "0.0.0.0"], "--allow-remote"),
        (&["up", "--host", "box"], "not an IP address"),
        (&["up", "--log-format", "xml"], "--log-format: "),
        (&["checkpoint", "set", "x", "[1]"], "must be a JSON object"),
    ] {
        place.run(args).check(64, said);
    }
    let bad = place
        .command(&["ls"])
        .env("ABIDE_PORT", "many")
        .output()
        .unwrap();
    ended(&bad).check(64, "config error: ABIDE_PORT is wrong: ");
    std::fs::create_dir(place.data_dir()).unwrap();
    std::fs::write(
        place.data_dir().join("config.toml"),
        "warm_python = \"many\"",
    )
    .unwrap();
    place.run(&["ls"]).check(64, "config.toml: warm_python: ");
}

#[test]
fn version_and_help_are_a_success() {
    let place = Place::new();
    for args in [&["--version"][..], &["--help"], &["help", "run"]] {
        let said = place.run(args);
        said.check(0, "");
        assert!(said.stdout.contains("abide"), "{}", said.stdout);
    }
}

#[test]
fn the_configuration_is_shown_with_its_origins() {
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).unwrap();
    std::fs::write(place.data_dir().join("config.toml"), "warm_node = 3").unwrap();
    let output = place
        .command(&["config", "show", "-o", "json", "--set", "queue_length=5"])
        .env("ABIDE_LOG", "debug")
        .env("ABIDE_KEY", "sesame")
        .output()
        .unwrap();
    let said = ended(&output);
    said.check(0, "");
    let shown: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let is = |name: &str, value: &str, origin: &str| {
        assert_eq!(shown[name]["value"], value, "{name}");
        assert!(
            shown[name]["origin"].as_str().unwrap().ends_with(origin),
            "{}",
            shown[name]
        );
    };
    is("queue_length", "5", "--set queue_length");
    is("log", "debug", "ABIDE_LOG");
    is("warm_node", "3", "config.toml");
    is("port", "8080", "default");
    is("key", "(hidden)", "ABIDE_KEY");
    assert!(!said.stdout.contains("sesame"));
    let table = place.run(&["config", "show"]);
    assert!(
        table.stdout.starts_with("SETTING") && !table.stdout.contains('\x1b'),
        "{}",
        table.stdout
    );
}

#[test]
fn the_key_is_printed_where_there_is_one() {
    let place = Place::new();
    place.run(&["key"]).check(66, "there is no key in");
    let path = place.data_dir().join("key");
    assert_eq!(
        place.run(&["key", "--path"]).stdout,
        format!("{}\n", path.display())
    );
    std::fs::create_dir(place.data_dir()).unwrap();
    std::fs::write(&path, "sesame\n").unwrap();
    assert_eq!(place.run(&["key"]).stdout, "sesame\n");
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&["key", "-o", "json"]).stdout).unwrap();
    assert_eq!(json["key"], "sesame");
}

#[test]
fn a_reader_that_leaves_is_no_panic() {
    let place = Place::new();
    // A pipe whose reader is gone before the first byte is written.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let child = place
        .command(&["config", "show"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn();
    let said = ended(&child.unwrap().wait_with_output().unwrap());
    said.check(141, "");
    assert_eq!(said.stderr, "");
    // And one that leaves after the first line.
    let mut child = place
        .command(&["docs", "cli"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let said = ended(&child.wait_with_output().unwrap());
    assert_eq!(
        (line.as_str(), said.stderr.as_str()),
        ("# Command line\n", "")
    );
    assert!(matches!(said.code, 0 | 141), "{}", said.code);
}

#[test]
fn doctor_says_what_is_missing_and_how_to_get_it() {
    let place = Place::new();
    let output = place
        .command(&[
            "doctor",
            "-o",
            "json",
            "--set",
            "python=/nowhere/python3",
            "--port",
            "0",
        ])
        .env("ABIDE_FROBNICATE", "1")
        .output()
        .unwrap();
    let said = ended(&output);
    said.check(2, "");
    let findings: Vec<serde_json::Value> = serde_json::from_str(&said.stdout).unwrap();
    let find = |what: &str| findings.iter().find(|f| f["what"] == what).unwrap();
    assert_eq!(find("python")["verdict"], "fail");
    assert!(find("python")["fix"].as_str().unwrap().contains("python3"));
    assert_eq!(find("data directory")["verdict"], "ok");
    assert_eq!(find("kernel")["verdict"], "ok");
    assert_eq!(
        find("port")["verdict"].as_str().map(|v| v != "fail"),
        Some(true)
    );
    assert!(
        find("variables")["detail"]
            .as_str()
            .unwrap()
            .contains("ABIDE_FROBNICATE")
    );
    assert!(!place.data_dir().exists(), "doctor only looks");
}

#[test]
fn workers_without_a_server_are_pointed_out() {
    let place = Place::new();
    let worker = place
        .data_dir()
        .join("workers/0191e7a0-7c1e-7000-8000-00000000002a");
    std::fs::create_dir_all(&worker).unwrap();
    std::fs::write(worker.join("keeper.json"), "{}").unwrap();
    let said = place.run(&["down", "--keep-workers"]);
    said.check(0, "");
    assert!(
        said.stdout.contains("1 interpreter left running"),
        "{}",
        said.stdout
    );
}

#[test]
fn a_server_that_fails_in_the_background_shows_its_log() {
    let place = Place::new();
    std::fs::create_dir(place.data_dir()).unwrap();
    // A file where a directory must be: no server can work here.
    std::fs::write(place.data_dir().join("workers"), "in the way").unwrap();
    let said = place.run(&["up", "-d", "--port", "0"]);
    said.check(74, "the server did not start");
    said.check(74, "abide.log");
    said.check(74, "because: error: ");
}
