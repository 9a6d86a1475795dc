//! Words that must not be committed, each with the reason; exceptions are data.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::Finding;
use super::tree::{Source, Tree};

/// The exceptions.
const EXCEPTIONS: &str = "xtask/forbidden-words.toml";

/// Something that must not be written.
struct Word {
    /// Where it is looked for.
    scope: fn(&Source) -> bool,
    /// Split, so that this file does not contain it.
    parts: [&'static str; 2],
    /// What is wrong with it.
    reason: &'static str,
}

const WORDS: [Word; 7] = [
    Word {
        scope: rust,
        parts: ["#[", "ignore"],
        reason: "a test that does not run proves nothing",
    },
    Word {
        scope: rust,
        parts: ["todo", "!("],
        reason: "unfinished",
    },
    Word {
        scope: rust,
        parts: ["dbg", "!("],
        reason: "left over from debugging",
    },
    Word {
        scope: test,
        parts: ["thread::", "sleep"],
        reason: SLEEP,
    },
    Word {
        scope: test,
        parts: ["time::", "sleep("],
        reason: SLEEP,
    },
    Word {
        scope: test,
        parts: ["time.", "sleep("],
        reason: SLEEP,
    },
    Word {
        scope: test,
        parts: ["setTime", "out("],
        reason: SLEEP,
    },
];
const SLEEP: &str = "a sleep is too short on a busy machine and too long on an idle one; wait \
                     for a condition or a named hook";

/// A place that may use a word.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    path: String,
    word: String,
    /// The pieces of lines in which it is meant.
    code: Vec<String>,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exceptions {
    #[serde(default)]
    exception: Vec<Exception>,
}

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let exceptions = match tree.source(EXCEPTIONS) {
        Some(source) => toml::from_str::<Exceptions>(&source.text)
            .with_context(|| format!("cannot parse {EXCEPTIONS}"))?,
        None => Exceptions::default(),
    };
    let mut used = BTreeSet::new();
    let mut findings = Vec::new();
    for source in tree
        .sources()
        .iter()
        .filter(|source| source.path != EXCEPTIONS)
    {
        for word in WORDS.iter().filter(|word| (word.scope)(source)) {
            let text = word.parts.concat();
            let allowed: Vec<(&str, &str)> = exceptions
                .exception
                .iter()
                .filter(|it| it.path == source.path && it.word == text)
                .flat_map(|it| it.code.iter().map(|code| (it.path.as_str(), code.as_str())))
                .collect();
            for (line, written) in source.lines().filter(|(_, line)| line.contains(&text)) {
                let mut rest = written.to_owned();
                for place in allowed.iter().filter(|(_, code)| written.contains(code)) {
                    used.insert(*place);
                    rest = rest.replace(place.1, "");
                }
                if rest.contains(&text) {
                    let place = format!("{}:{line}", source.path);
                    findings.push(Finding::new(place, format!("`{text}`: {}", word.reason)));
                }
            }
        }
        for path in machine_paths(tree) {
            for (line, _) in source.lines().filter(|(_, line)| mentions(line, &path)) {
                let what = format!("`{path}` exists on one machine only");
                findings.push(Finding::new(format!("{}:{line}", source.path), what));
            }
        }
    }
    for exception in &exceptions.exception {
        let Exception { path, word, .. } = exception;
        if exception.reason.trim().is_empty() {
            findings.push(Finding::new(EXCEPTIONS, format!("say why {path} may")));
        }
        for code in &exception.code {
            if !code.contains(word) {
                let what = format!("{code:?} lacks the word `{word}`, for {path}");
                findings.push(Finding::new(EXCEPTIONS, what));
            } else if !used.contains(&(path.as_str(), code.as_str())) {
                let what = format!("{path} has no `{code}` any more");
                findings.push(Finding::new(EXCEPTIONS, what));
            }
        }
    }
    Ok(findings)
}

fn rust(source: &Source) -> bool {
    source.is_any(&[".rs"])
}

fn test(source: &Source) -> bool {
    source.is_below("tests") && source.is_any(&[".rs", ".py", ".js", ".mjs", ".ts", ".tsx"])
}

/// Directories that nobody else has: this clone, and the home of the one who works on it.
fn machine_paths(tree: &Tree) -> Vec<String> {
    let home = std::env::home_dir().map(|home| home.to_string_lossy().into_owned());
    let mut paths: Vec<String> = home.into_iter().chain([tree.root().to_owned()]).collect();
    // A path of one part, such as a container's `/app`, may well be meant.
    paths.retain(|path| path.matches('/').count() > 1);
    paths.push(["/ro", "ot/"].concat());
    paths
}

/// Whether `path` stands in `line` as the beginning of an absolute path.
fn mentions(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|it| it.is_alphanumeric() || matches!(it, '.' | '_' | '-' | '}' | '/'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::found;

    #[test]
    fn finds_words_where_they_count() {
        let sleep = ["time.", "sleep(1)\n"].concat();
        let left = ["fn a() {\n    todo", "!()\n}\n"].concat();
        let files = [
            ("crates/a/src/lib.rs", left.as_str()),
            ("crates/a/src/harness.py", &sleep),
            ("crates/a/tests/it/script.py", &sleep),
        ];
        let sleep = ["time.", "sleep("].concat();
        let todo = ["todo", "!("].concat();
        let expected = [
            format!("crates/a/src/lib.rs:2: `{todo}`: unfinished"),
            format!("crates/a/tests/it/script.py:1: `{sleep}`: {SLEEP}"),
        ];
        assert_eq!(found(check, &files), expected);
    }

    #[test]
    fn exceptions_are_pieces_of_lines_and_must_be_used_and_reasoned() {
        let sleep = ["time.", "sleep("].concat();
        let list = format!(
            "[[exception]]\npath = \"a/tests/b.py\"\nword = \"{sleep}\"\n\
             code = ['run(\"{sleep}1)\")', '{sleep}7)', '1)']\nreason = \"given to a step\"\n\
             [[exception]]\npath = \"a/tests/c.py\"\nword = \"{sleep}\"\n\
             code = ['{sleep}2)']\nreason = \"\"\n"
        );
        let code = format!(
            "run(\"{sleep}1)\")\n{sleep}1)\nrun(\"{sleep}1)\"); {sleep}1)\nrun(\"{sleep}1)\")\n"
        );
        let files = [("a/tests/b.py", code.as_str()), (EXCEPTIONS, &list)];
        let expected = [
            format!("a/tests/b.py:2: `{sleep}`: {SLEEP}"),
            format!("a/tests/b.py:3: `{sleep}`: {SLEEP}"),
            format!("{EXCEPTIONS}: a/tests/b.py has no `{sleep}7)` any more"),
            format!("{EXCEPTIONS}: \"1)\" lacks the word `{sleep}`, for a/tests/b.py"),
            format!("{EXCEPTIONS}: say why a/tests/c.py may"),
            format!("{EXCEPTIONS}: a/tests/c.py has no `{sleep}2)` any more"),
        ];
        assert_eq!(found(check, &files), expected);
    }

    #[test]
    fn paths_of_a_machine_are_found() {
        let files = [("README.md", "cd /somewhere/abide\ncd x/somewhere/abide\n")];
        let expected = ["README.md:1: `/somewhere/abide` exists on one machine only"];
        assert_eq!(found(check, &files), expected);
        let administrator = ["/ro", "ot/"].concat();
        assert!(mentions(
            &format!("see \"{administrator}x\""),
            &administrator
        ));
        assert!(!mentions(
            &format!("see ${{dir}}{administrator}x"),
            &administrator
        ));
    }
}
