//! Looking for processes that should be gone.

use std::path::Path;

/// Process ids whose command line or environment names `dir`: keepers and their programs.
pub fn processes_of_worker_dir(dir: &Path) -> Vec<u32> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            ["cmdline", "environ"].iter().any(|file| {
                std::fs::read(format!("/proc/{pid}/{file}"))
                    .is_ok_and(|text| text.windows(needle.len()).any(|window| window == needle))
            })
        })
        .collect()
}

/// Whether a process is there and not a zombie.
pub fn still_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

/// Whether `pid` is a live process that was started for `dir`, and not another one's by now.
pub(crate) fn agent_is_there(dir: &Path, pid: Option<i32>) -> bool {
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    pid.is_some_and(|pid| processes_of_worker_dir(dir).contains(&pid))
}
