//! `abide completions`: scripts for shells.

use clap::{Args, ValueEnum};
use clap_complete::Shell;

use super::App;
use crate::error::Result;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    abide completions bash > ~/.local/share/bash-completion/completions/abide\n  \
    abide completions zsh > ~/.zfunc/_abide\n  \
    abide completions fish > ~/.config/fish/completions/abide.fish")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Supported,
}

/// The shells we have tried.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Supported {
    /// GNU Bash
    Bash,
    /// Zsh
    Zsh,
    /// fish
    Fish,
}

/// Prints it.
pub(crate) fn run(app: App<'_>, args: &CompletionsArgs) -> Result {
    let shell = match args.shell {
        Supported::Bash => Shell::Bash,
        Supported::Zsh => Shell::Zsh,
        Supported::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::cli::command(), "abide", &mut script);
    app.output.raw(&script)
}
