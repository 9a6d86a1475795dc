//! What people and programs see: text, tables, JSON, colours and the sign of life.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::config::Environment;
use crate::error::{CommandError, Kind, Result};

/// The form of what a command reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// `-o`, for every command that reads something.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct FormatArgs {
    /// Form of the output
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORM"
    )]
    pub(crate) output: Format,
}

/// Standard output and standard error, and what they can show.
#[derive(Debug)]
pub(crate) struct Output {
    /// Standard output takes colours.
    colour: bool,
    /// Standard error takes colours.
    colour_errors: bool,
    /// Someone looks at standard error.
    watched: bool,
    /// The last byte on standard output was not the end of a line.
    open_line: bool,
}

/// How a piece of text is set off. Only on terminals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// As it is.
    Plain,
    /// Heads of tables and names.
    Bold,
    /// Less important.
    Dim,
    /// Good.
    Green,
    /// Doubtful.
    Yellow,
    /// Bad.
    Red,
}

impl Style {
    fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            _ if !colour => return text.to_owned(),
            Self::Plain => return text.to_owned(),
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

impl Output {
    /// Colours only on terminals, and not when `NO_COLOR` is set or `TERM` is `dumb`.
    pub(crate) fn new(environment: &Environment) -> Self {
        let allowed = environment.get("NO_COLOR").is_none()
            && environment.get("TERM").is_none_or(|term| term != "dumb");
        let watched = std::io::stderr().is_terminal();
        Self {
            colour: allowed && std::io::stdout().is_terminal(),
            colour_errors: allowed && watched,
            watched,
            open_line: false,
        }
    }

    /// A line on standard output.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result {
        let mut text = text.as_ref().to_owned();
        text.push('\n');
        self.raw(text.as_bytes())
    }

    /// Bytes on standard output, at once.
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result {
        if let Some(last) = bytes.last() {
            self.open_line = *last != b'\n';
        }
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)
            .and_then(|()| out.flush())
            .map_err(|e| match e.kind() {
                std::io::ErrorKind::BrokenPipe => CommandError::silent(Kind::BrokenPipe),
                _ => CommandError::io("cannot write to standard output", &e),
            })
    }

    /// Ends the line on standard output if it is not.
    pub(crate) fn end_line(&mut self) -> Result {
        if self.open_line {
            self.raw(b"\n")
        } else {
            Ok(())
        }
    }

    /// Bytes on standard error. That nobody reads them is no reason to fail.
    pub(crate) fn raw_error(&mut self, bytes: &[u8]) {
        let mut err = std::io::stderr().lock();
        let _ = err.write_all(bytes).and_then(|()| err.flush());
    }

    /// A remark on standard error.
    pub(crate) fn note(&mut self, text: impl AsRef<str>) {
        let text = Style::Dim.paint(text.as_ref(), self.colour_errors);
        self.raw_error(format!("{text}\n").as_bytes());
    }

    /// One JSON document, indented.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result {
        self.line(serde_json::to_string_pretty(value).map_err(not_json)?)
    }

    /// One JSON document on one line.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result {
        self.line(serde_json::to_string(value).map_err(not_json)?)
    }

    /// A table without lines: bold heads, columns two spaces apart.
    pub(crate) fn table(&mut self, heads: &[&str], rows: &[Vec<String>]) -> Result {
        let rows: Vec<Vec<(Style, String)>> = rows
            .iter()
            .map(|r| r.iter().map(|c| (Style::Plain, c.clone())).collect())
            .collect();
        self.styled_table(heads, &rows)
    }

    /// A table whose cells are styled; without heads when there are none.
    pub(crate) fn styled_table(&mut self, heads: &[&str], rows: &[Vec<(Style, String)>]) -> Result {
        let head: Vec<_> = heads
            .iter()
            .map(|h| (Style::Bold, (*h).to_owned()))
            .collect();
        let all = || std::iter::once(&head).chain(rows);
        let columns = all().map(Vec::len).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|i| {
                all()
                    .filter_map(|r| r.get(i))
                    .map(|c| c.1.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in all().filter(|row| !row.is_empty()) {
            for (i, (style, cell)) in row.iter().enumerate() {
                text.push_str(&style.paint(cell, self.colour));
                if i + 1 < row.len() {
                    let gap = widths[i] - cell.chars().count() + 2;
                    text.extend(std::iter::repeat_n(' ', gap));
                }
            }
            text.push('\n');
        }
        self.raw(text.as_bytes())
    }

    /// Shows an error with its causes and hints.
    pub(crate) fn error(&mut self, error: &CommandError) {
        if error.message.is_empty() {
            return;
        }
        let paint = |style: Style, text| style.paint(text, self.colour_errors);
        let label = if error.kind == crate::error::Kind::Config {
            "config error:"
        } else {
            "error:"
        };
        let mut text = format!("{} {}\n", paint(Style::Red, label), error.message);
        for cause in &error.causes {
            let lines = cause.trim_end().replace('\n', "\n  ");
            text.push_str(&format!("{} {lines}\n", paint(Style::Dim, "because:")));
        }
        for hint in &error.hints {
            text.push_str(&format!("{} {hint}\n", paint(Style::Yellow, "hint:")));
        }
        self.raw_error(text.as_bytes());
    }

    /// Waits for `work`; when that takes more than half a second, a spinner on the terminal says
    /// that something is being waited for.
    pub(crate) async fn waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let mut spinner = Spinner::new(self, what);
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    spinner.clear();
                    return done;
                }
                () = spinner.tick() => {}
            }
        }
    }
}

