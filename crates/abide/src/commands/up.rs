//! `abide up`: start the server, here or in the background.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::Duration;

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::App;
use crate::config::Flags;
use crate::connect::ServerFile;
use crate::error::{CommandError, Kind, Result};

/// How long a server in the background may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a server that is said to run may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How much of the log is shown when it did not start.
const LOG_TAIL_BYTES: u64 = 4096;

/// Start the server
///
/// Keeps running until Ctrl-C or `abide down`; with -d it goes into the background once it is
/// ready. Sessions of an earlier server are taken over with everything they hold.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Go into the background once the server is ready; it logs to DIR/abide.log
    #[arg(short, long)]
    detach: bool,
    /// Address to listen on; may be repeated [env: ABIDE_HOST] [default: 127.0.0.1 and ::1]
    #[arg(long, value_name = "ADDRESS")]
    host: Vec<String>,
    /// Listen beyond loopback although the API has no TLS [env: ABIDE_ALLOW_REMOTE]
    #[arg(long)]
    allow_remote: bool,
    /// What to log: a level or directives [env: ABIDE_LOG] [default: info]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Log lines for people (text) or machines (json) [env: ABIDE_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORM")]
    log_format: Option<String>,
    /// Started by -d: standard input is the pipe to tell that the server is ready
    #[arg(long, hide = true)]
    detached: bool,
    /// For tests of debug builds: the server kills itself when it passes NAME the Nth time
    #[arg(long, hide = true, value_name = "NAME:N")]
    pub(crate) crash_point: Option<String>,
    /// Tells whoever waits that the server is ready.
    #[arg(skip)]
    pub(crate) readiness: Readiness,
}

/// Somebody who waits for the server, if there is somebody.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Option<File>);

impl Readiness {
    /// Takes standard input as the pipe, and nothing as standard input.
    fn from_stdin() -> Result<Self> {
        let take = || -> std::io::Result<File> {
            let pipe = std::io::stdin().as_fd().try_clone_to_owned()?;
            rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
            Ok(File::from(pipe))
        };
        take()
            .map(|pipe| Self(Some(pipe)))
            .map_err(|e| CommandError::io("cannot take over the readiness pipe", &e))
    }

    /// The server answers at `url`. To be called once it listens and takes work.
    pub(crate) fn announce(&mut self, url: &str) {
        if let Some(mut pipe) = self.0.take() {
            // Whoever waited may have given up; the server goes on.
            let _ = writeln!(pipe, "{url}");
        }
    }
}

impl UpArgs {
    /// Nobody looks at the standard output.
    pub(crate) const fn is_detached(&self) -> bool {
        self.detached
    }

