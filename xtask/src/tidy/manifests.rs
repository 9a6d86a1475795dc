//! A crate is named after its directory and takes version, lints and dependencies from the
//! workspace, so that there is one place to look and to change.

use anyhow::{Context, Result};
use toml::Table;

use super::Finding;
use super::tree::Tree;

/// Fields of `[package]` that a member inherits.
const INHERITED: [&str; 5] = ["version", "edition", "rust-version", "license", "publish"];
/// Tables of dependencies.
const DEPENDENCIES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (directory, source) in tree.manifests() {
        let manifest: Table = toml::from_str(&source.text)
            .with_context(|| format!("cannot parse {}", source.path))?;
        let name = directory.rsplit('/').next().unwrap_or(directory);
        let mut report = |what: String| findings.push(Finding::new(&source.path, what));

        let package = table(&manifest, "package");
        if package.get("name").and_then(|value| value.as_str()) != Some(name) {
            report(format!(
                "name the crate after its directory: name = \"{name}\""
            ));
        }
        for field in INHERITED {
            if !inherits(&table(&package, field)) {
                report(format!("write {field}.workspace = true"));
            }
        }
        if !inherits(&table(&manifest, "lints")) {
            report("write [lints] with workspace = true".to_owned());
        }
        for dependencies in DEPENDENCIES {
            for (dependency, value) in table(&manifest, dependencies) {
                if !value.as_table().is_some_and(inherits) {
                    report(format!(
                        "declare {dependency} once in the root manifest and write \
                         {dependency}.workspace = true in [{dependencies}]"
                    ));
                }
            }
        }
    }
    Ok(findings)
}

fn table(parent: &Table, key: &str) -> Table {
    parent
        .get(key)
        .and_then(|value| value.as_table())
        .cloned()
        .unwrap_or_default()
}

fn inherits(table: &Table) -> bool {
    table.get("workspace").and_then(toml::Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests {
    use crate::tidy::found;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\n\
        edition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\n\
        publish.workspace = true\n[lints]\nworkspace = true\n\
        [dependencies]\nserde = { workspace = true, features = [\"rc\"] }\n";

    #[test]
    fn accepts_what_inherits() {
        assert!(found(super::check, &[("crates/a/Cargo.toml", GOOD)]).is_empty());
    }

    #[test]
    fn finds_what_does_not() {
        let bad = GOOD
            .replace("license.workspace = true", "license = \"MIT\"")
            .replace("{ workspace = true,", "{ version = \"1\",");
        let expected = [
            "crates/b/Cargo.toml: name the crate after its directory: name = \"b\"",
            "crates/b/Cargo.toml: write license.workspace = true",
            "crates/b/Cargo.toml: declare serde once in the root manifest and write \
             serde.workspace = true in [dependencies]",
        ];
        assert_eq!(
            found(super::check, &[("crates/b/Cargo.toml", &bad)]),
            expected
        );
    }
}
