//! `/terminal/ws/multi`: many terminals over one connection.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use abide_model::{
    DialectCreate, DialectMessage, DialectReason, DialectRequest, SessionId, ViewerRole, WorkerId,
};
use abide_session_agent::{TOO_FAR_BEHIND, Visit, WindowSize};
use axum::extract::ws::WebSocket;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::link::{Goodbye, Inbox, Job, Outbox, open};
use super::tab::Tab;
use super::typist::Typist;
use super::{App, clamped};
use crate::runtimes::{Hand, Terminal};
use crate::service::{Attachment, Found, Owner, Refusal};

/// Serves one connection until the client leaves or the server stops.
pub(super) async fn serve(app: App, owner: Owner, socket: WebSocket) {
    let (link, inbox, outbox, jobs) = open(socket, &app.config);
    let stopping = app.tasks.stopping();
    let connection = Connection {
        id: app.dialect.connection(),
        app,
        owner,
        outbox,
        jobs,
        tabs: HashMap::new(),
        typists: HashMap::new(),
    };
    link.run(connection.hear(inbox), stopping.cancelled()).await;
}

/// One client.
struct Connection {
    id: u64,
    app: App,
    owner: Owner,
    outbox: Outbox,
    jobs: mpsc::UnboundedSender<Job>,
    /// What it is attached to, by its own ids.
    tabs: HashMap<String, Attached>,
    typists: HashMap<WorkerId, Typist>,
}

