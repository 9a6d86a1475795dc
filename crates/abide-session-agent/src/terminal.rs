//! Terminals: programs on a terminal under a keeper, their screens, and whoever looks at them.
//!
//! ```text
//! keeper ──► journal ──► each viewer, at its own place
//!                  └───► the screen, on a thread of its own, which lets the ring turn
//! ```
//!
//! Nobody who looks can hold the program up; one who is too slow is moved forward to a snapshot. A
//! snapshot and what follows it belong together: both are told by one place in the journal.

mod keyframes;
mod recording;
mod screens;
mod shell;
mod shown;
mod size;
mod task;
mod viewer;
mod viewers;

use std::path::PathBuf;
use std::sync::Arc;

use abide_keeper::{JournalReader, KeeperClient, WindowSize};
use abide_model::{Exit, Problem, ProblemCode, SessionId, SizePolicy, ViewerRole, WorkerId};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::recording::{Happened, TerminalRecording};
use self::screens::Follower;
pub(crate) use self::screens::Screens;
pub(crate) use self::shell::shell;
pub use self::shown::shown;
pub use self::task::described;
use self::task::{Command, TerminalTask};
pub use self::viewer::{Snapshot, TOO_FAR_BEHIND, View, Viewer};
use self::viewers::Viewers;
pub use self::viewers::{Attendance, Introduction};
use crate::link::Link;
use crate::output::{JournalOutput, OutputReader, StreamFilter};
use crate::recorder::Recorder;
use crate::tasks::Tasks;

/// Lines that have scrolled off, kept per terminal, in bytes.
const SCROLLBACK: usize = 1024 * 1024;

/// A terminal to be started.
#[derive(Debug, Clone)]
pub struct NewTerminal {
    /// Names its directory and keeper.
    pub id: WorkerId,
    /// Whose.
    pub session: SessionId,
    /// Program and arguments; empty for a shell.
    pub command: Vec<String>,
    /// A shell is to be a login shell.
    pub login: bool,
    /// Where it starts.
    pub workspace: PathBuf,
    /// Its size before anybody looks at it.
    pub size: WindowSize,
    /// Whose size it has when several look at it.
    pub policy: SizePolicy,
    /// Output that is kept, in bytes; as much as the agent keeps of every worker if `None`.
    pub output_bytes: Option<u64>,
}

/// One who comes to look.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// Whether it may type.
    pub role: ViewerRole,
    /// Its window.
    pub size: Option<WindowSize>,
    /// The output offset up to which it has seen everything.
    pub resume_from: Option<u64>,
    /// Most scrollback that a snapshot is to have, in bytes.
    pub scrollback: usize,
    /// Much scrollback comes in a second snapshot, behind a first one that shows the screen at once.
    pub screen_first: bool,
    /// The program waits for it, so that it sees every byte, however slow it is.
    pub blocks: bool,
    /// What it is sent at most beyond what it has acknowledged, once it acknowledges, in bytes; one who had
    /// to be waited for and is further behind is moved forward.
    pub ack_window: u64,
}

/// The terminal is gone, or nobody reads what is typed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the terminal is gone")]
pub struct TerminalGone;

impl From<TerminalGone> for Problem {
    fn from(gone: TerminalGone) -> Self {
        Self::new(ProblemCode::WorkerGone, gone.to_string())
    }
}

/// What a terminal's task, viewers and handles share.
#[derive(Debug)]
struct Shared {
    id: WorkerId,
    session: SessionId,
    dir: PathBuf,
    journal: Arc<JournalReader>,
    follower: Arc<Follower>,
    /// Sequence number up to which there is something in the journal; ends with the task.
    head: watch::Receiver<u64>,
    exit: watch::Sender<Option<Exit>>,
    inbox: mpsc::UnboundedSender<Command>,
    viewers: Viewers,
}

/// Speaks to one terminal; cheap to clone.
#[derive(Debug, Clone)]
pub struct TerminalHandle {
    shared: Arc<Shared>,
}

/// Everything a terminal's task needs.
pub(crate) struct TerminalSetup {
    pub(crate) id: WorkerId,
    pub(crate) session: SessionId,
    pub(crate) dir: PathBuf,
    /// What its keeper left, if that is gone.
    pub(crate) keeper: Result<KeeperClient, JournalReader>,
    pub(crate) policy: SizePolicy,
    /// See [`NewTerminal::output_bytes`].
    pub(crate) output_bytes: Option<u64>,
}

/// Starts the owner task.
pub(crate) fn start(
    setup: TerminalSetup,
    screens: &Screens,
    recorder: Arc<dyn Recorder>,
    tasks: &Tasks,
) -> std::io::Result<TerminalHandle> {
    let (journal, keeper) = match setup.keeper {
        Ok(keeper) => (Arc::clone(keeper.journal()), Some(keeper)),
        Err(left) => (Arc::new(left), None),
    };
    let scrollback = setup.output_bytes.map_or(SCROLLBACK, scrollback_for);
    let follower = Follower::new(Arc::clone(&journal), setup.dir.clone(), scrollback);
    let (inbox, commands) = mpsc::unbounded_channel();
    let (head, announced) = watch::channel(0);
    let shared = Arc::new(Shared {
        id: setup.id,
        session: setup.session,
        dir: setup.dir,
        journal,
        follower: Arc::new(follower),
        head: announced,
        exit: watch::channel(None).0,
        viewers: Viewers::new(setup.policy, inbox.clone()),
        inbox,
    });
    let link = keeper.map(Link::new).transpose()?;
    let task = TerminalTask::new(
        Arc::clone(&shared),
        commands,
        link,
        screens.clone(),
        recorder,
        head,
    );
    tasks.spawn("terminal", task.run(tasks.stopping()));
    Ok(TerminalHandle { shared })
}

