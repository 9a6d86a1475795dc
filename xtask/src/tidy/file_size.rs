//! A file is about one noun. One that has grown past the limit is about several.

use anyhow::Result;

use super::Finding;
use super::tree::Tree;

/// Lines a source file may have, tests included. The aim is below 400; at 600 a reader has lost
/// the thread.
const LIMIT: usize = 600;

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let code = tree
        .sources()
        .iter()
        .filter(|source| source.is_any(&[".rs", ".ts", ".tsx", ".py", ".js", ".mjs", ".cjs"]));
    let long = code
        .map(|source| (source, source.lines().count()))
        .filter(|(_, lines)| *lines > LIMIT);
    Ok(long
        .map(|(source, lines)| {
            Finding::new(
                &source.path,
                format!("{lines} lines, at most {LIMIT}; split it by noun"),
            )
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use crate::tidy::found;

    #[test]
    fn counts_lines_of_code_only() {
        let (fits, long) = ("x\n".repeat(600), "x\n".repeat(601));
        let files = [
            ("a.rs", fits.as_str()),
            ("b/c.py", &long),
            ("docs/d.md", &long),
            ("e.ts", ""),
        ];
        let expected = ["b/c.py: 601 lines, at most 600; split it by noun"];
        assert_eq!(found(super::check, &files), expected);
    }
}
