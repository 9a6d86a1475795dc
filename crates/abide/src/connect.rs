//! Finding the server and the key.

use std::path::{Path, PathBuf};

use abide_client::{Client, Locate};
use abide_model::{CreateSession, ProblemCode, Runtime, Session, SessionId, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::config::{Config, Origin};
use crate::error::{CommandError, Kind, Result};

/// What a running server writes into the data directory (`server.json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// Its process.
    pub(crate) pid: i32,
    /// Where it listens.
    pub(crate) url: String,
    /// Version of the binary.
    pub(crate) version: String,
    /// When it started.
    pub(crate) started_at: Timestamp,
}

impl ServerFile {
    /// Its path in a data directory.
    pub(crate) fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("server.json")
    }

    /// That of a server whose process is alive.
    pub(crate) fn of_running(data_dir: &Path) -> Option<Self> {
        let text = std::fs::read(Self::path(data_dir)).ok()?;
        let file: Self = serde_json::from_slice(&text).ok()?;
        is_alive(file.pid).then_some(file)
    }
}

/// Whether a process runs. A zombie does not, and where nobody reaps, as in many containers, a
/// killed server stays one.
fn is_alive(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else {
        return false;
    };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(error) => return error != rustix::io::Errno::SRCH,
    };
    let mut fds = [PollFd::new(&process, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // Readable once the process has ended.
    rustix::event::poll(&mut fds, Some(&now)) == Ok(0)
}

/// Path of the key in a data directory.
pub(crate) fn key_path(data_dir: &Path) -> PathBuf {
    data_dir.join("key")
}

/// The key that commands send: the one given, or the data directory's.
pub(crate) fn find_key(config: &Config) -> Result<Option<String>> {
    if let Some(key) = &config.key {
        return Ok(Some(key.clone()));
    }
    let path = key_path(&config.data_dir);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned()).filter(|k| !k.is_empty())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(CommandError::new(
            Kind::Denied,
            format!("cannot read the key in {}", path.display()),
        )
        .because(&e)),
    }
}

/// A client of the server that the configuration means.
pub(crate) fn connect(config: &Config) -> Result<Client> {
    let url = find_url(config).ok_or_else(|| no_server(config))?;
    Ok(Client::new(&url, find_key(config)?.as_deref())?)
}

/// The error for a data directory without a server.
pub(crate) fn no_server(config: &Config) -> CommandError {
    let message = format!(
        "no Abide server is running for {}",
        config.data_dir.display()
    );
    CommandError::new(Kind::NoServer, message).hint("start one with `abide up`")
}

/// For [`abide_client::ResumableStep`]: looks again, since a server may come back elsewhere.
pub(crate) fn locator(config: &Config, mut on_outage: impl FnMut() + Send + 'static) -> Locate {
    let config = config.clone();
    Box::new(move || {
        on_outage();
        connect(&config).ok()
    })
}

fn find_url(config: &Config) -> Option<String> {
    if let Some(url) = &config.url {
        return Some(url.clone());
    }
    let running = ServerFile::of_running(&config.data_dir).map(|file| file.url);
    // A port that was asked for by flag or variable is meant, also where no file tells of it.
    let asked = matches!(config.origin("port"), Origin::Flag(_) | Origin::Variable(_));
    let suffix = format!(":{}", config.port);
    match running {
        Some(url) if !asked || config.port == 0 || url.trim_end_matches('/').ends_with(&suffix) => {
            Some(url)
        }
        _ if asked && config.port != 0 => Some(format!("http://127.0.0.1{suffix}")),
        _ => None,
    }
}

