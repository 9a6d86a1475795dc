//! Child processes, with an error that says what was run.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use anyhow::{Context, Result, bail};

/// A program with its arguments, to be run to its end.
#[derive(Debug)]
pub(crate) struct Command {
    inner: process::Command,
}

impl Command {
    /// A program found on `PATH`, or by its path.
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            inner: process::Command::new(program),
        }
    }

    /// Adds arguments.
    pub(crate) fn arguments<T: AsRef<OsStr>>(
        mut self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Self {
        self.inner.args(arguments);
        self
    }

    /// Runs it there instead of here.
    pub(crate) fn directory(mut self, path: &Path) -> Self {
        self.inner.current_dir(path);
        self
    }

    /// Sets a variable for it.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.inner.env(name, value);
        self
    }

    /// Runs it on this terminal. An error when it does not start or does not exit with 0.
    pub(crate) fn run(mut self) -> Result<()> {
        let status = self
            .inner
            .status()
            .with_context(|| format!("cannot start `{self}`"))?;
        if !status.success() {
            bail!("`{self}` ended with {status}");
        }
        Ok(())
    }

    /// Runs it and returns what it writes to standard output; standard error goes to this
    /// terminal. An error when it does not start, does not exit with 0 or writes no UTF-8.
    pub(crate) fn output(mut self) -> Result<String> {
        let output = self
            .inner
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("cannot start `{self}`"))?;
        if !output.status.success() {
            bail!("`{self}` ended with {}", output.status);
        }
        String::from_utf8(output.stdout).with_context(|| format!("`{self}` wrote no UTF-8"))
    }

    /// Runs it silently: its standard output when it starts and exits with 0.
    pub(crate) fn probe(mut self) -> Option<String> {
        let output = self.inner.stdin(Stdio::null()).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Puts it in place of this process; returns only when that fails.
    pub(crate) fn replace(mut self) -> anyhow::Error {
        use std::os::unix::process::CommandExt;
        let error = self.inner.exec();
        anyhow::Error::new(error).context(format!("cannot start `{self}`"))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = Path::new(self.inner.get_program());
        f.write_str(
            &program
                .file_name()
                .unwrap_or(program.as_os_str())
                .to_string_lossy(),
        )?;
        self.inner
            .get_args()
            .try_for_each(|argument| write!(f, " {}", argument.to_string_lossy()))
    }
}

/// Where a program lies on `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_command() {
        let error = Command::new("false").arguments(["x"]).run().unwrap_err();
        assert!(
            error.to_string().starts_with("`false x` ended with"),
            "{error}"
        );
        let error = Command::new("no-such-program").run().unwrap_err();
        assert_eq!(error.to_string(), "cannot start `no-such-program`");
    }

    #[test]
    fn probe_is_silent_about_failure() {
        assert_eq!(Command::new("false").probe(), None);
        assert_eq!(
            Command::new("printf").arguments(["a"]).probe().as_deref(),
            Some("a")
        );
    }

    #[test]
    fn find_looks_along_the_path() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program"), None);
    }
}
