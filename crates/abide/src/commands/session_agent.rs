//! `abide session-agent`: run the interpreters of this host for a data plane.

use std::process::ExitCode;

use clap::Args;

use super::App;
use crate::config::Flags;
use crate::error::{CommandError, Kind, Result};

/// Run the interpreters of this host for a data plane
///
/// Serves the session agent's API until Ctrl-C or SIGTERM. Interpreters go on then, and the next
/// `abide session-agent` with the same data directory takes them over with everything they hold.
/// Its files are in DIR/session-agent.
#[derive(Debug, Args)]
pub(crate) struct SessionAgentArgs {
    /// Where to listen, for example 127.0.0.1:9000; without a host on loopback [env:
    /// ABIDE_AGENT_ADDR] [default: :9000]
    #[arg(long, value_name = "ADDRESS")]
    addr: Option<String>,
    /// Listen beyond loopback although the API has no TLS [env: ABIDE_ALLOW_REMOTE]
    #[arg(long)]
    allow_remote: bool,
    /// What to log: a level or directives [env: ABIDE_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Log lines for people (text) or machines (json) [env: ABIDE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORM")]
    log_format: Option<String>,
    /// For tests of debug builds: the agent kills itself when it passes NAME the Nth time
    #[arg(long, hide = true, value_name = "NAME:N")]
    pub(crate) crash_point: Option<String>,
}

impl SessionAgentArgs {
    /// Notes what was given.
    pub(crate) fn add_to(&self, flags: &mut Flags) {
        flags.add_some("agent_addr", "--addr", self.addr.as_deref());
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
pub(crate) fn run(app: &App<'_>, args: &SessionAgentArgs) -> Result<ExitCode> {
    app.config.check_session_agent()?;
    crate::serve::session_agent::run(&app.config, &app.environment, args).map_err(|error| {
        let mut error = CommandError::from(error);
        error.kind = Kind::Io;
        error
    })
}
