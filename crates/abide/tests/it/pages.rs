//! Committed pages are what the program says: set `UPDATE_PAGES=1` to write them anew.

use std::path::Path;

use crate::abide::Place;

#[track_caller]
fn check(page: &str) {
    let said = Place::new().run(&["docs", page]);
    said.check(0, "");
    compare(&format!("{page}.md"), &said.stdout);
}

/// Compares a committed file below `docs/` with what it should be, or writes it.
#[track_caller]
pub(crate) fn compare(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../docs")
        .join(file);
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text.lines().zip(committed.lines()).find(|(a, b)| a != b);
    assert!(
        text == committed,
        "docs/{file} is out of date (UPDATE_PAGES=1 writes it); first difference: {differs:?}"
    );
}

#[test]
fn command_line_page() {
    check("cli");
}

#[test]
fn configuration_page() {
    check("configuration");
}

#[test]
fn every_command_has_help_and_examples_of_its_own() {
    let place = Place::new();
    let help = place.run(&["help"]);
    help.check(0, "");
    for command in [
        "up",
        "down",
        "control-plane",
        "data-plane",
        "session-agent",
        "status",
        "run",
        "repl",
        "shell",
        "attach",
        "screen",
        "send",
        "wait",
        "ls",
        "show",
        "rm",
        "restart",
        "interrupt",
        "logs",
        "events",
        "checkpoint",
        "key",
        "config",
        "doctor",
        "completions",
    ] {
        assert!(
            help.stdout.contains(&format!("\n  {command} ")),
            "{command}\n{}",
            help.stdout
        );
        let own = place.run(&[command, "--help"]);
        own.check(0, "");
        assert!(
            own.stdout.contains("--data-dir") && own.stdout.contains("--port"),
            "{command}"
        );
    }
    for hidden in ["keeper", "openapi", "exit-codes", "docs"] {
        assert!(!help.stdout.contains(&format!("\n  {hidden} ")), "{hidden}");
    }
}

#[test]
fn every_reading_command_speaks_json() {
    let place = Place::new();
    for command in [
        &["status"][..],
        &["run"],
        &["ls"],
        &["show"],
        &["logs"],
        &["events"],
        &["checkpoint", "get"],
        &["key"],
        &["config", "show"],
        &["doctor"],
    ] {
        let help = place.run(&[command, &["--help"]].concat());
        assert!(
            help.stdout.contains("-o, --output"),
            "{command:?}\n{}",
            help.stdout
        );
    }
}

#[test]
fn exit_codes_are_explained() {
    let place = Place::new();
    let topic = place.run(&["help", "exit-codes"]);
    topic.check(0, "");
    for text in ["  124  ", "  130  ", "   69  "] {
        assert!(topic.stdout.contains(text), "{}", topic.stdout);
    }
    assert!(place.run(&["exit-codes"]).stdout.contains("  124  "));
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = Place::new().run(&["completions", shell]);
        script.check(0, "");
        assert!(
            script.stdout.contains("checkpoint") && script.stdout.contains("no-wait"),
            "{shell}"
        );
    }
    Place::new().run(&["completions", "tcsh"]).check(64, "tcsh");
}
