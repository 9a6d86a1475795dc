//! From a fresh clone to a running Abide.

use anyhow::Result;

use crate::command::Command;
use crate::repository::Repository;
use crate::setup;

/// Sets up, builds the release binary, says what to type next and becomes `abide up`.
pub(crate) fn run(repository: &Repository, arguments: &[String]) -> Result<()> {
    setup::for_running()?;
    println!("Building Abide (the first time takes a few minutes).");
    repository
        .cargo(["build", "--release", "--locked", "--package", "abide"])
        .run()?;
    let binary = repository.target()?.join("release/abide");

    let here = std::env::current_dir()?;
    let shown = binary.strip_prefix(&here).unwrap_or(&binary).display();
    println!(
        "
Abide starts now and stays in this terminal; Ctrl-C ends it. In another one, type:

    {shown} run -s demo 'x = 41'       # the session \"demo\" is made on first use
    {shown} run -s demo 'x + 1'        # 42
    {shown} status                     # what runs, where its data is, its address
    {shown} --help                     # everything else

Kill it however you like and start it again: x is still 41.
"
    );
    Err(Command::new(&binary)
        .arguments(["up"])
        .arguments(arguments)
        .replace())
}
