//! How a process becomes a keeper.
#![expect(
    unsafe_code,
    reason = "fork, signal dispositions and allocator settings have no safe form"
)]

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

use rustix::event::epoll;
use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd};
use serde::{Deserialize, Serialize};

use super::StartError;
use crate::files;
use crate::spec::KeeperRecord;

/// The descriptor on which a program finds its control socket. Kept occupied until the program
/// is started, so that nothing the keeper opens lands there.
pub(super) const CONTROL_FD: i32 = 3;

/// What a launcher reads from a new keeper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Announcement {
    Running(KeeperRecord),
    Failed(String),
}

/// What a fresh keeper process has.
pub(super) struct Bare {
    /// Tells which directory it is for.
    pub(super) orders: File,
    /// Where the launcher listens.
    pub(super) launcher: File,
    /// Occupies [`CONTROL_FD`].
    pub(super) reserved: OwnedFd,
    /// The mask that files of the program get.
    pub(super) umask: Mode,
}

/// Leaves the launcher: closes what was inherited, forks and lets the parent end, starts a
/// session of its own, and adopts whatever its descendants orphan.
///
/// The fork is what keeps a keeper from being anybody's child: its launcher need not wait for
/// it, and cannot tell the keepers it started from those it found.
pub(super) fn detach() -> Result<Bare, StartError> {
    close_above_standard();
    let reserved = File::open("/dev/null").map_err(StartError::Descriptors)?;
    // SAFETY: this is called first thing in main, so there is one thread; the child goes on as
    // if nothing had happened and the parent ends without running anything.
    match unsafe { libc::fork() } {
        0 => {}
        -1 => return Err(StartError::Fork(io::Error::last_os_error())),
        // SAFETY: ends this process at once.
        _ => unsafe { libc::_exit(0) },
    }
    rustix::process::setsid().map_err(|errno| StartError::Session(errno.into()))?;
    let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    ignore(libc::SIGHUP);
    ignore(libc::SIGPIPE);
    // Any pid means yes.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| StartError::Session(errno.into()))?;
    let _ = rustix::thread::set_name(c"abide-keeper");
    let kept = |standard: BorrowedFd<'_>| {
        fcntl_dupfd_cloexec(standard, CONTROL_FD + 1)
            .map_err(|errno| StartError::Descriptors(errno.into()))
    };
    let orders = kept(io::stdin().as_fd())?;
    let launcher = kept(io::stdout().as_fd())?;
    for replaced in [
        rustix::stdio::dup2_stdin(&reserved),
        rustix::stdio::dup2_stdout(&reserved),
    ] {
        replaced.map_err(|errno| StartError::Descriptors(errno.into()))?;
    }
    lean_allocator();
    Ok(Bare {
        orders: File::from(orders),
        launcher: File::from(launcher),
        reserved: reserved.into(),
        umask,
    })
}

/// Waits until the launcher says which directory the keeper is for; what it has to complain of goes into the
/// log there from then on. `None` if the launcher is gone or does not need it any more.
pub(super) fn assignment(orders: &mut File) -> Option<PathBuf> {
    let mut dir = Vec::new();
    orders.read_to_end(&mut dir).ok()?;
    let dir = PathBuf::from(OsString::from_vec(dir));
    if dir.as_os_str().is_empty() {
        return None;
    }
    let log = File::options().append(true).open(dir.join(files::LOG));
    // Without a log it says nothing.
    let _ = log.map(rustix::stdio::dup2_stderr);
    Some(dir)
}

/// Tells the launcher, in one write that a pipe takes whole, and hangs up. `false`: it has died
/// meanwhile.
pub(super) fn announce(mut launcher: File, announcement: &Announcement) -> bool {
    let text = serde_json::to_vec(announcement).unwrap_or_default();
    launcher.write_all(&text).is_ok()
}

fn close_above_standard() {
    // SAFETY: nothing in this process owns a descriptor yet. Kernels without the call (before
    // 5.9) leave what was inherited open; the launcher opens everything close-on-exec anyway.
    unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32) };
}

fn ignore(signal: i32) {
    // SAFETY: installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Large buffers go back to the system as soon as they are freed: a keeper that once passed a
/// long frame on is as small as before.
fn lean_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets two numbers; failure changes nothing.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 * 1024);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 * 1024);
    }
}

/// Gives memory that setting up has needed back to the system.
pub(super) fn trim_allocator() {
    #[cfg(target_env = "gnu")]
    // SAFETY: frees what nobody uses.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Blocks SIGCHLD and SIGTERM and returns a descriptor that they arrive on.
pub(super) fn signal_descriptor() -> Result<OwnedFd, StartError> {
    // SAFETY: the set is initialised by sigemptyset before use; signalfd returns a descriptor
    // that nobody else owns, or -1.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        match libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
            -1 => Err(StartError::Descriptors(io::Error::last_os_error())),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Numbers of the signals that wait on a descriptor of [`signal_descriptor`].
pub(super) fn take_signals(signals: &OwnedFd, mut each: impl FnMut(i32)) {
    const LEN: usize = size_of::<libc::signalfd_siginfo>();
    let mut info = [0; LEN];
    while let Ok(LEN) = rustix::io::read(signals, &mut info) {
        // The number is the structure's first field.
        each(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]));
    }
}

/// What descriptors the program has, besides 0, 1 and 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    /// Its control socket on [`CONTROL_FD`].
    Control,
    /// None; 0 is to be its controlling terminal.
    Terminal,
}

/// In the forked program, before exec: default signals, its limits, its own death with the
/// keeper's, its terminal, and the descriptors it is to have only. Async-signal-safe: system calls
/// and nothing else.
pub(super) fn become_program(
    keeper: i32,
    umask: Mode,
    limits: &[(rustix::process::Resource, rustix::process::Rlimit)],
    connection: Connection,
) -> io::Result<()> {
    // A kernel's sigaction of zeros is the default action. Directly, because the library will
    // not touch the two signals it uses itself, which may be ignored all the same.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: installs no handler; the kernel reads at most the 32 bytes there are, and
        // refuses numbers that cannot be set.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                0usize,
                8usize,
            )
        };
    }
    // SAFETY: the set is initialised before use.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
    rustix::process::umask(umask);
    for (resource, limit) in limits {
        rustix::process::setrlimit(*resource, *limit)?;
    }
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Had the keeper died before that call, nobody would tell.
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(keeper) {
        return Err(io::ErrorKind::NotConnected.into());
    }
    match connection {
        Connection::Control => {
            // SAFETY: the keeper has put the control socket there; see `CONTROL_FD`.
            let control = unsafe { BorrowedFd::borrow_raw(CONTROL_FD) };
            let flags = fcntl_getfd(control)?;
            rustix::io::fcntl_setfd(control, flags - FdFlags::CLOEXEC)?;
        }
        Connection::Terminal => {
            rustix::process::setsid()?;
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        }
    }
    // Close on exec instead of now: the standard library reports a failing exec through one of
    // these. Older kernels refuse, but everything the keeper has is close-on-exec already.
    // SAFETY: marks descriptors, closes none.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            4u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        );
    }
    Ok(())
}

/// Edge-triggered: a source is reported once and then read until it is empty, so that a source
/// which must wait costs nothing meanwhile.
pub(super) fn watch(
    epoll: &OwnedFd,
    fd: impl std::os::fd::AsFd,
    token: u64,
    flags: epoll::EventFlags,
) -> rustix::io::Result<()> {
    let data = epoll::EventData::new_u64(token);
    epoll::add(epoll.as_fd(), fd, data, flags | epoll::EventFlags::ET)
}
