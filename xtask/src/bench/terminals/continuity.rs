//! A viewer that loses its connection and its server, again and again, while a program counts.

use std::io::Write as _;

use anyhow::{Result, bail};

use super::abide::{Abide, Viewer};
use super::host::Program;
use super::line::Line as _;
use crate::bench::Bench;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};

const REATTACHES: usize = 1000;
/// How many of these are to a server that was killed and started again.
const KILLS: usize = 100;
/// Counts without end, a few megabytes per second.
const COUNT: &str =
    "stty -echo; n=0; while :; do seq $n $((n + 999)); n=$((n + 1000)); sleep 0.001; done";

/// Lost and doubled output.
pub(in crate::bench) fn continuity() -> Row {
    Row {
        name: "terminal-continuity",
        what: "a program counts, its viewer breaks off and resumes 1,000 times, 100 of these because the server is \
               killed (SIGKILL) and started again: output lost or doubled",
        contenders: &["`abide up`"],
        kind: Kind::Once,
        unit: Unit::Bytes,
        open: |bench| Ok(Box::new(Continuity::open(bench)?)),
        claims: |outcome| {
            let wrong = outcome.summary(0).median;
            vec![Claim::at_most("none", wrong, 0.0)]
        },
    }
}

struct Continuity {
    abide: Abide,
    /// Bytes that came and are the right ones.
    compared: usize,
}

impl Continuity {
    fn open(bench: &Bench) -> Result<Self> {
        Ok(Self {
            abide: Abide::start(bench, "flow=block")?,
            compared: 0,
        })
    }
}

/// What a program that counts prints, to be compared with what came.
#[derive(Debug, Default)]
struct Count {
    next: u64,
    /// What is still to come of numbers before the next.
    rest: Vec<u8>,
    compared: usize,
}

impl Count {
    /// Whether this is what comes next.
    fn is_next(&mut self, bytes: &[u8]) -> bool {
        while self.rest.len() < bytes.len() {
            // A vector takes everything.
            let _ = write!(self.rest, "{}\r\n", self.next);
            self.next += 1;
        }
        let is_next = self.rest.starts_with(bytes);
        self.rest.drain(..bytes.len());
        self.compared += bytes.len();
        is_next
    }
}

impl Contest for Continuity {
    fn run(&mut self, _contender: usize) -> Result<Vec<f64>> {
        let Self { abide, compared } = self;
        abide.launch(&Program::script(COUNT, &[]))?;
        let mut count = Count::default();
        let mut offset = 0;
        for visit in 0..=REATTACHES {
            if visit % (REATTACHES / KILLS) == 1 {
                abide.server.kill()?;
                abide.server.up()?;
                abide.reconnect()?;
            }
            let mut viewer = abide.view(&format!("&resume_from={offset}"))?;
            viewer.offset = offset;
            // The last one goes on to where the program was when it came.
            let until = if visit == REATTACHES {
                abide.output_end()?
            } else {
                // Now it breaks off after the first piece, now after some more.
                offset + 1 + (visit as u64 * 1237) % 5000
            };
            while viewer.offset < until {
                if let Some(wrong) = differs(&mut viewer, &mut count)? {
                    return Ok(vec![wrong]);
                }
            }
            offset = viewer.offset;
        }
        *compared = count.compared;
        Ok(vec![0.0])
    }

    fn notes(&self) -> Vec<String> {
        let megabytes = self.compared as f64 / 1e6;
        vec![format!(
            "{megabytes:.1} MB compared with what the program counts; a figure above 0 is that of the first place \
             where they differ"
        )]
    }
}

/// Receives once; by how much that is not what comes next.
fn differs(viewer: &mut Viewer, count: &mut Count) -> Result<Option<f64>> {
    let (offset, snapshots) = (viewer.offset, viewer.snapshots);
    let mut length = 0;
    let mut is_next = true;
    viewer.receive(&mut |bytes| {
        length = bytes.len() as u64;
        is_next = count.is_next(bytes);
    })?;
    if viewer.snapshots > snapshots {
        // What it stands for was not told.
        return Ok(Some((viewer.offset - offset) as f64));
    }
    let astray = viewer.offset.abs_diff(offset + length);
    if astray > 0 {
        return Ok(Some(astray as f64));
    }
    if !is_next {
        bail!("other output than was printed, at {offset}");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_knows_what_comes_next() {
        let mut count = Count::default();
        assert!(count.is_next(b"0\r\n1\r"));
        assert!(count.is_next(b"\n2\r\n3"));
        assert!(!count.is_next(b"\r\n5"));
    }
}
