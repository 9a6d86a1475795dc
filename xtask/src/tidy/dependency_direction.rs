//! Which crate may use which: the edges of `cargo metadata` against a list in the repository.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use super::Finding;
use super::tree::Tree;

/// The list.
const LIST: &str = "xtask/dependencies.toml";
/// What every crate's tests may use besides what the crate itself may.
const TESTKIT: &str = "abide-testkit";

/// The list, parsed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Allowed {
    /// Crates of the house that a crate may use.
    uses: BTreeMap<String, BTreeSet<String>>,
    /// Packages from outside that must not be reachable from a crate.
    absent: BTreeMap<String, BTreeSet<String>>,
}

/// The packages of the workspace and what they depend on, by package name.
#[derive(Debug, Default)]
struct Graph {
    members: BTreeSet<String>,
    /// Needed to build a package's library or binary.
    normal: BTreeMap<String, BTreeSet<String>>,
    /// Needed for its tests only.
    tests: BTreeMap<String, BTreeSet<String>>,
}

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let Some(list) = tree.source(LIST) else {
        return Ok(vec![Finding::new(LIST, "is missing")]);
    };
    let allowed = toml::from_str(&list.text).with_context(|| format!("cannot parse {LIST}"))?;
    Ok(compare(&allowed, &Graph::parse(tree.metadata())?))
}

fn compare(allowed: &Allowed, graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut report = |what: String| findings.push(Finding::new(LIST, what));
    let nothing = BTreeSet::new();
    for member in &graph.members {
        let Some(may_use) = allowed.uses.get(member) else {
            report(format!("say what {member} may use"));
            continue;
        };
        let internal = |edges: &BTreeMap<String, BTreeSet<String>>| -> Vec<String> {
            let used = edges.get(member).unwrap_or(&nothing);
            used.intersection(&graph.members)
                .filter(|it| !may_use.contains(*it))
                .cloned()
                .collect()
        };
        for used in internal(&graph.normal) {
            report(format!("{member} may not use {used}"));
        }
        for used in internal(&graph.tests)
            .iter()
            .filter(|used| *used != TESTKIT)
        {
            report(format!("the tests of {member} may not use {used}"));
        }
    }
    for (member, packages) in &allowed.absent {
        let reached = graph.reachable(member);
        for package in packages.intersection(&reached) {
            report(format!(
                "{member} must not reach {package}, not even through another package"
            ));
        }
    }
    let named = allowed
        .uses
        .iter()
        .flat_map(|(member, uses)| uses.iter().chain([member]));
    let gone: BTreeSet<&String> = named
        .chain(allowed.absent.keys())
        .filter(|name| !graph.members.contains(*name))
        .collect();
    for name in gone {
        report(format!("{name} is no crate here"));
    }
    findings
}

impl Graph {
    fn parse(metadata: &Value) -> Result<Self> {
        let mut names = BTreeMap::new();
        for package in list(metadata, "packages")? {
            names.insert(text(package, "id")?, text(package, "name")?.to_owned());
        }
        let name = |id: &str| {
            names
                .get(id)
                .cloned()
                .with_context(|| format!("no package {id}"))
        };

        let mut graph = Self::default();
        for member in list(metadata, "workspace_members")? {
            graph
                .members
                .insert(name(member.as_str().context("a member has no id")?)?);
        }
        for node in list(&metadata["resolve"], "nodes")? {
            let from = name(text(node, "id")?)?;
            for dependency in list(node, "deps")? {
                let to = name(text(dependency, "pkg")?)?;
                for kind in list(dependency, "dep_kinds")? {
                    let edges = match kind["kind"].as_str() {
                        None => &mut graph.normal,
                        Some("dev") => &mut graph.tests,
                        // What only a build script uses is in no binary.
                        Some(_) => continue,
                    };
                    edges.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        Ok(graph)
    }

    /// Every package that is linked into `from`.
    fn reachable(&self, from: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::new();
        let mut pending = vec![from];
        while let Some(package) = pending.pop() {
            for next in self.normal.get(package).into_iter().flatten() {
                if reached.insert(next.clone()) {
                    pending.push(next);
                }
            }
        }
        reached
    }
}

fn list<'a>(parent: &'a Value, key: &str) -> Result<&'a [Value]> {
    parent[key]
        .as_array()
        .map(Vec::as_slice)
        .with_context(|| format!("metadata without {key}"))
}

fn text<'a>(parent: &'a Value, key: &str) -> Result<&'a str> {
    parent[key]
        .as_str()
        .with_context(|| format!("metadata without {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, normal: &[(&str, &str)], tests: &[(&str, &str)]) -> Vec<String> {
        let edges = |pairs: &[(&str, &str)]| {
            let mut edges = BTreeMap::<String, BTreeSet<String>>::new();
            for (from, to) in pairs {
                edges
                    .entry((*from).to_owned())
                    .or_default()
                    .insert((*to).to_owned());
            }
            edges
        };
        let members = ["low", "high", TESTKIT].map(str::to_owned).into();
        let graph = Graph {
            members,
            normal: edges(normal),
            tests: edges(tests),
        };
        let findings = compare(&toml::from_str(list).unwrap(), &graph);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    const LIST: &str = "[uses]\nlow = []\nhigh = [\"low\"]\nabide-testkit = []\n\
                        [absent]\nlow = [\"axum\"]\n";

    #[test]
    fn accepts_the_direction() {
        let tests = [("low", TESTKIT)];
        assert!(check(LIST, &[("high", "low"), ("low", "serde")], &tests).is_empty());
    }

    #[test]
    fn refuses_the_other_way() {
        let found = check(LIST, &[("low", "high")], &[("low", "high")]);
        assert_eq!(
            found,
            ["low may not use high", "the tests of low may not use high"]
        );
    }

    #[test]
    fn finds_what_must_be_absent_through_others() {
        let found = check(LIST, &[("low", "tower"), ("tower", "axum")], &[]);
        assert_eq!(
            found,
            ["low must not reach axum, not even through another package"]
        );
    }

    #[test]
    fn knows_every_crate() {
        let list = "[uses]\nlow = []\nhigh = [\"gone\"]\n[absent]\n";
        let found = check(list, &[], &[]);
        assert_eq!(
            found,
            ["say what abide-testkit may use", "gone is no crate here"]
        );
    }
}
