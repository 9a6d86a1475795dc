//! The way to standard output. A thread writes, so that a terminal that is slow or stopped keeps
//! neither keys nor signals waiting.

use std::io::{IsTerminal as _, Write as _};

use abide_terminal::{Screen, ScrollbackLimit, Size};
use bytes::Bytes;
use tokio::sync::mpsc;

/// Rows of terminals that do not say how many they have.
const ROWS: u16 = 24;

/// Shown in the title while the server is away; what the title was is kept by the terminal.
const AWAY: &[u8] = b"\x1b[22;2t\x1b]2;abide: reconnecting\x1b\\";
const BACK: &[u8] = b"\x1b[23;2t";

/// Ends what may be switched on: modes of keys, mouse, paste and printing, margins, looks. The cursor stays
/// where it is.
const CALM: &str = "\x1b[?1l\x1b>\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\
    \x1b[?1015l\x1b[?1016l\x1b[?2004l\x1b[?2026l\x1b[>4m\x1b[=0;1u\x1b[4l\x1b[20l\x1b[?7h\x1b7\x1b[r\x1b8\
    \x1b[?25h\x1b[0 q\x1b(B\x0f\x1b[m";

/// See the module.
#[derive(Debug)]
pub(crate) struct Display {
    queue: std::sync::mpsc::Sender<(Bytes, u64)>,
    written: mpsc::UnboundedReceiver<std::io::Result<u64>>,
    /// Pieces that are not written yet.
    behind: usize,
    /// What the person's terminal has become, if standard output is one.
    screen: Option<Screen>,
    /// Nothing was drawn yet.
    blank: bool,
    /// The title tells that the server is away.
    tells_away: bool,
}

impl Display {
    /// Starts the thread.
    pub(crate) fn start(cols: u16, rows: u16) -> std::io::Result<Self> {
        let (queue, pieces) = std::sync::mpsc::channel::<(Bytes, u64)>();
        let (done, written) = mpsc::unbounded_channel();
        std::thread::Builder::new().spawn(move || {
            for (bytes, offset) in pieces {
                let mut out = std::io::stdout().lock();
                let result = out.write_all(&bytes).and_then(|()| out.flush());
                let failed = result.is_err();
                // Nobody waits for it any more once the program leaves.
                if done.send(result.map(|()| offset)).is_err() || failed {
                    return;
                }
            }
        })?;
        let is_terminal = std::io::stdout().is_terminal();
        Ok(Self {
            queue,
            written,
            behind: 0,
            screen: is_terminal.then(|| screen(cols, rows)).flatten(),
            blank: true,
            tells_away: false,
        })
    }

    /// Draws a snapshot in place of everything.
    pub(crate) fn snapshot(&mut self, cols: u16, rows: u16, bytes: Bytes, next: u64) {
        if self.screen.is_some() {
            self.screen = screen(cols, rows);
            if std::mem::replace(&mut self.blank, false) {
                // A snapshot begins with a reset. What stood there before goes up into the scrollback.
                let lines = usize::from(super::window().map_or(ROWS, |(_, rows)| rows));
                let up = format!("\x1b[999;1H{}", "\n".repeat(lines));
                self.write(up.into_bytes().into(), 0);
            }
        }
        self.output(bytes, next);
    }

    /// Writes output that ends at offset `next`.
    pub(crate) fn output(&mut self, bytes: Bytes, next: u64) {
        self.blank = false;
        if let Some(screen) = &mut self.screen {
            screen.feed(&bytes);
        }
        self.write(bytes, next);
    }

    /// The terminal has another size.
    pub(crate) fn resize(&mut self, cols: u16, rows: u16) {
        if let (Some(screen), Ok(size)) = (&mut self.screen, Size::new(cols, rows)) {
            screen.resize(size);
        }
    }

    /// Tells on a terminal that the server is away, or is back, unless that would cut a character or a
    /// sequence in two; `false` if there is no terminal to tell it on.
    pub(crate) fn tell(&mut self, away: bool) -> bool {
        let Some(screen) = &self.screen else {
            return false;
        };
        if self.tells_away != away && screen.unfinished().is_empty() {
            self.tells_away = away;
            self.write(Bytes::from_static(if away { AWAY } else { BACK }), 0);
        }
        true
    }

    /// Pieces that are not written yet.
    pub(crate) const fn behind(&self) -> usize {
        self.behind
    }

    /// The output offset up to which all is written, when it has moved.
    pub(crate) async fn written(&mut self) -> std::io::Result<u64> {
        match self.written.recv().await {
            Some(result) => {
                self.behind -= 1;
                result
            }
            // The thread ends after an error only, which was told.
            None => std::future::pending().await,
        }
    }

    /// Waits until all is written.
    pub(crate) async fn drain(&mut self) -> std::io::Result<()> {
        while self.behind > 0 {
            self.written().await?;
        }
        Ok(())
    }

    /// Gives the person's terminal back in a state that a shell can live with.
    pub(crate) fn leave(&mut self) {
        self.tell(false);
        let Some(screen) = &self.screen else {
            return;
        };
        let mut text = String::new();
        if !screen.unfinished().is_empty() {
            // Whatever it is in the middle of.
            text.push('\x18');
        }
        if screen.is_alternate() {
            text.push_str("\x1b[?1049l");
        }
        text.push_str(CALM);
        if screen.cursor().col > 0 || screen.is_alternate() {
            text.push_str("\r\n");
        }
        self.write(text.into_bytes().into(), 0);
    }

    /// `next` is 0 for what is not the terminal's own output.
    fn write(&mut self, bytes: Bytes, next: u64) {
        self.behind += 1;
        // After an error nobody takes it, and the error was told.
        let _ = self.queue.send((bytes, next));
    }
}

fn screen(cols: u16, rows: u16) -> Option<Screen> {
    let size = Size::new(cols, rows).ok()?;
    Some(Screen::new(size, ScrollbackLimit(0), 0))
}
