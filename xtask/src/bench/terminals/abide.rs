//! Abide's terminals, viewed over their WebSocket.

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::host::{Host, Program};
use super::line::Line;
use super::pty::SIZE;
use crate::bench::Bench;
use crate::bench::http::Connection;
use crate::bench::server::{Server, create_python};
use crate::bench::websocket::{BINARY, TEXT, WebSocket};

/// The frames of an attachment: what they are.
const OUTPUT: u8 = 1;
const SNAPSHOT: u8 = 2;
const INPUT: u8 = 3;
/// What comes before the bytes of a frame: what it is, and an offset.
const FRAME_HEAD: usize = 9;
/// More than there ever is.
const ALL_SCROLLBACK: u64 = 16 * 1024 * 1024;

/// A server with a session for terminals.
#[derive(Debug)]
pub(super) struct Abide {
    pub(super) server: Server,
    connection: Connection,
    session: String,
    /// What its viewers ask for: `flow` is what becomes of one that is slower than the program, `skip` (it
    /// is moved forward to a snapshot) or `block` (the program waits for it, so that every byte comes).
    query: &'static str,
    /// The terminal started last.
    newest: String,
}

impl Abide {
    /// Starts a server.
    pub(super) fn start(bench: &Bench, query: &'static str) -> Result<Self> {
        let server = Server::start(bench, &["warm_python=0", "max_live=2000"])?;
        let mut connection = server.connect()?;
        let session = create_python(&mut connection)?;
        Ok(Self {
            server,
            connection,
            session,
            query,
            newest: String::new(),
        })
    }

    /// Has the terminals from now on in another session.
    pub(super) fn enter_new_session(&mut self) -> Result<()> {
        self.session = create_python(&mut self.connection)?;
        Ok(())
    }

    /// Starts a program on a new terminal that nobody views.
    pub(super) fn launch(&mut self, program: &Program) -> Result<()> {
        let (cols, rows) = SIZE;
        let spec = json!({ "command": program.0, "cols": cols, "rows": rows });
        let path = format!("/sessions/{}/workers", self.session);
        let worker = self.connection.json("POST", &path, &spec)?;
        let id = worker["id"].as_str().context("no id")?;
        id.clone_into(&mut self.newest);
        Ok(())
    }

    /// One more viewer of the terminal started last, that asks for `more` as well.
    pub(super) fn view(&self, more: &str) -> Result<Viewer> {
        let Self {
            session,
            newest,
            query: asked,
            ..
        } = self;
        let (cols, rows) = SIZE;
        let path = format!(
            "/sessions/{session}/workers/{newest}/attach?cols={cols}&rows={rows}&{asked}{more}"
        );
        let socket = self.server.websocket(&path)?;
        Ok(Viewer {
            socket,
            offset: 0,
            snapshots: 0,
        })
    }

    /// Once more after the server was started again.
    pub(super) fn reconnect(&mut self) -> Result<()> {
        self.connection = self.server.connect()?;
        Ok(())
    }

    /// Output offset after the last byte of the terminal started last.
    pub(super) fn output_end(&mut self) -> Result<u64> {
        let path = format!("/sessions/{}/workers/{}", self.session, self.newest);
        let state = self.connection.json("GET", &path, &Value::Null)?;
        state["output_end"].as_u64().context("no offset")
    }
}

impl Host for Abide {
    fn start(&mut self, program: &Program) -> Result<Box<dyn Line>> {
        self.launch(program)?;
        Ok(Box::new(self.view("")?))
    }

    fn attach(&mut self, _history: bool) -> Result<Box<dyn Line>> {
        let viewer = self.view(&format!("&scrollback={ALL_SCROLLBACK}"))?;
        Ok(Box::new(viewer))
    }

    fn processes(&self) -> Result<Vec<u32>> {
        let mut all = self.server.keepers()?;
        all.push(self.server.pid()?);
        Ok(all)
    }
}

/// A viewer of a terminal of Abide's.
#[derive(Debug)]
pub(super) struct Viewer {
    socket: WebSocket,
    /// Output offset after everything received.
    pub(super) offset: u64,
    /// How often it was given the whole state.
    pub(super) snapshots: usize,
}

impl Line for Viewer {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let mut head = [0; FRAME_HEAD];
        head[0] = INPUT;
        self.socket.send(BINARY, &[&head, bytes])
    }

    fn receive(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        loop {
            let (kind, message) = self.socket.next()?;
            if kind == TEXT {
                continue;
            }
            let (head, bytes) = message
                .split_first_chunk::<FRAME_HEAD>()
                .context("a frame without a head")?;
            let [kind, offset @ ..] = *head;
            let offset = u64::from_be_bytes(offset);
            match kind {
                OUTPUT => self.offset = offset + bytes.len() as u64,
                SNAPSHOT => {
                    self.offset = offset;
                    self.snapshots += 1;
                }
                other => bail!("a frame of kind {other}"),
            }
            each(bytes);
            return Ok(());
        }
    }

    fn acknowledge(&mut self) -> Result<()> {
        let ack = json!({ "type": "ack", "offset": self.offset });
        self.socket.send(TEXT, &[ack.to_string().as_bytes()])
    }

    fn wire_bytes(&self) -> Option<u64> {
        Some(self.socket.received())
    }
}
