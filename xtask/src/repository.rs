//! The source tree that xtask works on.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::command::Command;

/// The root of the workspace and the ways to ask about it.
#[derive(Debug, Clone)]
pub(crate) struct Repository {
    root: PathBuf,
}

impl Repository {
    /// The workspace this binary was built from.
    pub(crate) fn find() -> Result<Self> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package
            .parent()
            .context("xtask lies one directory below the root")?;
        ensure!(
            root.join("Cargo.lock").is_file(),
            "{} holds no Cargo.lock",
            root.display()
        );
        Ok(Self {
            root: root.to_owned(),
        })
    }

    /// Absolute path of the root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `cargo` in the root, in the toolchain that runs xtask.
    pub(crate) fn cargo<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let cargo = option_env!("CARGO").unwrap_or("cargo");
        // A path that has gone (an upgraded toolchain) must not stop the task.
        let cargo = if Path::new(cargo).exists() {
            cargo
        } else {
            "cargo"
        };
        Command::new(cargo)
            .arguments(arguments)
            .directory(&self.root)
    }

    /// Where Cargo builds; follows `CARGO_TARGET_DIR` and Cargo's configuration.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let metadata = self.metadata()?;
        let target = metadata["target_directory"]
            .as_str()
            .context("no target_directory")?;
        Ok(PathBuf::from(target))
    }

    /// What `cargo metadata` says about the workspace and its dependencies.
    pub(crate) fn metadata(&self) -> Result<serde_json::Value> {
        let text = self
            .cargo(["metadata", "--format-version", "1", "--quiet"])
            .output()?;
        serde_json::from_str(&text).context("cannot parse cargo metadata")
    }

    /// Every file that is committed or would be with `git add .`, relative to the root, sorted.
    pub(crate) fn files(&self) -> Result<Vec<PathBuf>> {
        let listing = Command::new("git")
            .arguments([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .directory(&self.root)
            .output()?;
        let mut files: Vec<PathBuf> = listing
            .split('\0')
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
            // A file that was removed but not yet committed is still in the index.
            .filter(|path| self.root.join(path).is_file())
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The text of a file named relative to the root.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = path.as_ref();
        std::fs::read_to_string(self.root.join(path))
            .with_context(|| format!("cannot read {}", path.display()))
    }
}