/// Scrollback that holds the last so many bytes of output: kept as lines, each of which costs some
/// bookkeeping, and dropped by blocks of 64 KiB. Enough for lines of ten characters and more.
fn scrollback_for(output_bytes: u64) -> usize {
    let bytes = usize::try_from(output_bytes).unwrap_or(usize::MAX);
    bytes.saturating_add(bytes / 2).saturating_add(64 * 1024)
}

impl TerminalHandle {
    /// Which worker.
    pub fn id(&self) -> WorkerId {
        self.shared.id
    }

    /// Whose.
    pub fn session(&self) -> SessionId {
        self.shared.session
    }

    /// How the program that was started ended, once that is recorded.
    pub fn exit(&self) -> Option<Exit> {
        self.shared.exit.borrow().clone()
    }

    /// The same, once it is there.
    pub async fn ended(&self) -> Exit {
        let mut exit = self.shared.exit.subscribe();
        let ended = exit.wait_for(Option::is_some).await;
        // The sender lives as long as this handle.
        let exit = ended.ok().and_then(|exit| exit.clone());
        exit.unwrap_or_default()
    }

    /// Changes whenever something is written to it; ends with its keeper.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.head.clone()
    }

    /// Its size now.
    pub fn size(&self) -> Option<WindowSize> {
        self.shared.journal.window_size()
    }

    /// The title that its program has set.
    pub fn title(&self) -> Option<String> {
        self.shared
            .follower
            .look(|screen| screen.title().map(str::to_owned))
    }

    /// The visible screen as text; with looks and links if `ansi`.
    pub fn screen(&self, ansi: bool) -> String {
        self.shared
            .follower
            .look(|screen| if ansi { screen.ansi() } else { screen.text() })
    }

    /// How many look at it.
    pub fn viewers(&self) -> usize {
        self.shared.viewers.count()
    }

    /// Who looks at it, and whenever that changes.
    pub fn attendance(&self) -> watch::Receiver<Arc<Attendance>> {
        self.shared.viewers.attendance()
    }

    /// First output offset that is still there, and the one after the last byte.
    pub fn output_range(&self) -> (u64, u64) {
        let journal = &self.shared.journal;
        (journal.earliest().output_offset, journal.output_end())
    }

    /// What its programs wrote, from output offset `from` to `end`, or to what is there now, or on as
    /// they write.
    pub fn output(&self, from: u64, end: Option<u64>, follow: bool) -> OutputReader {
        let (journal, head) = (Arc::clone(&self.shared.journal), self.shared.head.clone());
        let filter = StreamFilter::All;
        JournalOutput::new(journal, head, None, filter, from, end, follow).into()
    }

    /// Everything that the journal still has, with its times and changes of size.
    pub fn recording(&self) -> TerminalRecording {
        TerminalRecording::new(Arc::clone(&self.shared))
    }

    /// Returns once the screen, and so the next snapshot, has everything that is written by now.
    pub async fn catch_up(&self) {
        let (follower, head) = (
            Arc::clone(&self.shared.follower),
            self.shared.journal.head_seq(),
        );
        // Fails only when the runtime is shutting down.
        let _ = tokio::task::spawn_blocking(move || follower.catch_up(head)).await;
    }

    /// Begins to look.
    pub fn attach(&self, visit: Visit) -> Viewer {
        let id = self.shared.viewers.come(visit.role, visit.size);
        Viewer::new(Arc::clone(&self.shared), id, &visit)
    }

    /// Types; answers once the terminal or the keeper has it all, from where on the death of this process
    /// loses nothing. A program that does not read makes it wait.
    ///
    /// # Errors
    /// [`TerminalGone`]
    pub async fn input(&self, bytes: Bytes) -> Result<(), TerminalGone> {
        let (taken, is_taken) = oneshot::channel();
        self.send(Command::Input { bytes, taken })?;
        is_taken.await.map_err(|_| TerminalGone)
    }

    /// Changes the window of one who looks, and the terminal's size if it has the say.
    pub fn resize(&self, viewer: u64, size: WindowSize) {
        self.shared.viewers.set_window(viewer, size);
    }

    /// One who looks did something: where the latest has the say, its size counts from now on.
    pub fn is_active(&self, viewer: u64) {
        self.shared.viewers.is_active(viewer);
    }

    /// One who looks says who it is, or changes what it may do.
    pub fn introduce(&self, viewer: u64, as_whom: Introduction) {
        self.shared.viewers.introduce(viewer, as_whom);
    }

    /// Changes whose size it has when several look at it.
    pub fn set_size_policy(&self, policy: SizePolicy) {
        self.shared.viewers.set_policy(policy);
    }

    /// Gives the terminal a size, whoever looks at it.
    ///
    /// # Errors
    /// [`TerminalGone`]
    pub fn set_size(&self, size: WindowSize) -> Result<(), TerminalGone> {
        self.send(Command::Resize(size))
    }

    /// Ends the whole process tree and waits until that is recorded.
    pub async fn stop(&self) {
        self.shared.follower.release_all();
        if self.send(Command::Stop).is_ok() {
            let mut head = self.shared.head.clone();
            // Until the task has ended, which it does when the keeper is gone.
            while head.changed().await.is_ok() {}
        }
    }

    fn send(&self, command: Command) -> Result<(), TerminalGone> {
        self.shared.inbox.send(command).map_err(|_| TerminalGone)
    }
}
