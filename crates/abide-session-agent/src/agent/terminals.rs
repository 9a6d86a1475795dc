//! The terminals among the workers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use abide_keeper::{Io, JournalReader, KeeperClient, KeeperSpec, Terminal, journal_path};
use abide_model::{Problem, ProblemCode, SessionId, SizePolicy, TerminalCounts, WorkerId};
use parking_lot::Mutex;

use super::SessionAgent;
use crate::pool::{limits, restock, with_causes};
use crate::recorder::Recorder;
use crate::terminal::{
    NewTerminal, Screens, TOO_FAR_BEHIND, TerminalHandle, TerminalSetup, shell, start,
};

/// A shell says goodbye to what it started: it gets some time for that.
const HANG_UP_GRACE_MS: u64 = 500;
/// For the programs it started.
const TERMINATE_GRACE_MS: u64 = 1000;

/// Terminals that a session may have, those included that have ended and can still be looked at.
const MAX_TERMINALS: usize = 64;

/// Least capacity of a journal, where less output than that is to be kept: twice what a viewer may be behind
/// until it is moved forward, so that one that is scheduled late does not find the ring turned.
const MIN_JOURNAL: u64 = 2 * TOO_FAR_BEHIND;

/// A terminal that could not be started or taken over.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct TerminalFailed {
    /// What went wrong, with the cause.
    pub reason: String,
}

/// What the agent has of terminals.
#[derive(Debug)]
pub(super) struct Terminals {
    screens: Screens,
    known: Mutex<HashMap<WorkerId, TerminalHandle>>,
}

impl Terminals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            screens: Screens::start()?,
            known: Mutex::default(),
        })
    }
}

/// The keeper of the worker in `dir`, or what it has left.
fn keeper(dir: &Path) -> Result<Result<KeeperClient, JournalReader>, String> {
    match KeeperClient::connect(dir) {
        Ok(keeper) => Ok(Ok(keeper)),
        Err(error) => match JournalReader::open_after_crash(&journal_path(dir)) {
            Ok(left) => Ok(Err(left)),
            Err(_) => Err(with_causes(error)),
        },
    }
}

impl SessionAgent {
    /// Whether a session may have one more terminal while at most `max_live` of all sessions may run. The
    /// one that has to go for it, if it has many: that which ended longest ago.
    ///
    /// # Errors
    /// 429 `limit_reached`.
    pub fn room_for_terminal(
        &self,
        session: SessionId,
        max_live: usize,
    ) -> Result<Option<WorkerId>, Problem> {
        let limit_reached = |message| Err(Problem::new(ProblemCode::LimitReached, message));
        let live = self.live_terminals();
        if live >= max_live {
            return limit_reached(format!(
                "{live} terminals are running, which is the limit (max_live)"
            ));
        }
        let mut terminals = self.terminals(session);
        if terminals.len() < MAX_TERMINALS {
            return Ok(None);
        }
        // Ids begin with the time.
        terminals.sort_by_key(|terminal| terminal.id().0);
        let ended = terminals.iter().find(|it| it.exit().is_some());
        match ended {
            Some(ended) => Ok(Some(ended.id())),
            None => limit_reached(format!(
                "the session has {MAX_TERMINALS} terminals already; end one first"
            )),
        }
    }

