//! Being attached: keys there, output here, until one side leaves.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use abide_client::{Attach, Client, ResumableAttachment, ResumePolicy, Shown};
use abide_model::{Exit, StepStatus, ToTerminal, ViewerRole};
use rustix::termios::tcgetwinsize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::display::Display;
use super::film::Film;
use super::keys::{DetachKey, Keys};
use super::raw::Raw;
use super::signals::Signals;
use super::target::{Target, label};
use crate::commands::App;
use crate::connect::locator;
use crate::error::{CommandError, Kind, Result};

/// How long leaving may wait for what was typed to be sent, and for what was shown to be written.
const LAST_WORD: Duration = Duration::from_millis(500);
/// From a pipe no more is read while this much is not sent, in bytes.
const MOST_UNSENT: usize = 1024 * 1024;
const CTRL_C: u8 = 3;
/// What a terminal takes for the end of input.
const END_OF_INPUT: &[u8] = b"\x04";
/// Size of a terminal that nobody looks at.
const USUAL: (u16, u16) = (80, 24);

/// How to look.
#[derive(Debug)]
pub(crate) struct Viewing {
    /// At what.
    pub(crate) target: Target,
    /// Whether to type.
    pub(crate) role: ViewerRole,
    /// The key to leave with.
    pub(crate) detach_key: DetachKey,
    /// Output offset to begin at; at the present state if not given.
    pub(crate) from: Option<u64>,
    /// The end of a file or a pipe on standard input is typed, too.
    pub(crate) ends_input: bool,
    /// What the others see the viewer called.
    pub(crate) name: Option<String>,
    /// Where what is shown is written down.
    pub(crate) film: Option<Film>,
}

/// Why looking ended.
enum Ending {
    Exited(Exit),
    Gone,
    Detached,
    LeftAway,
    Signal(u8),
}

/// Looks at a terminal until its program ends, the person detaches, or a signal comes.
pub(crate) async fn view(app: App<'_>, client: Client, viewing: Viewing) -> Result<ExitCode> {
    let role = viewing.role;
    let is_terminal = std::io::stdin().is_terminal();
    let size = window();
    let mut policy = ResumePolicy::default();
    if is_terminal {
        // Somebody is there who can leave.
        policy.patience = Duration::MAX;
    }
    let attach = Attach {
        role,
        size: size.filter(|_| role == ViewerRole::Drive),
        resume_from: viewing.from,
        scrollback: None,
        // Nothing can stand in for output in a file or a pipe.
        blocks: !std::io::stdout().is_terminal(),
    };
    let (session, worker) = (viewing.target.session.id, viewing.target.worker.id);
    let locate = locator(&app.config, || {});
    let mut attachment = ResumableAttachment::new(client, session, worker, attach, policy, locate);
    if let Some(name) = &viewing.name {
        attachment = attachment.introduced(ToTerminal::Hello {
            name: Some(name.clone()),
            role: None,
            size_policy: None,
        });
    }
    let (cols, rows) = size.unwrap_or(USUAL);
    let failed = |e: std::io::Error| CommandError::io("cannot use this terminal", &e);
    let mut here = Here {
        app,
        attachment,
        display: Display::start(cols, rows).map_err(failed)?,
        signals: Signals::new().map_err(failed)?,
        window: signal(SignalKind::window_change()).map_err(failed)?,
        keys: Keys::Unasked,
        raw: None,
        is_terminal,
        viewing,
    };
    let ending = here.stay().await;
    here.leave(ending).await
}

struct Here<'a> {
    app: App<'a>,
    viewing: Viewing,
    attachment: ResumableAttachment,
    display: Display,
    signals: Signals,
    window: Signal,
    keys: Keys,
    raw: Option<Raw>,
    is_terminal: bool,
}

