//! What is shown, written down as it comes.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use abide_client::Shown;
use abide_model::{CastFormat, CastHeader, CastWriter, Timestamp};

use crate::error::{CommandError, Result};

/// A recording that is being made.
#[derive(Debug)]
pub(crate) struct Film {
    path: PathBuf,
    file: BufWriter<File>,
    format: CastFormat,
    command: Option<String>,
    /// From the first message on: since when, and the size as it is now.
    begun: Option<(CastWriter, Instant, (u16, u16))>,
}

impl Film {
    /// Makes the file.
    pub(crate) fn create(path: &Path, format: CastFormat, command: Option<String>) -> Result<Self> {
        let file = File::create(path)
            .map_err(|e| CommandError::io(format!("cannot write {}", path.display()), &e))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            format,
            command,
            begun: None,
        })
    }

    /// Takes what was shown just now.
    pub(crate) fn take(&mut self, shown: &Shown) -> Result {
        let mut text = String::new();
        self.write(shown, &mut text);
        if text.is_empty() {
            return Ok(());
        }
        // All of it at once, for whoever looks at the file meanwhile.
        let written = self.file.write_all(text.as_bytes());
        let written = written.and_then(|()| self.file.flush());
        written.map_err(|e| CommandError::io(format!("cannot write {}", self.path.display()), &e))
    }

    /// Whether all of it is written.
    pub(crate) fn finish(mut self) -> Result {
        let flushed = self.file.flush();
        flushed.map_err(|e| CommandError::io(format!("cannot write {}", self.path.display()), &e))
    }

    fn write(&mut self, shown: &Shown, out: &mut String) {
        let Some((cast, begun, size)) = &mut self.begun else {
            if let Shown::Attached { cols, rows } = *shown {
                let header = CastHeader {
                    cols,
                    rows,
                    timestamp: Some(Timestamp::now().as_micros() / 1_000_000),
                    title: None,
                    command: self.command.take(),
                };
                let cast = CastWriter::new(self.format, &header, out);
                self.begun = Some((cast, Instant::now(), (cols, rows)));
            }
            return;
        };
        let at = begun.elapsed();
        if let Shown::Attached { cols, rows }
        | Shown::Resized { cols, rows }
        | Shown::Snapshot { cols, rows, .. } = *shown
            && *size != (cols, rows)
        {
            *size = (cols, rows);
            cast.resize(at, cols, rows, out);
        }
        match shown {
            Shown::Snapshot { bytes, .. } | Shown::Output { bytes, .. } => {
                cast.output(at, bytes, out);
            }
            Shown::Exited(exit) => {
                let killed = exit.signal.map(|signal| 128 + signal);
                if let Some(status) = exit.code.or(killed) {
                    cast.exit(at, status, out);
                }
            }
            Shown::Attached { .. }
            | Shown::Resized { .. }
            | Shown::Away
            | Shown::Viewers { .. }
            | Shown::Refused { .. } => {}
        }
    }
}
