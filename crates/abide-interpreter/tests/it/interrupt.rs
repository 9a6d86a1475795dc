//! SIGINT to the process group, once a step has printed `go`.

use abide_model::{Runtime, StepStatus};

use crate::running::Running;

#[test]
fn python_stops_wherever_it_is() {
    let mut python = Running::start(Runtime::Python);
    python.quiet("import time, asyncio, subprocess, threading, signal, sys");
    for code in [
        "while True: pass",
        "time.sleep(60)",
        "await asyncio.sleep(60)",
        "await asyncio.sleep(0)\nwhile True: pass",
        "subprocess.run(['sleep', '60'])",
        "threading.Event().wait()",
        "class R:\n    def __repr__(self):\n        while True: pass\nR()",
        "class W:\n    closed = False\n    def write(self, t): pass\n    def flush(self):\n        while True: pass\nsys.stderr = W()",
    ] {
        let error = python.stops(&format!("print('go')\n{code}"));
        assert_eq!(error.kind, "KeyboardInterrupt", "{code}");
        assert!(!error.traceback.contains("abide"), "{}", error.traceback);
        python.run("sys.stderr = sys.__stderr__");
    }
    let error = python
        .stops("import os\ndef spin():\n    os.write(1, b'go\\n')\n    while True: pass\nspin()");
    assert!(error.traceback.contains("in spin"), "{}", error.traceback);
    python.quiet("_ = signal.signal(signal.SIGINT, signal.SIG_IGN)");
    python.stops("print('go')\nwhile True: pass");
    python.quiet("_ = signal.signal(signal.SIGINT, lambda *_: None)");
    for _ in 0..50 {
        python.stops("print('go')\nwhile True: pass");
    }
    python.value("1", "1");
}

#[test]
fn python_cleans_up_when_interrupted() {
    let mut python = Running::start(Runtime::Python);
    let ended = python.interrupt(
        "import asyncio\nasync def f():\n    try:\n        print('go')\n        await asyncio.sleep(60)\n    finally:\n        print('cleaned')\nawait f()",
    );
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (StepStatus::Interrupted, "go\ncleaned\n")
    );
    let ended = python.interrupt(
        "try:\n    print('go')\n    while True: pass\nexcept KeyboardInterrupt:\n    print('caught')\n5",
    );
    assert_eq!(
        (ended.status, ended.out.as_str()),
        (StepStatus::Completed, "go\ncaught\n")
    );
}

#[test]
fn node_stops_wherever_it_is() {
    let mut node = Running::start(Runtime::Node);
    let cases = [
        "console.log('go'); while (true) {}",
        "console.log('go'); await 0; while (true) {}",
        "await 0; console.log('go'); while (true) {}",
        "await new Promise((r) => setTimeout(r, 1)); console.log('go'); while (true) {}",
        "console.log('go'); await new Promise(() => {})",
        "setTimeout(() => { console.log('go'); while (true) {} }); await new Promise(() => {})",
        "process.nextTick(() => { console.log('go'); while (true) {} }); await new Promise(() => {})",
        "Promise.resolve().then(() => { console.log('go'); while (true) {} }); 1",
        "setImmediate(() => { console.log('go'); while (true) {} }); await new Promise(() => {})",
        "fs.readFile('/dev/null', () => { console.log('go'); while (true) {} }); await new Promise(() => {})",
        "({ [require('util').inspect.custom]() { console.log('go'); while (true) {} } })",
        "console.log('go'); try { while (true) {} } catch {} finally { console.log('never') }",
        "while (true) { console.log('go') }",
        // The child says when it is there to be interrupted too.
        "require('child_process').execSync('echo go; exec sleep 60', { stdio: 'inherit' })",
    ];
    for code in cases {
        let error = node.stops(code);
        assert_eq!(error.kind, "Interrupted", "{code}");
        node.prints("console.log('still here')", "still here\n");
    }
    for round in 0..20 {
        node.stops("console.log('go'); while (true) {}");
        node.stops("console.log('go'); await new Promise(() => {})");
        node.value(&format!("const n = {round}; n"), &round.to_string());
    }
}

/// Also when the watcher thread is not up yet as the step arrives.
#[test]
fn node_stops_in_its_first_step() {
    for code in [
        "console.log('go'); while (true) {}",
        "await 0; console.log('go'); while (true) {}",
        "console.log('go'); await new Promise(() => {})",
        "while (true) { console.log('go') }",
        "setTimeout(() => { console.log('go'); while (true) {} }); await new Promise(() => {})",
    ] {
        let mut node = Running::start(Runtime::Node);
        node.stops(code);
        node.value("1", "1");
        node.stops("console.log('go'); while (true) {}");
    }
}

