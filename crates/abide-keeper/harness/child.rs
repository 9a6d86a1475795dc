//! Programs under a keeper, well behaved and not.
#![expect(
    unsafe_code,
    reason = "misbehaving takes fork, signal and raw descriptors"
)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::FromRawFd as _;
use std::process::ExitCode;

/// Byte `at` of what [`run`] floods with: no two offsets less than a page apart look the same
/// for eight bytes.
pub(crate) fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

pub(crate) fn run(kind: &str, args: &[&str]) -> ExitCode {
    let number = |at: usize| {
        args.get(at)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    match kind {
        "go" => {
            let _ = control().read_exact(&mut [0; 3]);
            let (kind, args) = args.split_first().unwrap_or((&"", &[]));
            return run(kind, args);
        }
        "flood" => flood(number(0), number(1)),
        "zeros" => zeros(number(0)),
        "frames" => frames(number(0)),
        "long-frame" => frame(&vec![7; number(0) as usize]),
        "bad-frame" => control()
            .write_all(&u32::MAX.to_le_bytes())
            .unwrap_or_default(),
        "torn-frame" => control().write_all(&[9, 0, 0, 0, 1, 2]).unwrap_or_default(),
        "echo" => echo(),
        "heed" => heed(number(0) as usize),
        "fds" => descriptors(),
        "env" => environment(),
        "stubborn" => stubborn(),
        "orphans" => orphans(),
        "pause" => pause(),
        "exit" => return ExitCode::from(number(0) as u8),
        // SAFETY: signals this process.
        "raise" => unsafe {
            libc::raise(number(0) as i32);
        },
        "last-words" => {
            out(b"last words\n");
            frame(b"last frame");
        }
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn control() -> std::mem::ManuallyDrop<File> {
    raw(3)
}

fn frame(payload: &[u8]) {
    let mut bytes = (payload.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(payload);
    let _ = control().write_all(&bytes);
}

fn out(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// `total` bytes of the pattern; every third of the pieces to standard error when `mix`.
fn flood(total: u64, mix: u64) {
    let mut piece = vec![0; 60_000];
    let (mut stdout, mut stderr) = (raw(1), raw(2));
    let (mut at, mut turn) = (0, 0);
    while at < total {
        let len = (total - at).min(1 + turn * 7919 % 60_000) as usize;
        for (offset, byte) in piece[..len].iter_mut().enumerate() {
            *byte = pattern(at + offset as u64);
        }
        let to = if mix != 0 && turn % 3 == 2 {
            &mut stderr
        } else {
            &mut stdout
        };
        if to.write_all(&piece[..len]).is_err() {
            return;
        }
        at += len as u64;
        turn += 1;
    }
}

fn raw(fd: i32) -> std::mem::ManuallyDrop<File> {
    // SAFETY: the keeper has opened 0 to 3, and they are never closed by this.
    std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

/// As fast as it goes; for measuring.
fn zeros(total: u64) {
    let piece = vec![b'x'; 64 * 1024];
    let mut stdout = raw(1);
    let mut left = total;
    while left > 0 {
        let len = left.min(piece.len() as u64) as usize;
        if stdout.write_all(&piece[..len]).is_err() {
            return;
        }
        left -= len as u64;
    }
}

/// A line of output of varying length, then a frame with the same number.
fn frames(count: u64) {
    for number in 0..count {
        let line = format!("{number}:{}\n", "y".repeat((number * 37 % 5000) as usize));
        if number % 2 == 0 {
            out(line.as_bytes());
        } else {
            let _ = raw(2).write_all(line.as_bytes());
        }
        frame(&number.to_le_bytes());
    }
}

/// Every frame comes back as a frame; `quit` ends it.
fn echo() {
    let mut control = control();
    loop {
        let mut len = [0; 4];
        if control.read_exact(&mut len).is_err() {
            return;
        }
        let mut payload = vec![0; u32::from_le_bytes(len) as usize];
        if control.read_exact(&mut payload).is_err() || payload == b"quit" {
            return;
        }
        frame(&payload);
    }
}

/// Reads `len` bytes and what the interrupt brings; says whether all of it was there as soon as
/// the signal was.
fn heed(len: usize) {
    let is_pending = || {
        // SAFETY: both sets are initialised by the calls that fill them.
        unsafe {
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGINT);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::sigpending(&raw mut set);
            libc::sigismember(&raw const set, libc::SIGINT) == 1
        }
    };
    is_pending();
    out(b"ready\n");
    let (mut seen, mut last, mut piece) = (0, Vec::new(), vec![0; 4096]);
    while !is_pending() {
        let Ok(count) = control().read(&mut piece[..4096.min(len + 4 - seen)]) else {
            return;
        };
        seen += count;
        last.extend_from_slice(&piece[..count]);
        if seen == len + 4 {
            break;
        }
    }
    let mut waiting = 0;
    // SAFETY: writes one number.
    unsafe { libc::ioctl(3, libc::FIONREAD, &raw mut waiting) };
    while is_pending() && waiting > 0 {
        let Ok(count) = control().read(&mut piece) else {
            return;
        };
        waiting -= count as i32;
        last.extend_from_slice(&piece[..count]);
    }
    out(&last[last.len().saturating_sub(4)..]);
}

fn descriptors() {
    let mut names: Vec<String> = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
    {
        // The listing's own descriptor is gone by the time it is looked at.
        if let Ok(target) = std::fs::read_link(entry.path()) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !target.ends_with("fd") {
                let target = target.to_string_lossy().into_owned();
                names.push(format!("{name}={}", target.split(':').next().unwrap_or("")));
            }
        }
    }
    names.sort();
    out(names.join("\n").as_bytes());
}

fn environment() {
    let mut all: Vec<String> = std::env::vars()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    all.sort();
    out(all.join("\n").as_bytes());
}

fn pause() {
    // SAFETY: waits for a signal.
    unsafe { libc::pause() };
}

fn ignore_everything() {
    for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGINT] {
        // SAFETY: installs no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn forever(name: &str) -> ! {
    frame(format!("{name} {}", std::process::id()).as_bytes());
    loop {
        pause();
    }
}

/// Ignores what can be ignored, with children that try to get away.
fn stubborn() {
    ignore_everything();
    // SAFETY: single-threaded; the children only run `forever`.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            forever("session");
        }
        if libc::fork() == 0 {
            // Forked twice: the one in between ends.
            libc::setsid();
            if libc::fork() == 0 {
                libc::setsid();
                forever("daemon");
            }
            libc::_exit(0);
        }
    }
    forever("leader");
}

/// Ends at once and leaves a daemon behind that goes on writing.
fn orphans() {
    // SAFETY: as above.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                ignore_everything();
                forever("daemon");
            }
            libc::_exit(0);
        }
    }
    // Only once the daemon is there.
    let _ = std::fs::read_to_string("/proc/self/stat");
}
