//! A terminal of the kernel's with a program on it, and nothing else.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use super::line::Line;

/// What takes longer than this will not come.
const PATIENCE: Duration = Duration::from_secs(60);
/// The kernel hands out 4 KiB at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// Columns and rows of every terminal here.
pub(super) const SIZE: (u16, u16) = (80, 24);

/// The terminal's end that is not the program's. Dropping it ends the program.
#[derive(Debug)]
pub(super) struct Pty {
    master: File,
    program: Child,
    buffer: Vec<u8>,
}

impl Pty {
    /// Starts a program on a new terminal, which is its controlling terminal.
    pub(super) fn start(command: &[String]) -> Result<Self> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = rustix::pty::openpt(flags).context("no terminal")?;
        rustix::pty::grantpt(&master)?;
        rustix::pty::unlockpt(&master)?;
        let slave = File::from(rustix::pty::ioctl_tiocgptpeer(&master, flags)?);
        let size = Winsize {
            ws_col: SIZE.0,
            ws_row: SIZE.1,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size)?;
        // It becomes the program; to do as much in a child of this process would need `unsafe`.
        let program = Command::new("setsid")
            .arg("--ctty")
            .args(command)
            .env("TERM", "xterm-256color")
            .env_remove("TMUX")
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave))
            .spawn()
            .context("cannot start setsid")?;
        Ok(Self {
            master: File::from(master),
            program,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// The terminal, for another thread.
    pub(super) fn master(&self) -> Result<File> {
        Ok(self.master.try_clone()?)
    }
}

impl Line for Pty {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.master.write_all(bytes).context("cannot type")
    }

    fn receive(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        let patience = Timespec::try_from(PATIENCE)?;
        let mut polled = [PollFd::from_borrowed_fd(self.master.as_fd(), PollFlags::IN)];
        let ready = rustix::event::poll(&mut polled, Some(&patience))?;
        ensure!(ready > 0, "the terminal stays silent");
        match self.master.read(&mut self.buffer) {
            Ok(count) if count > 0 => each(&self.buffer[..count]),
            // An error is how a terminal says that everybody has left it.
            _ => bail!("the program has ended"),
        }
        Ok(())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::terminals::host::Program;
    use crate::bench::terminals::line::until;

    #[test]
    fn a_program_has_a_terminal_of_its_own() {
        // Only whoever has a controlling terminal can open this.
        let program = Program::script("stty size </dev/tty; read -r go", &[]);
        let mut terminal = Pty::start(&program.0).unwrap();
        until(&mut terminal, "24 80\r\n").unwrap();
        terminal.send(b"go\n").unwrap();
        until(&mut terminal, "go\r\n").unwrap();
        while terminal.receive(&mut |_| {}).is_ok() {}
    }
}
