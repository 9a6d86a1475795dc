//! `abide down`: stop the server.

use std::os::fd::OwnedFd;
use std::time::Duration;

use abide_client::ShutdownWorkers;
use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::App;
use crate::config::{Span, Value as _};
use crate::connect::{ServerFile, no_server};
use crate::error::{CommandError, Kind, Result};
use crate::leftovers;

/// Stop the server and every interpreter
///
/// With --keep-workers the interpreters go on under their keepers, and the next `abide up` takes
/// them over with everything they hold.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    /// Leave the interpreters running
    #[arg(long)]
    keep_workers: bool,
    /// How long to wait for the server to be gone
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = Span::parse)]
    timeout: Span,
}

/// Stops it.
pub(crate) async fn run(app: App<'_>, args: DownArgs) -> Result {
    let data_dir = &app.config.data_dir;
    let running = ServerFile::of_running(data_dir);
    if running.is_none() && app.config.url.is_none() {
        return without_server(app, args.keep_workers);
    }
    let client = app.connect()?;
    // Only a server of this data directory is a process of ours.
    let local = running.filter(|server| server.url.trim_end_matches('/') == client.base_url());
    // Opened before the server is told, so that its number cannot have become another's.
    let process = local.as_ref().and_then(|server| pidfd(server.pid));
    let workers = if args.keep_workers {
        ShutdownWorkers::Keep
    } else {
        ShutdownWorkers::End
    };
    let told = tokio::time::timeout(args.timeout.0, client.shutdown(workers));
    let told = app.output.waiting("telling the server", told).await;
    let Some((server, process)) = local.zip(process) else {
        told.map_err(|_| hung(None))??;
        return app
            .output
            .line(format!("told {} to stop", client.base_url()));
    };
    match told {
        Err(_) => return Err(hung(Some(server.pid))),
        // It may exit before its answer is out.
        Ok(Err(abide_client::Error::ConnectionLost { .. })) => {}
        Ok(answer) => answer?,
    }
    let gone = exits_within(process, args.timeout.0);
    let gone = app
        .output
        .waiting("waiting for the server to stop", gone)
        .await;
    match gone.map_err(|e| CommandError::io("cannot wait for the server's end", &e))? {
        false => Err(hung(Some(server.pid))),
        true => {
            let kept = if args.keep_workers {
                leftovers::find(data_dir).len()
            } else {
                0
            };
            app.output.line(match kept {
                0 => "Abide is down".to_owned(),
                n => format!(
                    "Abide is down; {} left running for the next `abide up`",
                    interpreters(n)
                ),
            })
        }
    }
}

fn without_server(app: App<'_>, keep_workers: bool) -> Result {
    let data_dir = &app.config.data_dir;
    let left = leftovers::find(data_dir).len();
    if left == 0 {
        return Err(no_server(&app.config));
    }
    if keep_workers {
        return app.output.line(format!(
            "no server is running; {} left running",
            interpreters(left)
        ));
    }
    let ended = leftovers::end_all(data_dir).map_err(|e| {
        let mut error = CommandError::from(e);
        error.kind = Kind::Io;
        error.hint("`abide up` takes them over")
    })?;
    app.output.line(format!(
        "no server was running; ended {} that it had left",
        interpreters(ended)
    ))
}

/// A number of them, in words.
fn interpreters(count: usize) -> String {
    if count == 1 {
        "1 interpreter".to_owned()
    } else {
        format!("{count} interpreters")
    }
}

fn pidfd(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::NONBLOCK).ok()
}

/// Whether the process ends within the time: a pidfd becomes readable when it does.
async fn exits_within(process: OwnedFd, limit: Duration) -> std::io::Result<bool> {
    // On a thread of its own, since the event loop's way to wait for a descriptor is `unsafe`.
    let waiting = tokio::task::spawn_blocking(move || {
        let limit = Timespec::try_from(limit).unwrap_or(Timespec {
            tv_sec: i64::MAX,
            tv_nsec: 0,
        });
        let mut fds = [PollFd::new(&process, PollFlags::IN)];
        Ok(rustix::event::poll(&mut fds, Some(&limit))? > 0)
    });
    waiting.await?
}

fn hung(pid: Option<i32>) -> CommandError {
    let error = CommandError::new(Kind::Temporary, "the server does not stop in time");
    match pid {
        Some(pid) => error
            .hint(format!(
                "`kill -9 {pid}` ends it; interpreters go on, and `abide up` takes them over"
            ))
            .hint("--timeout waits longer"),
        None => error,
    }
}
