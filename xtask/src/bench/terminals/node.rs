//! Terminal servers as they are built with Node: node-pty and ws, installed from npm below the target directory.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::host::{Host, Plain, Program};
use super::line::Line;
use super::minimal::port;
use crate::bench::Bench;
use crate::command::{Command, find};

const PACKAGE: &str = include_str!("node/package.json");
/// Exact versions and their checksums. node-pty is the build that has its binaries with it.
const LOCK: &str = include_str!("node/package-lock.json");
const SERVER: &str = include_str!("node/server.js");

/// A running server. Dropping it ends it with its terminals.
#[derive(Debug)]
pub(super) struct Node {
    server: Child,
    address: SocketAddr,
}

impl Node {
    /// Starts it, installed first if need be; with a screen it is what VS Code's pty host is.
    pub(super) fn start(bench: &Bench, has_screen: bool) -> Result<Self> {
        let home = bench.tools.join("terminals");
        install(&home)?;
        let mut server = std::process::Command::new("node")
            .arg(home.join("server.js"))
            .args(has_screen.then_some("screen"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start node")?;
        let address = port(&mut server)?;
        Ok(Self { server, address })
    }
}

/// Nothing to do but to write the server when the packages of this lock are there.
fn install(home: &Path) -> Result<()> {
    anyhow::ensure!(find("node").is_some(), "there is no node");
    anyhow::ensure!(find("npm").is_some(), "there is no npm");
    std::fs::create_dir_all(home)?;
    // Written last, so that an installation that was interrupted is made again.
    let installed = home.join("installed.json");
    if std::fs::read_to_string(&installed).ok().as_deref() != Some(LOCK) {
        println!("Installing node-pty, ws and xterm.js from npm; this happens once.");
        std::fs::write(home.join("package.json"), PACKAGE)?;
        std::fs::write(home.join("package-lock.json"), LOCK)?;
        Command::new("npm")
            .arguments(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .directory(home)
            .run()?;
        std::fs::write(&installed, LOCK)?;
    }
    std::fs::write(home.join("server.js"), SERVER).context("cannot write the server")
}

impl Host for Node {
    fn start(&mut self, program: &Program) -> Result<Box<dyn Line>> {
        Ok(Box::new(Plain::start(self.address, program)?))
    }

    fn attach(&mut self, history: bool) -> Result<Box<dyn Line>> {
        let lines = if history { 10_000 } else { 0 };
        let path = format!("/attach?history={lines}");
        Ok(Box::new(Plain::attach(self.address, &path)?))
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(vec![self.server.id()])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
