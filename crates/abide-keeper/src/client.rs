//! Finding a keeper by its directory and talking to it.

mod hand_over;
mod handshake;
mod input;

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::socket_peercred;
use uuid::Uuid;

pub use self::hand_over::HandOver;
use self::handshake::{Answer, open_socket, shake_hands};
pub use self::input::TerminalInput;
use crate::files;
use crate::journal::{JournalReader, OpenError};
use crate::process::{ProcessStamp, boot_id, open_pidfd};
use crate::protocol::{Hello, Message, PROTOCOL_VERSION, SignalScope, is_spoken};
use crate::spec::{ExitRecord, KeeperRecord};
use crate::terminal::WindowSize;

/// Why there is no keeper to talk to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The directory is stale: no keeper runs there. It may never have started.
    #[error("no keeper runs there")]
    NotRunning {
        /// How the worker ended, if the keeper lived to see it.
        exit: Option<ExitRecord>,
    },
    /// The keeper's pid belongs to another process now, or another process is at its socket.
    /// The keeper is gone; whoever that is must be left alone.
    #[error("process {pid} is not the keeper that the directory speaks of")]
    ForeignProcess {
        /// Who has the keeper's place.
        pid: i32,
        /// How the worker ended, if the keeper lived to see it.
        exit: Option<ExitRecord>,
    },
    /// The keeper speaks a version of the protocol that this one does not.
    #[error("the keeper speaks protocol version {theirs}, not {ours}")]
    VersionMismatch {
        /// [`PROTOCOL_VERSION`].
        ours: u32,
        /// The keeper's.
        theirs: u32,
    },
    /// A file of the directory cannot be read.
    #[error("cannot read the worker's directory")]
    Directory(#[source] io::Error),
    /// The journal cannot be opened.
    #[error("cannot open the worker's journal")]
    Journal(#[source] OpenError),
    /// The socket cannot be used, or the keeper does not answer.
    #[error("the keeper does not answer")]
    Handshake(#[source] io::Error),
    /// The answer is not a keeper's.
    #[error("the keeper's answer makes no sense")]
    Nonsense,
}

/// The attached client of a keeper. Attaching supersedes the client before.
#[derive(Debug)]
pub struct KeeperClient {
    identity: KeeperRecord,
    journal: Arc<JournalReader>,
    stream: UnixStream,
    pidfd: OwnedFd,
    wake: OwnedFd,
    input: TerminalInput,
    hand_over: HandOver,
}

/// What a [`KeeperClient`] consists of, for those who wait for descriptors by themselves.
#[derive(Debug)]
pub struct KeeperParts {
    /// See [`KeeperClient::identity`].
    pub identity: KeeperRecord,
    /// See [`KeeperClient::journal`].
    pub journal: Arc<JournalReader>,
    /// Nonblocking. Takes what [`Message::encode`] makes; its end means that the keeper is gone
    /// or that another client was attached.
    pub stream: UnixStream,
    /// See [`KeeperClient::pid_fd`].
    pub pidfd: OwnedFd,
    /// See [`KeeperClient::wake_fd`].
    pub wake: OwnedFd,
    /// The way of input to the worker's terminal.
    pub input: TerminalInput,
    /// The way of messages to the worker's program.
    pub hand_over: HandOver,
}

impl KeeperClient {
    /// Finds the keeper of a directory, makes sure that it is the one (boot, pid, start time,
    /// nonce), and attaches to it. Reading resumes at [`JournalReader::recorded`]: from there on
    /// nothing is overwritten until the cursor says so, unless it was already.
    ///
    /// Blocks for a round trip to the keeper, tens of microseconds; for at most five seconds if
    /// it does not answer. Signals nobody.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(dir: &Path) -> Result<Self, ConnectError> {
        let gone = || ConnectError::NotRunning {
            exit: exit_record(dir),
        };
        let record: KeeperRecord = files::read_json(dir, files::KEEPER)
            .map_err(ConnectError::Directory)?
            .ok_or_else(gone)?;
        if record.boot_id != boot_id() {
            return Err(gone());
        }
        let pidfd = open_pidfd(record.keeper.pid).ok_or_else(gone)?;
        match ProcessStamp::of(record.keeper.pid) {
            Some(stamp) if stamp == record.keeper => {}
            Some(_) => return Err(foreign(dir, record.keeper.pid)),
            None => return Err(gone()),
        }
        if has_ended(&pidfd) {
            return Err(gone());
        }
        if !is_spoken(record.protocol) {
            let theirs = record.protocol;
            return Err(ConnectError::VersionMismatch {
                ours: PROTOCOL_VERSION,
                theirs,
            });
        }
        let journal =
            JournalReader::open(&dir.join(files::JOURNAL)).map_err(ConnectError::Journal)?;
        let stream = open_socket(dir).map_err(|error| match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => gone(),
            _ => ConnectError::Handshake(error),
        })?;
        let peer =
            socket_peercred(&stream).map_err(|errno| ConnectError::Handshake(errno.into()))?;
        let peer = peer.pid.as_raw_nonzero().get();
        if peer != record.keeper.pid {
            return Err(foreign(dir, peer));
        }
        let hello = Hello {
            version: record.protocol,
            nonce: Uuid::new_v4(),
            resume: journal.recorded(),
        };
        let Answer {
            welcome,
            wake_reader,
            wake_writer,
            given,
        } = shake_hands(&stream, &hello)
            .map_err(|error| if has_ended(&pidfd) { gone() } else { error })?;
        let same = welcome.keeper == record.keeper
            && welcome.child == record.child
            && welcome.worker_id == record.worker_id
            && welcome.nonce == record.nonce
            && welcome.client_nonce == hello.nonce;
        if !same
            || welcome.capacity != journal.capacity()
            || journal.worker_id() != record.worker_id
        {
            return Err(foreign(dir, peer));
        }
        journal.attach(welcome.generation, wake_writer);
        stream
            .set_nonblocking(true)
            .map_err(ConnectError::Handshake)?;
        let journal = Arc::new(journal);
        let (terminal, program) = if journal.window_size().is_some() {
            (given, None)
        } else {
            (None, given)
        };
        Ok(Self {
            identity: record,
            input: TerminalInput::new(Arc::clone(&journal), welcome.input, terminal),
            hand_over: HandOver::new(Arc::clone(&journal), program),
            journal,
            stream,
            pidfd,
            wake: wake_reader,
        })
    }

    /// Who the keeper and its program are.
    pub fn identity(&self) -> &KeeperRecord {
        &self.identity
    }

    /// The worker's journal, with the cursor of this attachment.
    pub fn journal(&self) -> &Arc<JournalReader> {
        &self.journal
    }

    /// Becomes readable when the keeper has ended.
    pub fn pid_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// An event counter, nonblocking: becomes readable when there is something to read after
    /// [`JournalReader::prepare_sleep`]. Read it to rearm it.
    pub fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// Everything, taken apart.
    pub fn into_parts(self) -> KeeperParts {
        let Self {
            identity,
            journal,
            stream,
            pidfd,
            wake,
            input,
            hand_over,
        } = self;
        KeeperParts {
            identity,
            journal,
            stream,
            pidfd,
            wake,
            input,
            hand_over,
        }
    }

    /// Sends a message and blocks until the keeper's socket has taken it. For those who are not
    /// asynchronous.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&self, message: Message<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.input.stays_behind(&message);
        self.send_bytes(&bytes)
    }

    fn send_bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match (&self.stream).write(rest) {
                Ok(len) => rest = &rest[len..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], None)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// [`Message::Deliver`]
    ///
    /// # Errors
    /// The socket's.
    pub fn deliver(&self, id: [u8; 16], payload: &[u8]) -> io::Result<()> {
        self.send(Message::Deliver { id, payload })
    }

    /// [`Message::Interrupt`]
    ///
    /// # Errors
    /// The socket's.
    pub fn interrupt(&self, payload: &[u8]) -> io::Result<()> {
        self.send(Message::Interrupt { payload })
    }

    /// [`Message::Signal`]
    ///
    /// # Errors
    /// The socket's.
    pub fn signal(&self, signal: i32, scope: SignalScope) -> io::Result<()> {
        self.send(Message::Signal { signal, scope })
    }

    /// [`Message::Stop`]
    ///
    /// # Errors
    /// The socket's.
    pub fn stop(&self) -> io::Result<()> {
        self.send(Message::Stop)
    }

    /// [`Message::Kill`]
    ///
    /// # Errors
    /// The socket's.
    pub fn kill(&self) -> io::Result<()> {
        self.send(Message::Kill)
    }

    /// [`Message::Resize`]
    ///
    /// # Errors
    /// The socket's.
    pub fn resize(&self, size: WindowSize) -> io::Result<()> {
        self.send(Message::Resize(size))
    }

    /// Types as much of `bytes` as there is room for: returns how much that is.
    /// [`TerminalInput::prepare_wait`] has [`Self::wait`] return when there is room for more.
    ///
    /// # Errors
    /// The socket's.
    pub fn input(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut frame = Vec::new();
        let len = self.input.pass(bytes, &mut frame);
        self.send_bytes(&frame).map(|()| len)
    }

    /// The way of input to the worker's terminal.
    pub fn terminal_input(&self) -> &TerminalInput {
        &self.input
    }

    /// The way of messages to the worker's program.
    pub fn hand_over(&self) -> &HandOver {
        &self.hand_over
    }

    /// Blocks until there is something at `cursor`, or the keeper is gone or has let this client
    /// go. For those who are not asynchronous.
    ///
    /// # Errors
    /// Those of `poll(2)`.
    pub fn wait(&self, cursor: u64) -> io::Result<()> {
        if !self.journal.prepare_sleep(cursor) {
            return Ok(());
        }
        let mut fds = [
            PollFd::new(&self.wake, PollFlags::IN),
            PollFd::new(&self.stream, PollFlags::IN),
            PollFd::new(&self.pidfd, PollFlags::IN),
        ];
        let waited = poll(&mut fds, None);
        self.journal.cancel_sleep();
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        waited.map(|_| ()).map_err(io::Error::from)
    }

    /// Whether the keeper is gone.
    pub fn has_ended(&self) -> bool {
        has_ended(&self.pidfd)
    }
}

/// How the worker of a keeper's directory ended; `None` while it runs, or when its keeper did
/// not live to see it.
pub fn exit_record(dir: &Path) -> Option<ExitRecord> {
    files::read_json(dir, files::EXIT).ok().flatten()
}

/// Path of the journal in a keeper's directory.
pub fn journal_path(dir: &Path) -> std::path::PathBuf {
    dir.join(files::JOURNAL)
}

fn foreign(dir: &Path, pid: i32) -> ConnectError {
    ConnectError::ForeignProcess {
        pid,
        exit: exit_record(dir),
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut fds, Some(&rustix::time::Timespec::default())).is_ok_and(|ended| ended > 0)
}