#[test]
fn a_busy_callback_between_steps_can_be_stopped() {
    let mut node = Running::start(Runtime::Node);
    node.value(
        "setTimeout(() => { console.log('go'); while (true) {} }, 50); 1",
        "1",
    );
    node.wait(|running| running.out.ends_with(b"go\n"));
    node.signal();
    node.value("2", "2");
}

#[test]
fn idle_interpreters_ignore_it() {
    for runtime in [Runtime::Python, Runtime::Node] {
        let mut running = Running::start(runtime);
        running.signal();
        running.value("1 + 1", "2");
        for round in 0..20 {
            running.signal();
            running.value(&format!("{round} + 1"), &(round + 1).to_string());
        }
    }
}

/// Whether the step's frame has been read, the step begins, or runs already.
#[test]
fn an_interrupt_right_behind_a_step_stops_it() {
    for (runtime, codes) in [
        (
            Runtime::Python,
            ["while True: pass", "import time\ntime.sleep(60)"],
        ),
        (
            Runtime::Node,
            ["while (true) {}", "await new Promise(() => {})"],
        ),
    ] {
        let mut running = Running::start(runtime);
        for round in 0..150 {
            // Sometimes it is long enough to arrive in pieces.
            let length = [0, 0, 0, 5000, 300_000][round % 5];
            let code = codes[round % 2].to_owned() + &" ".repeat(length);
            // Seen when it fails.
            eprintln!("{runtime:?}, round {round}");
            let id = running.submit(&code, None);
            running.interrupt_step(id);
            let ended = running.stopped(id);
            assert_eq!(ended.status, StepStatus::Interrupted, "round {round}");
            if round % 10 == 0 {
                running.value(&format!("{round} + 1"), &(round + 1).to_string());
            }
        }
    }
    // The first step, too, for which Node's watcher has to be waited for.
    for runtime in [Runtime::Python, Runtime::Node] {
        for _ in 0..3 {
            let mut running = Running::start(runtime);
            let code = match runtime {
                Runtime::Python => "while True: pass",
                Runtime::Node => "while (true) {}",
            };
            let id = running.submit(code, None);
            running.interrupt_step(id);
            let ended = running.stopped(id);
            assert_eq!(ended.status, StepStatus::Interrupted);
            running.value("1", "1");
        }
    }
}

/// What Python does without looking for signals: says `go`, counts for as long as a signal may
/// take to arrive, and goes to sleep.
const BLINDLY_ASLEEP: &str = "import collections, functools, itertools, operator, os, time
call = operator.methodcaller('__call__')
say = functools.partial(os.write, 1, b'go\\n')
count = functools.partial(collections.deque, itertools.repeat(None, 3 * 10 ** 7), 0)
_ = list(map(call, [say, count, functools.partial(time.sleep, 60)]))";

#[test]
fn an_interrupt_right_before_a_wait_ends_the_wait() {
    let mut python = Running::start(Runtime::Python);
    for _ in 0..3 {
        let id = python.submit(BLINDLY_ASLEEP, None);
        python.wait_for_go();
        python.interrupt_step(id);
        assert_eq!(python.stopped(id).status, StepStatus::Interrupted);
    }
    python.value("1", "1");
}

/// Python drops what is raised in a `__del__`.
#[test]
fn an_interrupt_that_python_drops_is_raised_again() {
    let mut python = Running::start(Runtime::Python);
    let id = python.submit(
        "class D:\n    def __del__(self):\n        print('go')\n        while True: pass\n\
         D()\nwhile True: pass",
        None,
    );
    python.wait_for_go();
    python.interrupt_step(id);
    let ended = python.stopped(id);
    assert_eq!(ended.status, StepStatus::Interrupted);
    assert!(ended.err.contains("__del__"), "{}", ended.err);
    python.value("1", "1");
}

/// Nudges are no interrupts: what a step does once it was interrupted takes its time.
#[test]
fn nudges_do_not_disturb_cleaning_up() {
    let mut python = Running::start(Runtime::Python);
    let id = python.submit(
        "import os\nos.mkfifo('gate')\ntry:\n    print('go')\n    while True: pass\n\
         finally:\n    print('cleaning')\n    open('gate').read()\n    print('cleaned')",
        None,
    );
    python.wait_for_go();
    python.interrupt_step(id);
    python.wait(|python| python.out.ends_with(b"cleaning\n"));
    for _ in 0..20 {
        python.nudge();
    }
    let gate = python.directory.path().join("gate");
    drop(std::fs::File::options().write(true).open(gate).unwrap());
    let ended = python.finished(id);
    assert_eq!(ended.status, StepStatus::Interrupted);
    assert_eq!(ended.out, "go\ncleaning\ncleaned\n");
    // Nor are they of any account to a step that nobody has interrupted.
    for runtime in [Runtime::Python, Runtime::Node] {
        let mut running = Running::start(runtime);
        running.value("1", "1");
        for round in 0..20 {
            let id = running.submit(&format!("{round} + 1"), None);
            running.nudge();
            assert_eq!(running.finished(id).status, StepStatus::Completed);
        }
    }
}

