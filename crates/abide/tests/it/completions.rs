//! The completion scripts, loaded by real shells and used with the tab key.

use std::path::{Path, PathBuf};

use abide_testkit::Terminal;

use crate::abide::{Place, ended};

/// Where a shell is on this machine.
fn installed(shell: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .map(|directory| Path::new(directory).join(shell))
        .find(|path| path.exists())
}

/// A shell with its script loaded, at its prompt.
fn shell(place: &Place, program: &Path, args: &[&str], loading: &str) -> Terminal {
    let name = program.file_name().unwrap().to_str().unwrap();
    let script = place.run(&["completions", name]);
    script.check(0, "");
    std::fs::write(place.home().join("abide.completions"), script.stdout).unwrap();
    let mut terminal = Terminal::start(program, |command| {
        command.args(args).env_clear().current_dir(place.home());
        command.env("HOME", place.home()).env("TERM", "dumb");
        command.env("PATH", "/usr/bin:/bin");
        command.env("INPUTRC", "/dev/null").env("PS1", "$ ");
    })
    .unwrap();
    // Quoted, so that it is not found where it is typed.
    let loading = format!("{loading}; echo rea''dy\r");
    terminal.press(&loading).unwrap();
    terminal.wait_for("ready\r\n").unwrap();
    // From its prompt on it reads keys itself.
    terminal.wait_for("$ ").unwrap();
    terminal
}

/// Types `keys` and a tab, and waits for the rest of the word; then clears the line.
#[track_caller]
fn completes(terminal: &mut Terminal, keys: &str, rest: &str) {
    terminal.press(keys).unwrap();
    terminal.wait_for(keys).unwrap();
    terminal.press("\t").unwrap();
    let said = terminal.wait_for(rest).unwrap();
    assert_eq!(said, rest, "after {keys:?}");
    terminal.press("\x15").unwrap();
}

const WORDS: [(&str, &str); 5] = [
    ("abide chec", "kpoint"),
    ("abide checkpoint s", "et"),
    ("abide ls --stat", "us"),
    ("abide run --runt", "ime"),
    ("abide show -o js", "on"),
];

#[test]
fn bash_completes() {
    let place = Place::new();
    let args = ["--norc", "--noprofile", "-i"];
    let loading = ". ./abide.completions";
    let bash = installed("bash").expect("it belongs to every Debian");
    let mut terminal = shell(&place, &bash, &args, loading);
    for (keys, rest) in WORDS {
        completes(&mut terminal, keys, rest);
    }
}

#[test]
fn zsh_completes() {
    let place = Place::new();
    let loading = "autoload -U compinit; compinit -D -u; . ./abide.completions";
    let Some(zsh) = installed("zsh") else {
        return println!("there is no zsh here: its completions are not tried");
    };
    let mut terminal = shell(&place, &zsh, &["-f", "-i"], loading);
    for (keys, rest) in WORDS {
        completes(&mut terminal, keys, rest);
    }
}

/// fish says without a terminal what it would complete.
#[test]
fn fish_completes() {
    let place = Place::new();
    let Some(fish) = installed("fish") else {
        return println!("there is no fish here: its completions are not tried");
    };
    let script = place.run(&["completions", "fish"]);
    script.check(0, "");
    std::fs::write(place.home().join("abide.fish"), script.stdout).unwrap();
    for (keys, rest) in WORDS {
        let asked = format!("source abide.fish; complete -C '{keys}'");
        let mut command = std::process::Command::new(&fish);
        command.args(["--no-config", "-c", &asked]).env_clear();
        command.env("HOME", place.home()).current_dir(place.home());
        let said = ended(&command.output().unwrap());
        let begun = keys.rsplit(' ').next().unwrap();
        let word = format!("{begun}{rest}");
        let found: Vec<_> = said.stdout.lines().collect();
        let found = found.iter().filter_map(|line| line.split('\t').next());
        assert_eq!(found.collect::<Vec<_>>(), [word], "{keys}: {}", said.stderr);
    }
}
