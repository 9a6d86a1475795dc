//! `abide key`: print the API key.

use clap::Args;
use serde_json::json;

use super::App;
use crate::connect::{find_key, key_path};
use crate::error::{CommandError, Kind, Result};
use crate::output::{Format, FormatArgs};

/// Print the API key
#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    /// Print where it is kept instead
    #[arg(long)]
    path: bool,
    /// Form of the output
    #[command(flatten)]
    format: FormatArgs,
}

/// Prints it.
pub(crate) fn run(app: App<'_>, args: KeyArgs) -> Result {
    let path = key_path(&app.config.data_dir);
    let json = args.format.output == Format::Json;
    if args.path && !json {
        return app.output.line(path.display().to_string());
    }
    let Some(key) = find_key(&app.config)? else {
        let message = format!("there is no key in {}", app.config.data_dir.display());
        return Err(
            CommandError::new(Kind::NotFound, message).hint("the first `abide up` makes one")
        );
    };
    if json {
        app.output.json(&json!({ "key": key, "path": path }))
    } else {
        app.output.line(key)
    }
}
