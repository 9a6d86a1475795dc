//! The data plane as a service: composition root of `abide data-plane`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use abide_data_plane::agent_client::{AgentClient, AgentTimes, Connections};
use abide_data_plane::auth::{AuthConfig, Authorizer};
use abide_data_plane::registry::Registry;
use abide_data_plane::runtimes::{
    FixedRuntime, LaunchConfig, LaunchedRuntime, RuntimeDriver, runtime_id,
};
use abide_data_plane::seal::Sealer;
use abide_data_plane::{DataPlane, DataPlaneApi, DataPlaneConfig, Workspaces};
use abide_model::{AuthMode, Timestamp};
use abide_session_agent::Tasks;
use abide_store::Store;
use anyhow::Context as _;
use serde_json::json;
use tracing::{info, warn};

use super::otlp::Exporter;
use super::signals::Signals;
use super::{files, listen, logging, session_agent};
use crate::config::{AgentSource, Config, Environment, Origin, Registry as Routes};

/// Settings that a launched session agent is given as they were given to the data plane.
const HANDED_DOWN: &[&str] = &[
    "python",
    "node",
    "warm_python",
    "warm_node",
    "journal_bytes",
    "max_sessions",
    "max_live",
    "queue_length",
    "max_body",
    "step_timeout",
    "interrupt_grace",
    "terminal_close_grace",
    "terminal_ping_interval",
    "terminal_read_timeout",
    "log",
    "log_format",
    "otlp_endpoint",
];

/// Builds everything, serves until told to stop, drains.
pub(crate) fn run(config: &Config, environment: &Environment) -> anyhow::Result<ExitCode> {
    let traces = logging::init_plane(config, super::collector(config, "data-plane"))?;
    for notice in config.notices() {
        warn!("{notice}");
    }
    // A directory of its own, so that every plane may be given the same data directory.
    let dir = config.data_dir.join("data-plane");
    files::make_data_dir(&dir)?;
    // Held until the process ends, however it ends.
    let _lock = files::lock(&dir)?;
    let passed_on = super::passed_on(environment);
    super::runtime()?.block_on(serve(config, &dir, passed_on, traces))
}

