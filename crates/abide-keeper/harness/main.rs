//! Processes for the tests of `abide-keeper`, each named by the first argument.

mod child;
mod observer;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["keeper", _] => abide_keeper::run(),
        ["observe", journal] => observer::observe(Path::new(journal)),
        ["launch", dir, ..] => observer::launch_and_stay(Path::new(dir)),
        ["child", kind, ref rest @ ..] => child::run(kind, rest),
        _ => ExitCode::FAILURE,
    }
}
