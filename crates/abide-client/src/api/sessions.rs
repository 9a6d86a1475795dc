//! `/sessions`

use abide_model::{
    AgentId, CreateSession, Session, SessionId, SessionStatus, TerminalState, UpdateSession,
};
use reqwest::Method;

use crate::{Client, Error, Output, OutputFrom, OutputStream};

/// Which sessions to list.
#[derive(Debug, Clone, Default)]
pub struct ListSessions {
    /// Only this owner's.
    pub agent_id: Option<AgentId>,
    /// Only these statuses; empty means all.
    pub statuses: Vec<SessionStatus>,
    /// Only the one of this name.
    pub name: Option<String>,
    /// At most this many; the server's default is 100.
    pub limit: Option<u32>,
    /// Where the page before ended ([`SessionPage::next`]).
    pub cursor: Option<String>,
}

/// One page of sessions, newest first.
#[derive(Debug, Clone)]
pub struct SessionPage {
    /// The sessions.
    pub sessions: Vec<Session>,
    /// Cursor of the next page, when there is one.
    pub next: Option<String>,
}

impl Client {
    /// Creates a session.
    pub async fn create_session(&self, new: &CreateSession) -> Result<Session, Error> {
        self.json(
            "session",
            self.request(Method::POST, &["sessions"]).json(new),
        )
        .await
    }

    /// Lists sessions.
    pub async fn list_sessions(&self, list: &ListSessions) -> Result<SessionPage, Error> {
        let mut pairs = Vec::new();
        let mut add = |name, value: Option<String>| pairs.extend(value.map(|v| (name, v)));
        add("agent_id", list.agent_id.map(|id| id.to_string()));
        let statuses: Vec<&str> = list.statuses.iter().map(|s| s.as_str()).collect();
        add("status", Some(statuses.join(",")).filter(|s| !s.is_empty()));
        add("name", list.name.clone());
        add("limit", list.limit.map(|n| n.to_string()));
        add("cursor", list.cursor.clone());
        let response = self
            .send(self.request(Method::GET, &["sessions"]).query(&pairs))
            .await?;
        let next = response.headers().get("x-next-cursor");
        let next = next.and_then(|v| v.to_str().ok()).map(str::to_owned);
        Ok(SessionPage {
            sessions: self.read_json("sessions", response).await?,
            next,
        })
    }

    /// The session of this name, if there is one.
    pub async fn session_by_name(&self, name: &str) -> Result<Option<Session>, Error> {
        let list = ListSessions {
            name: Some(name.to_owned()),
            limit: Some(1),
            ..Default::default()
        };
        let found = self.list_sessions(&list).await?.sessions.into_iter();
        Ok(found.into_iter().find(|s| s.name.as_deref() == Some(name)))
    }

    /// One session.
    pub async fn session(&self, id: SessionId) -> Result<Session, Error> {
        self.json("session", self.on_session(Method::GET, id, &[]))
            .await
    }

    /// Changes a session.
    pub async fn update_session(
        &self,
        id: SessionId,
        to: &UpdateSession,
    ) -> Result<Session, Error> {
        self.json("session", self.on_session(Method::PATCH, id, &[]).json(to))
            .await
    }

    /// Deletes a session, its steps and a scratch workspace. An active one only with `force`.
    pub async fn delete_session(&self, id: SessionId, force: bool) -> Result<(), Error> {
        let mut request = self.on_session(Method::DELETE, id, &[]);
        if force {
            request = request.query(&[("force", true)]);
        }
        self.discard(request).await
    }

    /// Gives a session a fresh interpreter; the old one's state is gone.
    pub async fn restart_session(&self, id: SessionId) -> Result<Session, Error> {
        self.json("session", self.on_session(Method::POST, id, &["restart"]))
            .await
    }

    /// Interrupts the step that is running, if one is.
    pub async fn interrupt_session(&self, id: SessionId) -> Result<(), Error> {
        self.discard(self.on_session(Method::POST, id, &["interrupt"]))
            .await
    }

    /// The processes a session has, or had.
    pub async fn workers(&self, id: SessionId) -> Result<Vec<TerminalState>, Error> {
        self.json("workers", self.on_session(Method::GET, id, &["workers"]))
            .await
    }

    /// Output of the session's present interpreter, also what was printed between steps.
    pub async fn session_output(&self, id: SessionId, from: OutputFrom) -> Result<Output, Error> {
        let response = self.send(self.output_request(id, from, false)).await?;
        self.read_output(response).await
    }

    /// The same as it is written.
    pub async fn follow_session_output(
        &self,
        id: SessionId,
        from: OutputFrom,
    ) -> Result<OutputStream, Error> {
        let response = self.send(self.output_request(id, from, true)).await?;
        OutputStream::new(self.clone(), response, from)
    }

    fn output_request(
        &self,
        id: SessionId,
        from: OutputFrom,
        follow: bool,
    ) -> reqwest::RequestBuilder {
        let (name, value) = match from {
            OutputFrom::Offset(offset) => ("from", offset),
            OutputFrom::Tail(bytes) => ("tail", bytes),
        };
        self.on_session(Method::GET, id, &["output"])
            .query(&[(name, value), ("follow", u64::from(follow))])
    }

    /// A whole answer of raw output with its two headers.
    pub(crate) async fn read_output(&self, response: reqwest::Response) -> Result<Output, Error> {
        let header = |name| {
            crate::client::header_u64(&response, name).ok_or(Error::Protocol {
                what: "output without its offsets",
            })
        };
        let (from, next) = (header("x-output-from")?, header("x-output-next")?);
        Ok(Output {
            from,
            next,
            bytes: self.body(response).await?,
        })
    }

    /// A request below `/sessions/{id}`.
    pub(crate) fn on_session(
        &self,
        method: Method,
        id: SessionId,
        rest: &[&str],
    ) -> reqwest::RequestBuilder {
        let id = id.to_string();
        let mut segments = vec!["sessions", &id];
        segments.extend(rest);
        self.request(method, &segments)
    }
}
