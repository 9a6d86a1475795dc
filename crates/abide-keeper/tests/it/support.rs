//! Keepers for tests.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use abide_keeper::{
    ExitRecord, FrameAssembler, Io, KeeperClient, KeeperSpec, LaunchError, Launcher, Lifecycle,
    ReadError, Tag, Terminal, WindowSize,
};
use uuid::Uuid;

/// The binary that has a keeper, an observer and misbehaving programs.
pub(crate) fn harness() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_keeper-harness"))
}

/// A specification that runs the harness as a program.
pub(crate) fn child(args: &[&str]) -> KeeperSpec {
    let mut argv = vec![harness().to_string_lossy().into_owned(), "child".to_owned()];
    argv.extend(args.iter().map(|arg| (*arg).to_owned()));
    KeeperSpec {
        worker_id: Uuid::new_v4(),
        label: "test".to_owned(),
        argv,
        cwd: PathBuf::from("/"),
        env: vec![("GREETING".to_owned(), "hello".to_owned())],
        uid: None,
        gid: None,
        limits: Vec::new(),
        journal_bytes: 4 * 1024 * 1024,
        hang_up_grace_ms: 100,
        terminate_grace_ms: 100,
        io: Io::Pipes,
    }
}

/// As [`child`], but the program begins when [`Kept::begin`] says so: nothing of it is missed.
pub(crate) fn gated(args: &[&str]) -> KeeperSpec {
    child(&[&["go"], args].concat())
}

/// As [`gated`], for a shell script.
pub(crate) fn gated_shell(script: &str) -> KeeperSpec {
    let mut spec = child(&[]);
    spec.argv = ["/bin/sh", "-c", &format!("read go <&3; {script}")]
        .map(str::to_owned)
        .to_vec();
    spec.env
        .push(("PATH".to_owned(), "/usr/bin:/bin".to_owned()));
    spec
}

/// The same program on a terminal of 80 columns and 24 rows.
pub(crate) fn on_terminal(mut spec: KeeperSpec) -> KeeperSpec {
    spec.io = Io::Terminal(Terminal {
        size: WindowSize::new(80, 24),
        login: false,
    });
    spec
}

/// A program by name on a terminal.
pub(crate) fn program_on_terminal(argv: &[&str]) -> KeeperSpec {
    let mut spec = on_terminal(child(&[]));
    spec.argv = argv.iter().map(|arg| (*arg).to_owned()).collect();
    let path = std::env::var_os("PATH").unwrap().into_string().unwrap();
    spec.env.push(("PATH".to_owned(), path));
    spec
}

/// A shell script on a terminal.
pub(crate) fn shell_on_terminal(script: &str) -> KeeperSpec {
    program_on_terminal(&["/bin/sh", "-c", script])
}

/// A keeper under test; its tree is killed at the end whatever happened.
pub(crate) struct Kept {
    pub(crate) dir: PathBuf,
    pub(crate) worker_id: Uuid,
    home: tempfile::TempDir,
}

/// Launches keepers.
pub(crate) fn launcher() -> Launcher {
    Launcher::new(harness(), &["keeper"])
}

impl Kept {
    /// A place for a keeper, without one.
    pub(crate) fn place(spec: &KeeperSpec) -> Self {
        let home = tempfile::tempdir().unwrap();
        // A path longer than a socket address: the keeper must not mind.
        let dir = home.path().join("d".repeat(120));
        Self {
            dir,
            worker_id: spec.worker_id,
            home,
        }
    }

    pub(crate) fn launch(spec: &KeeperSpec) -> Self {
        Self::try_launch(spec).unwrap()
    }

    pub(crate) fn try_launch(spec: &KeeperSpec) -> Result<Self, LaunchError> {
        let kept = Self::place(spec);
        launcher().launch(&kept.dir, spec)?.wait_ready()?;
        Ok(kept)
    }

    /// Attaches, and lets a gated program begin.
    pub(crate) fn begin(&self) -> KeeperClient {
        let client = self.connect();
        client.deliver([0xff; 16], b"go\n").unwrap();
        client
    }

    pub(crate) fn connect(&self) -> KeeperClient {
        KeeperClient::connect(&self.dir).unwrap()
    }

    pub(crate) fn record(&self) -> abide_keeper::KeeperRecord {
        serde_json::from_slice(&std::fs::read(self.dir.join("keeper.json")).unwrap()).unwrap()
    }

    pub(crate) fn exit(&self) -> ExitRecord {
        abide_keeper::exit_record(&self.dir).unwrap()
    }

