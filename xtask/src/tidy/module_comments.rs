//! Every module says at its head what it is for.

use anyhow::Result;

use super::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for source in tree
        .sources()
        .iter()
        .filter(|source| source.is_any(&[".rs"]))
    {
        let first = source
            .text
            .lines()
            .find(|line| !line.trim().is_empty())
            .unwrap_or_default();
        let says = first
            .strip_prefix("//!")
            .is_some_and(|text| !text.trim().is_empty());
        if !says {
            findings.push(Finding::new(
                &source.path,
                "begin with `//!` and what the module is for",
            ));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use crate::tidy::found;

    #[test]
    fn wants_a_comment_first() {
        let files = [
            ("a.rs", "//! What it is.\n"),
            ("b.rs", "use x;\n//! Late.\n"),
            ("c.rs", "//!\n"),
            ("d.py", "import x\n"),
        ];
        let expected = [
            "b.rs: begin with `//!` and what the module is for",
            "c.rs: begin with `//!` and what the module is for",
        ];
        assert_eq!(found(super::check, &files), expected);
    }
}
