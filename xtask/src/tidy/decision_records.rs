//! Decision records are numbered without gaps, titled by their number, and listed.

use anyhow::Result;

use super::Finding;
use super::tree::{Source, Tree};

/// Where they lie.
const DIRECTORY: &str = "docs/decisions/";
/// Their list.
const LIST: &str = "docs/decisions/README.md";

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let Some(list) = tree.source(LIST) else {
        return Ok(vec![Finding::new(LIST, "is missing")]);
    };
    let mut findings = Vec::new();
    let mut expected = 1;
    for (record, name) in records(tree) {
        let number = name
            .get(..4)
            .and_then(|digits| digits.parse::<usize>().ok());
        if number != Some(expected) || name.as_bytes().get(4) != Some(&b'-') {
            let what = format!("the next record's name begins with {expected:04}-");
            findings.push(Finding::new(&record.path, what));
        }
        expected = number.unwrap_or(expected) + 1;
        let title = format!("# {}. ", number.unwrap_or_default());
        if !record.text.starts_with(&title) {
            findings.push(Finding::new(
                format!("{}:1", record.path),
                format!("begin with `{title}`"),
            ));
        }
        if !list.text.contains(&format!("({name})")) {
            findings.push(Finding::new(LIST, format!("does not link to {name}")));
        }
    }
    Ok(findings)
}

fn records(tree: &Tree) -> impl Iterator<Item = (&Source, &str)> {
    tree.sources().iter().filter_map(|source| {
        let name = source.path.strip_prefix(DIRECTORY)?;
        (name.ends_with(".md") && name != "README.md").then_some((source, name))
    })
}

#[cfg(test)]
mod tests {
    use crate::tidy::found;

    #[test]
    fn finds_gaps_and_unlisted_records() {
        let files = [
            ("docs/decisions/0001-a.md", "# 1. A\n"),
            ("docs/decisions/0003-c.md", "# C\n"),
            ("docs/decisions/README.md", "- [1. A](0001-a.md)\n"),
        ];
        let expected = [
            "docs/decisions/0003-c.md: the next record's name begins with 0002-",
            "docs/decisions/0003-c.md:1: begin with `# 3. `",
            "docs/decisions/README.md: does not link to 0003-c.md",
        ];
        assert_eq!(found(super::check, &files), expected);
    }
}
