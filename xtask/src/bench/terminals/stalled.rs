//! A viewer that stops reading while a program prints.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use super::corpus::Corpus;
use super::host::{Hosts, Program, Who};
use super::line::{finish, until};
use crate::bench::Bench;
use crate::bench::process;
use crate::bench::row::{Claim, Contest, Kind, Row, Unit};
use crate::bench::server::pause;

const WHO: [Who; 3] = [Who::Abide("flow=skip"), Who::Node, Who::PtyHost];
/// Makes 20 MB.
const LINES: usize = 280_000;
/// How often that is printed; less to who takes as long for it.
const TIMES: [usize; 3] = [10, 5, 2];
/// How often is looked whether the program is at its end, and how large the server is.
const LOOK: Duration = Duration::from_millis(5);
/// A program that is not done by then is held up.
const ENOUGH: Duration = Duration::from_secs(60);

/// What it costs the server, and the program.
pub(in crate::bench) fn stalled() -> Row {
    Row {
        name: "terminal-stalled",
        what: "a viewer stops reading, then the program prints 200 MB (node-pty 100 MB, pty host 40 MB): \
               most growth of the server's own memory (RssAnon) meanwhile",
        contenders: &[
            "`abide up`",
            "node-pty + ws",
            "VS Code-like pty host, without acknowledgements",
        ],
        kind: Kind::Contest,
        unit: Unit::Megabytes,
        open: |bench| Ok(Box::new(Stalled::open(bench)?)),
        claims: |outcome| vec![Claim::at_most("≤ 1 MB", outcome.summary(0).median, 1.0)],
    }
}

struct Stalled {
    hosts: Hosts,
    corpus: Corpus,
    home: TempDir,
    /// How long the program took under Abide: with such a viewer, and with none.
    took: [Vec<f64>; 2],
    /// The most that the server grew by, journal and all, in megabytes.
    resident: f64,
}

/// What was seen while a program printed.
struct Seen {
    took: f64,
    own: f64,
    resident: f64,
}

impl Stalled {
    fn open(bench: &Bench) -> Result<Self> {
        Ok(Self {
            hosts: Hosts::start(bench, &WHO)?,
            corpus: Corpus::new(LINES)?,
            home: tempfile::Builder::new().prefix("abide-bench-").tempdir()?,
            took: [Vec::new(), Vec::new()],
            resident: 0.0,
        })
    }

    /// A run of the program with a viewer that only starts it, and stays or not.
    fn print(&mut self, contender: usize, stays: bool) -> Result<Seen> {
        let done = self.home.path().join("done");
        // Printed once before, so that the scrollback that is kept in any case is there.
        let script = "stty -echo; done=$1; shift; cat \"$1\"; printf 'ready>'; read -r go
            cat \"$@\"; printf 'the-end>'; : >\"$done\"; read -r go";
        let mut files: Vec<&Path> = vec![&done];
        files.extend(vec![self.corpus.file.as_path(); TIMES[contender]]);
        let host = self.hosts.of(contender)?;
        let mut line = host.start(&Program::script(script, &files))?;
        until(line.as_mut(), "ready>")?;
        let server = *host.processes()?.last().context("no server")?;
        let before = (process::anonymous(server)?, process::rss(server)?);
        let mut seen = Seen {
            took: 0.0,
            own: 0.0,
            resident: 0.0,
        };
        let begun = Instant::now();
        line.send(b"\n")?;
        // What is typed by one who leaves at once may be lost.
        line.receive(&mut |_| {})?;
        let line = stays.then_some(line);
        while !done.exists() {
            ensure!(begun.elapsed() < ENOUGH, "the program waits");
            pause(LOOK);
            seen.own = seen.own.max(process::anonymous(server)? - before.0);
            seen.resident = seen.resident.max(process::rss(server)? - before.1);
        }
        seen.took = begun.elapsed().as_secs_f64();
        std::fs::remove_file(&done)?;
        // It, or who comes later, sees how that ended all the same.
        let mut line = match line {
            Some(line) => line,
            None => self.hosts.of(contender)?.attach(false)?,
        };
        until(line.as_mut(), "the-end>")?;
        finish(line, "\n")?;
        Ok(seen)
    }
}

impl Contest for Stalled {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        if contender == 0 {
            let seen = self.print(0, false)?;
            self.took[1].push(seen.took);
        }
        let seen = self.print(contender, true)?;
        if contender == 0 {
            self.took[0].push(seen.took);
            self.resident = self.resident.max(seen.resident / 1e6);
        }
        Ok(vec![seen.own / 1e6])
    }

    fn absent(&self, contender: usize) -> Option<String> {
        self.hosts.absent(contender)
    }

    fn claims(&self) -> Vec<Claim> {
        let [with, without] = self.took.each_ref().map(|took| {
            let mut sorted = took.clone();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
        });
        let text = "the program takes at most 1.05 × as long as without a viewer";
        vec![Claim::at_most(text, with / without, 1.05)]
    }

    fn notes(&self) -> Vec<String> {
        vec![format!(
            "RSS of Abide's server, mapped journal and all: at most +{:.1} MB; when it reads again, the viewer \
             sees how the program ended",
            self.resident
        )]
    }
}
