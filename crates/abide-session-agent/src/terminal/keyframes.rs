//! Moments of a screen on disk: where whoever comes after this process goes on, and where a recording
//! can begin once the ring has turned.
//!
//! Each is a file in the worker's directory, `screen.keyframe.N`: the screen before entry N of the
//! journal.

use std::path::PathBuf;

use abide_keeper::JournalReader;
use abide_terminal::{Keyframe, Screen, ScrollbackLimit};
use tracing::warn;

const NAME: &str = "screen.keyframe.";
/// A keyframe that is being written.
const DRAFT: &str = "screen.draft";
/// Keyframes that are stored while a ring turns once.
const PER_TURN: u64 = 4;

/// A terminal's stored keyframes.
#[derive(Debug)]
pub(super) struct Keyframes {
    dir: PathBuf,
    /// Sequence numbers and output offset of the newest.
    newest: (u64, u64),
}

impl Keyframes {
    /// Those in a worker's directory. `begun`: where the screen begins that the first will be of.
    pub(super) const fn new(dir: PathBuf, begun: (u64, u64)) -> Self {
        Self { dir, newest: begun }
    }

    /// Whether a ring that has come to entry `next` and output byte `offset` is about to lose the
    /// place of the newest: a quarter at most is read again by whoever comes after this process.
    pub(super) fn is_due(&self, journal: &JournalReader, next: u64, offset: u64) -> bool {
        let (newest, stored) = self.newest;
        offset - stored >= journal.capacity() / PER_TURN
            || next - newest >= journal.most_entries() / PER_TURN
    }

    /// Stores the screen before entry `next`, all of it or nothing, and forgets those that the ring
    /// has left behind.
    pub(super) fn store(&mut self, journal: &JournalReader, next: u64, screen: &Screen) {
        self.newest = (next, screen.offset());
        let draft = self.dir.join(DRAFT);
        let path = self.dir.join(format!("{NAME}{next}"));
        let written = std::fs::write(&draft, screen.keyframe().as_bytes())
            .and_then(|()| std::fs::rename(&draft, &path));
        if let Err(error) = written {
            // The one before is as good, only older.
            warn!(path = %path.display(), %error, "cannot store a keyframe");
            return;
        }
        // Whoever comes after this process begins here.
        journal.set_recorded(next);
        let earliest = journal.earliest().seq;
        for old in stored(&self.dir)
            .into_iter()
            .filter(|at| *at < earliest.min(next))
        {
            // Gone already, or tried again with the next.
            let _ = std::fs::remove_file(self.dir.join(format!("{NAME}{old}")));
        }
    }
}

/// The newest keyframe that is whole.
pub(super) fn newest(dir: &std::path::Path, scrollback: usize) -> Option<(u64, Screen)> {
    let mut places = stored(dir).into_iter().rev();
    places.find_map(|at| Some((at, read(dir, at, scrollback)?)))
}

/// The oldest keyframe that is whole and does not lie before entry `earliest`.
pub(super) fn oldest(dir: &std::path::Path, earliest: u64) -> Option<(u64, Screen)> {
    let mut places = stored(dir).into_iter().filter(|at| *at >= earliest);
    places.find_map(|at| Some((at, read(dir, at, 0)?)))
}

fn read(dir: &std::path::Path, at: u64, scrollback: usize) -> Option<Screen> {
    let bytes = std::fs::read(dir.join(format!("{NAME}{at}"))).ok()?;
    let screen = Keyframe::from_bytes(bytes)
        .and_then(|keyframe| Screen::from_keyframe(&keyframe, ScrollbackLimit(scrollback)));
    screen
        .inspect_err(|error| warn!(dir = %dir.display(), at, %error, "a keyframe is of no use"))
        .ok()
}

/// The places of all there are, in order.
fn stored(dir: &std::path::Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return Vec::new();
    };
    let place = |name: std::ffi::OsString| name.to_str()?.strip_prefix(NAME)?.parse().ok();
    let mut places: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| place(entry.file_name()))
        .collect();
    places.sort_unstable();
    places
}
