//! The session agent as a service: composition root of `abide session-agent`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use abide_model::{AuthMode, Timestamp};
use abide_session_agent::http::{self, HttpConfig};
use abide_session_agent::{HostConfig, SessionAgent, SessionHost, Tasks, crash_points};
use anyhow::Context as _;
use serde_json::json;
use tracing::{info, warn};

use super::otlp::Exporter;
use super::signals::Signals;
use super::{files, listen, logging};
use crate::commands::session_agent::SessionAgentArgs;
use crate::config::{Config, Environment};

/// Builds everything, serves until told to stop, drains.
pub(crate) fn run(
    config: &Config,
    environment: &Environment,
    args: &SessionAgentArgs,
) -> anyhow::Result<ExitCode> {
    let traces = logging::init_plane(config, super::collector(config, "session-agent"))?;
    if let Some(point) = &args.crash_point {
        crash_points::arm(point).map_err(anyhow::Error::msg)?;
    }
    // A directory of its own, so that every plane may be given the same data directory.
    let dir = config.data_dir.join("session-agent");
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
    let address = config.agent_addr;
    let hosts = address.hosts(config.allow_remote);
    let (listeners, url) = listen::bind(&hosts, address.port, "--addr").await?;
    // Before anything is taken over, so that no signal finds it half done.
    let signals = Signals::install();
    let tasks = Tasks::new();
    if let Some(traces) = traces {
        traces.start(&tasks);
    }
    let auth_mode = if config.agent_auth_bypass.0 {
        AuthMode::Bypass
    } else {
        AuthMode::Enforced
    };
    let secret = config.agent_secret.clone();
    let host = open_host(config, dir, environment, &tasks, auth_mode, secret).await?;
    if hosts.iter().any(|host| !host.is_loopback())
        && (auth_mode == AuthMode::Bypass || config.agent_secret.is_none())
    {
        warn!("without agent_secret everybody who reaches this agent can run code here");
    }
    let pid = std::process::id();
    let about = json!({
        "pid": pid,
        "url": url,
        "version": env!("CARGO_PKG_VERSION"),
        "boot_id": host.boot_id(),
        "started_at": Timestamp::now(),
    });
    let file = dir.join("agent.json");
    files::write_private(&file, about.to_string().as_bytes())?;
    info!(%url, pid, boot_id = host.boot_id(), auth_mode = %auth_mode, "ready");
    announce(&url, dir);
    let http = http_config(config);
    let stop = async {
        signals.first().await;
        info!("stopping");
        signals.second_ends_at_once();
    };
    http::serve(host, tasks, http, listeners, stop).await;
    // Nobody is there any more.
    let _ = std::fs::remove_file(file);
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// What a session agent is, without a way in: the sessions below `dir`, taken over from the one
/// before.
pub(super) async fn open_host(
    config: &Config,
    dir: &Path,
    environment: Vec<(String, String)>,
    tasks: &Tasks,
    auth_mode: AuthMode,
    secret: Option<String>,
) -> anyhow::Result<Arc<SessionHost>> {
    let agent = SessionAgent::new(
        super::agent_config(config, dir, environment)?,
        tasks.clone(),
    )
    .context("cannot make the workers' directories")?;
    let host = HostConfig {
        sessions_dir: dir.join("sessions"),
        workspaces_dir: dir.join("workspaces"),
        auth_mode,
        secret,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        max_sessions: config.max_sessions as usize,
        max_live: config.max_live as usize,
        step_timeout_ms: super::step_timeout_ms(config),
    };
    let host = SessionHost::new(host, Arc::new(agent), tasks.clone())
        .context("cannot make the sessions' directories")?;
    let host = Arc::new(host);
    host.recover()
        .await
        .context("cannot take over the sessions of the agent before")?;
    Ok(host)
}

pub(super) fn http_config(config: &Config) -> HttpConfig {
    HttpConfig {
        max_body_bytes: super::max_body_bytes(config),
        allowed_hosts: config.allowed_hosts.clone(),
        signs_of_life: super::signs_of_life(config),
    }
}

/// For whoever started the agent: the first line names the URL.
fn announce(url: &str, dir: &Path) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(
        out,
        "The session agent is up at {url} (data in {}).",
        dir.display()
    );
    let _ = out.flush();
}
