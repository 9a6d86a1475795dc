//! Screens, kept beside the output's way to its viewers.
//!
//! One thread feeds every terminal's screen from its journal, a slice at a time, a moment after viewers
//! were told; whoever wants to see a screen feeds it what it lacks first. The ring turns as
//! far as a screen has come and was stored, and no further: no screen misses a byte, not even one
//! that goes on in another process. A program that prints faster than its screen takes it is held back
//! once the ring is full, and never sooner.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use abide_keeper::{
    Earliest, ExitRecord, JournalReader, Lifecycle, ReadError, Tag, WindowSize, exit_record,
};
use abide_terminal::{Screen, ScrollbackLimit, Size};
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::keyframes::{self, Keyframes};

/// Output that is fed before another terminal has its turn, in bytes: about a millisecond.
const SLICE: usize = 64 * 1024;
/// Size of a screen where the journal does not say.
const USUAL: (u16, u16) = (80, 24);

/// Feeds screens until the last handle of it is gone.
#[derive(Debug, Clone)]
pub(crate) struct Screens(mpsc::Sender<Arc<Follower>>);

/// A screen and how far it has come.
#[derive(Debug)]
pub(super) struct Follower {
    journal: Arc<JournalReader>,
    dir: PathBuf,
    scrollback: usize,
    state: Mutex<State>,
    /// Sequence number of the newest stored keyframe.
    stored: AtomicU64,
    /// Sequence numbers that the ring must not turn past, by viewer.
    holds: Mutex<BTreeMap<u64, u64>>,
    /// It is being ended: nobody is waited for any more.
    is_ending: AtomicBool,
    /// It is in line to be fed.
    queued: AtomicBool,
    /// How the program ended, once the screen has come to that.
    ended: watch::Sender<Option<ExitRecord>>,
}

#[derive(Debug)]
struct State {
    screen: Screen,
    /// Sequence number of the journal's entry that is to be fed next.
    next: u64,
    keyframes: Keyframes,
    /// It has come to what was there when it was made.
    has_caught_up: bool,
    buffer: Vec<u8>,
}

/// A moment of a screen.
#[derive(Debug, Clone)]
pub(super) struct Moment<T> {
    /// Sequence number of the first entry after it.
    pub(super) next: u64,
    /// Output offset after the last byte in it.
    pub(super) offset: u64,
    pub(super) size: Size,
    /// What was drawn of it.
    pub(super) drawn: T,
}

impl Screens {
    /// Starts the thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, line) = mpsc::channel();
        std::thread::Builder::new()
            .name("abide-screens".to_owned())
            .spawn(move || feed_all(&line))?;
        Ok(Self(sender))
    }

    /// There is more in the terminal's journal.
    pub(super) fn wake(&self, follower: &Arc<Follower>) {
        if !follower.queued.swap(true, Ordering::AcqRel) {
            // The thread lives as long as somebody has a handle.
            let _ = self.0.send(Arc::clone(follower));
        }
    }
}

/// Feeds whoever is in line a slice, in turn, until nobody can come any more.
fn feed_all(line: &mpsc::Receiver<Arc<Follower>>) {
    let mut waiting = VecDeque::new();
    loop {
        waiting.extend(line.try_iter());
        let follower: Arc<Follower> = match waiting.pop_front() {
            Some(follower) => follower,
            None => match line.recv() {
                Ok(follower) => follower,
                Err(mpsc::RecvError) => return,
            },
        };
        // Before it looks: what comes from here on puts it in line again.
        follower.queued.store(false, Ordering::Release);
        if follower.feed() && !follower.queued.swap(true, Ordering::AcqRel) {
            waiting.push_back(follower);
        }
    }
}

impl Follower {
    /// The screen of the worker in `dir`, from its keyframe on if there is one. `scrollback`: bytes
    /// of lines that have scrolled off.
    pub(super) fn new(journal: Arc<JournalReader>, dir: PathBuf, scrollback: usize) -> Self {
        let (next, screen) = keyframes::newest(&dir, scrollback).unwrap_or_else(|| {
            let earliest = journal.earliest();
            (earliest.seq, fresh(&journal, earliest, scrollback))
        });
        let state = State {
            next,
            keyframes: Keyframes::new(dir.clone(), (next, screen.offset())),
            has_caught_up: false,
            screen,
            buffer: Vec::new(),
        };
        Self {
            journal,
            dir,
            scrollback,
            state: Mutex::new(state),
            stored: AtomicU64::new(next),
            holds: Mutex::default(),
            is_ending: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            ended: watch::channel(None).0,
        }
    }

    /// How the program ended, once the screen has come to that.
    pub(super) fn ended(&self) -> watch::Receiver<Option<ExitRecord>> {
        self.ended.subscribe()
    }

