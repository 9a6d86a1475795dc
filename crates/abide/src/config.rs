//! Configuration: every setting once, in one table. The only reader of the environment and of
//! the configuration file.

mod address;
mod layers;
mod value;

use std::path::{Path, PathBuf};

pub(crate) use address::ListenAddress;
pub(crate) use layers::{Environment, Flags, Origin};
use layers::{File, Layers};
pub(crate) use value::{ByteSize, Exactly, Hosts, LogFormat, Span, Synchronous, Value};

use crate::error::{CommandError, Kind};

/// A setting for the reference page.
pub(crate) struct Setting {
    /// Name in the configuration file and after `--set`.
    pub(crate) name: &'static str,
    /// Environment variable.
    pub(crate) variable: &'static str,
    /// Variables of the same meaning that runtime-routing deployments set; ours wins over them.
    pub(crate) aliases: &'static [&'static str],
    /// Default as people read it.
    pub(crate) default: &'static str,
    /// What it means.
    pub(crate) meaning: &'static str,
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
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty, $variable:literal $(| $alias:literal)*, $default:literal $(($shown:literal))?;)+) => {
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
            aliases: &[$($alias),*],
            default: settings!(@shown $default $(, $shown)?),
            meaning: concat!($($doc),+),
        }),+];

        impl Config {
            fn from_layers(layers: &Layers<'_>) -> Result<Self, CommandError> {
                let mut origins = Vec::new();
                $(let ($name, origin) = layers.get::<$type>(stringify!($name), &[$variable $(, $alias)*], $default)?;
                origins.push((stringify!($name), origin));)+
                Ok(Self { $($name,)+ origins })
            }

            fn shown(&self) -> Vec<(&'static str, String)> {
                vec![$((stringify!($name), self.$name.show())),+]
            }
        }
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
    port: u16, "ABIDE_PORT", "8080";
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
}

/// Settings whose values are never shown.
const SECRETS: &[&str] = &["key", "agent_secret"];

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
            layers.get::<Option<PathBuf>>("data_dir", &["ABIDE_DATA_DIR"], default)?;
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
        let place = match self.origin(name) {
            Origin::File(path) => format!("{}: {name}", path.display()),
            Origin::Default => name.to_owned(),
            origin => origin.to_string(),
        };
        CommandError::new(Kind::Config, format!("{place} {wrong}"))
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
