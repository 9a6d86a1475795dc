//! The server: composition root of `abide up`.
//!
//! Config, lock, store, session agent, control plane, listeners; then serve until told to stop,
//! and drain.

pub(crate) mod control_plane;
pub(crate) mod data_plane;
mod files;
mod listen;
mod logging;
mod otlp;
pub(crate) mod session_agent;
mod signals;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use abide_control_plane::{ControlPlane, ControlPlaneConfig, DialectConfig, WorkersAfterShutdown};
use abide_data_plane::auth::AuthConfig;
use abide_model::Timestamp;
use abide_session_agent::http::SignsOfLife;
use abide_session_agent::{AgentConfig, SessionAgent, Tasks, crash_points};
use abide_store::{Store, StoreOptions};
use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::info;

use crate::commands::up::UpArgs;
use crate::config::{Config, Environment, Synchronous};
use crate::connect::ServerFile;
use signals::Signals;

/// What user code sees of the server's environment; nothing else is passed on.
const PASSED_ON: &[&str] = &[
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ",
    "TMPDIR",
];

/// Builds everything, serves until told to stop, drains.
pub(crate) fn run(
    config: Config,
    environment: &Environment,
    args: UpArgs,
) -> anyhow::Result<ExitCode> {
    logging::init(&config)?;
    if let Some(point) = &args.crash_point {
        crash_points::arm(point).map_err(anyhow::Error::msg)?;
    }
    files::make_data_dir(&config.data_dir)?;
    // Held until the process ends, however it ends.
    let _lock = files::lock(&config.data_dir)?;
    let passed_on = passed_on(environment);
    runtime()?.block_on(serve(config, passed_on, args))
}

/// What user code is to see of the environment.
fn passed_on(environment: &Environment) -> Vec<(String, String)> {
    let named = |name: &&str| {
        let value = environment.get(name)?.to_str()?.to_owned();
        Some(((*name).to_owned(), value))
    };
    PASSED_ON.iter().filter_map(named).collect()
}

/// Lets this process open as many files as the system allows: a session takes about six. Answers
/// what was allowed before, which is what programs that it starts are to have.
fn raise_open_files() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    before.current
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Half of the processors: the other half is for keepers and interpreters, and a step's way
    // through fewer threads is shorter.
    let threads = std::thread::available_parallelism().map_or(1, |all| all.get().div_ceil(2));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .thread_name("abide")
        .build()
        .context("cannot start the runtime")
}

async fn serve(
    config: Config,
    environment: Vec<(String, String)>,
    mut args: UpArgs,
) -> anyhow::Result<ExitCode> {
    let data_dir = config.data_dir.clone();
    let key = files::key(&data_dir)?;
    let store = Store::open(&data_dir.join("abide.db"), store_options(&config))
        .context("cannot open the database")?;
    let (listeners, url) = listen::bind(&config.host.0, config.port, "--port").await?;
    let tasks = Tasks::new();
    let agent = SessionAgent::new(
        agent_config(&config, &data_dir, environment)?,
        tasks.clone(),
    )
    .context("cannot make the workers' directories")?;
    let control = ControlPlaneConfig {
        keys: vec![key],
        auth: AuthConfig {
            jwt_secret: config.jwt_secret.clone(),
            issuer: config.jwt_issuer.clone(),
            audience: config.jwt_audience.clone(),
            ..AuthConfig::default()
        },
        allowed_hosts: config.allowed_hosts.clone(),
        workspaces_dir: data_dir.join("workspaces"),
        data_dir: data_dir.clone(),
        url: url.clone(),
        max_body_bytes: usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
        max_live: config.max_live as usize,
        queue_length: config.queue_length as usize,
        step_timeout_ms: step_timeout_ms(&config),
        signs_of_life: signs_of_life(&config),
        dialect: dialect_config(&config),
        auto_register_agents: config.auto_register_agents,
    };
    let control = Arc::new(ControlPlane::local(control, store, Arc::new(agent), tasks));
    control
        .recover()
        .await
        .context("cannot take over the workers of the server before")?;
    let server = ServerFile {
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        url: url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Timestamp::now(),
    };
    files::write_server_file(&data_dir, &server)?;
    info!(%url, pid = server.pid, "ready");
    if !args.is_detached() {
        announce(&url, &data_dir);
    }
    args.readiness.announce(&url);
    let stop = stop_requested(Arc::clone(&control));
    control.serve(listeners, stop).await;
    files::remove_server_file(&data_dir);
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// For whoever started the server in a terminal.
fn announce(url: &str, data_dir: &Path) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(
        out,
        "Abide is up at {url} (data in {}).\n\
         Try, in another terminal:  abide run -s demo 'x = 41'   then   abide run -s demo 'x + 1'\n\
         Ctrl-C stops the server; sessions go on and are found again. `abide down` ends them too.",
        data_dir.display()
    );
    let _ = out.flush();
}

