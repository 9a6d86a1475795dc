//! The person's terminal without line editing and signals, for as long as it is needed.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Standard input, raw. Dropping it gives it its settings back, also when that unwinds from a panic.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Makes standard input raw; fails if it is no terminal.
    pub(crate) fn enter() -> rustix::io::Result<Self> {
        let stdin = rustix::stdio::stdin();
        let before = tcgetattr(stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Fails where the terminal is gone.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}
