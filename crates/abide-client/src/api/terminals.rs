//! `/sessions/{id}/workers`: terminals.

use abide_model::{CastFormat, SessionId, TerminalChanges, TerminalSpec, TerminalState, WorkerId};
use bytes::Bytes;
use reqwest::{Method, RequestBuilder};

use crate::attachment::Handshake;
use crate::{Attach, Attachment, Client, Download, Error};

impl Client {
    /// Starts a terminal in a session.
    pub async fn start_terminal(
        &self,
        session: SessionId,
        spec: &TerminalSpec,
    ) -> Result<TerminalState, Error> {
        let request = self.on_session(Method::POST, session, &["workers"]);
        self.json("terminal", request.json(spec)).await
    }

    /// A terminal as it stands.
    pub async fn terminal(
        &self,
        session: SessionId,
        worker: WorkerId,
    ) -> Result<TerminalState, Error> {
        let request = self.on_terminal(Method::GET, session, worker, &[]);
        self.json("terminal", request).await
    }

    /// The live workers of all sessions.
    pub async fn live_workers(&self) -> Result<Vec<TerminalState>, Error> {
        self.json("workers", self.request(Method::GET, &["workers"]))
            .await
    }

    /// Renames a terminal, or changes whose size it has.
    pub async fn update_terminal(
        &self,
        session: SessionId,
        worker: WorkerId,
        changes: &TerminalChanges,
    ) -> Result<TerminalState, Error> {
        let request = self.on_terminal(Method::PATCH, session, worker, &[]);
        self.json("terminal", request.json(changes)).await
    }

    /// Ends a terminal and starts the same program on another, which is the answer.
    pub async fn restart_terminal(
        &self,
        session: SessionId,
        worker: WorkerId,
    ) -> Result<TerminalState, Error> {
        let request = self.on_terminal(Method::POST, session, worker, &["restart"]);
        self.json("terminal", request).await
    }

    /// Everything that a terminal's journal still has, as asciicast.
    pub async fn recording(
        &self,
        session: SessionId,
        worker: WorkerId,
        format: CastFormat,
    ) -> Result<Download, Error> {
        let request = self
            .on_terminal(Method::GET, session, worker, &["recording"])
            .query(&[("format", format.as_str())]);
        let response = self.send(request).await?;
        Ok(Download::new(self.clone(), response))
    }

    /// Ends a terminal with everything that was started in it.
    pub async fn end_terminal(&self, session: SessionId, worker: WorkerId) -> Result<(), Error> {
        self.discard(self.on_terminal(Method::DELETE, session, worker, &[]))
            .await
    }

    /// What a terminal shows, a line per row; with colours and links if `ansi`.
    pub async fn screen(
        &self,
        session: SessionId,
        worker: WorkerId,
        ansi: bool,
    ) -> Result<Bytes, Error> {
        let format = if ansi { "ansi" } else { "text" };
        let request = self
            .on_terminal(Method::GET, session, worker, &["screen"])
            .query(&[("format", format)]);
        let response = self.send(request).await?;
        self.body(response).await
    }

    /// Types into a terminal; done when its keeper has it all.
    pub async fn type_into(
        &self,
        session: SessionId,
        worker: WorkerId,
        bytes: impl Into<Bytes>,
    ) -> Result<(), Error> {
        let request = self.on_terminal(Method::POST, session, worker, &["input"]);
        self.discard(request.body(bytes.into())).await
    }

    /// Attaches to a terminal.
    pub async fn attach(
        &self,
        session: SessionId,
        worker: WorkerId,
        attach: &Attach,
    ) -> Result<Attachment, Error> {
        let handshake = Handshake::new();
        let request = self
            .on_terminal(Method::GET, session, worker, &["attach"])
            .query(&attach.query());
        let response = self.send_to_upgrade(handshake.ask(request)).await?;
        if !handshake.is_answered(&response) {
            return Err(Error::Protocol {
                what: "the WebSocket's key is answered wrongly",
            });
        }
        Attachment::open(self.clone(), response).await
    }

    fn on_terminal(
        &self,
        method: Method,
        session: SessionId,
        worker: WorkerId,
        rest: &[&str],
    ) -> RequestBuilder {
        let worker = worker.to_string();
        let mut segments = vec!["workers", &worker];
        segments.extend(rest);
        self.on_session(method, session, &segments)
    }
}