    /// Looks at the screen as it is now. Blocks for as long as a slice takes.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Screen) -> T) -> T {
        look(&self.state.lock().screen)
    }

    /// The screen and where in the journal it stands.
    pub(super) fn moment<T>(&self, draw: impl FnOnce(&Screen) -> T) -> Moment<T> {
        let state = self.state.lock();
        Moment {
            next: state.next,
            offset: state.screen.offset(),
            size: state.screen.size(),
            drawn: draw(&state.screen),
        }
    }

    /// Feeds a slice; `true` if there is more.
    fn feed(&self) -> bool {
        let mut state = self.state.lock();
        let state = &mut *state;
        let slice_end = state.screen.offset() + SLICE as u64;
        let more = loop {
            state.buffer.clear();
            match self.journal.next(&mut state.next, &mut state.buffer) {
                Ok(Some(record)) => self.take(state, record.tag),
                Ok(None) => break false,
                Err(ReadError::Expired { earliest }) => self.jump(state, earliest),
                Err(ReadError::Damaged { seq }) => {
                    warn!(seq, "damaged journal entry");
                    state.next = seq + 1;
                }
            }
            let (next, offset) = (state.next, state.screen.offset());
            if offset >= slice_end || state.keyframes.is_due(&self.journal, next, offset) {
                break true;
            }
        };
        if !more && !std::mem::replace(&mut state.has_caught_up, true) {
            self.find_end();
        }
        let (next, offset) = (state.next, state.screen.offset());
        if state.keyframes.is_due(&self.journal, next, offset) {
            state.keyframes.store(&self.journal, next, &state.screen);
            self.stored.store(next, Ordering::Release);
        }
        self.turn_ring();
        more
    }

    /// Feeds the screen what was written before entry `end`, on this thread.
    pub(super) fn catch_up(&self, end: u64) {
        let is_behind = || self.state.lock().next < end;
        while is_behind() && self.feed() {}
    }

    /// Has the ring keep what a viewer has not read: everything from entry `next` on.
    pub(super) fn hold(&self, viewer: u64, next: u64) {
        self.holds.lock().insert(viewer, next);
        self.turn_ring();
    }

    /// Nobody holds the ring from here on: it must take the end.
    pub(super) fn release_all(&self) {
        self.is_ending.store(true, Ordering::Release);
        self.turn_ring();
    }

    /// A viewer needs nothing any more.
    pub(super) fn release(&self, viewer: u64) {
        let held = self.holds.lock().remove(&viewer);
        if held.is_some() {
            self.turn_ring();
        }
    }

    /// Lets the ring turn as far as the screen can go on without it, and those who hold it have read.
    fn turn_ring(&self) {
        let stored = self.stored.load(Ordering::Acquire);
        let held = self.holds.lock().values().min().copied();
        let held = held.filter(|_| !self.is_ending.load(Ordering::Acquire));
        self.journal
            .set_cursor(held.map_or(stored, |held| held.min(stored)));
    }

    /// The entry that tells of the program's end may lie before the keyframe that this began with.
    fn find_end(&self) {
        if self.ended.borrow().is_none()
            && let Some(exit) = exit_record(&self.dir)
        {
            self.ended.send_replace(Some(exit));
        }
    }

    fn take(&self, state: &mut State, tag: Tag) {
        match tag {
            Tag::Terminal => state.screen.feed(&state.buffer),
            Tag::Lifecycle => match serde_json::from_slice(&state.buffer) {
                Ok(Lifecycle::Resized { size, .. }) => state.screen.resize(screen_size(size)),
                Ok(Lifecycle::Exited(exit)) => {
                    self.ended.send_replace(Some(exit));
                }
                _ => {}
            },
            Tag::Stdout | Tag::Stderr | Tag::Control | Tag::Input => {}
        }
    }

    /// What the screen had not seen has left the ring: nobody was there to hold it.
    fn jump(&self, state: &mut State, to: Earliest) {
        let screen = fresh(&self.journal, to, self.scrollback);
        debug!(
            from = state.screen.offset(),
            to = screen.offset(),
            "journal gap"
        );
        state.next = to.seq;
        state.screen = screen;
    }
}

/// An empty screen for what the journal has from there on.
fn fresh(journal: &JournalReader, from: Earliest, scrollback: usize) -> Screen {
    let size = journal.window_size_at(from.seq).ok().flatten();
    let size = screen_size(size.unwrap_or(WindowSize::new(0, 0)));
    Screen::new(size, ScrollbackLimit(scrollback), from.output_offset)
}

/// The nearest size that a screen can have.
pub(super) fn screen_size(size: WindowSize) -> Size {
    let usual = |given: u16, usual: u16| {
        if given == 0 {
            usual
        } else {
            given.clamp(2, 1000)
        }
    };
    let (columns, rows) = (usual(size.columns, USUAL.0), usual(size.rows, USUAL.1));
    Size::new(columns, rows).unwrap_or_else(|_| screen_size(WindowSize::new(0, 0)))
}
