//! Processes by pid and start time, so that a pid used again is not taken for its predecessor.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};

/// A process, named so that it stays itself: pids are used again, start times are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessStamp {
    /// Process id.
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot.
    pub start_time: u64,
}

impl ProcessStamp {
    /// The process that has this pid now, if any; a zombie counts.
    pub fn of(pid: i32) -> Option<Self> {
        Some(Self {
            pid,
            start_time: Stat::read(pid)?.start_time,
        })
    }

    /// A descriptor for exactly this process, if it is still there.
    pub fn open(self) -> Option<OwnedFd> {
        // The descriptor comes first: if the start time is right afterwards, it was right when
        // the descriptor was made.
        let pidfd = open_pidfd(self.pid)?;
        (Self::of(self.pid) == Some(self)).then_some(pidfd)
    }
}

/// The few fields of `/proc/<pid>/stat` that are needed.
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) start_time: u64,
}

impl Stat {
    pub(crate) fn read(pid: i32) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The command name is in parentheses and may contain anything, so count from its end.
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let start_time = fields.nth(17)?.parse().ok()?;
        Some(Self { parent, start_time })
    }
}

pub(crate) fn open_pidfd(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// This boot of this machine, from `/proc/sys/kernel/random/boot_id`; empty when unreadable.
pub fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Nanoseconds of `CLOCK_BOOTTIME`, the clock of journal entries.
pub fn boottime_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    (now.tv_sec as u64)
        .wrapping_mul(1_000_000_000)
        .wrapping_add(now.tv_nsec as u64)
}

/// Milliseconds since the epoch.
pub(crate) fn unix_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (now.tv_sec as u64)
        .wrapping_mul(1000)
        .wrapping_add(now.tv_nsec as u64 / 1_000_000)
}

/// A signal by number.
pub(crate) fn signal(number: i32) -> Option<Signal> {
    Signal::from_named_raw(number)
}

/// Every pid in `/proc`.
pub(crate) fn all_pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