    /// Notes what was given.
    pub(crate) fn add_to(&self, flags: &mut Flags) {
        flags.add_some(
            "host",
            "--host",
            Some(self.host.join(",")).filter(|h| !h.is_empty()),
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

/// Serves, or starts a server that does.
pub(crate) fn run(app: App<'_>, mut args: UpArgs) -> Result<ExitCode> {
    app.config.check_listen()?;
    app.config.check_dialect()?;
    if args.detach {
        return detach(app, &args);
    }
    if args.detached {
        // A session of its own: no terminal can hang it up. Fails only for a group leader, which
        // the process that -d starts is not.
        let _ = rustix::process::setsid();
        args.readiness = Readiness::from_stdin()?;
    }
    crate::serve::run(app.config, &app.environment, args).map_err(|error| {
        let mut error = CommandError::from(error);
        error.kind = Kind::Io;
        error
    })
}

fn detach(app: App<'_>, args: &UpArgs) -> Result<ExitCode> {
    let data_dir = &app.config.data_dir;
    // A number may have become another process's, so the server must answer as well. Whether the
    // data directory is free the new server finds out through its lock.
    if let Some(server) = ServerFile::of_running(data_dir)
        && is_ready(&app, &server.url)?
    {
        let message = format!(
            "a server is already running at {} (pid {})",
            server.url, server.pid
        );
        return Err(CommandError::new(Kind::Refused, message).hint("stop it with `abide down`"));
    }
    let log_path = data_dir.join("abide.log");
    let (log, begun) = open_log(data_dir, &log_path)
        .map_err(|e| CommandError::io(format!("cannot write {}", log_path.display()), &e))?;
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| CommandError::io("cannot make a pipe", &e))?;
    let server = spawn(&app, args, log, writer)
        .map_err(|e| CommandError::io("cannot start the server", &e))?;
    let url = await_ready(&app, reader, server)?;
    let Some(url) = url else {
        let mut error = CommandError::new(Kind::Io, "the server did not start");
        error.causes.extend(
            log_since(&log_path, begun)
                .into_iter()
                .filter(|t| !t.is_empty()),
        );
        return Err(error.hint(format!("the whole log is {}", log_path.display())));
    };
    let pid = ServerFile::of_running(data_dir).map(|s| format!(" (pid {})", s.pid));
    app.output
        .line(format!("Abide is up at {url}{}", pid.unwrap_or_default()))?;
    Ok(ExitCode::SUCCESS)
}

fn is_ready(app: &App<'_>, url: &str) -> Result<bool> {
    let client = abide_client::Client::new(url, None)?;
    let event_loop = super::runtime()?;
    let asking = async { tokio::time::timeout(ANSWER_WITHIN, client.ready()).await };
    let answer = event_loop.block_on(app.output.waiting("asking the server", asking));
    Ok(matches!(answer, Ok(Ok(()))))
}

/// The log, open to append, and how long it was before.
fn open_log(data_dir: &Path, path: &Path) -> std::io::Result<(File, u64)> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let begun = log.metadata()?.len();
    Ok((log, begun))
}

fn spawn(app: &App<'_>, args: &UpArgs, log: File, ready: OwnedFd) -> std::io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("up")
        .arg("--detached")
        .arg("--data-dir")
        .arg(&app.config.data_dir);
    let global = &app.global;
    // Not the URL and the key: they are for clients, and arguments can be seen by other users.
    if let Some(port) = &global.port {
        command.arg("--port").arg(port);
    }
    if let Some(config) = &global.config {
        command.arg("--config").arg(config);
    }
    for pair in &global.set {
        command.arg("--set").arg(pair);
    }
    for host in &args.host {
        command.arg("--host").arg(host);
    }
    if args.allow_remote {
        command.arg("--allow-remote");
    }
    for (flag, value) in [("--log", &args.log), ("--log-format", &args.log_format)] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    command.stdin(ready).stdout(log.try_clone()?).stderr(log);
    command.spawn()
}

/// What came through the pipe.
enum Told {
    /// The server answers at this URL.
    Ready(String),
    /// The pipe was closed without a word: the server has ended, or is about to.
    Ended,
    /// Nothing, for too long.
    Silent,
}

/// The URL that the server announces; `None` when it ended without.
fn await_ready(app: &App<'_>, pipe: OwnedFd, mut server: Child) -> Result<Option<String>> {
    let event_loop = super::runtime()?;
    let waiting = move || {
        let told = read_ready(pipe)?;
        if matches!(told, Told::Ended) {
            // The last words are in the log once the process is gone.
            server.wait()?;
        }
        std::io::Result::Ok(told)
    };
    let waiting = async { tokio::task::spawn_blocking(waiting).await? };
    let told = event_loop.block_on(app.output.waiting("starting the server", waiting));
    match told.map_err(|e| CommandError::io("cannot wait for the server", &e))? {
        Told::Ready(url) => {
            let client = abide_client::Client::new(&url, None)?;
            event_loop.block_on(client.ready())?;
            Ok(Some(url))
        }
        Told::Ended => Ok(None),
        Told::Silent => Err(CommandError::new(
            Kind::Temporary,
            format!(
                "the server is not ready after {} seconds",
                READY_WITHIN.as_secs()
            ),
        )
        .hint(
            "it goes on starting; `abide status` asks it, abide.log in the data directory tells",
        )),
    }
}

fn read_ready(pipe: OwnedFd) -> std::io::Result<Told> {
    let limit = Timespec::try_from(READY_WITHIN).map_err(std::io::Error::other)?;
    let mut fds = [PollFd::new(&pipe, PollFlags::IN)];
    if rustix::event::poll(&mut fds, Some(&limit))? == 0 {
        return Ok(Told::Silent);
    }
    let mut line = String::new();
    BufReader::new(File::from(pipe)).read_line(&mut line)?;
    Ok(match line.trim() {
        "" => Told::Ended,
        url => Told::Ready(url.to_owned()),
    })
}

/// The end of what was logged after `begun`.
fn log_since(path: &Path, begun: u64) -> Option<String> {
    let mut log = File::open(path).ok()?;
    let end = log.metadata().ok()?.len();
    log.seek(SeekFrom::Start(
        begun.max(end.saturating_sub(LOG_TAIL_BYTES)),
    ))
    .ok()?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim().to_owned())
}
