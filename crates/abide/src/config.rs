//! Configuration: every setting once, in one table. The only reader of the environment and of
//! the configuration file.

mod address;
mod base_url;
mod dialect;
mod layers;
mod planes;
mod value;

use std::path::{Path, PathBuf};

use abide_model::AuthMode;

pub(crate) use address::ListenAddress;
pub(crate) use base_url::BaseUrl;
pub(crate) use layers::{Environment, Flags, Origin};
use layers::{File, Layers};
pub(crate) use planes::{AgentSource, Registry};
pub(crate) use value::{ByteSize, Exactly, Grace, Hosts, LogFormat, Span, Synchronous, Value};

use crate::error::{CommandError, Kind};

/// A setting for the reference page.
pub(crate) struct Setting {
    /// Name in the configuration file and after `--set`.
    pub(crate) name: &'static str,
    /// Environment variable.
    pub(crate) variable: &'static str,
    /// Variables of the same meaning that runtime-routing deployments set; ours wins over them.
    pub(crate) aliases: &'static [Alias],
    /// Default as people read it.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
}

/// Another name for a setting's variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Alias {
    /// The variable.
    pub(crate) variable: &'static str,
    /// The one command that looks at it; none: every command does.
    pub(crate) command: Option<&'static str>,
}

/// A setting as it stands.
pub(crate) struct Effective {
    /// See [`Setting::name`].
    pub(crate) name: &'static str,
    /// Its value; secrets are not shown.
    pub(crate) value: String,
    /// Where it came from.
    pub(crate) origin: Origin,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, $variable:literal $(| $alias:literal $(in $command:literal)?)*, $default:literal $(($shown:literal))?;)+) => {
        /// The settings of one invocation.
        #[derive(Debug, Clone)]
        pub(crate) struct Config {
            $($(#[doc = $doc])+ pub(crate) $name: $type,)+
            origins: Vec<(&'static str, Origin)>,
        }

        /// Every setting, in the order of the reference page.
        pub(crate) const SETTINGS: &[Setting] = &[$(Setting {
            name: stringify!($name),
            variable: $variable,
            aliases: &[$(settings!(@alias $alias $($command)?)),*],
            default: settings!(@shown $default $(, $shown)?),
            meaning: concat!($($doc),+),
        }),+];

        impl Config {
            fn from_layers(layers: &Layers<'_>) -> Result<Self, CommandError> {
                let mut origins = Vec::new();
                $(let ($name, origin) = layers.get::<$type>(
                    stringify!($name),
                    $variable,
                    &[$(settings!(@alias $alias $($command)?)),*],
                    $default,
                )?;
                origins.push((stringify!($name), origin));)+
                Ok(Self { $($name,)+ origins })
            }

            fn shown(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), self.$name.show())),+]
            }
        }
    };
    (@alias $alias:literal) => { Alias { variable: $alias, command: None } };
    (@alias $alias:literal $command:literal) => {
        Alias { variable: $alias, command: Some($command) }
    };
    (@shown $default:literal) => { $default };
    (@shown $default:literal, $shown:literal) => { $shown };
}

