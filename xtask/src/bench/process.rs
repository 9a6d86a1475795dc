//! What processes cost, from /proc: CPU time, memory, wake-ups.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// The unit of `/proc/<pid>/stat`; the kernel shows hundredths whatever it counts in.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of a process with all of its threads, those that have ended included; exact to 10 ms.
pub(super) fn cpu(pid: u32) -> Result<Duration> {
    let text = read(pid, "stat")?;
    // The name, in parentheses, may hold anything.
    let (_, fields) = text.rsplit_once(')').context("no name in stat")?;
    let ticks: u32 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u32>().ok())
        .sum();
    Ok(TICK * ticks)
}

/// CPU time of a process with a single thread, to the nanosecond. An error when it has more: those
/// that end take their share with them, and the sum would run backwards.
pub(super) fn cpu_of_single_thread(pid: u32) -> Result<Duration> {
    let count = threads(pid)?.len();
    ensure!(count == 1, "process {pid} has {count} threads");
    let text = read(pid, "schedstat")?;
    let nanoseconds = text.split_whitespace().next().unwrap_or_default().parse();
    Ok(Duration::from_nanos(
        nanoseconds.context("no time in schedstat")?,
    ))
}

/// By thread: how often it has gone to sleep and been woken.
pub(super) type Wakeups = BTreeMap<PathBuf, u64>;

/// That of the threads that a process has now.
pub(super) fn wakeups(pid: u32) -> Result<Wakeups> {
    let of_thread = |thread: PathBuf| {
        let text = std::fs::read_to_string(thread.join("status")).ok()?;
        Some((thread, value(&text, "voluntary_ctxt_switches:")?))
    };
    Ok(threads(pid)?.into_iter().filter_map(of_thread).collect())
}

/// Proportional set size in bytes: shared pages are divided among those who share them.
pub(super) fn pss(pid: u32) -> Result<f64> {
    kibibytes(pid, "smaps_rollup", "Pss:")
}

/// Resident memory in bytes.
pub(super) fn rss(pid: u32) -> Result<f64> {
    kibibytes(pid, "status", "VmRSS:")
}

/// The part of resident memory that is the process's own, in bytes.
pub(super) fn anonymous(pid: u32) -> Result<f64> {
    kibibytes(pid, "status", "RssAnon:")
}

/// The highest resident memory since [`forget_peak`], in bytes.
pub(super) fn peak_rss(pid: u32) -> Result<f64> {
    kibibytes(pid, "status", "VmHWM:")
}

/// Lets [`peak_rss`] begin anew.
pub(super) fn forget_peak(pid: u32) -> Result<()> {
    std::fs::write(path(pid, "clear_refs"), "5").context("cannot reset the peak")
}

/// A process's children, and theirs.
pub(super) fn descendants(pid: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for thread in threads(pid)? {
        // A thread that has ended meanwhile has no children any more.
        let text = std::fs::read_to_string(thread.join("children")).unwrap_or_default();
        for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
            found.push(child);
            found.extend(descendants(child).unwrap_or_default());
        }
    }
    Ok(found)
}

/// Processes whose command line has every one of these words.
pub(super) fn with_arguments(words: &[&str]) -> Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc").context("cannot list processes")?;
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let line = std::fs::read(path(*pid, "cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line);
            words.iter().all(|word| line.contains(word))
        })
        .collect())
}

fn kibibytes(pid: u32, file: &str, name: &str) -> Result<f64> {
    let text = read(pid, file)?;
    let value = value(&text, name).with_context(|| format!("no {name} in {file}"))?;
    Ok(value as f64 * 1024.0)
}

/// The number on the line that begins with `name`.
fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn threads(pid: u32) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path(pid, "task"));
    let entries = entries.with_context(|| format!("no process {pid}"))?;
    Ok(entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect())
}

fn path(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn read(pid: u32, file: &str) -> Result<String> {
    std::fs::read_to_string(path(pid, file)).with_context(|| format!("no {file} of {pid}"))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};

    use super::*;

    #[test]
    fn a_process_can_be_looked_at() {
        let own = std::process::id();
        assert!(rss(own).unwrap() >= anonymous(own).unwrap());
        assert!(pss(own).unwrap() > 0.0);
        assert!(peak_rss(own).unwrap() > 0.0);
        let child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        assert!(descendants(own).unwrap().contains(&child.id()));
        assert_eq!(wakeups(child.id()).unwrap().len(), 1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(cpu(child.id()).is_err());
    }

    #[test]
    fn work_is_seen() {
        let own = std::process::id();
        let before = cpu(own).unwrap();
        // Work in a thread that has ended counts as well.
        let work = move || {
            while cpu(own).unwrap() < before + 3 * TICK {
                std::hint::black_box(0);
            }
        };
        std::thread::spawn(work).join().unwrap();
        assert!(cpu(own).unwrap() >= before + 3 * TICK);

        let mut child = std::process::Command::new("sh")
            .args(["-c", "while read line; do echo $line; done"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut output = BufReader::new(output);
        let mut echo = || {
            input.write_all(b"x\n").unwrap();
            output.read_line(&mut String::new()).unwrap();
        };
        echo();
        let before = cpu_of_single_thread(child.id()).unwrap();
        (0..100).for_each(|_| echo());
        assert!(cpu_of_single_thread(child.id()).unwrap() > before);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn numbers_are_found_by_name() {
        let text = "Rss:  10 kB\nPss:   7 kB\n";
        assert_eq!(value(text, "Pss:"), Some(7));
        assert_eq!(value(text, "Swap:"), None);
    }
}
