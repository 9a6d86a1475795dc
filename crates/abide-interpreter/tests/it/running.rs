//! A harness at work, driven by one thread: what it prints and says is read when a test waits.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use abide_interpreter::{FromHarness, Interpreter, ToHarness, discover, split_frame};
use abide_model::{Runtime, StepError, StepId, StepResult, StepStatus};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process, kill_process_group},
};

/// Between two nudges of a step that was interrupted.
const NUDGE: Duration = Duration::from_millis(50);
/// Longer than anything here takes; reaching it fails the test.
const DEADLINE: Duration = Duration::from_secs(20);
pub(crate) const RESULT_LIMIT: u64 = 100_000;

pub(crate) struct Running {
    channel: Option<UnixStream>,
    child: Child,
    stdout: ChildStdout,
    stderr: ChildStderr,
    received: Vec<u8>,
    frames: VecDeque<FromHarness>,
    closed: bool,
    /// All of standard output and error so far.
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
    /// How much of them the steps that have ended have been given.
    taken: (usize, usize),
    pub(crate) version: String,
    pub(crate) directory: tempfile::TempDir,
}

/// How a step ended, with what was printed since the step before.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: StepStatus,
    pub(crate) result: Option<StepResult>,
    pub(crate) error: Option<StepError>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Discovered once per test run.
pub(crate) fn interpreter(runtime: Runtime) -> &'static Interpreter {
    static PYTHON: OnceLock<Interpreter> = OnceLock::new();
    static NODE: OnceLock<Interpreter> = OnceLock::new();
    let (cell, variable) = match runtime {
        Runtime::Python => (&PYTHON, "ABIDE_TEST_PYTHON"),
        Runtime::Node => (&NODE, "ABIDE_TEST_NODE"),
    };
    cell.get_or_init(|| {
        let given = std::env::var_os(variable).map(PathBuf::from);
        let interpreter = discover(runtime, given.as_deref()).unwrap();
        interpreter.prepare(harness_directory()).unwrap();
        interpreter
    })
}

pub(crate) fn harness_directory() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

impl Running {
    /// Started, ready and configured, in an empty workspace.
    pub(crate) fn start(runtime: Runtime) -> Self {
        let mut running = Self::spawn(runtime);
        let env = [
            ("PATH", "/usr/bin:/bin"),
            ("HOME", "/"),
            ("GREETING", "hello = world"),
        ];
        running.configure(&env);
        running
    }

    /// Started and ready.
    pub(crate) fn spawn(runtime: Runtime) -> Self {
        Self::spawn_with(interpreter(runtime), harness_directory())
    }

    /// A Node harness with parts of its text (in this file, this, by that) replaced, to make rare
    /// moments last.
    pub(crate) fn start_edited(edits: &[(&str, &str, &str)]) -> Self {
        let prepared = tempfile::tempdir().unwrap();
        let node = interpreter(Runtime::Node);
        node.prepare(prepared.path()).unwrap();
        let home = prepared.path().read_dir().unwrap().next().unwrap().unwrap();
        for (file, what, by) in edits {
            let file = home.path().join(file);
            let text = std::fs::read_to_string(&file).unwrap();
            assert_eq!(text.matches(what).count(), 1, "{what}");
            std::fs::write(&file, text.replace(what, by)).unwrap();
        }
        let mut running = Self::spawn_with(node, prepared.path());
        running.configure(&[("PATH", "/usr/bin:/bin")]);
        running
    }

    /// Another interpreter, prepared in `prepared`.
    pub(crate) fn spawn_with(interpreter: &Interpreter, prepared: &Path) -> Self {
        let command = interpreter.command(prepared);
        let (ours, theirs) = UnixStream::pair().unwrap();
        // The shell moves the channel to descriptor 3 and is then replaced.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "exec \"$@\" 3<&0 0</dev/null", "sh"])
            .args(&command.argv)
            .env_clear()
            .envs(command.env)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        ours.set_nonblocking(true).unwrap();
        let stdout = child.stdout.take().unwrap();
        let stderr = child.stderr.take().unwrap();
        for pipe in [
            rustix::fd::AsFd::as_fd(&stdout),
            rustix::fd::AsFd::as_fd(&stderr),
        ] {
            rustix::io::ioctl_fionbio(pipe, true).unwrap();
        }
        let mut running = Self {
            channel: Some(ours),
            child,
            stdout,
            stderr,
            received: Vec::new(),
            frames: VecDeque::new(),
            closed: false,
            out: Vec::new(),
            err: Vec::new(),
            taken: (0, 0),
            version: String::new(),
            directory: tempfile::tempdir().unwrap(),
        };
        let Some(FromHarness::Ready { version, pid }) = running.next() else {
            panic!("not ready: {}", String::from_utf8_lossy(&running.err));
        };
        assert_eq!(pid, running.child.id());
        running.version = version;
        running
    }