settings! {
    /// Where Abide keeps the database, the key, the workspaces and the journals.
    data_dir: PathBuf, "ABIDE_DATA_DIR", "" ("$XDG_DATA_HOME/abide, else ~/.local/share/abide");
    /// The server that commands talk to. Without it the data directory names the running one.
    url: Option<String>, "ABIDE_URL", "" ("found through the data directory");
    /// The API key that commands send. Without it the one in the data directory.
    key: Option<String>, "ABIDE_KEY", "" ("read from the data directory");
    /// Addresses to listen on.
    host: Hosts, "ABIDE_HOST", "127.0.0.1,::1";
    /// Port to listen on; 0 takes a free one.
    port: u16, "ABIDE_PORT" | "PORT" in "control-plane", "8080";
    /// Allows addresses beyond loopback. The API has no TLS of its own: who can read the network
    /// can read the key.
    allow_remote: bool, "ABIDE_ALLOW_REMOTE", "false";
    /// Names besides localhost that requests may carry in `Host` and `Origin`.
    allowed_hosts: Vec<String>, "ABIDE_ALLOWED_HOSTS", "" ("none");
    /// The Python interpreter to use.
    python: Option<PathBuf>, "ABIDE_PYTHON", "" ("found on PATH");
    /// The Node interpreter to use.
    node: Option<PathBuf>, "ABIDE_NODE", "" ("found on PATH");
    /// Idle Python interpreters kept ready for new sessions.
    warm_python: u32, "ABIDE_WARM_PYTHON", "2";
    /// Idle Node interpreters kept ready for new sessions.
    warm_node: u32, "ABIDE_WARM_NODE", "0";
    /// Output that is kept of each interpreter; older output leaves.
    journal_bytes: ByteSize, "ABIDE_JOURNAL_BYTES", "16MiB";
    /// Sessions that may exist.
    max_sessions: u32, "ABIDE_MAX_SESSIONS", "10000";
    /// Interpreters that may be alive at once.
    max_live: u32, "ABIDE_MAX_LIVE", "1000";
    /// Steps that may wait in one session.
    queue_length: u32, "ABIDE_QUEUE_LENGTH", "256";
    /// Largest request body.
    max_body: ByteSize, "ABIDE_MAX_BODY", "16MiB";
    /// Limit of steps that bring none of their own.
    step_timeout: Option<Span>, "ABIDE_STEP_TIMEOUT", "" ("none");
    /// How long a step may take to end once it was interrupted; then its interpreter is killed.
    interrupt_grace: Span, "ABIDE_INTERRUPT_GRACE", "2s";
    /// How hard commits are made durable: `normal` survives a crash of Abide, `full` a power failure.
    synchronous: Synchronous, "ABIDE_SYNCHRONOUS", "normal";
    /// What is logged: a level, or directives such as `info,abide_store=debug`.
    log: String, "ABIDE_LOG", "info";
    /// Log lines for people (`text`) or for machines (`json`).
    log_format: LogFormat, "ABIDE_LOG_FORMAT", "text";
    /// Registers an unknown `agent_id` when a session is created for it, instead of refusing.
    auto_register_agents: bool, "ABIDE_AUTO_REGISTER_AGENTS", "false";
    /// What kind of deployment this is. `production` or `prod`, in any case, refuses every switch
    /// that turns authentication off.
    env: String, "ABIDE_ENV" | "ENV", "development";
    /// Where `abide session-agent` listens. An address without a host means loopback, and every
    /// interface where `allow_remote` is set.
    agent_addr: ListenAddress, "ABIDE_AGENT_ADDR" | "SESSION_AGENT_ADDR", ":9000";
    /// Lets everybody who can reach the session agent use every session: only the exact text
    /// `true` does. Refused in production.
    agent_auth_bypass: Exactly, "ABIDE_AGENT_AUTH_BYPASS" | "SESSION_AGENT_AUTH_BYPASS", "false";
    /// Shared with the plane above, which sends it to register sessions, to list them and to end
    /// orphans.
    agent_secret: Option<String>, "ABIDE_AGENT_SECRET", "" ("none");
    /// Port of `abide data-plane`; 0 takes a free one.
    data_plane_port: u16, "ABIDE_DATA_PLANE_PORT" | "PORT" in "data-plane", "8081";
    /// Where the data plane's sessions run: `local`, on a session agent. `k8s` is not built yet.
    runtime_backend: String, "ABIDE_RUNTIME_BACKEND" | "SESSION_RUNTIME_BACKEND", "local";
    /// What the data plane keeps its routes in: `store` or `file`, a database file; or `memory`,
    /// which is refused in production.
    registry_backend: String, "ABIDE_REGISTRY_BACKEND" | "SESSION_REGISTRY_BACKEND", "store";
    /// The database file of the routes.
    registry_path: Option<PathBuf>, "ABIDE_REGISTRY_PATH" | "SESSION_REGISTRY_PATH", "" ("data-plane/routes.db in the data directory");
    /// The session agent that the data plane uses. Without it the data plane launches one.
    agent_endpoint: Option<BaseUrl>, "ABIDE_AGENT_ENDPOINT" | "SESSION_AGENT_ENDPOINT", "" ("none");
    /// Whether the data plane uses session tokens: `enforced`, or `bypass`, which is refused in
    /// production.
    agent_auth_mode: AuthMode, "ABIDE_AGENT_AUTH_MODE" | "SESSION_AGENT_AUTH_MODE", "enforced";
    /// Accepted for the sake of older deployments; anything but `true` is refused, since there is
    /// nothing else that steps could run in.
    agent_prefer: Exactly, "ABIDE_AGENT_PREFER" | "SESSION_AGENT_PREFER", "true";
    /// Has the data plane launch a session agent even where `agent_endpoint` names one: only the
    /// exact text `true` does.
    agent_launch: Exactly, "ABIDE_AGENT_LAUNCH" | "SESSION_AGENT_LAUNCH", "false";
    /// Has the data plane run its sessions in its own process, without a session agent apart: only the
    /// exact text `true` does. Their keepers outlive it all the same.
    agent_in_process: Exactly, "ABIDE_AGENT_IN_PROCESS", "false";
    /// The program that the data plane launches, with the argument `session-agent`.
    agent_bin: Option<PathBuf>, "ABIDE_AGENT_BIN" | "SESSION_AGENT_BIN", "" ("this program");
    /// How long a session agent may take to be ready.
    ready_timeout: Span, "ABIDE_READY_TIMEOUT" | "SESSION_READY_TIMEOUT", "60s";
    /// What a step's limits may be overrun by until the data plane gives the step up: to interrupt it,
    /// to record its end, to start a session agent again.
    step_grace: Span, "ABIDE_STEP_GRACE", "10s";
    /// How long a session agent that was sent a step may be silent until the data plane gives the
    /// step up.
    runtime_silence: Span, "ABIDE_RUNTIME_SILENCE", "30s";
    /// How long a step may show no sign of life until the data plane asks its session agent for one.
    probe_after: Span, "ABIDE_PROBE_AFTER", "10s";
    /// The directory that all workspaces of the data plane are beneath.
    workspace_root: Option<PathBuf>, "ABIDE_WORKSPACE_ROOT" | "WORKSPACE_ROOT", "" ("data-plane/workspaces in the data directory");
    /// The data plane that the control plane uses. Must be set in production.
    data_plane_url: BaseUrl, "ABIDE_DATA_PLANE_URL" | "DATA_PLANE_URL", "http://127.0.0.1:8081";
    /// The control plane's database: `sqlite`; `postgres` is not built yet.
    database_driver: String, "ABIDE_DATABASE_DRIVER" | "DATABASE_DRIVER", "sqlite";
    /// The control plane's database file, as `file:PATH`.
    database_url: Option<String>, "ABIDE_DATABASE_URL" | "DATABASE_URL", "" ("control-plane/abide.db in the data directory");
    /// Secret that the tokens between planes, and those that `abide up` takes besides its key, are signed
    /// with (JWT, HS256).
    jwt_secret: Option<String>, "ABIDE_JWT_SECRET" | "AUTH_JWT_SECRET", "" ("none: no token is accepted");
    /// What the `iss` of those tokens must be.
    jwt_issuer: Option<String>, "ABIDE_JWT_ISSUER" | "AUTH_ISSUER", "" ("not checked");
    /// What the `aud` of those tokens must be or contain.
    jwt_audience: Option<String>, "ABIDE_JWT_AUDIENCE" | "AUTH_AUDIENCE", "" ("not checked");
    /// Keys that are accepted between planes instead of tokens. The control plane sends the first
    /// one if there is no `jwt_secret`.
    plane_keys: Vec<String>, "ABIDE_PLANE_KEYS", "" ("none");
    /// Lets everybody who can reach a data plane or a control plane use it: only the exact text
    /// `true` does. Refused in production.
    authz_bypass: Exactly, "ABIDE_AUTHZ_BYPASS" | "AUTHZ_BYPASS", "false";
    /// Collector that `abide control-plane`, `abide data-plane` and `abide session-agent` send the
    /// traces of steps to: OTLP over HTTP without TLS, as JSON, to `/v1/traces` below this URL.
    otlp_endpoint: Option<String>, "ABIDE_OTLP_ENDPOINT" | "OTEL_EXPORTER_OTLP_ENDPOINT", "" ("none");
    /// What a plane calls itself in traces.
    service_name: Option<String>, "ABIDE_SERVICE_NAME" | "OTEL_SERVICE_NAME", "" ("its command");
    /// How long a terminal of the multi-terminal dialect may be looked at by nobody until it is ended; a
    /// number alone is one of seconds, 0 is never.
    orphan_grace: Grace, "ABIDE_ORPHAN_GRACE" | "PTY_ORPHAN_GRACE_PERIOD", "0" ("0: never");
    /// Output that is kept of each terminal of the dialect.
    terminal_output: ByteSize, "ABIDE_TERMINAL_OUTPUT" | "PTY_OUTPUT_BUFFER_SIZE", "256KiB";
    /// How long a program on a terminal that is closed may take to end after it was hung up, and again
    /// after it was told to terminate; then it is killed.
    terminal_close_grace: Option<Span>, "ABIDE_TERMINAL_CLOSE_GRACE" | "PTY_CLOSE_GRACE_PERIOD", "" ("500ms, then 1s");
    /// The program of terminals of the dialect.
    terminal_shell: Option<String>, "ABIDE_TERMINAL_SHELL" | "DEFAULT_SHELL", "" ("$SHELL, else bash, else sh");
    /// Rows of a terminal where a client of the dialect asks for none, or not for 1 to 500.
    terminal_rows: u16, "ABIDE_TERMINAL_ROWS" | "DEFAULT_ROWS", "24";
    /// Its columns, likewise.
    terminal_cols: u16, "ABIDE_TERMINAL_COLS" | "DEFAULT_COLS", "80";
    /// Terminals of the dialect that one owner may have.
    max_terminals_per_owner: u32, "ABIDE_MAX_TERMINALS_PER_OWNER", "100";
    /// Terminals of the dialect that there may be.
    max_terminals: u32, "ABIDE_MAX_TERMINALS", "1000";
    /// Terminals of one owner that are kept after their programs have ended; the oldest go first.
    exited_terminals: u32, "ABIDE_EXITED_TERMINALS", "32";
    /// How long those are kept.
    exited_terminal_time: Span, "ABIDE_EXITED_TERMINAL_TIME", "1h";
    /// Longest id that a client of the dialect may give a terminal, in bytes.
    terminal_id_length: u32, "ABIDE_TERMINAL_ID_LENGTH" | "TERMINAL_SESSION_ID_MAX_LENGTH", "128";
    /// Input that comes over the dialect is handed on in pieces of this size; a message may be longer.
    terminal_piece: ByteSize, "ABIDE_TERMINAL_PIECE" | "TERMINAL_WS_MAX_MESSAGE_BYTES", "64KiB";
    /// Messages per second that are read from a connection of the dialect over a longer time; who sends
    /// more is read later.
    terminal_message_rate: u32, "ABIDE_TERMINAL_MESSAGE_RATE" | "TERMINAL_WS_MESSAGE_RATE", "1000";
    /// Messages that are read at once.
    terminal_message_burst: u32, "ABIDE_TERMINAL_MESSAGE_BURST" | "TERMINAL_WS_MESSAGE_BURST", "2000";
    /// How often one who views a terminal is asked for a sign of life.
    terminal_ping_interval: Span, "ABIDE_TERMINAL_PING_INTERVAL" | "TERMINAL_WS_PING_INTERVAL", "30s";
    /// A viewer that nothing came from for so long is given up.
    terminal_read_timeout: Span, "ABIDE_TERMINAL_READ_TIMEOUT" | "TERMINAL_WS_READ_TIMEOUT", "90s";
    /// The cookie that may have the key or a token for the dialect, and the beginning of those of single
    /// workspaces.
    cookie_name: String, "ABIDE_COOKIE_NAME" | "COOKIE_NAME", "vm_session";
    /// Base of artifact links. Accepted, not built yet.
    artifact_bucket: Option<String>, "ABIDE_ARTIFACT_BUCKET" | "ARTIFACT_BUCKET", "" ("none");
    /// Where an MCP server would listen. Accepted, not built yet.
    mcp_addr: Option<String>, "ABIDE_MCP_ADDR" | "MCP_ADDR", "" ("none");
}

