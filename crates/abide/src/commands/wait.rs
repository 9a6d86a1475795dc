//! `abide wait`: until a terminal shows something.

use std::ops::Range;
use std::time::Duration;

use abide_client::{Attach, ResumableAttachment, ResumePolicy, Shown};
use abide_model::{Exit, ViewerRole};
use abide_terminal::{Screen, ScrollbackLimit, Size};
use clap::Args;
use regex::{Regex, RegexBuilder};
use tokio::time::Instant;

use super::App;
use crate::config::{Span, Value as _};
use crate::connect::locator;
use crate::error::{CommandError, Kind, Result};
use crate::terminal::{Which, find, label};

/// Wait until a terminal shows something, has been idle for a while, or has ended
///
/// A regular expression is looked for in what the screen shows, also in what only scrolls by; the rows
/// that it is found in are printed.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 when it came, 1 when the program ended without it, 124 when it did not come in \
                  time.\n\n\
                  Examples:\n  abide wait demo --for 'test result: .*' --timeout 5m\n  \
                  abide wait demo --for idle --idle 2s\n  abide wait demo/build --for exit"
)]
pub(crate) struct WaitArgs {
    /// The session, or session/terminal by name or id; the only live one if not given
    terminal: Option<String>,
    /// A regular expression, `idle` or `exit`
    #[arg(long = "for", value_name = "WHAT", value_parser = What::parse)]
    what: What,
    /// Give up after this time, for example 30s
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    timeout: Option<Span>,
    /// Without output for so long a terminal is idle
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = Span::parse)]
    idle: Span,
}

/// What is waited for.
#[derive(Debug, Clone)]
enum What {
    Text(Regex),
    Idle,
    Exit,
}

impl What {
    fn parse(text: &str) -> std::result::Result<Self, String> {
        match text {
            "idle" => Ok(Self::Idle),
            "exit" => Ok(Self::Exit),
            text => RegexBuilder::new(text)
                .multi_line(true)
                .build()
                .map(Self::Text)
                .map_err(|e| e.to_string()),
        }
    }
}

/// Waits for it.
pub(crate) async fn run(app: App<'_>, args: WaitArgs) -> Result {
    let client = app.connect()?;
    let target = find(&client, args.terminal.as_deref(), Which::Latest).await?;
    let attach = Attach {
        role: ViewerRole::View,
        size: None,
        resume_from: None,
        scrollback: Some(0),
        // What is looked for may be anywhere.
        blocks: matches!(args.what, What::Text(_)),
    };
    let (session, worker) = (target.session.id, target.worker.id);
    let policy = ResumePolicy {
        // The timeout is what limits waiting.
        patience: args.timeout.map_or(Duration::MAX, |timeout| timeout.0),
        ..ResumePolicy::default()
    };
    let locate = locator(&app.config, || {});
    let attachment = ResumableAttachment::new(client, session, worker, attach, policy, locate);
    let mut watch = Watch {
        attachment,
        screen: None,
        idle: args.idle.0,
    };
    let label = label(&target);
    let waiting = app.output.waiting("waiting", watch.until(&args.what));
    let came = match args.timeout {
        None => waiting.await,
        Some(limit) => match tokio::time::timeout(limit.0, waiting).await {
            Ok(came) => came,
            Err(_) => {
                let message = format!("{label} did not show it within the time");
                return Err(CommandError::new(Kind::TimedOut, message)
                    .hint(format!("`abide screen {label}` prints what it shows")));
            }
        },
    };
    let exit = match came? {
        Came::Row(row) => return app.output.line(row),
        Came::Idle => return Ok(()),
        Came::Ended(exit) => exit,
        Came::Gone => {
            let client = watch.attachment.client();
            let state = client.terminal(session, worker).await?;
            state.worker.exit.unwrap_or_default()
        }
    };
    if matches!(args.what, What::Text(_)) {
        let message = format!("{label} has ended: {}", exit.reason);
        return Err(CommandError::new(Kind::NeverComes, message));
    }
    app.output.line(exit.reason)
}

