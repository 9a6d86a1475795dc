//! The bare Python loop: the smallest program that does the essential work of a session.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::server::{Server, create_python, delete, run};

/// Reads the length of a source text, then the text; answers in the same way with the `repr` of
/// its value. No error handling, no output capture, nothing kept.
const LOOP: &str = "
import os
names = {'__name__': '__main__'}
while True:
    size = int.from_bytes(os.read(0, 4), 'little')
    if not size: break
    answer = repr(eval(os.read(0, size), names)).encode()
    os.write(1, len(answer).to_bytes(4, 'little') + answer)
";

/// A bare loop. Dropping it ends it.
#[derive(Debug)]
pub(super) struct BareLoop {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl BareLoop {
    /// Starts the real interpreter with the least that it can start with.
    pub(super) fn start(python: &Path) -> Result<Self> {
        let mut child = program(python, LOOP)
            .stdin(Stdio::piped())
            .spawn()
            .context("cannot start Python")?;
        Ok(Self {
            input: child.stdin.take().context("no standard input")?,
            output: child.stdout.take().context("no standard output")?,
            child,
        })
    }

    /// The `repr` of an expression's value.
    pub(super) fn evaluate(&mut self, expression: &str) -> Result<String> {
        self.send(expression)?;
        let mut length = [0; 4];
        self.output.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_le_bytes(length) as usize];
        self.output.read_exact(&mut answer)?;
        Ok(String::from_utf8(answer)?)
    }

    /// Waits for the pipe's end, then for the process; returns the rest of what it wrote.
    pub(super) fn rest(&mut self) -> Result<String> {
        let mut rest = String::new();
        self.output.read_to_string(&mut rest)?;
        self.child.wait()?;
        Ok(rest)
    }

    /// Sends an expression without waiting for its value.
    pub(super) fn send(&mut self, expression: &str) -> Result<()> {
        let length = u32::try_from(expression.len())?;
        let message = [&length.to_le_bytes(), expression.as_bytes()].concat();
        Ok(self.input.write_all(&message)?)
    }
}

impl Drop for BareLoop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program in the real interpreter, without its site packages, its output in a pipe.
pub(super) fn program(python: &Path, source: &str) -> Command {
    let mut command = Command::new(python);
    command
        .args(["-I", "-S", "-X", "utf8", "-c", source])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// The interpreter that a server's sessions run in: the baselines use the same.
pub(super) fn real_interpreter(server: &Server) -> Result<PathBuf> {
    let mut connection = server.connect()?;
    let session = create_python(&mut connection)?;
    let path = run(&mut connection, &session, "__import__('sys').executable")?;
    delete(&mut connection, &session)?;
    let path = PathBuf::from(path.trim_matches('\''));
    ensure!(path.is_absolute(), "{} is no interpreter", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_evaluates() {
        let mut bare = BareLoop::start(Path::new("python3")).unwrap();
        assert_eq!(bare.evaluate("40 + 2").unwrap(), "42");
        assert_eq!(bare.evaluate("'a' * 3").unwrap(), "'aaa'");
    }
}
