//! From creating a session to its first result: one alone, and twenty at once.

use std::path::PathBuf;
use std::sync::Barrier;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::Bench;
use super::http::Connection;
use super::jupyter::Jupyter;
use super::python::{BareLoop, real_interpreter};
use super::row::{Claim, Contest, Kind, Row, Unit};
use super::server::{Server, create_python, delete, run};
use super::steps::{absent_jupyter, milliseconds};

/// Sessions per run, one after another.
const ALONE: usize = 10;
/// Each takes a second.
const JUPYTER_ALONE: usize = 1;
/// Sessions at once.
const BURST: usize = 20;

/// With an idle interpreter in the pool.
pub(super) fn warm() -> Row {
    Row {
        name: "session-warm",
        what: "create a session → first result, idle interpreters in the pool",
        contenders: &["`abide up`", "jupyter_server (has no pool)"],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Sessions::open(bench, 4, Form::Alone)?)),
        claims: |outcome| vec![Claim::at_most("≤ 5 ms", outcome.summary(0).median, 5.0)],
    }
}

/// With an interpreter to be started.
pub(super) fn cold() -> Row {
    Row {
        name: "session-cold",
        what: "create a session → first result, the interpreter is started for it",
        contenders: &[
            "`abide up`",
            "jupyter_server",
            "bare exec loop, `python3 -I -S`",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Sessions::open(bench, 0, Form::Alone)?)),
        claims: |outcome| {
            let ratio = outcome.ratio(2);
            vec![Claim::at_most(
                "≤ 1.3 × the bare interpreter's start",
                ratio,
                1.3,
            )]
        },
    }
}

/// Twenty at once, with as many idle interpreters in the pool.
pub(super) fn burst_warm() -> Row {
    Row {
        name: "burst-warm",
        what: "20 sessions at once, one step each, until the last has its result; pool of 20",
        contenders: &["`abide up`", "jupyter_server (has no pool)"],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Sessions::open(bench, BURST, Form::Burst)?)),
        claims: |outcome| vec![Claim::at_most("≤ 150 ms", outcome.summary(0).median, 150.0)],
    }
}

/// Twenty at once, every interpreter to be started.
pub(super) fn burst_cold() -> Row {
    Row {
        name: "burst-cold",
        what: "20 sessions at once, one step each, until the last has its result; no pool",
        contenders: &[
            "`abide up`",
            "jupyter_server",
            "20 bare exec loops, `python3 -I -S`",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Sessions::open(bench, 0, Form::Burst)?)),
        claims: |outcome| {
            vec![Claim::at_most(
                "≤ 1000 ms",
                outcome.summary(0).median,
                1000.0,
            )]
        },
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Alone,
    Burst,
}

struct Sessions {
    server: Server,
    /// Idle interpreters to wait for before each sample.
    pool: usize,
    form: Form,
    python: PathBuf,
    jupyter: std::result::Result<Jupyter, String>,
}

impl Sessions {
    fn open(bench: &Bench, pool: usize, form: Form) -> Result<Self> {
        let server = Server::start(bench, &[&format!("warm_python={pool}")])?;
        // The server, too, has looked for its interpreter after this.
        let python = real_interpreter(&server)?;
        Ok(Self {
            server,
            pool,
            form,
            python,
            jupyter: Jupyter::start(bench),
        })
    }

    fn alone(&self) -> Result<Vec<f64>> {
        let mut connection = self.server.connect()?;
        let mut times = Vec::with_capacity(ALONE);
        for _ in 0..ALONE {
            self.server.until_warm(self.pool as u64)?;
            let begun = Instant::now();
            let session = first_result(&mut connection)?;
            times.push(milliseconds(begun));
            delete(&mut connection, &session)?;
        }
        Ok(times)
    }

    fn burst(&self) -> Result<Vec<f64>> {
        self.server.until_warm(self.pool as u64)?;
        let connections: Result<Vec<Connection>> =
            (0..BURST).map(|_| self.server.connect()).collect();
        let mut cleaner = self.server.connect()?;
        let (took, sessions) =
            at_once(connections?, |mut connection| first_result(&mut connection))?;
        for session in sessions {
            delete(&mut cleaner, &session)?;
        }
        Ok(vec![took])
    }

    fn bare_start(&self) -> Result<f64> {
        let begun = Instant::now();
        let value = BareLoop::start(&self.python)?.evaluate("1+1")?;
        let took = milliseconds(begun);
        ensure!(value == "2", "answered {value}");
        Ok(took)
    }

    fn bare(&self) -> Result<Vec<f64>> {
        match self.form {
            Form::Alone => (0..ALONE).map(|_| self.bare_start()).collect(),
            Form::Burst => {
                let (took, _) = at_once(vec![(); BURST], |()| self.bare_start())?;
                Ok(vec![took])
            }
        }
    }
}

/// Does all of it at once: milliseconds until the last one has ended, and what came of them.
fn at_once<T: Send, R: Send>(
    over: Vec<T>,
    each: impl Fn(T) -> Result<R> + Sync,
) -> Result<(f64, Vec<R>)> {
    let barrier = Barrier::new(over.len() + 1);
    std::thread::scope(|scope| {
        let wait = || barrier.wait();
        let each = &each;
        let threads: Vec<_> = over
            .into_iter()
            .map(|one| {
                scope.spawn(move || {
                    wait();
                    each(one)
                })
            })
            .collect();
        wait();
        let begun = Instant::now();
        let results: Vec<Result<R>> = threads
            .into_iter()
            .map(|thread| thread.join().ok().context("a thread panicked").flatten())
            .collect();
        let took = milliseconds(begun);
        Ok((took, results.into_iter().collect::<Result<_>>()?))
    })
}

fn first_result(connection: &mut Connection) -> Result<String> {
    let session = create_python(connection)?;
    let value = run(connection, &session, "1+1")?;
    ensure!(value == "2", "answered {value}");
    Ok(session)
}

impl Contest for Sessions {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        match (contender, self.form, &mut self.jupyter) {
            (0, Form::Alone, _) => self.alone(),
            (0, Form::Burst, _) => self.burst(),
            (1, Form::Alone, Ok(jupyter)) => jupyter.times("sessions", JUPYTER_ALONE),
            (1, Form::Burst, Ok(jupyter)) => jupyter.times("burst", BURST),
            (1, _, Err(reason)) => Err(anyhow::Error::msg(reason.clone())),
            _ => self.bare(),
        }
    }

    fn absent(&self, contender: usize) -> Option<String> {
        absent_jupyter(&self.jupyter, contender == 1)
    }

    fn notes(&self) -> Vec<String> {
        self.jupyter
            .as_ref()
            .map(Jupyter::note)
            .into_iter()
            .collect()
    }
}