impl Here<'_> {
    async fn stay(&mut self) -> Result<Ending> {
        loop {
            let hears = self.is_terminal || self.attachment.unsent() < MOST_UNSENT;
            let ending = tokio::select! {
                shown = self.attachment.next() => match shown? {
                    Some(shown) => self.show(shown)?,
                    None => Some(Ending::Gone),
                },
                typed = self.keys.next(), if hears => self.typed(&typed),
                written = self.display.written() => {
                    let offset = written.map_err(not_written)?;
                    if offset > 0 {
                        self.attachment.ack(offset);
                    }
                    None
                }
                _ = self.window.recv() => {
                    if let (ViewerRole::Drive, Some((cols, rows))) = (self.viewing.role, window()) {
                        self.attachment.resize(cols, rows);
                    }
                    None
                }
                number = self.signals.next() => Some(Ending::Signal(number)),
            };
            if let Some(ending) = ending {
                return Ok(ending);
            }
        }
    }

    fn show(&mut self, shown: Shown) -> Result<Option<Ending>> {
        if let Some(film) = &mut self.viewing.film {
            film.take(&shown)?;
        }
        match shown {
            Shown::Attached { cols, rows } => {
                if self.raw.is_none() && self.is_terminal {
                    let raw = Raw::enter();
                    self.raw =
                        Some(raw.map_err(|e| CommandError::io("cannot use this terminal", &e))?);
                }
                self.keys.ask()?;
                self.display.resize(cols, rows);
                self.tell(false);
            }
            Shown::Away => self.tell(true),
            Shown::Snapshot {
                offset,
                cols,
                rows,
                bytes,
            } => self.display.snapshot(cols, rows, bytes, offset),
            Shown::Output { offset, bytes } => {
                let next = offset + bytes.len() as u64;
                self.display.output(bytes, next);
            }
            Shown::Resized { cols, rows } => self.display.resize(cols, rows),
            Shown::Exited(exit) => return Ok(Some(Ending::Exited(exit))),
            // Nothing that stands on the screen.
            Shown::Viewers { .. } | Shown::Refused { .. } => {}
        }
        Ok(None)
    }

    /// Does what is typed; nothing is typed at the end of input.
    fn typed(&mut self, typed: &[u8]) -> Option<Ending> {
        if typed.is_empty() {
            if self.is_terminal {
                // The window was closed; that is no reason to end what runs.
                return Some(Ending::Detached);
            }
            if self.viewing.ends_input {
                self.attachment.input(END_OF_INPUT);
            }
            return None;
        }
        let drives = self.viewing.role == ViewerRole::Drive;
        let detach = self.viewing.detach_key.find(typed);
        if let Some(at) = detach.filter(|_| self.is_terminal) {
            if drives {
                self.attachment.input(&typed[..at]);
            }
            return Some(Ending::Detached);
        }
        if self.is_terminal && typed.contains(&CTRL_C) {
            if self.attachment.is_away() {
                return Some(Ending::LeftAway);
            }
            if !drives {
                return Some(Ending::Detached);
            }
        }
        if drives {
            self.attachment.input(typed);
        }
        None
    }

    /// Tells that the server is away, or back.
    fn tell(&mut self, away: bool) {
        if !self.display.tell(away) && away {
            self.app
                .output
                .note("lost the server; waiting for it to come back");
        }
    }

    /// Gives the person's terminal back, then says what is to be said.
    async fn leave(mut self, ending: Result<Ending>) -> Result<ExitCode> {
        if matches!(ending, Ok(Ending::Detached)) {
            let sending = async {
                while self.attachment.unsent() > 0 && !self.attachment.is_away() {
                    self.attachment.next().await?;
                }
                Ok::<_, abide_client::Error>(())
            };
            // What is not sent by then is lost with the connection.
            let _ = tokio::time::timeout(LAST_WORD, sending).await;
        }
        self.display.leave();
        if matches!(ending, Ok(Ending::Exited(_) | Ending::Gone)) {
            tokio::select! {
                written = self.display.drain() => written.map_err(not_written)?,
                _ = self.signals.next() => {}
            }
        } else {
            // A terminal that is stopped would keep us for ever.
            let _ = tokio::time::timeout(LAST_WORD, self.display.drain()).await;
        }
        self.raw = None;
        if let Some(film) = self.viewing.film.take() {
            film.finish()?;
        }
        self.conclude(ending?).await
    }

    async fn conclude(self, ending: Ending) -> Result<ExitCode> {
        let label = label(&self.viewing.target);
        let output = self.app.output;
        let come_back = format!("`abide attach {label}` comes back");
        match ending {
            Ending::Exited(exit) => Ok(code(&exit)),
            Ending::Gone => {
                let (session, worker) = (&self.viewing.target.session, &self.viewing.target.worker);
                let client = self.attachment.client();
                let exit = client.terminal(session.id, worker.id).await?.worker.exit;
                let exit = exit.unwrap_or_default();
                if exit.code.is_none() && exit.signal.is_none() {
                    output.note(format!("[the terminal is gone: {}]", exit.reason));
                }
                Ok(code(&exit))
            }
            Ending::Detached => {
                output.note(format!("[detached; {come_back}]"));
                Ok(ExitCode::SUCCESS)
            }
            Ending::LeftAway => {
                Err(CommandError::new(Kind::Temporary, "the server is away").hint(come_back))
            }
            Ending::Signal(number) => Ok(ExitCode::from(128 + number)),
        }
    }
}

/// Columns and rows of the terminal that is standard output, or standard input.
pub(crate) fn window() -> Option<(u16, u16)> {
    let size = tcgetwinsize(rustix::stdio::stdout())
        .or_else(|_| tcgetwinsize(rustix::stdio::stdin()))
        .ok()?;
    // What has no size says 0.
    let fits = |side: u16| (2..=1000).contains(&side);
    (fits(size.ws_col) && fits(size.ws_row)).then_some((size.ws_col, size.ws_row))
}

/// The exit code for how a program ended, as shells have it.
fn code(exit: &Exit) -> ExitCode {
    let byte = |number: i32| u8::try_from(number & 0xff).unwrap_or(u8::MAX);
    ExitCode::from(match (exit.code, exit.signal) {
        (Some(code), _) => byte(code),
        (None, Some(signal)) => byte(128 + signal),
        (None, None) => Kind::Step(StepStatus::Lost).code(),
    })
}

fn not_written(error: std::io::Error) -> CommandError {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => CommandError::silent(Kind::BrokenPipe),
        _ => CommandError::io("cannot write to standard output", &error),
    }
}
