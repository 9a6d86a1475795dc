//! What is printed: coloured listings, every line another one.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use tempfile::TempDir;

use super::host::Program;
use crate::bench::digest::Digest;

/// A file of lines. Dropping it removes the file.
#[derive(Debug)]
pub(super) struct Corpus {
    _home: TempDir,
    pub(super) file: PathBuf,
    /// The bytes that a terminal makes of it: its lines end with a carriage return, too.
    pub(super) shown: Vec<u8>,
}

impl Corpus {
    /// A file of so many lines, each about eighty bytes.
    pub(super) fn new(lines: usize) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("abide-bench-").tempdir()?;
        let file = home.path().join("listing");
        let mut written = Vec::new();
        for number in 0..lines {
            writeln!(
                written,
                "-rw-r--r-- 1 me me {:6} Nov 21 \x1b[01;3{}m{}\x1b[0m.\x1b[32mrs\x1b[0m",
                number * 7919 % 1_000_000,
                number % 7 + 1,
                label(number)
            )?;
        }
        std::fs::write(&file, &written)?;
        let shown = String::from_utf8(written)?.replace('\n', "\r\n").into();
        Ok(Self {
            _home: home,
            file,
            shown,
        })
    }

    /// A program that prints it so many times when told to.
    pub(super) fn program(&self, times: usize) -> Program {
        Program::printing(&vec![self.file.as_path(); times])
    }

    /// What a viewer of that program receives after it said that it is ready.
    pub(super) fn digest(&self, times: usize) -> Digest {
        let mut digest = Digest::default();
        for _ in 0..times {
            digest.add(&self.shown);
        }
        digest.add(b"the-end>");
        digest
    }
}

/// What tells a line from all others.
pub(super) fn label(number: usize) -> String {
    format!("line-{number:07}")
}