    pub(crate) fn configure(&mut self, env: &[(&str, &str)]) {
        let cwd = self.directory.path().to_str().unwrap().to_owned();
        let env = env
            .iter()
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect();
        self.send(&ToHarness::Configure { cwd, env });
    }

    /// Runs a step that is expected to end by itself.
    pub(crate) fn run(&mut self, code: &str) -> Ended {
        self.run_with(code, None)
    }

    pub(crate) fn run_with(&mut self, code: &str, stdin: Option<&str>) -> Ended {
        let id = self.submit(code, stdin);
        self.finished(id)
    }

    /// Runs a step, and interrupts its process group once it has printed `go`.
    pub(crate) fn interrupt(&mut self, code: &str) -> Ended {
        let id = self.submit(code, None);
        self.wait_for_go();
        self.signal();
        self.stopped(id)
    }

    /// Waits until the running step has printed `go`.
    pub(crate) fn wait_for_go(&mut self) {
        self.wait(|running| running.out[running.taken.0..].starts_with(b"go\n"));
    }

    /// Interrupts a step as the session agent does, wherever it is.
    pub(crate) fn interrupt_step(&mut self, id: StepId) {
        self.send(&ToHarness::Interrupt { id });
        self.signal();
    }

    /// The end of a step that was interrupted; nudges the interpreter as the session agent does.
    pub(crate) fn stopped(&mut self, id: StepId) -> Ended {
        let end = Instant::now() + DEADLINE;
        self.read_available();
        while !self.closed && self.frames.is_empty() && Instant::now() < end {
            self.block_for(NUDGE, PollFlags::empty());
            self.read_available();
            self.nudge();
        }
        self.finished(id)
    }

    /// Ends a wait in which the interpreter has missed a signal.
    pub(crate) fn nudge(&self) {
        kill_process(Pid::from_child(&self.child), Signal::URG).unwrap();
    }

    pub(crate) fn signal(&self) {
        let group = Pid::from_child(&self.child);
        kill_process_group(group, Signal::INT).unwrap();
    }

    /// Sends a step.
    pub(crate) fn submit(&mut self, code: &str, stdin: Option<&str>) -> StepId {
        let id = StepId::new();
        self.send(&ToHarness::Step {
            id,
            code: code.to_owned(),
            stdin: stdin.map(str::to_owned),
            max_result_bytes: RESULT_LIMIT,
        });
        id
    }

    pub(crate) fn finished(&mut self, expected: StepId) -> Ended {
        match self.next() {
            Some(FromHarness::Finished {
                id,
                status,
                result,
                error,
            }) => {
                assert_eq!(id, expected);
                self.read_available();
                assert_eq!(self.frames, [], "nothing follows a finished frame");
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let out = text(&self.out[self.taken.0..]);
                let err = text(&self.err[self.taken.1..]);
                self.taken = (self.out.len(), self.err.len());
                Ended {
                    status,
                    result,
                    error,
                    out,
                    err,
                }
            }
            other => panic!("not finished: {other:?}; {}", self.said()),
        }
    }

    /// Waits for the interpreter's own end, the channel being open or closed.
    pub(crate) fn exit(&mut self) -> ExitStatus {
        self.wait(|running| running.closed);
        let status = self.child.wait().unwrap();
        self.read_available();
        status
    }

    /// Closes our side of the channel.
    pub(crate) fn hang_up(&mut self) -> ExitStatus {
        self.channel = None;
        let status = self.child.wait().unwrap();
        self.read_available();
        status
    }

