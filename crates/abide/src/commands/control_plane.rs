//! `abide control-plane`: the public API over a data plane.

use std::process::ExitCode;

use clap::Args;

use super::App;
use crate::config::Flags;
use crate::error::{CommandError, Kind, Result};

/// Serve the public API over the sessions of a data plane
///
/// Keeps the records and serves the API that `abide up` serves, until Ctrl-C or SIGTERM, on port
/// 8080 unless --port says otherwise. Sessions go on when it stops, and the next
/// `abide control-plane` with the same data directory finds them. Its files are in
/// DIR/control-plane; commands find it with --data-dir DIR/control-plane.
#[derive(Debug, Args)]
pub(crate) struct ControlPlaneArgs {
    /// Address to listen on; may be repeated [env: ABIDE_HOST] [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<String>,
    /// Data plane to use [env: ABIDE_DATA_PLANE_URL] [default: http://127.0.0.1:8081]
    #[arg(long, value_name = "URL")]
    data_plane_url: Option<String>,
    /// Listen beyond loopback although the API has no TLS [env: ABIDE_ALLOW_REMOTE]
    #[arg(long)]
    allow_remote: bool,
    /// What to log: a level or directives [env: ABIDE_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Log lines for people (text) or machines (json) [env: ABIDE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORM")]
    log_format: Option<String>,
}

impl ControlPlaneArgs {
    /// Notes what was given.
    pub(crate) fn add_to(&self, flags: &mut Flags) {
        let host = Some(self.host.join(",")).filter(|host| !host.is_empty());
        flags.add_some("host", "--host", host);
        flags.add_some(
            "data_plane_url",
            "--data-plane-url",
            self.data_plane_url.as_deref(),
        );
        flags.add_some(
            "allow_remote",
            "--allow-remote",
            self.allow_remote.then_some("true"),
        );
        flags.add_some("log", "--log", self.log.as_deref());
        flags.add_some("log_format", "--log-format", self.log_format.as_deref());
    }
}

/// Serves.
pub(crate) fn run(app: &App<'_>) -> Result<ExitCode> {
    app.config.check_control_plane()?;
    let database = app.config.database_file()?;
    crate::serve::control_plane::run(&app.config, &database).map_err(|error| {
        let mut error = CommandError::from(error);
        error.kind = Kind::Io;
        error
    })
}
