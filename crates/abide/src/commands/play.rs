//! `abide play`: a recording of a terminal.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::config::{Span, Value as _};
use crate::error::{CommandError, Result};
use crate::terminal::{Pace, play};

/// Play a recording of a terminal
///
/// Asciicast of version 2 or 3, as `abide record` and asciinema make it. Space pauses, q leaves. What the
/// recorded program asked its terminal is left out.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  abide play demo.cast\n  abide play demo.cast --speed 4 --idle-limit 2s\n  \
                  abide record demo | abide play -"
)]
pub(crate) struct PlayArgs {
    /// The recording, or - to read it from standard input
    file: PathBuf,
    /// So many times as fast
    #[arg(long, value_name = "NUMBER", default_value = "1", value_parser = parse_speed)]
    speed: f64,
    /// Shorten longer pauses to this time, for example 2s
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    idle_limit: Option<Span>,
}

/// Plays it.
pub(crate) async fn run(args: PlayArgs) -> Result<ExitCode> {
    let is_stdin = args.file.as_os_str() == "-";
    let source: Box<dyn BufRead + Send> = if is_stdin {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = std::fs::File::open(&args.file);
        let path = args.file.display();
        let file = file.map_err(|e| CommandError::io(format!("cannot read {path}"), &e))?;
        Box::new(BufReader::new(file))
    };
    let pace = Pace {
        speed: args.speed,
        idle_limit: args.idle_limit.map(|limit| -> Duration { limit.0 }),
    };
    play(source, !is_stdin, pace).await
}

fn parse_speed(text: &str) -> std::result::Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("use a number greater than 0".to_owned()),
    }
}
