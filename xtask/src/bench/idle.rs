//! Two hundred sessions at rest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::process::{self, Wakeups};
use super::row::{Claim, Contest, Kind, Row, Unit};
use super::server::{Server, create_python, pause, run};

/// Sessions with an interpreter each.
const SESSIONS: usize = 200;
/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(60);
/// For what the last step left to do: a checkpoint of the database, say.
const SETTLE: Duration = Duration::from_secs(5);

/// CPU time of everything that is Abide's.
pub(super) fn sessions() -> Row {
    Row {
        name: "idle-cpu",
        what: "CPU time with 200 idle Python sessions, over 60 s, in % of one core",
        contenders: &[
            "server and keepers",
            "the server",
            "the keepers",
            "the interpreters",
        ],
        kind: Kind::Once,
        unit: Unit::PercentOfCore,
        open: |bench| Ok(Box::new(Idle::open(bench)?)),
        claims: |outcome| vec![Claim::at_most("≤ 0.5 %", outcome.summary(0).median, 0.5)],
    }
}

struct Idle {
    server: Server,
    seen: Option<Seen>,
}

/// What was used while they were watched: server, keepers, interpreters.
#[derive(Debug, Clone, Copy)]
struct Seen {
    percent: [f64; 3],
    wakeups: [u64; 3],
}

impl Idle {
    fn open(bench: &Bench) -> Result<Self> {
        let server = Server::start(bench, &[])?;
        let mut connection = server.connect()?;
        for _ in 0..SESSIONS {
            let session = create_python(&mut connection)?;
            run(&mut connection, &session, "x = 41")?;
        }
        server.until_warm(2)?;
        pause(SETTLE);
        Ok(Self { server, seen: None })
    }

    fn watch(&self) -> Result<Seen> {
        let keepers = self.server.keepers()?;
        let count = keepers.len();
        ensure!(count >= SESSIONS, "{count} keepers for {SESSIONS} sessions");
        let mut interpreters = Vec::new();
        for keeper in &keepers {
            interpreters.extend(process::descendants(*keeper)?);
        }
        let server = self.server.pid()?;
        let groups = [vec![server], keepers, interpreters];
        let begun = Instant::now();
        let before = Totals::of(server, &groups)?;
        pause(WATCHED);
        let after = Totals::of(server, &groups)?;
        let watched = begun.elapsed().as_secs_f64();
        let mut seen = Seen {
            percent: [0.0; 3],
            wakeups: [0; 3],
        };
        for group in 0..3 {
            // Neither runs backwards; if it did, a difference of nothing would look like success.
            let used = after.cpu[group].checked_sub(before.cpu[group]);
            let used = used.context("CPU time ran backwards")?;
            seen.percent[group] = used.as_secs_f64() / watched * 100.0;
            for (thread, count) in &after.wakeups[group] {
                let earlier = before.wakeups[group].get(thread).unwrap_or(&0);
                let woken = count.checked_sub(*earlier);
                seen.wakeups[group] += woken.context("wake-ups ran backwards")?;
            }
        }
        Ok(seen)
    }
}

/// Since the processes of each group began.
struct Totals {
    cpu: [Duration; 3],
    wakeups: [Wakeups; 3],
}

impl Totals {
    /// The server has threads that come and go: its CPU time is that of the whole process.
    fn of(server: u32, groups: &[Vec<u32>; 3]) -> Result<Self> {
        let mut totals = Self {
            cpu: [Duration::ZERO; 3],
            wakeups: Default::default(),
        };
        for (group, pids) in groups.iter().enumerate() {
            for pid in pids {
                totals.cpu[group] += if *pid == server {
                    process::cpu(*pid)?
                } else {
                    process::cpu_of_single_thread(*pid)?
                };
                totals.wakeups[group].extend(process::wakeups(*pid)?);
            }
        }
        Ok(totals)
    }
}

impl Contest for Idle {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let seen = match self.seen {
            Some(seen) => seen,
            None => *self.seen.insert(self.watch()?),
        };
        let [server, keepers, interpreters] = seen.percent;
        Ok(vec![match contender {
            0 => server + keepers,
            1 => server,
            2 => keepers,
            _ => interpreters,
        }])
    }

    fn notes(&self) -> Vec<String> {
        let note = |seen: Seen| {
            let [server, keepers, interpreters] = seen.wakeups;
            let watched = WATCHED.as_secs();
            format!(
                "wake-ups in {watched} s of the threads that are there at the end: server {server}, \
                 all keepers {keepers}, all interpreters {interpreters}; CPU time of the server is \
                 exact to 0.02 %"
            )
        };
        self.seen.map(note).into_iter().collect()
    }
}