    pub(crate) fn send(&mut self, message: &ToHarness) {
        let frame = message.encode();
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match self.channel.as_mut().unwrap().write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.block(PollFlags::OUT),
                Err(error) => panic!("the harness is gone: {error}; {}", self.said()),
            }
        }
    }

    /// The next frame; `None` when the channel has ended.
    pub(crate) fn next(&mut self) -> Option<FromHarness> {
        self.wait(|running| running.closed || !running.frames.is_empty());
        self.frames.pop_front()
    }

    pub(crate) fn wait(&mut self, until: impl Fn(&Self) -> bool) {
        let end = Instant::now() + DEADLINE;
        self.read_available();
        while !until(self) {
            assert!(Instant::now() < end, "waited too long; {}", self.said());
            self.block(PollFlags::empty());
            self.read_available();
        }
    }

    fn block(&self, also: PollFlags) {
        self.block_for(Duration::from_secs(5), also);
    }

    fn block_for(&self, limit: Duration, also: PollFlags) {
        let mut watched = vec![
            PollFd::new(&self.stdout, PollFlags::IN),
            PollFd::new(&self.stderr, PollFlags::IN),
        ];
        if let Some(channel) = &self.channel {
            watched.push(PollFd::new(channel, PollFlags::IN | also));
        }
        let limit = Timespec::try_from(limit).unwrap();
        poll(&mut watched, Some(&limit)).unwrap();
    }

    fn read_available(&mut self) {
        read_into(&mut self.stdout, &mut self.out);
        read_into(&mut self.stderr, &mut self.err);
        if let Some(channel) = &mut self.channel {
            self.closed |= read_into(channel, &mut self.received);
        }
        while let Some((payload, used)) = split_frame(&self.received).unwrap() {
            self.frames.push_back(FromHarness::decode(payload).unwrap());
            self.received.drain(..used);
        }
        // Output that came between the reads above belongs to the frames just read.
        read_into(&mut self.stdout, &mut self.out);
        read_into(&mut self.stderr, &mut self.err);
    }

    fn said(&self) -> String {
        format!(
            "stdout {:?}, stderr {:?}",
            String::from_utf8_lossy(&self.out),
            String::from_utf8_lossy(&self.err)
        )
    }

    // --- what tests say most ---

    /// The step's value, by its text.
    #[track_caller]
    pub(crate) fn value(&mut self, code: &str, text: &str) -> StepResult {
        let ended = self.run(code);
        assert_eq!(ended.error, None, "of {code}");
        let result = ended.result.unwrap_or_default();
        assert_eq!(result.text.as_deref(), Some(text), "of {code}");
        result
    }

    /// The step completes without a value.
    #[track_caller]
    pub(crate) fn quiet(&mut self, code: &str) {
        let ended = self.run(code);
        assert_eq!((ended.error, ended.result), (None, None), "of {code}");
    }

    /// The step completes and has printed exactly this on standard output.
    #[track_caller]
    pub(crate) fn prints(&mut self, code: &str, out: &str) {
        let ended = self.run(code);
        assert_eq!(ended.error, None, "of {code}");
        assert_eq!(ended.out, out, "of {code}");
    }

    /// The step ends with this error; its message contains `message`.
    #[track_caller]
    pub(crate) fn fails(&mut self, code: &str, kind: &str, message: &str) -> StepError {
        let ended = self.run(code);
        let error = ended.error.unwrap_or_default();
        assert_eq!(
            (ended.status, error.kind.as_str()),
            (StepStatus::Error, kind),
            "of {code}"
        );
        assert!(
            error.message.contains(message),
            "of {code}: {:?}",
            error.message
        );
        error
    }

    /// The step is interrupted once it has printed `go`.
    #[track_caller]
    pub(crate) fn stops(&mut self, code: &str) -> StepError {
        let ended = self.interrupt(code);
        assert_eq!(
            ended.status,
            StepStatus::Interrupted,
            "of {code}: {ended:?}"
        );
        ended.error.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads what is there; whether the stream has ended.
fn read_into(from: &mut impl Read, to: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 65536];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return true,
            Ok(count) => to.extend_from_slice(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // Also a connection reset: the harness died with unread frames.
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}
