//! Interpreters that are started before anybody asks for them.

use std::path::PathBuf;
use std::sync::Arc;

use abide_interpreter::{FromHarness, Interpreter};
use abide_keeper::{
    Io, KeeperClient, KeeperSpec, Launcher, Lifecycle, Limit, LimitedResource, Message, Tag,
};
use abide_model::{Runtime, WorkerId};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, OnceCell};
use tracing::{info, warn};

use crate::config::AgentConfig;
use crate::tasks::Tasks;
use crate::wakeup::Wakeup;

/// How long an interpreter may take from its start to its `ready`.
const READY_LIMIT: std::time::Duration = std::time::Duration::from_secs(30);

/// An interpreter that is stopped has nothing to save: it is told once and then ended.
const HANG_UP_GRACE_MS: u64 = 200;
/// For the programs it started.
const TERMINATE_GRACE_MS: u64 = 1000;

/// No interpreter could be started.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot start {runtime}: {reason}")]
pub struct LaunchFailed {
    /// Which language.
    pub runtime: Runtime,
    /// What went wrong, with the cause.
    pub reason: String,
}

/// A started interpreter that belongs to no session yet. Dropping it ends it.
#[derive(Debug)]
pub struct IdleInterpreter {
    /// Names its directory and keeper.
    pub id: WorkerId,
    /// Which language.
    pub runtime: Runtime,
    pub(crate) dir: PathBuf,
    /// `None` once it was bound to a session.
    keeper: Option<KeeperClient>,
}

impl IdleInterpreter {
    pub(crate) fn take_keeper(&mut self) -> Option<KeeperClient> {
        self.keeper.take()
    }
}

