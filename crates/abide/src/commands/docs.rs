//! `abide docs PAGE`: reference pages, made from what the program knows of itself.

use std::fmt::Write as _;

use clap::ValueEnum;

use super::App;
use crate::config::SETTINGS;
use crate::error::{EXIT_CODES, Result};

/// A page of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Page {
    /// docs/cli.md
    Cli,
    /// docs/configuration.md
    Configuration,
}

/// Prints the page.
pub(crate) fn run(app: App<'_>, page: Page) -> Result {
    let text = match page {
        Page::Cli => cli_page(),
        Page::Configuration => configuration_page(),
    };
    app.output.raw(text.as_bytes())
}

/// How wide help is on the page, whatever the terminal.
const WIDTH: usize = 90;

fn cli_page() -> String {
    let mut text = "# Command line\n\n\
        <!-- Made by `abide docs cli`; a test compares it. -->\n\n\
        Every command finds the running server and the key through the data directory.\n\
        Colours appear only on terminals and never when `NO_COLOR` is set.\n\n\
        ## Exit codes\n\n| code | meaning |\n|---|---|\n"
        .to_owned();
    for (code, meaning) in EXIT_CODES {
        let _ = writeln!(text, "| {code} | {meaning} |");
    }
    let mut root = crate::cli::command().term_width(WIDTH);
    root.build();
    let global = global_options(&mut root);
    let _ = write!(
        text,
        "\n## Options of every command\n\n```text\n{global}\n```\n"
    );
    describe(&mut text, &mut root, &global);
    text
}

/// The section of the help that is the same everywhere.
fn global_options(root: &mut clap::Command) -> String {
    let help = root.render_long_help().to_string();
    let section = help.split("Global options:\n").nth(1).unwrap_or_default();
    let section = section.split("\nExamples:").next().unwrap_or_default();
    trim_lines(section)
}

fn describe(text: &mut String, command: &mut clap::Command, global: &str) {
    let help = trim_lines(&command.render_long_help().to_string());
    let path = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    // The same section under every command would bury what differs.
    let help = help.replace(&format!("Global options:\n{global}"), "");
    let help = help.replace("\n\n\n", "\n\n");
    let _ = write!(text, "\n## `{path}`\n\n```text\n{}\n```\n", help.trim());
    for sub in command.get_subcommands_mut() {
        if !sub.is_hide_set() && sub.get_name() != "help" {
            describe(text, sub, global);
        }
    }
}

fn trim_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

fn configuration_page() -> String {
    let mut text = "# Configuration\n\n\
        <!-- Made by `abide docs configuration`; a test compares it. -->\n\n\
        A setting is taken from the first of these places that has it:\n\n\
        1. an argument: its own flag where a command has one, or `--set NAME=VALUE`;\n\
        2. its environment variable, unless that is empty, then those of other programs that mean\n   \
        the same;\n\
        3. the configuration file: the one named by `--config` or `ABIDE_CONFIG`, else `config.toml`\n   \
        in the data directory;\n\
        4. its default.\n\n\
        `abide config show` prints every value and where it came from. The file is TOML, one line\n\
        `name = value` per setting; a name that is not in this table is an error. Sizes are written\n\
        like `16MiB`, times like `500ms`, `10s` or `1h30m`, lists with commas or as TOML arrays.\n\n\
        | name | variable | default | meaning |\n|---|---|---|---|\n"
        .to_owned();
    for setting in SETTINGS {
        let aliases = setting.aliases.iter().map(|alias| match alias.command {
            None => format!("`{}`", alias.variable),
            Some(command) => format!("`{}` (`abide {command}`)", alias.variable),
        });
        let variables: Vec<_> = std::iter::once(format!("`{}`", setting.variable))
            .chain(aliases)
            .collect();
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            setting.name,
            variables.join(", "),
            setting.default,
            setting.meaning.trim()
        );
    }
    text.push_str(
        "\n## Other names\n\n\
        The further variables of a setting are the names that runtime-routing deployments use. The\n\
        setting's own variable always wins over them. One that a command is named beside counts for\n\
        that command alone; `abide config show --for COMMAND` shows what it would take.\n\n\
        Where the environment is `production` or `prod`, in any case, whatever turns authentication\n\
        off or forgets its records is refused. A value that is wrong or refused ends the program with\n\
        one line, `config error: VARIABLE …`, which names the variable that was set. Two rules differ\n\
        from those deployments on purpose: `ENV` need not be set, and SQLite is accepted in\n\
        production.\n",
    );
    text.push_str("\n`NO_COLOR` (set to anything) and `TERM=dumb` turn colours off.\n");
    text
}
