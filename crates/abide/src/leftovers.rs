//! Workers that go on without a server.

use std::path::{Path, PathBuf};

use abide_keeper::{ConnectError, KeeperClient};
use rustix::event::{PollFd, PollFlags, Timespec};

/// A keeper ends its tree within its own graces, which are shorter.
const END_WITHIN_SECONDS: i64 = 30;

/// Directories of workers whose keepers have not written that their process ended.
pub(crate) fn find(data_dir: &Path) -> Vec<PathBuf> {
    let mut dirs = with_keepers(data_dir);
    dirs.retain(|dir| !has_ended(dir));
    dirs
}

fn with_keepers(data_dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(data_dir.join("workers")) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|dir| dir.join("keeper.json").exists())
        .collect()
}

/// The worker's program has ended. What it left running on a terminal may not, nor the keeper.
fn has_ended(dir: &Path) -> bool {
    dir.join("exit.json").exists()
}

/// Ends every worker of a data directory that has no server; returns how many were ended.
pub(crate) fn end_all(data_dir: &Path) -> anyhow::Result<usize> {
    let mut ended = 0;
    for dir in with_keepers(data_dir) {
        match KeeperClient::connect(&dir) {
            Ok(keeper) => {
                keeper.stop()?;
                let process = keeper.pid_fd().try_clone_to_owned()?;
                // One who is attached and reads nothing would keep the journal from taking the end.
                drop(keeper);
                let mut fds = [PollFd::new(&process, PollFlags::IN)];
                let limit = Timespec {
                    tv_sec: END_WITHIN_SECONDS,
                    tv_nsec: 0,
                };
                if rustix::event::poll(&mut fds, Some(&limit))? == 0 {
                    anyhow::bail!("the worker in {} does not end", dir.display());
                }
                ended += 1;
            }
            Err(ConnectError::NotRunning { .. } | ConnectError::ForeignProcess { .. }) => {
                if has_ended(&dir) {
                    continue;
                }
                if let Some(worker) = dir.file_name().and_then(|name| name.to_str()?.parse().ok()) {
                    ended += usize::from(abide_keeper::kill_leftovers(worker) > 0);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ended)
}