/// Node's main thread answers the watcher, and is left alone, before it comes to the signal itself:
/// the answer is due in the same turn of the event loop as the rest of a long frame.
#[test]
fn a_thread_that_answers_the_watcher_knows_what_it_is_asked_for() {
    let mut node = Running::start_edited(&[(
        "node.js",
        "now(begin);\n    }",
        "now(begin), fs.writeSync(2, 'taken'), Atomics.wait(pause, 0, 0, 30);\n    }",
    )]);
    // Messages all the time, so that the event loop looks at them in each of its turns.
    node.run(
        "const { Worker } = require('worker_threads');\n\
         new Worker(`const { parentPort } = require('worker_threads');\n\
         setInterval(() => parentPort.postMessage(1), 1)`, { eval: true }).on('message', () => {});",
    );
    for round in 0..20 {
        let code = "while (true) {}".to_owned() + &" ".repeat(300_000);
        let before = node.err.len();
        let id = node.submit(&code, None);
        node.wait(|node| node.err.len() > before);
        node.interrupt_step(id);
        assert_eq!(
            node.finished(id).status,
            StepStatus::Interrupted,
            "round {round}"
        );
    }
}

const WATCHER_IS_LATE: (&str, &str, &str) = (
    "node_watcher.js",
    "signal.onsignal = () => {",
    "signal.onsignal = () => { Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 40);",
);

/// The watcher is late, and asks when the next step has begun already.
#[test]
fn a_late_watcher_does_not_hit_the_next_step() {
    let mut node = Running::start_edited(&[WATCHER_IS_LATE]);
    node.value("1", "1");
    for _ in 0..5 {
        let id = node.submit("console.log('go'); await new Promise(() => {})", None);
        node.wait_for_go();
        node.interrupt_step(id);
        assert_eq!(node.finished(id).status, StepStatus::Interrupted);
        node.value(
            "const end = Date.now() + 200; while (Date.now() < end); 'busy'",
            "'busy'",
        );
    }
}

/// The harness at work looks like user code that does not answer the watcher.
#[test]
fn the_watcher_does_not_end_what_the_harness_does() {
    let busy = "for (const end = Date.now() + 150; Date.now() < end;);";
    // Before and after it says that the step has ended.
    for at in [
        "  const [status, parts] = step.outcome;",
        "  step.done = true;",
    ] {
        let edit = ("node.js", at, &*format!("{busy} {at}"));
        let mut node = Running::start_edited(&[WATCHER_IS_LATE, edit]);
        node.value("1", "1");
        for _ in 0..5 {
            let id = node.submit("console.log('go'); await new Promise(() => {})", None);
            node.wait_for_go();
            node.interrupt_step(id);
            assert_eq!(node.finished(id).status, StepStatus::Interrupted);
            node.value("1", "1");
        }
    }
}

/// The watcher has made up its mind to end user code, which ends by itself.
#[test]
fn what_is_ended_too_late_is_not_the_next_step() {
    let mut node = Running::start_edited(&[(
        "node_watcher.js",
        "    const recover = ",
        "    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60);\n const recover = ",
    )]);
    let busy = |ms: u32| format!("const end = Date.now() + {ms}; while (Date.now() < end); 'busy'");
    node.value("1", "1");
    for _ in 0..5 {
        let id = node.submit(&format!("console.log('go'); {}", busy(50)), None);
        node.wait_for_go();
        node.interrupt_step(id);
        node.finished(id);
        node.value(&busy(200), "'busy'");
    }
}

/// An interrupt that comes while its step ends, or later, is for that step or for nobody.
#[test]
fn an_interrupt_names_its_step() {
    for runtime in [Runtime::Python, Runtime::Node] {
        let mut running = Running::start(runtime);
        for round in 0..150 {
            let id = running.submit("1 + 1", None);
            if round % 2 == 0 {
                running.finished(id);
                running.interrupt_step(id);
            } else {
                running.interrupt_step(id);
                running.finished(id);
            }
            running.value(&format!("{round} + 1"), &(round + 1).to_string());
        }
    }
}

/// A signal right at a step's end hits that step or nothing, never the next.
#[test]
fn a_late_interrupt_does_not_hit_the_next_step() {
    for runtime in [Runtime::Python, Runtime::Node] {
        let mut running = Running::start(runtime);
        running.value("1", "1");
        for round in 0..100 {
            let id = running.submit("1 + 1", None);
            running.signal();
            running.finished(id);
            running.value(&format!("{round} + 1"), &(round + 1).to_string());
        }
    }
}
