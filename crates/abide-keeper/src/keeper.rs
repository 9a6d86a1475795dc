//! The keeper process: one thread, one epoll loop.
//!
//! ```text
//! Running --program ends--> Leaving --what it wrote is read--> Recording --exit is journalled-->
//! Clearing --nothing is left of the tree--> Closing --all is journalled--> gone
//! ```
//!
//! In `Clearing` the rest of the tree is killed at once, except on a terminal: what a shell has left
//! running goes on there, and is journalled, until it ends or a client stops it.

mod appends;
mod clients;
mod control;
mod inbox;
mod messages;
mod oom;
mod output;
mod program;
mod pump;
mod setup;
mod terminal;
mod title;
mod tree;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rustix::event::epoll::{self, EventFlags};
use rustix::process::{Signal, WaitOptions, WaitStatus};
use rustix::time::Timespec;
use uuid::Uuid;

use self::appends::{Appends, Then};
use self::clients::{Clients, Identity};
use self::control::Control;
use self::messages::DeliveredIds;
use self::oom::OomCounters;
use self::output::Output;
pub(crate) use self::setup::Announcement;
use self::terminal::Terminal;
use self::title::Title;
use self::tree::Tree;
use crate::files;
use crate::journal::{CreateError, JournalWriter, Tag};
use crate::process::{ProcessStamp, boot_id, boottime_ns, unix_ms};
use crate::protocol::PROTOCOL_VERSION;
use crate::spec::{ExitRecord, Io, KeeperRecord, KeeperSpec, Lifecycle};

/// What epoll calls the keeper's descriptors.
mod token {
    pub(super) const SIGNALS: u64 = 0;
    pub(super) const LISTENER: u64 = 1;
    pub(super) const CLIENT: u64 = 2;
    pub(super) const WAKE: u64 = 3;
    pub(super) const CONTROL: u64 = 4;
    /// Or the terminal's output.
    pub(super) const STDOUT: u64 = 5;
    pub(super) const STDERR: u64 = 6;
    pub(super) const TERMINAL_ROOM: u64 = 7;
}
/// The first of the handshakes' tokens.
const JOINING: u64 = 16;

/// The journal's pages are let go of when so many bytes were written and then nothing for
/// [`TRIM_AFTER_NS`]: an idle keeper is small, a busy one does not fault its pages in again.
const TRIM_BYTES: u64 = 128 * 1024;
const TRIM_AFTER_NS: u64 = 1_000_000_000;
/// Between two looks at a full disk.
const DISK_RETRY_NS: u64 = 250_000_000;

