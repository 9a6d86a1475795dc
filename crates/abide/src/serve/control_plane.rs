//! The control plane over a data plane: composition root of `abide control-plane`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use abide_control_plane::{ControlPlane, ControlPlaneConfig};
use abide_data_plane::auth::{AuthConfig, Minter};
use abide_data_plane::client::{AgentTimes, Connections, DataPlaneClient};
use abide_model::Timestamp;
use abide_session_agent::Tasks;
use abide_store::Store;
use anyhow::Context as _;
use tracing::{info, warn};

use super::otlp::Exporter;
use super::{files, listen, logging};
use crate::config::Config;
use crate::connect::ServerFile;

/// What the data plane's own attempts to reach a session agent may take, at most.
const ANSWER: Duration = Duration::from_secs(20);

/// Builds everything, serves until told to stop, drains.
pub(crate) fn run(config: &Config, database: &Path) -> anyhow::Result<ExitCode> {
    let traces = logging::init_plane(config, super::collector(config, "control-plane"))?;
    for notice in config.notices() {
        warn!("{notice}");
    }
    // A directory of its own, so that every plane may be given the same data directory.
    let dir = config.data_dir.join("control-plane");
    files::make_data_dir(&dir)?;
    // Held until the process ends, however it ends.
    let _lock = files::lock(&dir)?;
    super::raise_open_files();
    super::runtime()?.block_on(serve(config, &dir, database, traces))
}

async fn serve(
    config: &Config,
    dir: &Path,
    database: &Path,
    traces: Option<Exporter>,
) -> anyhow::Result<ExitCode> {
    let key = files::key(dir)?;
    let parent = database.parent().filter(|p| !p.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.exists()) {
        files::make_data_dir(parent)?;
    }
    let store = Store::open(database, super::store_options(config))
        .context("cannot open the database of the records")?;
    let (listeners, url) = listen::bind(&config.host.0, config.port, "--port").await?;
    let connections = Connections::new(AgentTimes {
        answer: ANSWER,
        // The data plane's own waiting comes on top.
        ready: config.ready_timeout.0 + ANSWER,
        ..AgentTimes::default()
    });
    let data_plane = &config.data_plane_url.0;
    let minter = minter(config);
    if minter.is_none() {
        warn!(%data_plane, "showing nothing to the data plane: jwt_secret or plane_keys would be");
    }
    let client = DataPlaneClient::new(connections, data_plane, minter);
    let settings = ControlPlaneConfig {
        keys: vec![key],
        auth: auth(config),
        allowed_hosts: config.allowed_hosts.clone(),
        // The data plane has the workspaces.
        workspaces_dir: Default::default(),
        data_dir: dir.to_owned(),
        url: url.clone(),
        max_body_bytes: super::max_body_bytes(config),
        max_live: config.max_live as usize,
        queue_length: config.queue_length as usize,
        step_timeout_ms: super::step_timeout_ms(config),
        signs_of_life: super::signs_of_life(config),
        dialect: super::dialect_config(config),
        auto_register_agents: config.auto_register_agents,
    };
    let tasks = Tasks::new();
    if let Some(traces) = traces {
        traces.start(&tasks);
    }
    let control = Arc::new(ControlPlane::remote(settings, store, client, tasks));
    control
        .recover()
        .await
        .context("cannot take over from the server before")?;
    let server = ServerFile {
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        url: url.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: Timestamp::now(),
    };
    files::write_server_file(dir, &server)?;
    info!(%url, %data_plane, pid = server.pid, "ready");
    announce(&url, dir);
    let stop = super::stop_requested(Arc::clone(&control));
    control.serve(listeners, stop).await;
    files::remove_server_file(dir);
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Who may use the API besides those with its key.
fn auth(config: &Config) -> AuthConfig {
    AuthConfig {
        bypass: config.authz_bypass.0,
        jwt_secret: config.jwt_secret.clone(),
        issuer: config.jwt_issuer.clone(),
        audience: config.jwt_audience.clone(),
        // Those are for the planes among themselves.
        keys: Vec::new(),
    }
}

/// What the data plane is shown.
fn minter(config: &Config) -> Option<Minter> {
    let secret = config.jwt_secret.as_deref().filter(|s| !s.is_empty());
    match (secret, config.plane_keys.first()) {
        (Some(secret), _) => Some(Minter::signed(
            secret,
            config.jwt_issuer.clone(),
            config.jwt_audience.clone(),
            "control-plane",
        )),
        (None, Some(key)) => Some(Minter::opaque(key.clone())),
        (None, None) => None,
    }
}

/// For whoever started the control plane: the first line names the URL.
fn announce(url: &str, dir: &Path) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    // Nobody may be reading; that is no reason to stop.
    let _ = writeln!(
        out,
        "The control plane is up at {url} (data in {}).",
        dir.display()
    );
    let _ = out.flush();
}