    /// Starts a program on a terminal. Record its id as the session's before: one that no record
    /// names is ended at the next start.
    ///
    /// # Errors
    /// [`TerminalFailed`], for example if there is no such program.
    pub async fn start_terminal(
        &self,
        new: NewTerminal,
        recorder: Arc<dyn Recorder>,
    ) -> Result<TerminalHandle, TerminalFailed> {
        let (dir, config) = (self.dir(new.id), Arc::clone(&self.config));
        let keepers = Arc::clone(&self.keepers);
        let (id, session, policy) = (new.id, new.session, new.policy);
        let output_bytes = new.output_bytes;
        let started = tokio::task::spawn_blocking(move || {
            let mut env = config.environment.clone();
            env.push(("PWD".to_owned(), new.workspace.display().to_string()));
            env.push(("ABIDE_SESSION_ID".to_owned(), new.session.to_string()));
            let is_shell = new.command.is_empty();
            let grace = config.terminal_close_grace;
            let grace = grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
            let argv = if is_shell {
                vec![shell(&env)]
            } else {
                new.command
            };
            let spec = KeeperSpec {
                worker_id: new.id.0,
                label: format!("terminal: {}", argv.join(" ")),
                argv,
                cwd: new.workspace,
                env,
                uid: None,
                gid: None,
                limits: limits(&config),
                journal_bytes: output_bytes.map_or(config.journal_bytes, |bytes| {
                    bytes.max(MIN_JOURNAL).next_multiple_of(4096)
                }),
                hang_up_grace_ms: grace.unwrap_or(HANG_UP_GRACE_MS),
                terminate_grace_ms: grace.unwrap_or(TERMINATE_GRACE_MS),
                io: Io::Terminal(Terminal {
                    size: new.size,
                    login: new.login && is_shell,
                }),
            };
            let launched = keepers.launch(&dir, &spec).map_err(with_causes)?;
            launched.wait_ready().map_err(with_causes)?;
            // A program may have ended by now, and its keeper with it.
            Ok(TerminalSetup {
                id,
                session,
                keeper: keeper(&dir)?,
                dir,
                policy,
                output_bytes,
            })
        });
        let setup = started
            .await
            .map_err(|error| error.to_string())
            .flatten()
            .map_err(|reason| TerminalFailed { reason })?;
        restock(&self.keepers);
        self.follow_terminal(setup, recorder)
    }

    /// Takes over a terminal that was started before the agent was, or what its keeper left.
    ///
    /// # Errors
    /// [`TerminalFailed`] if nothing is there any more.
    pub fn adopt_terminal(
        &self,
        id: WorkerId,
        session: SessionId,
        policy: SizePolicy,
        output_bytes: Option<u64>,
        recorder: Arc<dyn Recorder>,
    ) -> Result<TerminalHandle, TerminalFailed> {
        let dir = self.dir(id);
        let keeper = keeper(&dir).map_err(|reason| TerminalFailed { reason })?;
        let setup = TerminalSetup {
            id,
            session,
            dir,
            keeper,
            policy,
            output_bytes,
        };
        self.follow_terminal(setup, recorder)
    }

    /// Whether a terminal's keeper lives, whatever has become of its program.
    pub fn is_kept(&self, id: WorkerId) -> bool {
        KeeperClient::connect(&self.dir(id)).is_ok()
    }

    fn follow_terminal(
        &self,
        setup: TerminalSetup,
        recorder: Arc<dyn Recorder>,
    ) -> Result<TerminalHandle, TerminalFailed> {
        let started = start(setup, &self.terminals.screens, recorder, &self.tasks);
        let handle = started.map_err(|error| TerminalFailed {
            reason: error.to_string(),
        })?;
        let mut known = self.terminals.known.lock();
        known.insert(handle.id(), handle.clone());
        Ok(handle)
    }

    /// A terminal, whether its program lives or has ended, if this agent has had it since it started.
    pub fn terminal(&self, id: WorkerId) -> Option<TerminalHandle> {
        self.terminals.known.lock().get(&id).cloned()
    }

    /// The terminals of a session.
    pub fn terminals(&self, session: SessionId) -> Vec<TerminalHandle> {
        let known = self.terminals.known.lock();
        let of_session = known.values().filter(|it| it.session() == session);
        of_session.cloned().collect()
    }

    /// Terminals of all sessions whose programs live.
    pub fn live_terminals(&self) -> usize {
        let known = self.terminals.known.lock();
        let live = known.values().filter(|terminal| terminal.exit().is_none());
        live.count()
    }

    pub(super) fn terminal_counts(&self) -> TerminalCounts {
        let known = self.terminals.known.lock();
        let mut counts = TerminalCounts::default();
        for terminal in known.values() {
            match terminal.exit() {
                None => counts.live += 1,
                Some(_) => counts.ended += 1,
            }
            counts.viewers += terminal.viewers() as u64;
        }
        counts
    }

    pub(super) fn all_terminals(&self) -> Vec<TerminalHandle> {
        self.terminals.known.lock().values().cloned().collect()
    }

    /// Stops a terminal and waits until that is recorded. It can still be looked at.
    pub async fn stop_terminal(&self, id: WorkerId) {
        if let Some(terminal) = self.terminal(id) {
            terminal.stop().await;
        }
    }

    /// Stops a terminal, waits until that is recorded and forgets it; its files go, too.
    pub async fn end_terminal(&self, id: WorkerId) {
        let handle = self.terminals.known.lock().remove(&id);
        if let Some(handle) = handle {
            handle.stop().await;
            self.remove(id);
        }
    }
}
