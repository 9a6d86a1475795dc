//! Starting the program.
#![expect(unsafe_code, reason = "pre_exec is unsafe to call")]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::fs::Mode;
use rustix::io::{DupFlags, dup3};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::process::{Pid, Rlimit};

use super::StartError;
use super::setup::become_program;
use crate::journal::Tag;
use crate::leftovers::WORKER_VARIABLE;
use crate::spec::{Io, KeeperSpec};

/// Bytes that a pipe holds before the program waits; the most that needs no privileges.
const PIPE_BYTES: usize = 1024 * 1024;

/// A program that runs, and the keeper's ends of its connections.
pub(super) struct Program {
    pub(super) pid: Pid,
    /// What it can write to, and how that is tagged. A terminal will have one.
    pub(super) outputs: [Option<(Tag, OwnedFd)>; 2],
    /// The control socket.
    pub(super) control: OwnedFd,
}

/// Starts the program of `spec`. `reserved` is the descriptor number that it will find its
/// control socket on.
pub(super) fn start(
    spec: &KeeperSpec,
    mut reserved: OwnedFd,
    umask: Mode,
) -> Result<Program, StartError> {
    let (name, arguments) = spec.argv.split_first().ok_or(StartError::NoProgram)?;
    let Io::Pipes = spec.io;
    let descriptors = |errno: rustix::io::Errno| StartError::Descriptors(errno.into());
    let (stdout, stdout_end) = output_pipe().map_err(descriptors)?;
    let (stderr, stderr_end) = output_pipe().map_err(descriptors)?;
    let (control, control_end) = UnixStream::pair().map_err(StartError::Descriptors)?;
    control
        .set_nonblocking(true)
        .map_err(StartError::Descriptors)?;
    dup3(&control_end, &mut reserved, DupFlags::CLOEXEC).map_err(descriptors)?;
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
        .env(WORKER_VARIABLE, spec.worker_id.to_string())
        .stdin(Stdio::null())
        .stdout(stdout_end)
        .stderr(stderr_end)
        .process_group(0);
    if let Some(uid) = spec.uid {
        command.uid(uid);
    }
    if let Some(gid) = spec.gid {
        command.gid(gid);
    }
    let keeper = std::process::id() as i32;
    // SAFETY: `become_program` makes system calls only and allocates nothing.
    unsafe { command.pre_exec(move || become_program(keeper, umask, &limits)) };
    let child = command.spawn().map_err(|source| StartError::Program {
        program: name.clone(),
        source,
    })?;
    let pid = Pid::from_child(&child);
    let outputs = [Some((Tag::Stdout, stdout)), Some((Tag::Stderr, stderr))];
    Ok(Program {
        pid,
        outputs,
        control: control.into(),
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
