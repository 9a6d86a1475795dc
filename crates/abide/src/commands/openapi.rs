//! `abide openapi`: prints the OpenAPI document.

use std::process::ExitCode;

use anyhow::Context as _;

/// Prints it.
pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let document = abide_control_plane::openapi()
        .to_pretty_json()
        .context("OpenAPI document")?;
    println!("{document}");
    Ok(ExitCode::SUCCESS)
}