/// Settings whose values are never shown.
const SECRETS: &[&str] = &[
    "key",
    "agent_secret",
    "database_url",
    "jwt_secret",
    "plane_keys",
];

/// Variables besides those of the settings that Abide reads or sets itself.
pub(crate) const OTHER_VARIABLES: &[&str] = &["ABIDE_CONFIG", "ABIDE_WORKER"];

impl Config {
    /// Brings all sources together. `file` is the one named by `--config`.
    pub(crate) fn load(
        flags: &Flags,
        environment: &Environment,
        file: Option<&Path>,
    ) -> Result<Self, CommandError> {
        let known: Vec<&str> = SETTINGS.iter().map(|s| s.name).collect();
        let named = file.map(Path::to_owned);
        let named = named.or_else(|| environment.get("ABIDE_CONFIG").map(PathBuf::from));
        let mut file = match &named {
            Some(path) => File::read(path, true)?,
            None => None,
        };
        let home = default_data_dir(environment);
        let layers = Layers {
            flags,
            environment,
            file: file.as_ref(),
        };
        let default = home.as_deref().and_then(Path::to_str).unwrap_or_default();
        let (data_dir, origin) =
            layers.get::<Option<PathBuf>>("data_dir", "ABIDE_DATA_DIR", &[], default)?;
        let Some(data_dir) = data_dir else {
            return Err(CommandError::usage(
                "cannot tell where the data directory is: HOME is not set",
            )
            .hint("name it with --data-dir or ABIDE_DATA_DIR"));
        };
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|e| CommandError::io("cannot resolve the data directory", &e))?;
        if named.is_none() {
            file = File::read(&data_dir.join("config.toml"), false)?;
            if file.as_ref().is_some_and(|f| f.has("data_dir")) {
                return Err(CommandError::usage(format!(
                    "{}: data_dir cannot be set in the file that is found through it",
                    data_dir.join("config.toml").display()
                )));
            }
        }
        if let Some(file) = &file {
            file.check_names(&known)?;
        }
        // The path is settled; what remains is to read the rest around it.
        let mut flags = flags.clone();
        flags.add("data_dir", "--data-dir", data_dir.to_string_lossy());
        let layers = Layers {
            flags: &flags,
            environment,
            file: file.as_ref(),
        };
        let mut config = Self::from_layers(&layers)?;
        config.data_dir = data_dir;
        for (name, its) in &mut config.origins {
            if *name == "data_dir" {
                its.clone_from(&origin);
            }
        }
        Ok(config)
    }

    /// Where a setting came from.
    pub(crate) fn origin(&self, name: &str) -> &Origin {
        let found = self.origins.iter().find(|(n, _)| *n == name);
        found.map_or(&Origin::Default, |(_, origin)| origin)
    }

    /// Every setting with its value and origin.
    pub(crate) fn effective(&self) -> Vec<Effective> {
        let hide = |name, value: String| {
            if SECRETS.contains(&name) && !value.is_empty() {
                "(hidden)".to_owned()
            } else {
                value
            }
        };
        self.shown()
            .into_iter()
            .map(|(name, value)| Effective {
                name,
                value: hide(name, value),
                origin: self.origin(name).clone(),
            })
            .collect()
    }

    /// Whether authentication must not be turned off.
    pub(crate) fn is_production(&self) -> bool {
        ["production", "prod"].contains(&self.env.trim().to_ascii_lowercase().as_str())
    }

    /// An error about a setting, which names the place where its value stands.
    pub(crate) fn error(&self, name: &'static str, wrong: &str) -> CommandError {
        CommandError::new(Kind::Config, format!("{} {wrong}", self.place(name)))
    }

    /// Where the value of a setting stands.
    fn place(&self, name: &'static str) -> String {
        match self.origin(name) {
            Origin::File(path) => format!("{}: {name}", path.display()),
            Origin::Default => name.to_owned(),
            origin => origin.to_string(),
        }
    }

    /// Refuses a session agent that is open to anybody: without authentication in production, or
    /// on the network unintentionally.
    pub(crate) fn check_session_agent(&self) -> Result<(), CommandError> {
        if self.agent_auth_bypass.0 && self.is_production() {
            let wrong = format!(
                "must not be true in production ({} is {:?})",
                self.origin("env"),
                self.env
            );
            return Err(self.error("agent_auth_bypass", &wrong));
        }
        self.collector()?;
        let hosts = self.agent_addr.hosts(self.allow_remote);
        match hosts.iter().find(|host| !host.is_loopback()) {
            Some(host) if !self.allow_remote => Err(self.error(
                "agent_addr",
                &format!(
                    "names {host}, which is reachable from other machines, and without TLS; \
                     --allow-remote (ABIDE_ALLOW_REMOTE=true) allows that"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Refuses what would open the server to the network unintentionally.
    pub(crate) fn check_listen(&self) -> Result<(), CommandError> {
        match self.host.0.iter().find(|host| !host.is_loopback()) {
            Some(host) if !self.allow_remote => Err(CommandError::usage(format!(
                "refusing to listen on {host}: it is reachable from other machines, and without \
                 TLS everyone on the way can read the API key and run code here"
            ))
            .hint("put a proxy with TLS in front of a loopback address")
            .hint("or, on a network you trust, pass --allow-remote (ABIDE_ALLOW_REMOTE=true)")),
            _ => Ok(()),
        }
    }
}

fn default_data_dir(environment: &Environment) -> Option<PathBuf> {
    let absolute = |name| {
        environment
            .get(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("abide"))
}

#[cfg(test)]
mod tests;
