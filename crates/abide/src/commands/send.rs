//! `abide send`: type into a terminal.

use std::io::Read as _;

use clap::Args;

use super::App;
use crate::error::{CommandError, Result};
use crate::terminal::{Which, find};

/// What a request carries at most, in bytes.
const PIECE: usize = 256 * 1024;

/// Type into a terminal
///
/// The bytes as they are: a shell's $'\x03' is Ctrl-C. Text that begins with a hyphen stands behind `--`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  abide send demo 'make test' --enter\n  abide send demo/build $'\\x03'\n  \
                  abide send demo --stdin < keys"
)]
pub(crate) struct SendArgs {
    /// The session, or session/terminal by name or id; - for the only live one
    terminal: String,
    /// What to type; several with a space between
    #[arg(required_unless_present_any = ["enter", "stdin"])]
    text: Vec<String>,
    /// Press Enter at the end
    #[arg(long)]
    enter: bool,
    /// Type what standard input has, behind the text
    #[arg(long)]
    stdin: bool,
}

/// Types it.
pub(crate) async fn run(app: App<'_>, args: SendArgs) -> Result {
    let client = app.connect()?;
    let target = find(&client, Some(&args.terminal), Which::Live).await?;
    let mut keys = args.text.join(" ").into_bytes();
    if args.stdin {
        std::io::stdin()
            .read_to_end(&mut keys)
            .map_err(|e| CommandError::io("cannot read standard input", &e))?;
    }
    if args.enter {
        keys.push(b'\r');
    }
    for piece in keys.chunks(PIECE) {
        client
            .type_into(target.session.id, target.worker.id, piece.to_vec())
            .await?;
    }
    Ok(())
}