    /// No process of the worker is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.processes().is_empty()
    }

    /// Processes that belong to the worker.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let marker = format!("ABIDE_WORKER={}", self.worker_id);
        let pids = std::fs::read_dir("/proc").unwrap().flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &i32| {
                std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|text| {
                    text.split(|byte| *byte == 0)
                        .any(|entry| entry == marker.as_bytes())
                })
            })
            .collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Ok(client) = KeeperClient::connect(&self.dir) {
            let _ = client.kill();
            let journal = client.journal().clone();
            while !client.has_ended() {
                // What is left of the journal must not hold the keeper up.
                journal.set_cursor(journal.head_seq());
                let _ = client.wait(journal.head_seq());
            }
        }
        abide_keeper::kill_leftovers(self.worker_id);
        let _ = self.home.path();
    }
}

/// Everything a keeper's journal told, put together.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// All output, in order.
    pub(crate) output: Vec<u8>,
    /// Each with the output offset at its beginning.
    pub(crate) frames: Vec<(u64, Vec<u8>)>,
    pub(crate) inputs: Vec<Vec<u8>>,
    pub(crate) lifecycle: Vec<Lifecycle>,
    /// Changes of the terminal's size, each with the output offset where it stands.
    pub(crate) resized: Vec<(u64, WindowSize)>,
    /// How the program ended, with the output offset where that stands.
    pub(crate) exited: Option<(u64, ExitRecord)>,
    pub(crate) cursor: u64,
    control: FrameAssembler,
    input: FrameAssembler,
}

impl Told {
    /// Takes what is there; `false` at the head.
    pub(crate) fn take(&mut self, client: &KeeperClient) -> Result<bool, ReadError> {
        let journal = client.journal();
        let mut buf = Vec::new();
        let Some(record) = journal.next(&mut self.cursor, &mut buf)? else {
            return Ok(false);
        };
        match record.tag {
            Tag::Stdout | Tag::Stderr | Tag::Terminal => {
                match record.tag {
                    Tag::Stdout => self.stdout.extend_from_slice(&buf),
                    Tag::Stderr => self.stderr.extend_from_slice(&buf),
                    _ => {}
                }
                assert_eq!(record.output_offset, self.output.len() as u64);
                self.output.extend_from_slice(&buf);
            }
            Tag::Control => {
                if let Some((_, frame)) = self.control.push(&record, &buf) {
                    self.frames.push((record.output_offset, frame.to_vec()));
                }
            }
            Tag::Input => {
                if let Some((_, frame)) = self.input.push(&record, &buf) {
                    self.inputs.push(frame.to_vec());
                }
            }
            Tag::Lifecycle => {
                let event = serde_json::from_slice(&buf).unwrap();
                match &event {
                    Lifecycle::Resized { size, .. } => {
                        self.resized.push((record.output_offset, *size));
                    }
                    Lifecycle::Exited(exit) => {
                        self.exited = Some((record.output_offset, exit.clone()));
                    }
                    _ => {}
                }
                self.lifecycle.push(event);
            }
        }
        journal.set_cursor(self.cursor);
        Ok(true)
    }

    /// Reads until `done`, waiting for what is still to come.
    pub(crate) fn until(&mut self, client: &KeeperClient, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            if !self.take(client).unwrap() {
                assert!(
                    !client.has_ended() || self.take(client).unwrap(),
                    "ended before: {self:?}"
                );
                client.wait(self.cursor).unwrap();
            }
        }
    }

    pub(crate) fn until_closed(&mut self, client: &KeeperClient) {
        self.until(client, |told| {
            told.lifecycle.last() == Some(&Lifecycle::Closed)
        });
    }

    /// Reads until the output has `text`.
    pub(crate) fn until_printed(&mut self, client: &KeeperClient, text: &str) {
        while !self.text().contains(text) {
            let len = self.output.len();
            self.until(client, |told| told.output.len() > len);
        }
    }

    /// The output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Types all of it, reading what comes meanwhile.
    pub(crate) fn typing(&mut self, client: &mut KeeperClient, mut input: &[u8]) {
        while !input.is_empty() {
            let len = client.input(input).unwrap();
            input = &input[len..];
            if len == 0 && !self.take(client).unwrap() && client.terminal_input().prepare_wait() {
                client.wait(self.cursor).unwrap();
            }
        }
    }

    /// Reads a keeper's journal to its end.
    pub(crate) fn all(client: &KeeperClient) -> Self {
        let mut told = Self::default();
        told.until_closed(client);
        told
    }
}

/// Looks until it is so. For what no event tells.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        std::thread::yield_now();
    }
}

/// The harness's flood.
pub(crate) fn pattern(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// The end of a keeper, waited for.
pub(crate) fn wait_for_end(client: &KeeperClient) {
    let mut fds = [rustix::event::PollFd::from_borrowed_fd(
        client.pid_fd(),
        rustix::event::PollFlags::IN,
    )];
    rustix::event::poll(&mut fds, None).unwrap();
}