/// Why a keeper could not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("the specification cannot be read")]
    Spec(#[source] io::Error),
    #[error("there is no specification in the directory")]
    NoSpec,
    #[error("the specification names no program")]
    NoProgram,
    #[error("cannot fork")]
    Fork(#[source] io::Error),
    #[error("cannot become a session of its own")]
    Session(#[source] io::Error),
    #[error("cannot set up descriptors")]
    Descriptors(#[source] io::Error),
    #[error("cannot create the journal")]
    Journal(#[source] CreateError),
    #[error("cannot listen on the control socket")]
    Listen(#[source] io::Error),
    #[error("there is no directory {} to start in", .0.display())]
    WorkingDirectory(PathBuf),
    #[error("cannot run {program:?}")]
    Program {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("the program ended before it could be looked at")]
    ProgramGone,
    #[error("cannot write what others find the keeper by")]
    Record(#[source] io::Error),
}

/// Runs a keeper. To be called first thing in `main`: the process forks, leaves its session, and
/// closes every descriptor beyond 2. From descriptor 0 it reads which directory it is for, which has a
/// `spec.json`; there is nothing to do if that is closed without a word. It tells its launcher through
/// descriptor 1 how starting went, and returns when the program has ended, its tree is gone, and everything
/// is in the journal.
pub fn run() -> ExitCode {
    let mut bare = match setup::detach() {
        Ok(bare) => bare,
        Err(error) => return fail(&error),
    };
    let title = Title::find();
    let Some(dir) = setup::assignment(&mut bare.orders) else {
        return ExitCode::SUCCESS;
    };
    if let Some(title) = title {
        title.show(&dir);
    }
    let launcher = bare.launcher;
    match Keeper::start(&dir, bare.reserved, bare.umask) {
        Ok((mut keeper, record)) => {
            let _ = std::env::set_current_dir("/");
            if !setup::announce(launcher, &Announcement::Running(record)) {
                // Nobody has heard of the worker, so nobody will ask for it: whoever started it
                // has died, and whoever comes next may not have seen `keeper.json` yet.
                keeper.tree.kill();
            }
            setup::trim_allocator();
            keeper.keep()
        }
        Err(error) => {
            setup::announce(launcher, &Announcement::Failed(with_sources(&error)));
            fail(&error)
        }
    }
}

fn fail(error: &StartError) -> ExitCode {
    log(&with_sources(error));
    ExitCode::FAILURE
}

/// The keeper's standard error is `keeper.log`.
fn log(line: &str) {
    use io::Write as _;
    let _ = writeln!(io::stderr(), "keeper: {line}");
}

fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// See the module.
#[derive(Debug)]
enum Phase {
    Running,
    /// So many bytes that the program wrote to its control socket are still to be read.
    Leaving {
        exit: ExitRecord,
        control: u64,
    },
    Recording(ExitRecord),
    Clearing,
    Closing,
}

/// Why nothing can be appended at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocked {
    No,
    /// Until the attached reader moves on; it will wake us.
    Reader,
    /// Until this time, when the disk is looked at again.
    Disk(u64),
}

struct Keeper {
    dir: PathBuf,
    epoll: OwnedFd,
    signals: OwnedFd,
    journal: JournalWriter,
    outputs: [Output; 2],
    control: Control,
    /// Where a program on a terminal is told things, instead of by `control`.
    terminal: Option<Terminal>,
    appends: Appends,
    delivered: DeliveredIds,
    /// The program has said nothing since it was handed a message by the client.
    is_unanswered: bool,
    clients: Clients,
    tree: Tree,
    oom: OomCounters,
    phase: Phase,
    blocked: Blocked,
    /// Sequence number up to which the reader has been offered a wake-up.
    offered: u64,
    /// Head offset when pages were last let go of, and at the last look.
    trimmed: u64,
    trim_at: Option<(u64, u64)>,
    /// Whether any process of the tree is left.
    alive: bool,
}

impl Keeper {
    fn start(
        dir: &Path,
        reserved: OwnedFd,
        umask: rustix::fs::Mode,
    ) -> Result<(Self, KeeperRecord), StartError> {
        let descriptors = |errno: rustix::io::Errno| StartError::Descriptors(errno.into());
        let spec: KeeperSpec = files::read_json(dir, files::SPEC)
            .map_err(StartError::Spec)?
            .ok_or(StartError::NoSpec)?;
        let mut journal = JournalWriter::create(
            &dir.join(files::JOURNAL),
            spec.worker_id,
            spec.journal_bytes,
        )
        .map_err(StartError::Journal)?;
        let listener = listen(dir).map_err(StartError::Listen)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(descriptors)?;
        let signals = setup::signal_descriptor()?;
        let program = program::start(&spec, reserved, umask)?;
        // From here on the program starts while the rest is set up. Nothing is killed for want of
        // memory before it has any.
        let oom = OomCounters::read();

        let pid = |pid: rustix::process::Pid| ProcessStamp::of(pid.as_raw_nonzero().get());
        let child = pid(program.pid).ok_or(StartError::ProgramGone)?;
        let keeper = pid(rustix::process::getpid()).ok_or(StartError::ProgramGone)?;
        let started = Lifecycle::Started {
            child,
            unix_ms: unix_ms(),
        };
        journal.append(Tag::Lifecycle, pump::WHOLE, &json(&started));
        if let Io::Terminal(terminal) = spec.io {
            journal.set_window_size(terminal.size);
        }
        let record = KeeperRecord {
            protocol: PROTOCOL_VERSION,
            worker_id: spec.worker_id,
            keeper,
            child,
            nonce: Uuid::new_v4(),
            boot_id: boot_id(),
        };
        files::write_json(dir, files::KEEPER, &record).map_err(StartError::Record)?;

        let flags = EventFlags::IN | EventFlags::RDHUP;
        setup::watch(&epoll, &signals, token::SIGNALS, flags).map_err(descriptors)?;
        setup::watch(&epoll, &listener, token::LISTENER, flags).map_err(descriptors)?;
        let ends = program.ends;
        let control = Control::new(ends.control, &epoll).map_err(descriptors)?;
        let tokens = [token::STDOUT, token::STDERR];
        for (output, token) in ends.outputs.iter().zip(tokens) {
            if let Some((_, fd)) = output {
                setup::watch(&epoll, fd, token, flags).map_err(descriptors)?;
            }
        }
        let identity = Identity {
            keeper,
            child,
            worker_id: spec.worker_id,
            nonce: record.nonce,
        };
        let keeper = Self {
            dir: dir.to_owned(),
            epoll,
            signals,
            journal,
            outputs: {
                let [stdout, stderr] = ends.outputs;
                [
                    Output::new(token::STDOUT, stdout),
                    Output::new(token::STDERR, stderr),
                ]
            },
            control,
            terminal: ends.terminal.map(Terminal::new),
            appends: Appends::default(),
            delivered: DeliveredIds::default(),
            is_unanswered: false,
            clients: Clients::new(listener, identity),
            tree: Tree::new(program.pid, &spec),
            oom,
            phase: Phase::Running,
            blocked: Blocked::No,
            offered: 0,
            trimmed: 0,
            trim_at: None,
            alive: true,
        };
        Ok((keeper, record))
    }

    /// The loop. Sources are edge-triggered: an event marks a source, rounds of work read the
    /// marked ones until they are empty.
    fn keep(mut self) -> ExitCode {
        let mut events = Vec::with_capacity(16);
        // A child that died before its signal was watched for is found by this first look.
        self.reap();
        loop {
            let more = self.round();
            self.offer_wake();
            if matches!(self.phase, Phase::Closing) && self.appends.is_empty() {
                return ExitCode::SUCCESS;
            }
            let timeout = if more {
                Some(Timespec::default())
            } else {
                self.timeout()
            };
            events.clear();
            let spare = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, spare, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    log(&format!("cannot wait for events: {errno}"));
                    return ExitCode::FAILURE;
                }
            }
            for event in &events {
                self.notice(event.data.u64(), event.flags);
            }
            self.tick();
        }
    }

    fn notice(&mut self, token: u64, flags: EventFlags) {
        match token {
            token::SIGNALS => self.take_signals(),
            token::LISTENER => self.clients.accept(&self.epoll),
            token::CLIENT => {
                if let Some(client) = &mut self.clients.active {
                    client.notice(flags);
                }
            }
            token::WAKE => {
                if let Some(client) = &self.clients.active {
                    client.take_wake();
                }
                self.unblock_reader();
            }
            token::CONTROL => self.control.notice(flags, &self.epoll),
            token::STDOUT => {
                self.outputs[0].notice(flags);
                if let Some(terminal) = &mut self.terminal {
                    terminal.notice_output();
                }
            }
            token::STDERR => self.outputs[1].notice(flags),
            token::TERMINAL_ROOM => {
                if let Some(terminal) = &mut self.terminal {
                    terminal.notice_room(flags, &self.epoll);
                }
            }
            place => {
                let place = place.wrapping_sub(JOINING) as usize;
                if let Some(introduced) = self.clients.join(place) {
                    // What the client before has sent still counts.
                    self.finish_client();
                    self.repeat_hand_over();
                    let (epoll, journal) = (&self.epoll, &self.journal);
                    let (terminal, control) = (self.terminal.as_ref(), self.control.as_fd());
                    let _ = self
                        .clients
                        .attach(introduced, epoll, journal, terminal, control);
                    self.unblock_reader();
                }
            }
        }
    }

    /// The reader has moved on, is another one, or is gone.
    fn unblock_reader(&mut self) {
        if self.blocked == Blocked::Reader {
            self.blocked = Blocked::No;
        }
    }

    fn take_signals(&mut self) {
        let (mut terminate, mut child) = (false, false);
        setup::take_signals(&self.signals, |signal| match signal {
            libc::SIGTERM => terminate = true,
            _ => child = true,
        });
        if terminate {
            self.tree.stop();
        }
        if child {
            self.reap();
        }
    }

    fn reap(&mut self) {
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if Some(pid) == self.tree.leader() => {
                    self.tree.forget_leader();
                    self.program_ended(status);
                }
                Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                Ok(None) => break self.tree.someone_died(),
                Err(_) => {
                    self.alive = false;
                    // Whoever held the control socket too may have written to it last.
                    self.control.waiting();
                    break self.tree.settle();
                }
            }
        }
    }

    fn program_ended(&mut self, status: WaitStatus) {
        self.take_hand_over();
        let signal = status.terminating_signal();
        let killed = signal == Some(Signal::KILL.as_raw());
        let exit = ExitRecord {
            code: status.exit_status(),
            signal,
            oom: killed && !self.tree.is_killing() && self.oom.have_grown(),
            requested: self.tree.is_ending(),
            unix_ms: unix_ms(),
        };
        self.phase = Phase::Leaving {
            exit,
            control: self.control.waiting(),
        };
    }

    /// Goes to the next phase if it is time. Called when nothing waits to be appended; `true` when
    /// it should be called again.
    fn advance(&mut self) -> bool {
        match &self.phase {
            Phase::Leaving { exit, control } if *control == 0 || !self.control.is_readable() => {
                let exit = exit.clone();
                let drain = output::unread(&self.outputs);
                self.appends.push(
                    Tag::Lifecycle,
                    &[&json(&Lifecycle::Exited(exit.clone()))],
                    drain,
                    Then::Nothing,
                );
                self.phase = Phase::Recording(exit);
            }
            Phase::Recording(exit) => {
                if let Err(error) = files::write_json(&self.dir, files::EXIT, exit) {
                    log(&format!("cannot write how the program ended: {error}"));
                }
                self.phase = Phase::Clearing;
                // A stop that is under way goes on with its graces; otherwise nobody is meant to
                // survive the program, unless that had a terminal.
                if self.alive && !self.tree.is_ending() && self.terminal.is_none() {
                    self.tree.kill();
                }
            }
            Phase::Clearing if !self.alive && !self.control.is_readable() => {
                let drain = output::unread(&self.outputs);
                self.appends.push(
                    Tag::Lifecycle,
                    &[&json(&Lifecycle::Closed)],
                    drain,
                    Then::Nothing,
                );
                self.phase = Phase::Closing;
            }
            Phase::Running | Phase::Leaving { .. } | Phase::Clearing | Phase::Closing => {
                return false;
            }
        }
        true
    }

    /// Wakes the reader if it sleeps and something was published since the last look.
    fn offer_wake(&mut self) {
        if self.offered == self.journal.head_seq() {
            return;
        }
        self.offered = self.journal.head_seq();
        if let Some(client) = &self.clients.active
            && self.journal.take_reader_sleeping()
        {
            client.wake();
        }
        if self.trim_at.is_none() && self.journal.head_offset() - self.trimmed > TRIM_BYTES {
            self.trim_at = Some((boottime_ns() + TRIM_AFTER_NS, self.journal.head_offset()));
        }
    }

    /// Until the next deadline.
    fn timeout(&self) -> Option<Timespec> {
        let disk = match self.blocked {
            Blocked::Disk(at) => Some(at),
            Blocked::No | Blocked::Reader => None,
        };
        let trim = self.trim_at.map(|(at, _)| at);
        let rests = self.outputs.iter().map(Output::deadline);
        let next = [self.tree.deadline(), disk, trim]
            .into_iter()
            .chain(rests)
            .flatten()
            .min()?;
        let wait = next.saturating_sub(boottime_ns());
        Some(Timespec {
            tv_sec: (wait / 1_000_000_000) as i64,
            tv_nsec: (wait % 1_000_000_000) as i64,
        })
    }

    fn tick(&mut self) {
        let resting = self
            .outputs
            .iter()
            .any(|output| output.deadline().is_some());
        if self.tree.deadline().is_none()
            && self.trim_at.is_none()
            && self.blocked == Blocked::No
            && !resting
        {
            return;
        }
        let now = boottime_ns();
        for output in &mut self.outputs {
            output.tick(&self.epoll, now);
        }
        self.tree.tick(now);
        if matches!(self.blocked, Blocked::Disk(at) if at <= now) {
            self.blocked = Blocked::No;
        }
        if let Some((at, seen)) = self.trim_at
            && at <= now
        {
            let head = self.journal.head_offset();
            self.trim_at = (head != seen).then_some((now + TRIM_AFTER_NS, head));
            if head == seen {
                self.journal.forget_pages();
                self.trimmed = head;
            }
        }
    }
}

/// Binds the control socket, mode 0600. A socket of a keeper before is not there: the journal
/// could not have been created.
fn listen(dir: &Path) -> io::Result<UnixListener> {
    let handle = File::open(dir)?;
    let listener = UnixListener::bind(files::socket_path(&handle))?;
    listener.set_nonblocking(true)?;
    std::fs::set_permissions(
        dir.join(files::CONTROL),
        std::fs::Permissions::from_mode(0o600),
    )?;
    Ok(listener)
}

fn json(lifecycle: &Lifecycle) -> Vec<u8> {
    serde_json::to_vec(lifecycle).unwrap_or_default()
}
