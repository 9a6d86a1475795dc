//! ARCHITECTURE.md has a paragraph about every crate, and about no crate that is not there.

use std::collections::BTreeSet;

use anyhow::Result;

use super::Finding;
use super::tree::{Source, Tree};

/// The map of the house.
const PATH: &str = "ARCHITECTURE.md";

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let Some(map) = tree.source(PATH) else {
        return Ok(vec![Finding::new(PATH, "is missing")]);
    };
    let described: BTreeSet<&str> = paragraphs(map).collect();
    let crates: BTreeSet<&str> = tree
        .manifests()
        .filter_map(|(directory, _)| directory.rsplit('/').next())
        .collect();
    let missing = crates.difference(&described).map(|name| {
        Finding::new(
            PATH,
            format!("no paragraph about {name}: begin one with **`{name}`**"),
        )
    });
    let gone = described.difference(&crates).map(|name| {
        Finding::new(
            PATH,
            format!("a paragraph about {name}, which is no crate here"),
        )
    });
    Ok(missing.chain(gone).collect())
}

/// The names that a paragraph begins with, as in ``**`abide-model`** is …``.
fn paragraphs(map: &Source) -> impl Iterator<Item = &str> {
    map.text.lines().filter_map(|line| {
        let (name, text) = line.strip_prefix("**`")?.split_once("`**")?;
        (!text.trim().is_empty()).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use crate::tidy::found;

    #[test]
    fn compares_both_ways() {
        let map = "# Map\n\n**`abide-a`** keeps.\n**`abide-b`**\n\n**`abide-z`** went.\n";
        let files = [
            ("ARCHITECTURE.md", map),
            ("crates/abide-a/Cargo.toml", ""),
            ("crates/abide-b/Cargo.toml", ""),
        ];
        let expected = [
            "ARCHITECTURE.md: no paragraph about abide-b: begin one with **`abide-b`**",
            "ARCHITECTURE.md: a paragraph about abide-z, which is no crate here",
        ];
        assert_eq!(found(super::check, &files), expected);
        assert_eq!(found(super::check, &[]), ["ARCHITECTURE.md: is missing"]);
    }
}
