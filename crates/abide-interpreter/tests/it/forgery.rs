//! Attempts to say something in the harness's name, and nonsense.

use abide_interpreter::ToHarness;
use abide_model::{Runtime, StepId, StepStatus};

use crate::running::Running;

/// The bytes of a frame, as a literal that both languages read the same way.
const FRAME: &str = "[19,0,0,0,2,111,112,8,0,0,0,102,105,110,105,115,104,101,100,0,0,0,0]";

#[test]
fn python_cannot_be_spoken_for() {
    let mut python = Running::start(Runtime::Python);
    python.quiet(&format!(
        "import os, subprocess, threading, sys\nframe = bytes({FRAME})"
    ));
    python.prints("os.write(1, frame) and None", &frame_text());
    python.prints(
        "subprocess.run(['sh', '-c', 'echo leaked; echo forged >&3']) and None",
        "leaked\n",
    );
    for descriptor in 3..20 {
        python.run(&format!("os.write({descriptor}, frame)"));
    }
    // A child that is given every descriptor gets none of ours.
    python.value(
        "out = subprocess.run(['ls', '-l', '/proc/self/fd'], capture_output=True, close_fds=False).stdout\nb'socket' in out",
        "False",
    );
    python.value("1", "1");
}

#[test]
fn a_forked_child_says_nothing() {
    let mut python = Running::start(Runtime::Python);
    let fork = "import os\npid = os.fork()\nif pid == 0:\n    print('child')\nelse:\n    status = os.waitpid(pid, 0)[1]\n    print('parent', status >> 8)";
    python.prints(fork, "child\nparent 0\n");
    let fails = fork.replace("print('child')", "1/0");
    let ended = python.run(&fails);
    assert_eq!(ended.out, "parent 1\n");
    assert!(ended.err.contains("ZeroDivisionError"), "{}", ended.err);
    let exits = fork.replace("print('child')", "raise SystemExit(7)");
    python.prints(&exits, "parent 7\n");
    // Not announced to Python, so that no hook runs.
    let raw = fork.replace("os.fork()", "__import__('ctypes').CDLL(None).fork()");
    python.prints(&raw, "child\nparent 0\n");
    python.value("2", "2");
}

#[test]
fn losing_the_channel_ends_the_interpreter() {
    for code in [
        "import os\nos.closerange(3, 4096)",
        "import os\nos.closerange(3, 4096)\nfor i in range(300): os.open('/dev/null', os.O_RDWR)",
        "import os\nfor i in range(3, 300):\n    try: os.dup2(1, i)\n    except OSError: pass",
    ] {
        let mut python = Running::start(Runtime::Python);
        python.submit(code, None);
        assert_eq!(python.next(), None, "{code}");
        assert_eq!(python.exit().code(), Some(71), "{code}");
    }
    let mut node = Running::start(Runtime::Node);
    node.submit(
        "for (let i = 3; i < 40; i++) { try { fs.closeSync(i) } catch {} }",
        None,
    );
    assert_eq!(node.next(), None);
    assert!(!node.exit().success());
}

#[test]
fn node_cannot_be_spoken_for() {
    let mut node = Running::start(Runtime::Node);
    node.quiet(&format!("const frame = Buffer.from({FRAME})"));
    node.prints("process.stdout.write(frame); undefined", &frame_text());
    node.run("fs.writeSync(3, frame)");
    node.prints("require('child_process').execSync('echo leaked; echo forged >&3 || true; echo forged >&9 || true', { stdio: ['inherit', 'inherit', 'ignore'] }); undefined", "leaked\n");
    node.value("setTimeout(() => process.stdout.write(frame), 1); 1", "1");
    node.wait(|running| running.out.ends_with(frame_text().as_bytes()));
    node.value("2", "2");
}

#[test]
fn random_code_gets_one_answer_each() {
    for runtime in [Runtime::Python, Runtime::Node] {
        let mut running = Running::start(runtime);
        let mut state = 88_172_645_463_325_252_u64;
        for round in 0..300 {
            let mut bytes = Vec::new();
            for _ in 0..round % 60 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                bytes.push(if round % 2 == 0 {
                    state as u8
                } else {
                    32 + (state % 95) as u8
                });
            }
            let ended = running.run(&String::from_utf8_lossy(&bytes));
            assert!(ended.status.is_terminal());
        }
        running.value("1 + 1", "2");
    }
}

#[test]
fn a_frame_in_pieces_is_one_frame() {
    for runtime in [Runtime::Python, Runtime::Node] {
        let mut running = Running::start(runtime);
        let code = format!("'{}'.length || 5", "x".repeat(3_000_000));
        let code = if runtime == Runtime::Python {
            code.replace(".length || 5", "[:1]")
        } else {
            code
        };
        let ended = running.run(&code);
        assert_eq!(ended.status, StepStatus::Completed);
        running.send(&ToHarness::Configure {
            cwd: "/".into(),
            env: Vec::new(),
        });
        running.send(&ToHarness::Step {
            id: StepId::new(),
            code: "1".into(),
            stdin: None,
            max_result_bytes: 10,
        });
        running.next();
        running.value("2", "2");
    }
}

fn frame_text() -> String {
    let bytes: Vec<u8> = FRAME
        .trim_matches(['[', ']'])
        .split(',')
        .map(|byte| byte.parse().unwrap())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
