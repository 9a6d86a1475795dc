//! `abide keeper DIR`: supervises one worker.

use std::path::Path;
use std::process::ExitCode;

/// Runs until the worker is gone.
pub(crate) fn run(dir: &Path) -> ExitCode {
    abide_keeper::run(dir)
}
