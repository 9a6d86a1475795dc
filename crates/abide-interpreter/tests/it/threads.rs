//! Node's worker threads, which go on between steps. A thread waits at a pipe until the test
//! opens the other side, so that what it does is done when no step is at work.

use std::{fs::File, path::PathBuf};

use abide_model::{Runtime, StepStatus};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::running::Running;

/// A pipe in the interpreter's directory.
fn gate(running: &Running, name: &str) -> PathBuf {
    let path = running.directory.path().join(name);
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

/// Returns once the thread has come to the gate and gone through.
fn open(gate: &PathBuf) {
    drop(File::options().write(true).open(gate).unwrap());
}

/// A step that starts a thread and ends while the thread waits.
fn start(node: &mut Running, gate: &PathBuf, then: &str) {
    node.quiet(&format!(
        "new (require('worker_threads').Worker)(\
         `require('fs').readFileSync({gate:?}); {then}`, {{ eval: true }}); undefined"
    ));
}

#[test]
fn threads_print_between_steps() {
    let mut node = Running::start(Runtime::Node);
    let gate = gate(&node, "gate");
    start(
        &mut node,
        &gate,
        "console.log('%s is %d', 'late', 1); console.error('wrong'); \
         require('fs').writeSync(1, 'direct\\\\n')",
    );
    node.value("'while it waits'", "'while it waits'");
    open(&gate);
    node.wait(|running| running.out.len() >= 17 && running.err.ends_with(b"wrong\n"));
    // Through the main thread and past it: whole lines, in any order.
    let out = String::from_utf8(node.out.clone()).unwrap();
    let mut lines: Vec<&str> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["direct", "late is 1"]);
    node.value("6 * 7", "42");
}

#[test]
fn threads_print_into_the_step_that_waits_for_them() {
    let mut node = Running::start(Runtime::Node);
    let code = "const { Worker } = require('worker_threads');
        const worker = new Worker(`for (let i = 0; i < 1000; i++) console.log('line', i)`, { eval: true });
        await new Promise((resolve) => worker.on('exit', resolve))";
    let ended = node.run(code);
    let lines: String = (0..1000).map(|i| format!("line {i}\n")).collect();
    assert_eq!((ended.status, ended.out), (StepStatus::Completed, lines));
}

#[test]
fn a_thread_that_fails_between_steps_takes_nothing_along() {
    let mut node = Running::start(Runtime::Node);
    node.quiet("const x = 41");
    let first = gate(&node, "first");
    start(&mut node, &first, "throw new Error('of a thread')");
    open(&first);
    node.wait(|running| String::from_utf8_lossy(&running.err).contains("Error: of a thread"));
    node.value("x + 1", "42");
    let second = gate(&node, "second");
    start(&mut node, &second, "console.log('leaves'); process.exit(5)");
    open(&second);
    node.wait(|running| running.out == b"leaves\n");
    node.value("x + 2", "43");
}
