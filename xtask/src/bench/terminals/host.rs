//! Everything that can show a terminal, asked for in one way.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::abide::Abide;
use super::line::Line;
use super::minimal::Minimal;
use super::node::Node;
use super::pty::Pty;
use super::tmux::Tmux;

use crate::bench::Bench;
use crate::bench::websocket::{BINARY, WebSocket};

/// A program on a terminal: what a shell is to do.
#[derive(Debug, Clone)]
pub(super) struct Program(pub(super) Vec<String>);

impl Program {
    /// A shell with this script; `files` are `$@` in it.
    pub(super) fn script(script: &str, files: &[&Path]) -> Self {
        let mut command: Vec<String> = ["sh", "-c", script, "sh"].map(str::to_owned).into();
        command.extend(files.iter().map(|file| file.display().to_string()));
        Self(command)
    }

    /// Says that it is `ready>`, waits for Enter, writes the files, says `the-end>`, waits for Enter and
    /// ends. What is typed is not echoed.
    pub(super) fn printing(files: &[&Path]) -> Self {
        let script =
            "stty -echo; printf 'ready>'; read -r go; cat \"$@\"; printf 'the-end>'; read -r go";
        Self::script(script, files)
    }
}

/// Shows terminals. Dropping it ends it and them.
pub(super) trait Host {
    /// Starts a program on a new terminal; returns its first viewer.
    fn start(&mut self, program: &Program) -> Result<Box<dyn Line>>;

    /// One more viewer of the terminal started last: the first that it receives is the screen as it is, and if
    /// `history`, then or behind that everything that scrolled off.
    fn attach(&mut self, _history: bool) -> Result<Box<dyn Line>> {
        anyhow::bail!("shows nothing again")
    }

    /// What it runs besides the programs.
    fn processes(&self) -> Result<Vec<u32>>;
}

/// Who shows a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// Abide, whose viewers ask for this.
    Abide(&'static str),
    /// A read loop on the terminal itself.
    Pty,
    /// A thread per direction between terminal and WebSocket.
    Minimal,
    /// node-pty + ws.
    Node,
    /// The same with a headless xterm.js.
    PtyHost,
    /// A tmux client in a terminal.
    Tmux,
}

/// The hosts of a row; for one that cannot be had, why.
pub(super) struct Hosts(Vec<std::result::Result<Box<dyn Host>, String>>);

impl Hosts {
    /// Starts all of these, in the order of the row's contenders; Abide's must start.
    pub(super) fn start(bench: &Bench, all: &[Who]) -> Result<Self> {
        let mut hosts = Vec::with_capacity(all.len());
        for who in all {
            let host: Result<Box<dyn Host>> = match who {
                Who::Abide(query) => Ok(Box::new(Abide::start(bench, query)?)),
                Who::Pty => Ok(Box::new(Bare)),
                Who::Minimal => Minimal::start().map(|it| Box::new(it) as _),
                Who::Node => Node::start(bench, false).map(|it| Box::new(it) as _),
                Who::PtyHost => Node::start(bench, true).map(|it| Box::new(it) as _),
                Who::Tmux => Tmux::start().map(|it| Box::new(it) as _),
            };
            hosts.push(host.map_err(|error| format!("{error:#}")));
        }
        Ok(Self(hosts))
    }

    /// The host of this contender.
    pub(super) fn of(&mut self, contender: usize) -> Result<&mut dyn Host> {
        match &mut self.0[contender] {
            Ok(host) => Ok(host.as_mut()),
            Err(reason) => Err(anyhow::Error::msg(reason.clone())),
        }
    }

    /// Why this contender takes no part.
    pub(super) fn absent(&self, contender: usize) -> Option<String> {
        self.0[contender].as_ref().err().cloned()
    }
}

/// The kernel's terminals as they are.
struct Bare;

impl Host for Bare {
    fn start(&mut self, program: &Program) -> Result<Box<dyn Line>> {
        Ok(Box::new(Pty::start(&program.0)?))
    }

    fn processes(&self) -> Result<Vec<u32>> {
        Ok(Vec::new())
    }
}

/// A viewer over a WebSocket whose messages are what the terminal's programs write, and read.
#[derive(Debug)]
pub(super) struct Plain(WebSocket);

impl Plain {
    /// Starts a program and views it.
    pub(super) fn start(address: SocketAddr, program: &Program) -> Result<Self> {
        let mut socket = WebSocket::connect(address, "/new", "")?;
        socket.send(BINARY, &[&serde_json::to_vec(&program.0)?])?;
        Ok(Self(socket))
    }

    /// Views what is there.
    pub(super) fn attach(address: SocketAddr, path: &str) -> Result<Self> {
        Ok(Self(WebSocket::connect(address, path, "")?))
    }
}

impl Line for Plain {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.send(BINARY, &[bytes])
    }

    fn receive(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        each(self.0.next()?.1);
        Ok(())
    }

    fn wire_bytes(&self) -> Option<u64> {
        Some(self.0.received())
    }
}
