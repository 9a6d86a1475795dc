//! Whether the kernel killed a process for want of memory.

use std::path::{Path, PathBuf};

/// Counters of such kills, taken when the program was started.
#[derive(Debug)]
pub(super) struct OomCounters {
    /// The memory cgroup's counter, when there is one: it counts this worker's cgroup only.
    cgroup: Option<(PathBuf, u64)>,
    /// The whole machine's, when that is all there is.
    machine: u64,
}

impl OomCounters {
    pub(super) fn read() -> Self {
        let cgroup = cgroup_file().and_then(|path| Some((path.clone(), counter(&path)?)));
        let machine = match cgroup {
            Some(_) => 0,
            None => machine_counter(),
        };
        Self { cgroup, machine }
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
    counter(Path::new("/proc/vmstat")).unwrap_or_default()
}

/// The line `oom_kill N` of a file.
fn counter(path: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// The file that counts for this process's cgroup.
fn cgroup_file() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    candidates(&text).find(|file| counter(file).is_some())
}

/// Where the counter is, version 2 or 1, for the lines of `/proc/self/cgroup`. A machine may have
/// both, one of them without the memory controller.
fn candidates(cgroups: &str) -> impl Iterator<Item = PathBuf> {
    cgroups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        match controllers {
            "" => Some(format!("/sys/fs/cgroup{path}/memory.events").into()),
            "memory" => Some(format!("/sys/fs/cgroup/memory{path}/memory.oom_control").into()),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes them.
    const VERSION_2: &str = "low 0\nhigh 0\nmax 1712\noom 3\noom_kill 2\noom_group_kill 1\n";
    const VERSION_1: &str = "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n";
    const VMSTAT: &str = "nr_free_pages 5917242\noom_kill 7\ndrop_pagecache 0\n";

    #[test]
    fn the_counter_is_found_in_every_form() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("counter");
        for (text, count) in [
            (VERSION_2, Some(2)),
            (VERSION_1, Some(5)),
            (VMSTAT, Some(7)),
            ("oom_kill_disable 1\n", None),
            ("", None),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(counter(&file), count, "{text}");
        }
        assert_eq!(counter(&dir.path().join("missing")), None);
        assert_eq!(counter(Path::new("/proc/vmstat")), Some(machine_counter()));
    }

    #[test]
    fn both_versions_of_cgroups_are_looked_at() {
        let found = |text| candidates(text).collect::<Vec<_>>();
        let second = PathBuf::from("/sys/fs/cgroup/user.slice/a:b/memory.events");
        assert_eq!(found("0::/user.slice/a:b\n"), [second]);
        let hybrid = "9:name=systemd:/\n8:pids:/\n4:memory:/box/1\n1:cpu,cpuacct:/\n0::/\n";
        let first = PathBuf::from("/sys/fs/cgroup/memory/box/1/memory.oom_control");
        let second = PathBuf::from("/sys/fs/cgroup//memory.events");
        assert_eq!(found(hybrid), [first, second]);
        assert_eq!(found("garbage\n\n7:memory\n"), [] as [PathBuf; 0]);
    }

    #[test]
    fn a_kill_in_the_own_cgroup_counts_and_none_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("memory.events");
        std::fs::write(&file, VERSION_2).unwrap();
        let counters = OomCounters {
            cgroup: Some((file.clone(), 2)),
            // However many there were elsewhere.
            machine: 0,
        };
        assert!(!counters.have_grown());
        std::fs::write(&file, VERSION_2.replace("oom_kill 2", "oom_kill 3")).unwrap();
        assert!(counters.have_grown());
        // The cgroup went with the program: nothing is claimed.
        std::fs::remove_file(&file).unwrap();
        assert!(!counters.have_grown());
        let machine = machine_counter();
        let cgroup = None;
        assert!(!OomCounters { cgroup, machine }.have_grown());
    }
}
