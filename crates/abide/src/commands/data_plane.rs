//! `abide data-plane`: route each session's steps to its runtime.

use std::process::ExitCode;

use clap::Args;

use super::App;
use crate::config::Flags;
use crate::error::{CommandError, Kind, Result};

/// Route each session's steps to the session agent that holds it
///
/// Serves the data plane's API until Ctrl-C or SIGTERM, on port 8081 unless --port says otherwise.
/// Without an agent_endpoint it starts a session agent of its own. Sessions go on when it stops, and
/// the next `abide data-plane` with the same data directory finds them. Its files are in
/// DIR/data-plane.
#[derive(Debug, Args)]
pub(crate) struct DataPlaneArgs {
    /// Address to listen on; may be repeated [env: ABIDE_HOST] [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<String>,
    /// Session agent to use; without one it is started [env: ABIDE_AGENT_ENDPOINT]
    #[arg(long, value_name = "URL")]
    agent_endpoint: Option<String>,
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

impl DataPlaneArgs {
    /// Notes what was given; `port` is the argument that every command takes.
    pub(crate) fn add_to(&self, port: Option<&str>, flags: &mut Flags) {
        let host = Some(self.host.join(",")).filter(|host| !host.is_empty());
        flags.add_some("data_plane_port", "--port", port);
        flags.add_some("host", "--host", host);
        flags.add_some(
            "agent_endpoint",
            "--agent-endpoint",
            self.agent_endpoint.as_deref(),
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
    app.config.check_data_plane()?;
    crate::serve::data_plane::run(&app.config, &app.environment).map_err(|error| {
        let mut error = CommandError::from(error);
        error.kind = Kind::Io;
        error
    })
}
