//! A recording on the person's terminal, at its own pace.

use std::io::{BufRead, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use abide_model::{CastError, CastEvent, CastReader};
use abide_terminal::ReplayFilter;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::display::Display;
use super::keys::Keys;
use super::raw::Raw;
use super::signals::Signals;
use crate::error::{CommandError, Kind, Result};

/// Lines that are read ahead.
const AHEAD: usize = 64;
/// Pieces that may wait to be written before no more is played.
const BEHIND: usize = 64;
const CTRL_C: u8 = 3;

/// How fast.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Times as fast as it was.
    pub(crate) speed: f64,
    /// Longest pause.
    pub(crate) idle_limit: Option<Duration>,
}

/// Plays what `source` has until its end, or until the person leaves. `keys`: standard input is the
/// person's, who can pause and leave.
pub(crate) async fn play(
    mut source: Box<dyn BufRead + Send>,
    keys: bool,
    pace: Pace,
) -> Result<ExitCode> {
    let unread = |e: std::io::Error| CommandError::io("cannot read the recording", &e);
    let mut head = String::new();
    source.read_line(&mut head).map_err(unread)?;
    let (reader, header) = CastReader::new(&head).map_err(|e| wrong(&e))?;
    let failed = |e: std::io::Error| CommandError::io("cannot use this terminal", &e);
    let mut player = Player {
        lines: lines(source).map_err(failed)?,
        reader,
        pace,
        display: Display::start(header.cols, header.rows).map_err(failed)?,
        filter: ReplayFilter::new(),
        signals: Signals::new().map_err(failed)?,
        keys: Keys::Unasked,
        shown: Duration::ZERO,
        waited: Duration::ZERO,
    };
    let raw = if keys && std::io::stdin().is_terminal() {
        player.keys.ask()?;
        Some(Raw::enter().map_err(|e| failed(e.into()))?)
    } else {
        None
    };
    let ending = player.run().await;
    player.display.leave();
    let drained = player.display.drain().await;
    drop(raw);
    let code = ending?;
    drained.map_err(not_written)?;
    Ok(code)
}

struct Player {
    lines: mpsc::Receiver<std::io::Result<String>>,
    reader: CastReader,
    pace: Pace,
    display: Display,
    filter: ReplayFilter,
    signals: Signals,
    keys: Keys,
    /// When the last event was, in the recording.
    shown: Duration,
    /// When it is due, from the beginning on.
    waited: Duration,
}

impl Player {
    async fn run(&mut self) -> Result<ExitCode> {
        let mut begun = Instant::now();
        let mut due: Option<(Instant, CastEvent)> = None;
        let mut paused: Option<Instant> = None;
        loop {
            let is_behind = self.display.behind() >= BEHIND;
            let plays = paused.is_none() && !is_behind;
            let at = due.as_ref().map(|(at, _)| *at);
            tokio::select! {
                biased;
                number = self.signals.next() => return Ok(ExitCode::from(128 + number)),
                typed = self.keys.next() => match typed.first() {
                    Some(&CTRL_C) => return Ok(ExitCode::from(130)),
                    Some(b'q') => return Ok(ExitCode::SUCCESS),
                    Some(b' ') => match paused.take() {
                        None => paused = Some(Instant::now()),
                        Some(since) => {
                            let pause = since.elapsed();
                            begun += pause;
                            due = due.take().map(|(at, event)| (at + pause, event));
                        }
                    },
                    _ => {}
                },
                written = self.display.written(), if self.display.behind() > 0 => {
                    written.map_err(not_written)?;
                }
                () = tokio::time::sleep_until(at.unwrap_or(begun)), if plays && at.is_some() => {
                    if let Some((_, event)) = due.take() {
                        self.show(event);
                    }
                }
                line = self.lines.recv(), if at.is_none() => {
                    let Some(line) = line else { return Ok(ExitCode::SUCCESS) };
                    let line = line.map_err(|e| CommandError::io("cannot read the recording", &e))?;
                    if let Some((at, event)) = self.reader.event(&line).map_err(|e| wrong(&e))? {
                        due = Some((begun + self.pause_before(at), event));
                    }
                }
            }
        }
    }

    /// The time at which an event is due that happened at `at`, from the beginning on.
    fn pause_before(&mut self, at: Duration) -> Duration {
        let pause = at.saturating_sub(self.shown);
        let pause = self.pace.idle_limit.map_or(pause, |limit| pause.min(limit));
        self.shown = at;
        // A pause that no clock can count is as good as the longest.
        let pause = Duration::try_from_secs_f64(pause.as_secs_f64() / self.pace.speed);
        let longest = Duration::from_secs(u64::from(u32::MAX));
        self.waited = (self.waited + pause.unwrap_or(longest).min(longest)).min(longest);
        self.waited
    }

    fn show(&mut self, event: CastEvent) {
        match event {
            CastEvent::Output(text) => {
                // What a program asked its terminal is not asked again.
                let mut bytes = Vec::with_capacity(text.len());
                self.filter.feed(text.as_bytes(), &mut bytes);
                self.display.output(bytes.into(), 0);
            }
            CastEvent::Resize { cols, rows } => self.display.resize(cols, rows),
            CastEvent::Exit(_) | CastEvent::Marker(_) | CastEvent::Other => {}
        }
    }
}

/// Reads lines on a thread, which ends with them or with the program: nobody else can end a read.
fn lines(
    mut source: Box<dyn BufRead + Send>,
) -> std::io::Result<mpsc::Receiver<std::io::Result<String>>> {
    let (sender, lines) = mpsc::channel(AHEAD);
    std::thread::Builder::new().spawn(move || {
        loop {
            let mut line = String::new();
            let read = match source.read_line(&mut line) {
                Ok(0) => return,
                Ok(_) => Ok(line),
                Err(error) => Err(error),
            };
            let failed = read.is_err();
            if sender.blocking_send(read).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(lines)
}

fn wrong(error: &CastError) -> CommandError {
    CommandError::new(Kind::Refused, error.to_string())
}

fn not_written(error: std::io::Error) -> CommandError {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => CommandError::silent(Kind::BrokenPipe),
        _ => CommandError::io("cannot write to standard output", &error),
    }
}
