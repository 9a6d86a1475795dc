//! What the rules look at: every text file of the repository, read once.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::repository::Repository;

/// A text file.
#[derive(Debug)]
pub(super) struct Source {
    /// Relative to the root, with `/` between the parts.
    pub(super) path: String,
    /// All of it.
    pub(super) text: String,
}

/// The repository as the rules see it.
#[derive(Debug)]
pub(super) struct Tree {
    root: String,
    sources: Vec<Source>,
    metadata: Value,
}

impl Tree {
    /// Reads the repository; files that are no UTF-8 text are left out.
    pub(super) fn load(repository: &Repository) -> Result<Self> {
        let mut sources = Vec::new();
        for path in repository.files()? {
            let bytes = std::fs::read(repository.root().join(&path))
                .with_context(|| format!("cannot read {}", path.display()))?;
            if let (Some(path), Ok(text)) = (path.to_str(), String::from_utf8(bytes)) {
                sources.push(Source {
                    path: path.to_owned(),
                    text,
                });
            }
        }
        let root = repository.root().to_string_lossy().into_owned();
        Ok(Self {
            root,
            sources,
            metadata: repository.metadata()?,
        })
    }

    /// A tree that exists only in a test.
    #[cfg(test)]
    pub(super) fn inline(files: &[(&str, &str)]) -> Self {
        let source = |(path, text): &(&str, &str)| Source {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let sources = files.iter().map(source).collect();
        Self {
            root: "/somewhere/abide".to_owned(),
            sources,
            metadata: Value::Null,
        }
    }

    /// Absolute path of the root on this machine.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// Every text file, sorted by path.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// One file by path.
    pub(super) fn source(&self, path: &str) -> Option<&Source> {
        self.sources.iter().find(|source| source.path == path)
    }

    /// The manifests of the workspace's members, each with the member's directory.
    pub(super) fn manifests(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.sources.iter().filter_map(|source| {
            let directory = source.path.strip_suffix("/Cargo.toml")?;
            let member = directory == "xtask"
                || directory
                    .strip_prefix("crates/")
                    .is_some_and(|name| !name.contains('/'));
            member.then_some((directory, source))
        })
    }

    /// What `cargo metadata` says; null in a test.
    pub(super) fn metadata(&self) -> &Value {
        &self.metadata
    }
}

impl Source {
    /// Whether the file's name ends in one of these, each given with its dot.
    pub(super) fn is_any(&self, endings: &[&str]) -> bool {
        endings.iter().any(|ending| self.path.ends_with(ending))
    }

    /// Whether it lies below a directory called `name`.
    pub(super) fn is_below(&self, name: &str) -> bool {
        let mut parts = self.path.split('/').rev();
        parts.next();
        parts.any(|part| part == name)
    }

    /// Its lines, numbered from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}
