//! What a keeper that was itself killed has left behind.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::time::Timespec;
use uuid::Uuid;

use crate::process::{all_pids, open_pidfd};

/// Set in the environment of every worker, and so of what it starts.
pub const WORKER_VARIABLE: &str = "ABIDE_WORKER";

/// How long to wait for one killed process to be gone before looking again.
const PATIENCE: Timespec = Timespec {
    tv_sec: 1,
    tv_nsec: 0,
};
/// Rounds without an end: something starts processes faster than they are killed, or cannot be
/// killed at all.
const ROUNDS: usize = 50;

/// Kills every process whose environment says that it belongs to this worker, until none is
/// left. For when the keeper is dead: a living keeper knows its tree better, so use
/// [`crate::Message::Kill`] then. A process that has overwritten its environment is not found.
/// Blocks for as long as the processes take to die. Returns how many were killed.
pub fn kill_leftovers(worker_id: Uuid) -> usize {
    let marker = format!("{WORKER_VARIABLE}={worker_id}");
    let own = std::process::id();
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let mut found = false;
        for pid in all_pids().filter(|pid| u32::try_from(*pid) != Ok(own)) {
            if !belongs(pid, &marker) {
                continue;
            }
            let Some(pidfd) = open_pidfd(pid) else {
                continue;
            };
            // Again, now that the descriptor holds the process: the pid may have changed hands
            // between the look and the descriptor.
            if !belongs(pid, &marker) || pidfd_send_signal(&pidfd, Signal::KILL).is_err() {
                continue;
            }
            found = true;
            killed += 1;
            let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&PATIENCE));
        }
        if !found {
            break;
        }
    }
    killed
}

/// Zombies and kernel threads have no environment, other users' is not readable.
fn belongs(pid: i32, marker: &str) -> bool {
    std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
        text.split(|byte| *byte == 0)
            .any(|entry| entry == marker.as_bytes())
    })
}
