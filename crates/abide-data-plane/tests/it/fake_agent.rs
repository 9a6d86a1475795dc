//! A session agent over real sockets that counts what it executes and fails as it is told to.

mod frames;
mod routes;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use abide_model::{
    AgentStep, Exit, Problem, RunStep, Runtime, StepOutcome, StepStatus, WorkerId, WorkerNews,
};
use axum::http::HeaderMap;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) use frames::{ended_frame, line, outcome};
use routes::router;

/// What happens to the next step that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection breaks before the step is looked at.
    CutBefore,
    /// It breaks when the step has been executed.
    CutAfter,
    /// It breaks after `started`; the step goes on.
    CutMiddle,
    /// Refused: the agent is draining.
    Draining,
}

#[derive(Debug, Clone)]
pub(crate) struct FakeSession {
    pub(crate) token: String,
    pub(crate) runtime: Runtime,
    pub(crate) worker: WorkerId,
    pub(crate) dead: bool,
    pub(crate) workspace: String,
}

#[derive(Debug, Clone)]
struct FakeStep {
    worker: WorkerId,
    outcome: watch::Sender<Option<StepOutcome>>,
}

/// What survives a restart, if the test wants it to.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) boot_id: String,
    pub(crate) enforced: bool,
    pub(crate) secret: Option<String>,
    pub(crate) sessions: HashMap<String, FakeSession>,
    steps: HashMap<(String, String), FakeStep>,
    /// Every execution: session, step, code.
    pub(crate) executions: Vec<(String, String, String)>,
    pub(crate) faults: VecDeque<Fault>,
    /// Every request: method, path and query.
    pub(crate) requests: Vec<String>,
    pub(crate) headers: Vec<HeaderMap>,
    news: Vec<WorkerNews>,
    /// Limits of every submission: to run, to wait.
    pub(crate) limits: Vec<(Option<u64>, Option<u64>)>,
    /// Registrations answer with this.
    pub(crate) refuse_registration: Option<Problem>,
}

pub(crate) struct FakeAgent {
    runtime: Option<tokio::runtime::Runtime>,
    pub(crate) address: SocketAddr,
    pub(crate) memory: Arc<Mutex<Memory>>,
    /// Steps whose code begins with `wait` end when this is true.
    pub(crate) released: watch::Sender<bool>,
    changed: watch::Sender<u64>,
}

#[derive(Clone)]
struct Shared {
    memory: Arc<Mutex<Memory>>,
    released: watch::Sender<bool>,
    changed: watch::Sender<u64>,
}

impl FakeAgent {
    pub(crate) fn start() -> Self {
        let memory = Memory {
            boot_id: "boot-1".to_owned(),
            enforced: true,
            secret: Some("agent secret".to_owned()),
            ..Memory::default()
        };
        let mut this = Self {
            runtime: None,
            address: ([127, 0, 0, 1], 0).into(),
            memory: Arc::new(Mutex::new(memory)),
            released: watch::channel(false).0,
            changed: watch::channel(0).0,
        };
        this.serve();
        this
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections break, and new ones are refused.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        // The port is free once nobody can connect to it.
        while std::net::TcpStream::connect(self.address).is_ok() {
            std::thread::yield_now();
        }
    }

    /// Comes back at the same address under another boot id, with or without its sessions.
    pub(crate) fn restart(&mut self, whole: bool) {
        self.kill();
        {
            let mut memory = self.memory.lock();
            memory.boot_id = format!("{}+", memory.boot_id);
            memory.news.clear();
            if !whole {
                memory.sessions.clear();
                memory.steps.clear();
            }
        }
        self.serve();
    }

    pub(crate) fn serve(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let address = self.address;
        let listener = std::thread::scope(|scope| {
            let bind = || runtime.block_on(TcpListener::bind(address)).unwrap();
            scope.spawn(bind).join().unwrap()
        });
        self.address = listener.local_addr().unwrap();
        let router = router(Shared {
            memory: Arc::clone(&self.memory),
            released: self.released.clone(),
            changed: self.changed.clone(),
        });
        runtime.spawn(async move { axum::serve(listener, router).await });
        self.runtime = Some(runtime);
    }