async fn serve(
    config: &Config,
    dir: &Path,
    environment: Vec<(String, String)>,
    traces: Option<Exporter>,
) -> anyhow::Result<ExitCode> {
    let registry = registry(config, dir)?;
    let workspaces =
        Workspaces::open(&config.workspaces()).context("cannot open the workspaces")?;
    let port = config.data_plane_port;
    let (listeners, url) = listen::bind(&config.host.0, port, "--port").await?;
    // Before anything is started, so that no signal finds it half done.
    let signals = Signals::install();
    let tasks = Tasks::new();
    if let Some(traces) = traces {
        traces.start(&tasks);
    }
    let connections = Connections::new(AgentTimes {
        ready: config.ready_timeout.0,
        ..AgentTimes::default()
    });
    // Held until the process ends, however it ends.
    let mut agent_lock = None;
    let driver: Arc<dyn RuntimeDriver> = match config.agent_source() {
        AgentSource::Fixed(endpoint) => {
            // A launched agent would inherit it, and its programs from that.
            super::raise_open_files();
            let secret = config.agent_secret.clone();
            let client = AgentClient::new(connections.clone(), &endpoint.0, secret);
            Arc::new(FixedRuntime::new(Arc::new(client), config.agent_auth_mode))
        }
        AgentSource::Launched => {
            let launch = launch_config(config, dir, environment)?;
            LaunchedRuntime::start(launch, connections.clone(), &tasks)
                .await
                .context("cannot start a session agent")?
        }
        AgentSource::InProcess => {
            let (driver, lock) =
                in_process(config, &dir.join("agent"), environment, &tasks).await?;
            agent_lock = Some(lock);
            driver
        }
    };
    let plane_config = DataPlaneConfig {
        max_body_bytes: super::max_body_bytes(config),
        grace: config.step_grace.0,
        silence: config.runtime_silence.0,
        probe_after: config.probe_after.0,
        ..DataPlaneConfig::new(Arc::new(Timestamp::now))
    };
    let plane = DataPlane::new(
        plane_config,
        registry,
        driver,
        workspaces,
        connections,
        tasks,
    );
    plane.start();
    let auth = AuthConfig {
        bypass: config.authz_bypass.0,
        jwt_secret: config.jwt_secret.clone(),
        issuer: config.jwt_issuer.clone(),
        audience: config.jwt_audience.clone(),
        keys: config.plane_keys.clone(),
    };
    if !auth.bypass && auth.jwt_secret.is_none() && auth.keys.is_empty() {
        warn!("nobody can get in: set plane_keys, jwt_secret or, outside production, authz_bypass");
    }
    let api = DataPlaneApi::new(
        plane,
        Authorizer::new(&auth),
        auth.bypass,
        config.allowed_hosts.clone(),
    );
    let pid = std::process::id();
    let about = json!({
        "pid": pid,
        "url": url,
        "version": env!("CARGO_PKG_VERSION"),
        "started_at": Timestamp::now(),
    });
    let file = dir.join("data-plane.json");
    files::write_private(&file, about.to_string().as_bytes())?;
    info!(%url, pid, "ready");
    announce(&url, dir);
    let stop = async {
        signals.first().await;
        info!("stopping");
        signals.second_ends_at_once();
    };
    api.serve(listeners, stop).await;
    // Nobody is there any more.
    let _ = std::fs::remove_file(file);
    drop(agent_lock);
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// A session agent in this process. Its files are where those of a launched one would be, so that
/// sessions stay when one takes the place of the other.
async fn in_process(
    config: &Config,
    dir: &Path,
    environment: Vec<(String, String)>,
    tasks: &Tasks,
) -> anyhow::Result<(Arc<dyn RuntimeDriver>, File)> {
    let id = runtime_id(dir).context("cannot name the session agent")?;
    let dir = dir.join("session-agent");
    files::make_data_dir(&dir)?;
    // One that was launched earlier may still be there.
    let lock = files::lock(&dir)?;
    let auth_mode = config.agent_auth_mode;
    // Nobody else can reach it, so nobody else needs to know.
    let secret = Some(abide_model::new_uuid().to_string());
    let host =
        session_agent::open_host(config, &dir, environment, tasks, auth_mode, secret.clone())
            .await?;
    let http = session_agent::http_config(config);
    let service = abide_session_agent::http::service(host, tasks.clone(), http);
    let here = Connections::within(service, AgentTimes::default());
    let client = AgentClient::new(here, &format!("in-process://{id}"), secret);
    let driver = FixedRuntime::new(Arc::new(client), auth_mode);
    Ok((Arc::new(driver), lock))
}

/// The routes, and beside their file the key that their tokens are sealed with: data planes that
/// share the one share the other.
fn registry(config: &Config, dir: &Path) -> anyhow::Result<Registry> {
    let path = match config.registry() {
        Routes::File(path) => path,
        Routes::Memory => {
            let path = dir.join("memory.db");
            for end in ["", "-wal", "-shm"] {
                let mut name = path.clone().into_os_string();
                name.push(end);
                let _ = std::fs::remove_file(PathBuf::from(name));
            }
            path
        }
    };
    if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
        files::make_data_dir(parent)?;
    }
    let store = Store::open(&path, super::store_options(config))
        .context("cannot open the database of the routes")?;
    let sealer = Sealer::from_key_file(&path.with_extension("key"))?;
    Ok(Registry::new(store, sealer))
}

fn launch_config(
    config: &Config,
    dir: &Path,
    mut environment: Vec<(String, String)>,
) -> anyhow::Result<LaunchConfig> {
    let program = match &config.agent_bin {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("cannot tell where this program is")?,
    };
    let mut arguments = vec!["session-agent".to_owned()];
    for setting in config.effective() {
        if HANDED_DOWN.contains(&setting.name) && setting.origin != Origin::Default {
            arguments.push("--set".to_owned());
            arguments.push(format!("{}={}", setting.name, setting.value));
        }
    }
    environment.push(("ABIDE_ENV".to_owned(), config.env.clone()));
    if config.agent_auth_mode == AuthMode::Bypass {
        environment.push(("ABIDE_AGENT_AUTH_BYPASS".to_owned(), "true".to_owned()));
    }
    Ok(LaunchConfig {
        program,
        arguments,
        environment,
        dir: dir.join("agent"),
        ready: config.ready_timeout.0,
        auth_mode: config.agent_auth_mode,
    })
}

/// For whoever started the data plane: the first line names the URL.
fn announce(url: &str, dir: &Path) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(
        out,
        "The data plane is up at {url} (data in {}).",
        dir.display()
    );
    let _ = out.flush();
}
