//! Whether the kernel killed a process for want of memory.

use std::path::PathBuf;

/// Counters of such kills, taken before the program started.
#[derive(Debug)]
pub(super) struct OomCounters {
    /// The memory cgroup's counter, when there is one: it counts this worker's cgroup only.
    cgroup: Option<(PathBuf, u64)>,
    /// The whole machine's.
    machine: u64,
}

impl OomCounters {
    pub(super) fn read() -> Self {
        let cgroup = cgroup_file().and_then(|path| Some((path.clone(), counter(&path)?)));
        Self {
            cgroup,
            machine: machine_counter(),
        }
    }

    /// Whether there was such a kill since. Only when no cgroup counts for us the machine's
    /// counter is asked, which may mean somebody else's process.
    pub(super) fn have_grown(&self) -> bool {
        match &self.cgroup {
            Some((path, before)) => counter(path).is_some_and(|now| now > *before),
            None => machine_counter() > self.machine,
        }
    }
}

fn machine_counter() -> u64 {
    counter(&PathBuf::from("/proc/vmstat")).unwrap_or_default()
}

/// The line `oom_kill N` of a file.
fn counter(path: &PathBuf) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The file that counts for this process's cgroup, version 2 or 1.
fn cgroup_file() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let file = match controllers {
            "" => format!("/sys/fs/cgroup{path}/memory.events"),
            "memory" => format!("/sys/fs/cgroup/memory{path}/memory.oom_control"),
            _ => return None,
        };
        Some(PathBuf::from(file)).filter(|file| counter(file).is_some())
    })
}
