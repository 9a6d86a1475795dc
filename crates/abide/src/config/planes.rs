//! What the data plane and the control plane must have, must not have, and do not have yet.
//!
//! Their settings are known under the names of runtime-routing deployments too. An error is one line
//! that names the variable which was set.

use std::path::PathBuf;

use super::{BaseUrl, Config, Origin, Value as _};
use crate::error::{CommandError, Kind};

/// Where the sessions of a data plane run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AgentSource {
    /// On the session agent at this address, which somebody else looks after.
    Fixed(BaseUrl),
    /// On one that the data plane starts and looks after.
    Launched,
    /// On one that is a part of the data plane's process.
    InProcess,
}

/// What the data plane keeps its routes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Registry {
    /// A database file.
    File(PathBuf),
    /// Nothing that outlives the process.
    Memory,
}

impl Config {
    /// Refuses a data plane that is not safe or not built.
    pub(crate) fn check_data_plane(&self) -> Result<(), CommandError> {
        self.check_listen()?;
        self.collector()?;
        match self.runtime_backend.as_str() {
            "local" => {}
            "k8s" => {
                let wrong = "must be local: running sessions in pods (k8s) is not built yet";
                return Err(self.error("runtime_backend", wrong));
            }
            _ => return Err(self.error("runtime_backend", "must be local or k8s")),
        }
        if !["store", "file", "memory"].contains(&self.registry_backend.as_str()) {
            let wrong = "must be store, file (the same) or memory";
            return Err(self.error("registry_backend", wrong));
        }
        if !self.agent_prefer.0 {
            let wrong = "must be true: every step runs in its session's own interpreter, there is \
                         no other to fall back to";
            return Err(self.error("agent_prefer", wrong));
        }
        if self.agent_in_process.0 && (self.agent_launch.0 || self.agent_endpoint.is_some()) {
            let wrong = "must not be true where a session agent is named (agent_endpoint) or to be \
                         launched (agent_launch)";
            return Err(self.error("agent_in_process", wrong));
        }
        if self.ready_timeout.0.is_zero() {
            return Err(self.error("ready_timeout", "must be longer than nothing"));
        }
        if self.probe_after.0.is_zero() {
            return Err(self.error("probe_after", "must be longer than nothing"));
        }
        if self.is_production() {
            if self.registry_backend == "memory" {
                return Err(self.error("registry_backend", "must be persistent in production"));
            }
            if self.agent_auth_mode == abide_model::AuthMode::Bypass {
                return Err(self.error("agent_auth_mode", &self.not_in_production("bypass")));
            }
        }
        self.check_authorization()
    }

    /// Refuses a control plane that is not safe or not built.
    pub(crate) fn check_control_plane(&self) -> Result<(), CommandError> {
        self.check_listen()?;
        self.check_dialect()?;
        self.collector()?;
        if self.is_production() && *self.origin("data_plane_url") == Origin::Default {
            let wrong = "DATA_PLANE_URL is required in production";
            return Err(CommandError::new(Kind::Config, wrong));
        }
        match self.database_driver.as_str() {
            "sqlite" => {}
            "postgres" => {
                let wrong = "must be sqlite: postgres is not built yet";
                return Err(self.error("database_driver", wrong));
            }
            _ => return Err(self.error("database_driver", "must be sqlite")),
        }
        self.database_file()?;
        self.check_authorization()
    }

    /// Where the planes send traces; nowhere unless that is set.
    pub(crate) fn collector(&self) -> Result<Option<BaseUrl>, CommandError> {
        let parsed = self.otlp_endpoint.as_deref().map(BaseUrl::parse);
        let parsed = parsed.transpose();
        parsed.map_err(|wrong| self.error("otlp_endpoint", &wrong))
    }

    /// What was set and has no effect, one sentence each, for the log.
    pub(crate) fn notices(&self) -> Vec<String> {
        ["artifact_bucket", "mcp_addr"]
            .into_iter()
            .filter(|name| *self.origin(name) != Origin::Default)
            .map(|name| format!("{} has no effect: it is not built yet", self.place(name)))
            .collect()
    }

    /// Where sessions run: in the data plane's process or on a launched agent when that is asked for;
    /// on a launched one, too, when none is named.
    pub(crate) fn agent_source(&self) -> AgentSource {
        if self.agent_in_process.0 {
            return AgentSource::InProcess;
        }
        match &self.agent_endpoint {
            Some(endpoint) if !self.agent_launch.0 => AgentSource::Fixed(endpoint.clone()),
            _ => AgentSource::Launched,
        }
    }

    /// What routes are kept in. A relative path is one from the working directory.
    pub(crate) fn registry(&self) -> Registry {
        if self.registry_backend == "memory" {
            return Registry::Memory;
        }
        let default = || self.data_dir.join("data-plane/routes.db");
        Registry::File(self.registry_path.clone().unwrap_or_else(default))
    }

    /// Where the data plane's workspaces are.
    pub(crate) fn workspaces(&self) -> PathBuf {
        let default = || self.data_dir.join("data-plane/workspaces");
        self.workspace_root.clone().unwrap_or_else(default)
    }

    /// The file of the control plane's records. A relative path is one from the working directory.
    ///
    /// The URL is that of SQLite: `file:PATH`, perhaps with parameters, which are not looked at
    /// except that the database must be in a file.
    pub(crate) fn database_file(&self) -> Result<PathBuf, CommandError> {
        let Some(url) = self.database_url.as_deref() else {
            return Ok(self.data_dir.join("control-plane/abide.db"));
        };
        let refuse = |wrong: &str| Err(self.error("database_url", wrong));
        let Some(rest) = url.strip_prefix("file:") else {
            return refuse("must be the URL of an SQLite file: file:PATH");
        };
        let (path, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let path = match path.strip_prefix("//") {
            // file://HOST/PATH: only this machine's files can be opened.
            Some(rest) => match rest.strip_prefix("localhost").unwrap_or(rest) {
                local if local.starts_with('/') => local,
                _ => return refuse("names another machine's file"),
            },
            None => path,
        };
        if path.is_empty() {
            return refuse("names no file");
        }
        if path == ":memory:" || parameters.split('&').any(|part| part == "mode=memory") {
            return refuse("must name a file: records in memory would be lost");
        }
        if path.contains(['%', '#']) {
            return refuse("must name a file without % and #");
        }
        Ok(PathBuf::from(path))
    }

    /// Refuses an API that is open to anybody in production.
    fn check_authorization(&self) -> Result<(), CommandError> {
        if self.authz_bypass.0 && self.is_production() {
            return Err(self.error("authz_bypass", &self.not_in_production("true")));
        }
        Ok(())
    }

    fn not_in_production(&self, value: &str) -> String {
        let origin = self.origin("env");
        format!(
            "must not be {value} in production ({origin} is {:?})",
            self.env
        )
    }
}

#[cfg(test)]
mod tests;