/// Shown on a watched standard error after half a second.
#[derive(Debug)]
pub(crate) struct Spinner {
    what: Option<String>,
    begun: tokio::time::Instant,
    frame: usize,
    drawn: bool,
}

/// From when on people wonder.
const SPINNER_AFTER: Duration = Duration::from_millis(500);
const SPINNER_EVERY: Duration = Duration::from_millis(100);
const FRAMES: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

impl Spinner {
    /// A spinner that is not drawn yet.
    pub(crate) fn new(output: &Output, what: &str) -> Self {
        let what = output.watched.then(|| what.to_owned());
        Self {
            what,
            begun: tokio::time::Instant::now(),
            frame: 0,
            drawn: false,
        }
    }

    /// Draws the next frame when its time has come; never returns when nobody looks.
    pub(crate) async fn tick(&mut self) {
        let Some(what) = &self.what else {
            return std::future::pending().await;
        };
        let frame = u32::try_from(self.frame).unwrap_or(u32::MAX);
        tokio::time::sleep_until(self.begun + SPINNER_AFTER + SPINNER_EVERY * frame).await;
        let seconds = self.begun.elapsed().as_secs();
        let mark = FRAMES[self.frame % FRAMES.len()];
        draw(&format!("\r{mark} {what} {seconds}s\x1b[K"));
        self.frame += 1;
        self.drawn = true;
    }

    /// Takes it off the screen.
    pub(crate) fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            draw("\r\x1b[K");
        }
    }

    /// Takes it off the screen for good.
    pub(crate) fn stop(&mut self) {
        self.clear();
        self.what = None;
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.clear();
    }
}

fn draw(text: &str) {
    let mut err = std::io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

fn not_json(error: serde_json::Error) -> CommandError {
    CommandError::new(Kind::Internal, "cannot write the answer as JSON").because(&error)
}

/// A size as people read it.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let mut tenths = u128::from(bytes) * 10;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if tenths < 10_240 {
            let whole = tenths / 10;
            return if unit == "B" {
                format!("{whole} B")
            } else {
                format!("{whole}.{} {unit}", tenths % 10)
            };
        }
        tenths /= 1024;
    }
    format!("{}.{} TiB", tenths / 10, tenths % 10)
}

/// How long ago, as people read it.
pub(crate) fn human_age(then: abide_model::Timestamp) -> String {
    let micros = abide_model::Timestamp::now().as_micros() - then.as_micros();
    let seconds = micros.max(0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (16 << 20, "16.0 MiB"),
            (5 << 40, "5.0 TiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }

    #[test]
    fn no_colour_no_escape() {
        assert_eq!(Style::Red.paint("x", false), "x");
        assert!(Style::Red.paint("x", true).starts_with('\x1b'));
        for variables in [[("NO_COLOR", "1")], [("TERM", "dumb")]] {
            let output = Output::new(&Environment::from(variables));
            assert!(!output.colour && !output.colour_errors);
        }
    }
}
