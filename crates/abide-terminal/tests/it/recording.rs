//! Output of real programs; `tests/record.py` made it.

use std::fs;
use std::path::Path;

use abide_terminal::{Screen, ScrollbackLimit, Size};

/// More scrollback than any test has.
pub(crate) const PLENTY: ScrollbackLimit = ScrollbackLimit(1 << 24);

/// What a program printed on a terminal of one size.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) size: Size,
    pub(crate) bytes: Vec<u8>,
}

impl Recording {
    /// A screen that has been fed the first `offset` bytes.
    pub(crate) fn screen(&self, offset: usize) -> Screen {
        let mut screen = Screen::new(self.size, PLENTY, 0);
        screen.feed(&self.bytes[..offset]);
        screen
    }
}

/// All of them, in the order of their names.
pub(crate) fn all() -> Vec<Recording> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let mut paths: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let recordings: Vec<Recording> = paths.iter().map(|path| read(path)).collect();
    assert!(recordings.len() >= 9, "there are recordings");
    recordings
}

fn read(path: &Path) -> Recording {
    let file = fs::read(path).unwrap();
    let end = file.iter().position(|byte| *byte == b'\n').unwrap();
    let head = std::str::from_utf8(&file[..end]).unwrap();
    let (cols, rows) = head.split_once(' ').unwrap();
    Recording {
        name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
        size: Size::new(cols.parse().unwrap(), rows.parse().unwrap()).unwrap(),
        bytes: file[end + 1..].to_vec(),
    }
}

/// Numbers that look random and are the same each time.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % bound
    }
}
