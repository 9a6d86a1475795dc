//! Modules are `noun.rs` with `noun/` beside it, and a crate has one integration test binary.

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
        let parts: Vec<&str> = source.path.split('/').collect();
        if parts.last() == Some(&"mod.rs") {
            let what = "no mod.rs: name the file after its module, beside the module's directory";
            findings.push(Finding::new(&source.path, what));
        }
        if let ["crates", _, "tests", file] = parts[..] {
            // Every file here would be linked as a program of its own.
            let what =
                format!("one test binary per crate: make {file} a module of tests/it/main.rs");
            findings.push(Finding::new(&source.path, what));
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use crate::tidy::found;

    #[test]
    fn finds_misplaced_modules() {
        let files = [
            ("crates/a/src/b/mod.rs", ""),
            ("crates/a/src/model.rs", ""),
            ("crates/a/tests/c.rs", ""),
            ("crates/a/tests/it/main.rs", ""),
        ];
        let expected = [
            "crates/a/src/b/mod.rs: no mod.rs: name the file after its module, beside the \
             module's directory",
            "crates/a/tests/c.rs: one test binary per crate: make c.rs a module of \
             tests/it/main.rs",
        ];
        assert_eq!(found(super::check, &files), expected);
    }
}
