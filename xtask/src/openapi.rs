//! The committed OpenAPI document: a change of the API is a diff that a reviewer sees.

use anyhow::{Context, Result, bail};

use crate::command::Command;
use crate::repository::Repository;

/// Where the document lies, relative to the root.
const PATH: &str = "docs/openapi.json";

/// Asks the binary for its document and writes it, or compares it with the committed one.
pub(crate) fn run(repository: &Repository, check: bool) -> Result<()> {
    let current = generate(repository, check)?;
    let path = repository.root().join(PATH);
    if !check {
        std::fs::write(&path, &current).with_context(|| format!("cannot write {PATH}"))?;
        println!("wrote {PATH}");
        return Ok(());
    }
    let committed = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {PATH}; `cargo xtask openapi` writes it"))?;
    match first_difference(&committed, &current) {
        None => Ok(()),
        Some(difference) => bail!(
            "{PATH} is not what the binary says; if the change is meant, run `cargo xtask \
             openapi` and commit the result\n{difference}"
        ),
    }
}

fn generate(repository: &Repository, check: bool) -> Result<String> {
    let mut build = repository.cargo(["build", "--quiet", "--locked", "--package", "abide"]);
    if check {
        // As CI builds its tests, so that nothing is compiled again for this.
        build = build.variable("CARGO_INCREMENTAL", "0");
    }
    build.run()?;
    let binary = repository.target()?.join("debug/abide");
    let text = Command::new(binary).arguments(["openapi"]).output()?;
    let document: serde_json::Value =
        serde_json::from_str(&text).context("`abide openapi` wrote no JSON")?;
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

fn first_difference(committed: &str, current: &str) -> Option<String> {
    if committed == current {
        return None;
    }
    let (mut old, mut new) = (committed.lines(), current.lines());
    for number in 1.. {
        let (before, after) = (old.next(), new.next());
        if before != after || before.is_none() {
            let (before, after) = (before.unwrap_or("(end)"), after.unwrap_or("(end)"));
            return Some(format!(
                "line {number}\n  committed: {before}\n  now:       {after}"
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::first_difference;

    #[test]
    fn difference_names_the_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        let difference = first_difference("a\nb\n", "a\nc\n").unwrap();
        assert_eq!(difference, "line 2\n  committed: b\n  now:       c");
        let difference = first_difference("a\n", "a\nb\n").unwrap();
        assert_eq!(difference, "line 2\n  committed: (end)\n  now:       b");
        assert!(first_difference("a", "a\n").is_some());
    }
}