    pub(crate) fn executions(&self) -> usize {
        self.memory.lock().executions.len()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.memory.lock().faults.push_back(fault);
    }

    /// A session's interpreter dies by itself.
    pub(crate) fn die(&self, session: &str) {
        let mut memory = self.memory.lock();
        let sequence = memory.news.len() as u64 + 1;
        let there = memory.sessions.get_mut(session).unwrap();
        there.dead = true;
        let exit = WorkerNews {
            sequence,
            session_id: session.to_owned(),
            worker_id: there.worker,
            kind: abide_model::WorkerKind::Interpreter,
            exit: Some(Exit::default()),
            size_policy: None,
        };
        memory.news.push(exit);
        drop(memory);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Waits until the memory looks as it should.
    pub(crate) async fn wait_for(&self, mut condition: impl FnMut(&Memory) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            if condition(&self.memory.lock()) {
                return;
            }
            changed.changed().await.unwrap();
        }
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    /// Executes a step unless it was executed before.
    fn execute(&self, new: &RunStep, worker: WorkerId) -> FakeStep {
        let key = (new.session_id.clone(), new.step_id.clone());
        let mut memory = self.memory.lock();
        if let Some(known) = memory.steps.get(&key) {
            return known.clone();
        }
        let step = FakeStep {
            worker,
            outcome: watch::channel(None).0,
        };
        memory.steps.insert(key, step.clone());
        memory.executions.push((
            new.session_id.clone(),
            new.step_id.clone(),
            new.code.clone(),
        ));
        drop(memory);
        self.changed();
        let done = outcome(new, StepStatus::Completed);
        if new.code.starts_with("wait") {
            let mut released = self.released.subscribe();
            let sender = step.outcome.clone();
            let changed = self.changed.clone();
            #[expect(clippy::disallowed_methods, reason = "a runtime of its own")]
            tokio::spawn(async move {
                let _ = released.wait_for(|released| *released).await;
                sender.send_if_modified(|outcome| {
                    let open = outcome.is_none();
                    if open {
                        *outcome = Some(done);
                    }
                    open
                });
                changed.send_modify(|n| *n += 1);
            });
        } else {
            step.outcome.send_replace(Some(done));
        }
        step
    }

    fn end_all(&self, label: &str, status: StepStatus) {
        let memory = self.memory.lock();
        for ((session, step), record) in &memory.steps {
            if session == label {
                let new = RunStep {
                    session_id: session.clone(),
                    step_id: step.clone(),
                    ..RunStep::default()
                };
                record.outcome.send_if_modified(|ended| {
                    let open = ended.is_none();
                    if open {
                        *ended = Some(outcome(&new, status));
                    }
                    open
                });
            }
        }
    }

    fn stands(&self, label: &str, step: &str) -> AgentStep {
        let memory = self.memory.lock();
        let found = &memory.steps[&(label.to_owned(), step.to_owned())];
        match &*found.outcome.borrow() {
            Some(outcome) => AgentStep::ended(outcome),
            None => AgentStep {
                step_id: step.to_owned(),
                status: "running".to_owned(),
                ..AgentStep::default()
            },
        }
    }
}

impl Memory {
    /// A step that was under way has ended.
    pub(crate) fn finish(&self, label: &str, step: &str) {
        let key = (label.to_owned(), step.to_owned());
        let code = self
            .executions
            .iter()
            .find(|(session, name, _)| (session.as_str(), name.as_str()) == (label, step));
        let new = RunStep {
            session_id: label.to_owned(),
            step_id: step.to_owned(),
            code: code.unwrap().2.clone(),
            ..RunStep::default()
        };
        let record = &self.steps[&key];
        record
            .outcome
            .send_replace(Some(outcome(&new, StepStatus::Completed)));
    }
}