/// Whether a text can be a session's name.
fn is_name(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// The session of this id or name.
pub(crate) async fn find_session(client: &Client, text: &str) -> Result<Session> {
    look_up(client, text).await?.ok_or_else(|| no_session(text))
}

fn no_session(text: &str) -> CommandError {
    CommandError::new(Kind::NotFound, format!("there is no session {text:?}"))
        .hint("`abide ls` lists the sessions")
}

async fn look_up(client: &Client, text: &str) -> Result<Option<Session>> {
    if let Ok(id) = SessionId::parse(text) {
        match client.session(id).await {
            Err(error) if error.is(ProblemCode::SessionNotFound) => {}
            answer => return Ok(Some(answer?)),
        }
    }
    if is_name(text) {
        Ok(client.session_by_name(text).await?)
    } else {
        Ok(None)
    }
}

/// What a session is created with when a name is used for the first time.
#[derive(Debug, Clone, Default)]
pub(crate) struct FirstUse {
    /// Its interpreter; an existing session must have the same.
    pub(crate) runtime: Option<Runtime>,
    /// Its directory.
    pub(crate) workspace: Option<PathBuf>,
}

/// The session of this id or name; one of this name is created if there is none.
pub(crate) async fn open_session(client: &Client, text: &str, first: &FirstUse) -> Result<Session> {
    let session = match look_up(client, text).await? {
        Some(session) => session,
        None if SessionId::parse(text).is_ok() => return Err(no_session(text)),
        None if !is_name(text) => {
            return Err(
                CommandError::usage(format!("{text:?} cannot be a session's name"))
                    .hint("names have 1 to 100 letters, digits, dots, underscores and hyphens"),
            );
        }
        None => create_session(client, text, first).await?,
    };
    match first.runtime {
        Some(asked) if asked != session.runtime => Err(CommandError::new(
            Kind::Refused,
            format!("session {text:?} runs {}, not {asked}", session.runtime),
        )
        .hint("choose another name with -s")),
        _ => Ok(session),
    }
}

async fn create_session(client: &Client, name: &str, first: &FirstUse) -> Result<Session> {
    let workspace = match &first.workspace {
        Some(path) => {
            let path = path.canonicalize().map_err(|e| {
                CommandError::usage(format!("the workspace {} cannot be used", path.display()))
                    .because(&e)
            })?;
            Some(path.to_string_lossy().into_owned())
        }
        None => None,
    };
    let new = CreateSession {
        name: Some(name.to_owned()),
        runtime: first.runtime,
        workspace,
        ..CreateSession::default()
    };
    match client.create_session(&new).await {
        // Somebody was quicker.
        Err(error) if error.is(ProblemCode::SessionExists) => find_session(client, name).await,
        answer => Ok(answer?),
    }
}

/// How people call a session: its name, or its id.
pub(crate) fn label(session: &Session) -> String {
    session
        .name
        .clone()
        .unwrap_or_else(|| session.id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Flags};

    fn config<const N: usize>(dir: &Path, variables: [(&str, &str); N]) -> Config {
        let mut flags = Flags::default();
        flags.add("data_dir", "--data-dir", dir.to_str().unwrap());
        Config::load(&flags, &Environment::from(variables), None).unwrap()
    }

    fn write(dir: &Path, pid: u32) {
        let file = ServerFile {
            pid: i32::try_from(pid).unwrap(),
            url: "http://127.0.0.1:7777".to_owned(),
            version: "1".to_owned(),
            started_at: Timestamp::now(),
        };
        std::fs::write(ServerFile::path(dir), serde_json::to_vec(&file).unwrap()).unwrap();
    }

    #[test]
    fn the_url_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(find_url(&config(dir, [])), None);
        let port = [("ABIDE_PORT", "9999")];
        assert_eq!(
            find_url(&config(dir, port)).as_deref(),
            Some("http://127.0.0.1:9999")
        );
        write(dir, std::process::id());
        assert_eq!(
            find_url(&config(dir, [])).as_deref(),
            Some("http://127.0.0.1:7777")
        );
        assert_eq!(
            find_url(&config(dir, port)).as_deref(),
            Some("http://127.0.0.1:9999")
        );
        let url = [("ABIDE_URL", "http://box:1")];
        assert_eq!(find_url(&config(dir, url)).as_deref(), Some("http://box:1"));
        // A process that cannot exist: the largest pid of Linux is 2^22.
        write(dir, i32::MAX.unsigned_abs());
        assert_eq!(find_url(&config(dir, [])), None);
    }

    #[test]
    fn a_zombie_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let raw = Pid::from_raw(pid).unwrap();
        // Waits for the end without reaping.
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(raw), ended).unwrap();
        assert!(!is_alive(pid));
        child.wait().unwrap();
        assert!(!is_alive(pid));
        assert!(is_alive(i32::try_from(std::process::id()).unwrap()));
    }

    #[test]
    fn the_key_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find_key(&config(dir.path(), [])).unwrap(), None);
        std::fs::write(key_path(dir.path()), "sesame\n").unwrap();
        assert_eq!(
            find_key(&config(dir.path(), [])).unwrap().as_deref(),
            Some("sesame")
        );
        let given = config(dir.path(), [("ABIDE_KEY", "other")]);
        assert_eq!(find_key(&given).unwrap().as_deref(), Some("other"));
    }

    #[test]
    fn names() {
        for (text, is) in [
            ("demo", true),
            ("a.b_c-1", true),
            ("", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(is_name(text), is, "{text:?}");
        }
        assert!(!is_name(&"x".repeat(101)));
    }
}
