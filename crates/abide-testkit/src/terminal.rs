//! A program on a real pseudo-terminal, with a test at the keyboard.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::Exited;

/// Longer than anything shown takes; reaching it fails the test.
const DEADLINE: Duration = Duration::from_secs(30);
/// Wide enough that no line of a test wraps.
const SIZE: Winsize = Winsize {
    ws_row: 50,
    ws_col: 200,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A running program whose standard input, output and error are one terminal, which is its
/// controlling terminal: Ctrl-C is a signal to whatever is in the foreground. Dropping it ends
/// the program.
#[derive(Debug)]
pub struct Terminal {
    screen: File,
    child: Child,
    /// Everything shown so far, escape sequences included.
    shown: Vec<u8>,
    /// Up to where [`Terminal::wait_for`] has looked.
    seen: usize,
}

impl Terminal {
    /// Starts `program` on a new terminal of 200 columns and 50 lines. `prepare` gives the command its
    /// arguments, environment and directory.
    pub fn start(
        program: &std::path::Path,
        prepare: impl FnOnce(&mut Command),
    ) -> anyhow::Result<Self> {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("no pseudo-terminal")?;
        grantpt(&screen)?;
        unlockpt(&screen)?;
        tcsetwinsize(&screen, SIZE)?;
        let name = ptsname(&screen, Vec::new())?.into_string()?;
        let line = File::options().read(true).write(true).open(name)?;
        // `setsid` gives the program a session of its own with this terminal, then becomes it.
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(program);
        prepare(&mut command);
        let child = command
            .stdin(Stdio::from(line.try_clone()?))
            .stdout(Stdio::from(line.try_clone()?))
            .stderr(Stdio::from(line))
            .spawn()
            .context("cannot start `setsid` of util-linux")?;
        Ok(Self {
            screen: File::from(screen),
            child,
            shown: Vec::new(),
            seen: 0,
        })
    }

    /// Types keys: text, `\r` for Enter, `\x03` for Ctrl-C, `\x1b[A` for the upward arrow.
    pub fn press(&mut self, keys: &str) -> anyhow::Result<()> {
        self.screen.write_all(keys.as_bytes())?;
        Ok(())
    }

    /// Waits until `text` is shown after what was waited for before. What was shown on the way
    /// is returned, `text` included. An error when it does not come within 30 s or the program ends.
    pub fn wait_for(&mut self, text: &str) -> anyhow::Result<String> {
        loop {
            let new = &self.shown[self.seen..];
            let found = new
                .windows(text.len())
                .position(|window| window == text.as_bytes());
            if let Some(at) = found {
                let passed = String::from_utf8_lossy(&new[..at + text.len()]).into_owned();
                self.seen += at + text.len();
                return Ok(passed);
            }
            let more = self.read();
            if !more.with_context(|| format!("waiting for {text:?} after {:?}", self.rest()))? {
                bail!("it ended without {text:?}; {:?}", self.rest());
            }
        }
    }

    /// Waits for the program's end; returns how it ended and everything it had ever shown.
    pub fn end(&mut self) -> anyhow::Result<(Exited, String)> {
        while self.read()? {}
        let status = self.child.wait()?;
        let exited = Exited {
            code: status.code(),
            signal: status.signal(),
        };
        Ok((exited, String::from_utf8_lossy(&self.shown).into_owned()))
    }

    /// Gives the terminal another size, of which the program is told by a signal.
    pub fn resize(&self, columns: u16, rows: u16) -> anyhow::Result<()> {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ..SIZE
        };
        Ok(tcsetwinsize(&self.screen, size)?)
    }

    /// The terminal's settings, to be compared with what they were.
    pub fn settings(&self) -> anyhow::Result<String> {
        Ok(format!("{:?}", tcgetattr(&self.screen)?))
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn rest(&self) -> String {
        String::from_utf8_lossy(&self.shown[self.seen..]).into_owned()
    }

    /// Reads what is shown next; `false` at the end.
    fn read(&mut self) -> anyhow::Result<bool> {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = Timespec::try_from(end.saturating_duration_since(Instant::now()))?;
            match poll(&mut [PollFd::new(&self.screen, PollFlags::IN)], Some(&left)) {
                Ok(0) => bail!("nothing more is shown"),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut chunk = [0; 4096];
        match self.screen.read(&mut chunk) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.shown.extend_from_slice(&chunk[..count]);
                Ok(true)
            }
            // Nobody has the other side any more.
            Err(error) if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
