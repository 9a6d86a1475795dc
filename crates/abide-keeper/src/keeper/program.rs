//! Starting the program.
#![expect(unsafe_code, reason = "pre_exec is unsafe to call")]

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{Mode, Uid, fchown};
use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Rlimit};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, tcgetattr, tcsetattr, tcsetwinsize};

use super::StartError;
use super::setup::{Connection, become_program};
use crate::journal::Tag;
use crate::leftovers::WORKER_VARIABLE;
use crate::spec::{Io, KeeperSpec};
use crate::terminal::{Terminal, missing_variables};

/// Bytes that a pipe holds before the program waits; the most that needs no privileges.
const PIPE_BYTES: usize = 1024 * 1024;

/// A program that runs, and the keeper's ends of its connections.
pub(super) struct Program {
    pub(super) pid: Pid,
    pub(super) ends: Ends,
}

/// The keeper's ends of a program's connections.
pub(super) struct Ends {
    /// What it can write to, and how that is tagged. A terminal is one.
    pub(super) outputs: [Option<(Tag, OwnedFd)>; 2],
    /// The control socket.
    pub(super) control: Option<OwnedFd>,
    /// The terminal, to be written to.
    pub(super) terminal: Option<OwnedFd>,
}

/// Starts the program of `spec`. `reserved` is the descriptor number that it will find its
/// control socket on.
pub(super) fn start(
    spec: &KeeperSpec,
    mut reserved: OwnedFd,
    umask: Mode,
) -> Result<Program, StartError> {
    let (name, arguments) = spec.argv.split_first().ok_or(StartError::NoProgram)?;
    if !spec.cwd.is_dir() {
        return Err(StartError::WorkingDirectory(spec.cwd.clone()));
    }
    let limits: Vec<_> = spec
        .limits
        .iter()
        .map(|limit| {
            let value = Rlimit {
                current: limit.soft,
                maximum: limit.hard,
            };
            (limit.resource.to_resource(), value)
        })
        .collect();
    let mut command = Command::new(name);
    command
        .args(arguments)
        .current_dir(&spec.cwd)
        .env_clear()
        .envs(spec.env.iter().map(|(name, value)| (name, value)))
        .env(WORKER_VARIABLE, spec.worker_id.to_string());
    let descriptors = |errno: rustix::io::Errno| StartError::Descriptors(errno.into());
    let (ends, connection) = match &spec.io {
        Io::Pipes => {
            command.process_group(0);
            let ends = pipes(&mut command, &mut reserved).map_err(descriptors)?;
            (ends, Connection::Control)
        }
        Io::Terminal(terminal) => {
            command.envs(missing_variables(&spec.env));
            if terminal.login {
                command.arg0(login_name(name));
            }
            let ends = open_terminal(&mut command, terminal, spec.uid).map_err(descriptors)?;
            (ends, Connection::Terminal)
        }
    };
    if let Some(uid) = spec.uid {
        command.uid(uid);
    }
    if let Some(gid) = spec.gid {
        command.gid(gid);
    }
    let keeper = std::process::id() as i32;
    // SAFETY: `become_program` makes system calls only and allocates nothing.
    unsafe { command.pre_exec(move || become_program(keeper, umask, &limits, connection)) };
    let child = command.spawn().map_err(|source| StartError::Program {
        program: name.clone(),
        source,
    })?;
    let pid = Pid::from_child(&child);
    Ok(Program { pid, ends })
}

/// How a login shell is called.
fn login_name(program: &str) -> OsString {
    let mut name = OsString::from("-");
    name.push(Path::new(program).file_name().unwrap_or_default());
    name
}

/// Nothing to read, two pipes to write to, and a control socket in the place of `reserved`.
fn pipes(command: &mut Command, reserved: &mut OwnedFd) -> rustix::io::Result<Ends> {
    let (stdout, stdout_end) = output_pipe()?;
    let (stderr, stderr_end) = output_pipe()?;
    let (control, control_end) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::ioctl_fionbio(&control, true)?;
    dup3(&control_end, reserved, DupFlags::CLOEXEC)?;
    command
        .stdin(Stdio::null())
        .stdout(stdout_end)
        .stderr(stderr_end);
    Ok(Ends {
        outputs: [Some((Tag::Stdout, stdout)), Some((Tag::Stderr, stderr))],
        control: Some(control),
        terminal: None,
    })
}

/// A pipe whose read end does not block. Its write end does, as programs expect.
fn output_pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    // Users have a limit on how much memory their pipes may hold; the default size works too.
    let _ = fcntl_setpipe_size(&read, PIPE_BYTES);
    Ok((read, write))
}

/// A terminal of the size asked for, which belongs to the user that the program runs as. The
/// program's end closes with `command`, so that only the program and its children hold it open.
fn open_terminal(
    command: &mut Command,
    terminal: &Terminal,
    owner: Option<u32>,
) -> rustix::io::Result<Ends> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags)?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    if let Some(uid) = owner {
        fchown(&theirs, Some(Uid::from_raw(uid)), None)?;
    }
    tcsetwinsize(&theirs, terminal.size.into())?;
    let mut modes = tcgetattr(&theirs)?;
    // So that the line editor of the kernel takes back characters, not bytes.
    modes.input_modes |= InputModes::IUTF8;
    tcsetattr(&theirs, OptionalActions::Now, &modes)?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    // Two descriptors: one is watched for output always, the other for room only at times.
    let writing = fcntl_dupfd_cloexec(&ours, 0)?;
    command
        .stdin(fcntl_dupfd_cloexec(&theirs, 0)?)
        .stdout(fcntl_dupfd_cloexec(&theirs, 0)?)
        .stderr(theirs);
    Ok(Ends {
        outputs: [Some((Tag::Terminal, ours)), None],
        control: None,
        terminal: Some(writing),
    })
}