enum Came {
    /// The rows with what was waited for.
    Row(String),
    Idle,
    Ended(Exit),
    /// It was gone before anybody could see how it ended.
    Gone,
}

struct Watch {
    attachment: ResumableAttachment,
    screen: Option<Screen>,
    idle: Duration,
}

impl Watch {
    async fn until(&mut self, what: &What) -> Result<Came> {
        let mut quiet_since = Instant::now();
        loop {
            // While the server is away nobody knows whether there is output.
            let waits_for_quiet = matches!(what, What::Idle) && self.screen.is_some();
            let quiet = waits_for_quiet && !self.attachment.is_away();
            let shown = tokio::select! {
                shown = self.attachment.next() => shown?,
                () = tokio::time::sleep_until(quiet_since + self.idle), if quiet => {
                    return Ok(Came::Idle);
                }
            };
            quiet_since = Instant::now();
            let found = match shown {
                Some(Shown::Snapshot {
                    offset,
                    cols,
                    rows,
                    bytes,
                }) => {
                    let size = Size::new(cols, rows).map_err(|e| {
                        CommandError::new(Kind::Protocol, "a screen of no size").because(&e)
                    })?;
                    self.screen = Some(Screen::new(size, ScrollbackLimit(0), offset));
                    self.feed(what, &bytes)
                }
                Some(Shown::Output { bytes, .. }) => self.feed(what, &bytes),
                Some(Shown::Resized { cols, rows }) => {
                    if let (Some(screen), Ok(size)) = (&mut self.screen, Size::new(cols, rows)) {
                        screen.resize(size);
                    }
                    None
                }
                Some(Shown::Exited(exit)) => return Ok(Came::Ended(exit)),
                Some(
                    Shown::Attached { .. }
                    | Shown::Away
                    | Shown::Viewers { .. }
                    | Shown::Refused { .. },
                ) => None,
                None => return Ok(Came::Gone),
            };
            if let Some(row) = found {
                return Ok(Came::Row(row));
            }
        }
    }

    /// Takes output; the row that is looked for, if it is shown at any time.
    fn feed(&mut self, what: &What, bytes: &[u8]) -> Option<String> {
        let screen = self.screen.as_mut()?;
        let What::Text(text) = what else {
            screen.feed(bytes);
            return None;
        };
        // So little at once that no row is gone before it is looked at.
        let (cols, rows) = (screen.size().cols().into(), screen.size().rows().into());
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(half_a_screen(rest, cols, rows));
            screen.feed(piece);
            rest = more;
            let shown = screen.text();
            if let Some(found) = text.find(&shown) {
                return Some(rows_of(&shown, found.range()).to_owned());
            }
        }
        None
    }
}

/// How many of the bytes scroll a screen by its half at most.
fn half_a_screen(bytes: &[u8], cols: usize, rows: usize) -> usize {
    let half = (rows / 2).max(1);
    let most = bytes.len().min(cols * half);
    let mut ends = bytes[..most]
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n');
    ends.nth(half - 1).map_or(most, |(at, _)| at + 1)
}

/// The rows that a range lies in.
fn rows_of(text: &str, range: Range<usize>) -> &str {
    let start = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[range.end..]
        .find('\n')
        .map_or(text.len(), |at| range.end + at);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_around_what_was_found() {
        let check = |looked_for: &str, expected| {
            let text = "one\ntwo three\nfour";
            let at = text.find(looked_for).unwrap();
            assert_eq!(rows_of(text, at..at + looked_for.len()), expected);
        };
        check("one", "one");
        check("three", "two three");
        check("e\nf", "two three\nfour");
        check("r", "two three");
        check("our", "four");
    }

    #[test]
    fn no_more_than_half_a_screen() {
        let check = |bytes: &str, expected| {
            assert_eq!(
                half_a_screen(bytes.as_bytes(), 10, 4),
                expected,
                "{bytes:?}"
            );
        };
        check("abc", 3);
        check("a\nb\nc\n", 4);
        check("\n", 1);
        check("012345678901234567890123456789", 20);
    }
}
