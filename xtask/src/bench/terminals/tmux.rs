//! tmux, with its stock settings but for the status line and the length of its history.

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::host::{Host, Program};
use super::line::Line;
use super::pty::{Pty, SIZE};
use crate::command::Command;
use crate::setup;

/// No line that changes by itself; as much history as the rows ask for.
const SETTINGS: &str = "set -g status off\nset -g history-limit 10000\n";

/// A tmux server. Dropping it ends it with its terminals.
#[derive(Debug)]
pub(super) struct Tmux {
    home: TempDir,
    started: usize,
}

impl Tmux {
    /// Prepares it, installed first if need be; the server starts with the first terminal.
    pub(super) fn start() -> Result<Self> {
        setup::tmux()?;
        let home = tempfile::Builder::new().prefix("abide-bench-").tempdir()?;
        std::fs::write(home.path().join("conf"), SETTINGS)?;
        Ok(Self { home, started: 0 })
    }

    fn command(&self, rest: &[&str]) -> Vec<String> {
        let path = |name: &str| self.home.path().join(name).display().to_string();
        let mut command = ["tmux", "-u", "-S"].map(str::to_owned).to_vec();
        command.extend([path("socket"), "-f".to_owned(), path("conf")]);
        command.extend(rest.iter().map(|word| (*word).to_owned()));
        command
    }

    fn newest(&self) -> String {
        format!("terminal-{}", self.started)
    }
}

impl Host for Tmux {
    fn start(&mut self, program: &Program) -> Result<Box<dyn Line>> {
        self.started += 1;
        let (cols, rows) = (SIZE.0.to_string(), SIZE.1.to_string());
        let name = self.newest();
        let new = ["new-session", "-s", &name, "-x", &cols, "-y", &rows, "--"];
        let command = [self.command(&new), program.0.clone()].concat();
        Ok(Box::new(Pty::start(&command)?))
    }

    fn attach(&mut self, _history: bool) -> Result<Box<dyn Line>> {
        let name = self.newest();
        let command = self.command(&["attach-session", "-t", &name]);
        Ok(Box::new(Pty::start(&command)?))
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let command = self.command(&["display-message", "-p", "#{pid}"]);
        let pid = Command::new(&command[0]).arguments(&command[1..]).output();
        let pid = pid?.trim().parse().context("tmux tells no process")?;
        Ok(vec![pid])
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let command = self.command(&["kill-server"]);
        let _ = Command::new(&command[0]).arguments(&command[1..]).probe();
    }
}