/// A terminal that the client sees.
struct Attached {
    session: SessionId,
    terminal: Arc<dyn Terminal>,
    hand: Arc<dyn Hand>,
    closed: CancellationToken,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Connection {
    async fn hear(mut self, mut inbox: Inbox) -> Goodbye {
        loop {
            match inbox.next().await {
                Ok(request) => self.serve(request).await,
                Err(goodbye) => return goodbye,
            }
        }
    }

    async fn serve(&mut self, request: DialectRequest) {
        match request {
            DialectRequest::Create(create) => {
                let id = create.session_id.clone();
                let created = self.create(create).await;
                self.refused(&id, created).await;
            }
            DialectRequest::Reattach {
                session_id,
                rows,
                cols,
            } => {
                let reattached = self.reattach(&session_id, rows, cols).await;
                self.refused(&session_id, reattached).await;
            }
            DialectRequest::List => match self.app.dialect_list(&self.owner).await {
                Ok(list) => self.outbox.answer(&DialectMessage::List(list)).await,
                Err(problem) => self.refused("", Err(problem.into())).await,
            },
            DialectRequest::Close { session_id } => {
                let closed = self.close(&session_id).await;
                self.refused(&session_id, closed).await;
            }
            DialectRequest::Rename { session_id, name } => {
                let renamed = self.rename(&session_id, &name).await;
                self.refused(&session_id, renamed).await;
            }
            DialectRequest::Input { session_id, data } => {
                if let Some(id) = self.meant(session_id) {
                    let typed = self.types(&id, data).await;
                    self.refused_unless_gone(&id, typed).await;
                }
            }
            DialectRequest::Resize {
                session_id,
                rows,
                cols,
            } => {
                if let Some(id) = self.meant(session_id) {
                    let resized = self.resize(&id, rows, cols).await;
                    self.refused_unless_gone(&id, resized).await;
                }
            }
            DialectRequest::Ping { session_id } => {
                self.outbox
                    .answer(&DialectMessage::Pong { session_id })
                    .await;
            }
        }
    }

    async fn create(&mut self, create: DialectCreate) -> Result<(), Refusal> {
        let id = create.session_id.clone();
        let (rows, cols) = clamped(self.app.dialect.config.size, create.rows, create.cols);
        let owner = self.owner.clone();
        let created = self.app.dialect_create(owner, create, (rows, cols));
        let (found, attachment) = created.await?;
        let size = Some(WindowSize::new(cols, rows));
        let created = DialectMessage::Created {
            session_id: id.clone(),
            working_directory: found.directory.clone(),
        };
        self.tabs.remove(&id);
        self.outbox.answer(&created).await;
        self.attach(id, found, attachment, size, Some(0));
        Ok(())
    }

    async fn reattach(&mut self, id: &str, rows: i64, cols: i64) -> Result<(), Refusal> {
        let found = self.app.dialect_find(&self.owner, id).await?;
        let size = (rows > 0 && cols > 0).then(|| {
            let (rows, cols) = clamped(self.app.dialect.config.size, rows, cols);
            WindowSize::new(cols, rows)
        });
        let reattached = DialectMessage::Reattached {
            session_id: id.to_owned(),
            working_directory: found.directory.clone(),
        };
        // Whoever saw it before over this connection has seen enough.
        self.tabs.remove(id);
        let attachment = self.app.dialect_attach(found.session);
        let attachment = attachment.ok_or(Refusal::NotFound)?;
        self.outbox.answer(&reattached).await;
        self.attach(id.to_owned(), found, attachment, size, None);
        Ok(())
    }

    /// Shows a terminal from here on: its output from there on, or a snapshot and what follows.
    fn attach(
        &mut self,
        id: String,
        found: Found,
        attachment: Attachment,
        size: Option<WindowSize>,
        resume_from: Option<u64>,
    ) {
        let look = found.terminal.look(Visit {
            role: ViewerRole::Drive,
            size,
            resume_from,
            // All that is kept.
            scrollback: usize::MAX,
            screen_first: false,
            blocks: false,
            ack_window: TOO_FAR_BEHIND,
        });
        let closed = CancellationToken::new();
        let attached = Attached {
            session: found.session,
            terminal: Arc::clone(&found.terminal),
            hand: look.hand,
            closed: closed.clone(),
        };
        let tab = Tab {
            client_id: Some(id.clone()),
            eye: look.eye,
            attachment,
            connection: self.id,
            outbox: self.outbox.clone(),
            closed,
        };
        self.tabs.insert(id, attached);
        // Fails only when the connection ends.
        let _ = self.jobs.send(Box::pin(tab.show()));
    }

    async fn close(&mut self, id: &str) -> Result<(), Refusal> {
        self.app.dialect_close(&self.owner, id, self.id).await?;
        self.tabs.remove(id);
        let closed = DialectMessage::Closed {
            session_id: id.to_owned(),
            reason: DialectReason::UserRequested,
            exit_code: None,
        };
        self.outbox.answer(&closed).await;
        Ok(())
    }

    async fn rename(&mut self, id: &str, name: &str) -> Result<(), Refusal> {
        let renamed = self.app.dialect_rename(&self.owner, id, name, self.id);
        let renamed = DialectMessage::Renamed {
            session_id: id.to_owned(),
            name: renamed.await?,
        };
        self.outbox.answer(&renamed).await;
        Ok(())
    }

    async fn types(&mut self, id: &str, data: String) -> Result<(), Refusal> {
        let (session, terminal, viewer) = match self.attached(id) {
            Some(it) => (it.session, Arc::clone(&it.terminal), it.hand.viewer()),
            None => {
                let found = self.app.dialect_find(&self.owner, id).await?;
                (found.session, found.terminal, None)
            }
        };
        self.app.dialect_active(session);
        let typist = match self.typists.entry(terminal.id()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(vacant) => vacant.insert(Typist::new(terminal, &self.app.tasks)),
        };
        let piece = self.app.dialect.config.piece_bytes;
        let taken = typist.types(Bytes::from(data), piece, viewer);
        self.typists.retain(|_, typist| !typist.is_done());
        if taken {
            Ok(())
        } else {
            let full = "input not taken: the program does not read what waits for it";
            Err(Refusal::Failed(full.to_owned()))
        }
    }

    async fn resize(&mut self, id: &str, rows: i64, cols: i64) -> Result<(), Refusal> {
        let (rows, cols) = clamped(self.app.dialect.config.size, rows, cols);
        let size = WindowSize::new(cols, rows);
        if let Some(attached) = self.attached(id) {
            attached.hand.resizes(size);
            return Ok(());
        }
        let found = self.app.dialect_find(&self.owner, id).await?;
        let sized = found.terminal.set_size(size).await;
        sized.map_err(|_| Refusal::NotFound)
    }

    /// A terminal that the client sees, if there is anything more to be seen of it.
    fn attached(&self, id: &str) -> Option<&Attached> {
        let attached = self.tabs.get(id)?;
        (!attached.closed.is_cancelled()).then_some(attached)
    }

    /// The terminal that is meant; the only one that the client sees if it does not say.
    fn meant(&self, id: Option<String>) -> Option<String> {
        if id.is_some() {
            return id;
        }
        let mut seen = self.tabs.keys().filter(|id| self.attached(id).is_some());
        let only = seen.next()?;
        seen.next().is_none().then(|| only.clone())
    }

    async fn refused(&self, id: &str, done: Result<(), Refusal>) {
        if let Err(refusal) = done {
            self.outbox.answer(&refusal.told(id)).await;
        }
    }

    /// The same, where nothing is said of a terminal that is not there (any more).
    async fn refused_unless_gone(&self, id: &str, done: Result<(), Refusal>) {
        match done {
            Err(Refusal::NotFound | Refusal::Exited(_) | Refusal::InvalidId) => {}
            done => self.refused(id, done).await,
        }
    }
}

impl Refusal {
    /// As a client is told.
    fn told(&self, id: &str) -> DialectMessage {
        let (error, details) = match self {
            Self::Exists => (format!("{self}: {id}"), None),
            Self::Exited(exit) => {
                let how = match (exit.code, exit.signal) {
                    (Some(code), _) => format!("code: {code}"),
                    (None, Some(signal)) => format!("code: {}", 128 + signal),
                    (None, None) => exit.reason.clone(),
                };
                let details = format!("Session {id} has exited ({how})");
                (self.to_string(), Some(details))
            }
            _ => (self.to_string(), None),
        };
        DialectMessage::Error {
            session_id: Some(id.to_owned()).filter(|id| !id.is_empty()),
            error,
            details,
        }
    }
}
