//! The rules of the house that no compiler knows: one file per rule.

mod crate_paragraphs;
mod decision_records;
mod dependency_direction;
mod file_size;
mod forbidden_words;
mod manifests;
mod module_comments;
mod module_files;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

use crate::repository::Repository;
use crate::tidy::tree::Tree;

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// A path relative to the root, with `:line` where there is one.
    place: String,
    /// What is wrong and what would be right.
    what: String,
}

/// A rule of the house over the whole tree.
type Rule = fn(&Tree) -> Result<Vec<Finding>>;

/// Every rule, by the name it is reported under.
const RULES: [(&str, Rule); 8] = [
    ("dependency direction", dependency_direction::check),
    ("crate paragraphs", crate_paragraphs::check),
    ("file size", file_size::check),
    ("module files", module_files::check),
    ("module comments", module_comments::check),
    ("decision records", decision_records::check),
    ("manifests", manifests::check),
    ("forbidden words", forbidden_words::check),
];

/// Checks every rule and prints everything that breaks one.
pub(crate) fn run(repository: &Repository) -> Result<()> {
    let tree = Tree::load(repository)?;
    let mut count = 0;
    for (name, rule) in RULES {
        for finding in rule(&tree)? {
            println!("{name}: {finding}");
            count += 1;
        }
    }
    if count > 0 {
        bail!("tidy found {count} thing(s) to put right");
    }
    println!(
        "{} files follow {} rules",
        tree.sources().len(),
        RULES.len()
    );
    Ok(())
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Runs a rule over files given inline and returns what it finds as text.
#[cfg(test)]
fn found(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
    let tree = Tree::inline(files);
    rule(&tree)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[cfg(test)]
mod tests {
    use crate::repository::Repository;

    #[test]
    fn the_house_is_tidy() {
        super::run(&Repository::find().unwrap()).unwrap();
    }
}