impl IdleInterpreter {
    /// Ends it and waits until it is gone.
    async fn end(mut self) {
        let Some(keeper) = self.keeper.take() else {
            return;
        };
        let _ = keeper.kill();
        if let Ok(ended) = Wakeup::new(keeper.into_parts().pidfd) {
            ended.readable().await;
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Drop for IdleInterpreter {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.send(Message::Kill);
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The idle interpreters of one language.
#[derive(Debug)]
pub(crate) struct Pool {
    runtime: Runtime,
    config: Arc<AgentConfig>,
    keepers: Arc<Launcher>,
    explicit: Option<PathBuf>,
    /// Found on first use: asking a version-manager shim may take half a second.
    interpreter: OnceCell<Result<Arc<Interpreter>, LaunchFailed>>,
    idle: Mutex<Vec<IdleInterpreter>>,
    target: usize,
    taken: Notify,
}

impl Pool {
    pub(crate) fn new(runtime: Runtime, config: Arc<AgentConfig>, keepers: Arc<Launcher>) -> Self {
        let (explicit, target) = match runtime {
            Runtime::Python => (config.python.clone(), config.warm_python),
            Runtime::Node => (config.node.clone(), config.warm_node),
        };
        Self {
            runtime,
            config,
            keepers,
            explicit,
            interpreter: OnceCell::new(),
            idle: Mutex::default(),
            target,
            taken: Notify::new(),
        }
    }

    /// Idle interpreters now.
    pub(crate) fn idle(&self) -> usize {
        self.idle.lock().len()
    }

    /// Keeps the pool at its size until the agent stops, then ends what is idle.
    pub(crate) fn keep_filled(self: &Arc<Self>, tasks: &Tasks) {
        if self.target == 0 {
            return;
        }
        let pool = Arc::clone(self);
        let stopping = tasks.stopping();
        tasks.spawn("warm pool", async move {
            loop {
                while pool.idle() < pool.target && !stopping.is_cancelled() {
                    match pool.launch().await {
                        Ok(fresh) => pool.idle.lock().push(fresh),
                        Err(error) => {
                            warn!(%error, "no warm interpreters");
                            break;
                        }
                    }
                }
                tokio::select! {
                    () = stopping.cancelled() => break,
                    () = pool.taken.notified() => {}
                }
            }
            let idle = std::mem::take(&mut *pool.idle.lock());
            for interpreter in idle {
                interpreter.end().await;
            }
        });
    }

    /// An idle interpreter, or a fresh one.
    pub(crate) async fn take(&self) -> Result<IdleInterpreter, LaunchFailed> {
        let idle = self.idle.lock().pop();
        self.taken.notify_one();
        match idle {
            Some(idle) => Ok(idle),
            None => self.launch().await,
        }
    }

    async fn interpreter(&self) -> Result<Arc<Interpreter>, LaunchFailed> {
        self.interpreter
            .get_or_init(|| async {
                let (runtime, explicit) = (self.runtime, self.explicit.clone());
                let dir = self.config.harness_dir.clone();
                let found =
                    tokio::task::spawn_blocking(move || find(runtime, explicit, &dir)).await;
                found
                    .map_err(|error| error.to_string())
                    .flatten()
                    .map(Arc::new)
                    .map_err(|reason| LaunchFailed { runtime, reason })
            })
            .await
            .clone()
    }

    async fn launch(&self) -> Result<IdleInterpreter, LaunchFailed> {
        let interpreter = self.interpreter().await?;
        let id = WorkerId::new();
        let dir = self.config.workers_dir.join(id.to_string());
        let (config, keepers) = (Arc::clone(&self.config), Arc::clone(&self.keepers));
        let runtime = self.runtime;
        let fail = |reason: String| LaunchFailed { runtime, reason };
        let started = tokio::task::spawn_blocking(move || {
            let keeper = start_keeper(id, &dir, &interpreter, &config, &keepers)?;
            // Whole before it leaves this thread: if nobody waits for it any more it is ended.
            Ok(IdleInterpreter {
                id,
                runtime,
                dir,
                keeper: Some(keeper),
            })
        });
        let mut idle = started
            .await
            .map_err(|error| error.to_string())
            .flatten()
            .map_err(fail)?;
        match tokio::time::timeout(READY_LIMIT, ready(&mut idle)).await {
            Ok(Ok(())) => {
                restock(&self.keepers);
                Ok(idle)
            }
            Ok(Err(reason)) => Err(fail(reason)),
            Err(_) => Err(fail(format!("not ready after {READY_LIMIT:?}"))),
        }
    }
}

/// Finds the interpreter, from the cache of an earlier start where that still holds.
fn find(
    runtime: Runtime,
    explicit: Option<PathBuf>,
    dir: &std::path::Path,
) -> Result<Interpreter, String> {
    std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    // One that was asked for by path is looked at anew: the path says which, not the cache.
    let cache = dir.join(format!("{runtime}.json"));
    let use_cache = explicit.is_none();
    let cached = std::fs::read(&cache)
        .ok()
        .and_then(|text| serde_json::from_slice::<Interpreter>(&text).ok())
        .filter(|known| use_cache && known.is_current());
    let interpreter = match cached {
        Some(known) => known,
        None => {
            let found =
                abide_interpreter::discover(runtime, explicit.as_deref()).map_err(with_causes)?;
            info!(%runtime, path = %found.binary.display(), "found interpreter");
            if let Ok(text) = serde_json::to_vec(&found) {
                // Only a shortcut: without it the next start asks again.
                let _ = std::fs::write(&cache, text);
            }
            found
        }
    };
    interpreter.prepare(dir).map_err(with_causes)?;
    Ok(interpreter)
}

/// Puts a keeper in reserve for the next worker, now that this one is started.
pub(crate) fn restock(keepers: &Arc<Launcher>) {
    let keepers = Arc::clone(keepers);
    tokio::task::spawn_blocking(move || keepers.restock());
}

fn start_keeper(
    id: WorkerId,
    dir: &std::path::Path,
    interpreter: &Interpreter,
    config: &AgentConfig,
    keepers: &Launcher,
) -> Result<KeeperClient, String> {
    let command = interpreter.command(&config.harness_dir);
    let mut env = config.environment.clone();
    env.extend(command.env);
    let spec = KeeperSpec {
        worker_id: id.0,
        label: format!("{} interpreter", interpreter.runtime),
        argv: command.argv,
        cwd: dir.to_owned(),
        env,
        uid: None,
        gid: None,
        limits: limits(config),
        journal_bytes: config.journal_bytes,
        hang_up_grace_ms: HANG_UP_GRACE_MS,
        terminate_grace_ms: TERMINATE_GRACE_MS,
        io: Io::Pipes,
    };
    let launched = keepers.launch(dir, &spec).map_err(with_causes)?;
    launched.wait_ready().map_err(with_causes)?;
    KeeperClient::connect(dir).map_err(with_causes)
}

pub(crate) fn limits(config: &AgentConfig) -> Vec<Limit> {
    let open_files = config.open_files.map(|soft| Limit {
        resource: LimitedResource::OpenFiles,
        soft: Some(soft),
        hard: getrlimit(Resource::Nofile).maximum,
    });
    open_files.into_iter().collect()
}

/// Waits for the harness to say that it is ready.
async fn ready(idle: &mut IdleInterpreter) -> Result<(), String> {
    let Some(keeper) = &idle.keeper else {
        return Ok(());
    };
    let journal = keeper.journal();
    let wake = keeper.wake_fd().try_clone_to_owned().map_err(with_causes)?;
    let wake = Wakeup::new(wake).map_err(with_causes)?;
    let (mut next, mut buffer, mut stderr) = (0, Vec::new(), Vec::new());
    loop {
        loop {
            buffer.clear();
            let Ok(Some(record)) = journal.next(&mut next, &mut buffer) else {
                break;
            };
            match record.tag {
                Tag::Control => {
                    if let Ok(FromHarness::Ready { .. }) = FromHarness::decode(&buffer) {
                        return Ok(());
                    }
                }
                Tag::Stderr => stderr.extend_from_slice(&buffer),
                Tag::Lifecycle
                    if matches!(serde_json::from_slice(&buffer), Ok(Lifecycle::Exited(_))) =>
                {
                    return Err(format!(
                        "it ended at once: {}",
                        String::from_utf8_lossy(&stderr)
                    ));
                }
                Tag::Lifecycle | Tag::Stdout | Tag::Terminal | Tag::Input => {}
            }
        }
        if journal.prepare_sleep(next) {
            wake.counted().await;
            journal.cancel_sleep();
        }
    }
}

pub(crate) fn with_causes(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
