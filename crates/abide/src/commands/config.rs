//! `abide config`: look at the configuration.

use clap::{Args, Subcommand};
use serde_json::json;

use super::App;
use crate::config::Flags;
use crate::error::Result;
use crate::output::{Format, FormatArgs, Style};

/// Look at the configuration
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Show every setting, its value and where the value comes from
    Show(ShowArgs),
}

/// Arguments of `config show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// As this command would have them: some variables, such as PORT, mean something to one only
    #[arg(long = "for", value_name = "COMMAND", value_parser = ["control-plane", "data-plane"])]
    command: Option<String>,
    /// How to show them.
    #[command(flatten)]
    format: FormatArgs,
}

impl ShowArgs {
    /// Takes the command that it is about.
    pub(crate) fn add_to(&self, flags: &mut Flags) {
        if let Some(command) = &self.command {
            flags.set_command(command);
        }
    }
}

/// Runs the subcommand.
pub(crate) fn run(app: App<'_>, command: &ConfigCommand) -> Result {
    let ConfigCommand::Show(ShowArgs { format, .. }) = command;
    let settings = app.config.effective();
    if format.output == Format::Json {
        let shown = |s: &crate::config::Effective| {
            let about = json!({ "value": s.value, "origin": s.origin.to_string() });
            (s.name.to_owned(), about)
        };
        let map: serde_json::Map<_, _> = settings.iter().map(shown).collect();
        return app.output.json(&map);
    }
    let rows: Vec<Vec<(Style, String)>> = settings
        .into_iter()
        .map(|s| {
            let value = if s.value.is_empty() {
                "-".to_owned()
            } else {
                s.value
            };
            vec![
                (Style::Plain, s.name.to_owned()),
                (Style::Plain, value),
                (Style::Dim, s.origin.to_string()),
            ]
        })
        .collect();
    app.output
        .styled_table(&["SETTING", "VALUE", "FROM"], &rows)
}