/// The first signal, or a request through the API, stops the server.
async fn stop_requested(control: Arc<ControlPlane>) -> WorkersAfterShutdown {
    let mut requests = control.shutdown_requests();
    let signals = Signals::install();
    let workers = tokio::select! {
        () = signals.first() => WorkersAfterShutdown::Keep,
        request = requests.wait_for(Option::is_some) => {
            request.ok().and_then(|request| *request).unwrap_or(WorkersAfterShutdown::Keep)
        }
    };
    info!(?workers, "stopping");
    signals.second_ends_at_once();
    workers
}

/// Who is told of the steps' ways through this plane.
fn collector(config: &Config, plane: &str) -> Option<otlp::Collector> {
    let endpoint = config.collector().ok().flatten()?;
    Some(otlp::Collector {
        endpoint: endpoint.0,
        service: config
            .service_name
            .clone()
            .unwrap_or_else(|| plane.to_owned()),
    })
}

fn max_body_bytes(config: &Config) -> usize {
    usize::try_from(config.max_body.0).unwrap_or(usize::MAX)
}

fn step_timeout_ms(config: &Config) -> Option<u64> {
    let limit = config.step_timeout?;
    Some(u64::try_from(limit.0.as_millis()).unwrap_or(u64::MAX))
}

fn signs_of_life(config: &Config) -> SignsOfLife {
    SignsOfLife {
        ping_interval: config.terminal_ping_interval.0,
        read_timeout: config.terminal_read_timeout.0,
    }
}

fn dialect_config(config: &Config) -> DialectConfig {
    DialectConfig {
        orphan_grace: config.orphan_grace.0,
        output_bytes: config.terminal_output.0,
        shell: config.terminal_shell.clone(),
        size: (config.terminal_rows, config.terminal_cols),
        id_length: config.terminal_id_length as usize,
        piece_bytes: usize::try_from(config.terminal_piece.0).unwrap_or(usize::MAX),
        message_rate: config.terminal_message_rate,
        message_burst: config.terminal_message_burst,
        max_per_owner: config.max_terminals_per_owner as usize,
        max_terminals: config.max_terminals as usize,
        exited_kept: config.exited_terminals as usize,
        exited_for: config.exited_terminal_time.0,
        cookie_name: config.cookie_name.clone(),
    }
}

fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        synchronous: match config.synchronous {
            Synchronous::Normal => abide_store::Synchronous::Normal,
            Synchronous::Full => abide_store::Synchronous::Full,
        },
        max_sessions: Some(u64::from(config.max_sessions)),
        ..StoreOptions::default()
    }
}

fn agent_config(
    config: &Config,
    dir: &Path,
    environment: Vec<(String, String)>,
) -> anyhow::Result<AgentConfig> {
    Ok(AgentConfig {
        workers_dir: dir.join("workers"),
        harness_dir: dir.join("harness"),
        // This very program, also when another version has been put in its place meanwhile.
        keeper_exe: PathBuf::from("/proc/self/exe"),
        journal_bytes: config.journal_bytes.0.next_multiple_of(4096),
        interrupt_grace: config.interrupt_grace.0,
        queue_length: config.queue_length as usize,
        warm_python: config.warm_python as usize,
        warm_node: config.warm_node as usize,
        python: config.python.clone(),
        node: config.node.clone(),
        open_files: raise_open_files(),
        terminal_close_grace: config.terminal_close_grace.map(|grace| grace.0),
        environment,
    })
}
