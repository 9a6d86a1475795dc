//! A step in a session that is warm: the round trip that everything else is made of.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::Bench;
use super::http::Connection;
use super::jupyter::Jupyter;
use super::process;
use super::python::{BareLoop, real_interpreter};
use super::row::{Claim, Contest, Kind, Row, Unit};
use super::server::{Server, create_python, run};

/// Steps per run; a 99th percentile needs some hundreds, and a run stays at a second.
const STEPS: usize = 2000;
/// Each takes fifty milliseconds.
const JUPYTER_STEPS: usize = 40;

/// The round trip of `x+1`.
pub(super) fn round_trip() -> Row {
    Row {
        name: "step",
        what: "round trip of the step `x+1` in a warm session",
        contenders: &[
            "`abide up`, HTTP keep-alive",
            "bare exec loop on a pipe",
            "jupyter_server, WebSocket",
        ],
        kind: Kind::Contest,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(RoundTrip::open(bench)?)),
        claims: |outcome| {
            let (abide, bare) = (outcome.summary(0), outcome.summary(1));
            vec![
                Claim::at_most(
                    "p50 ≤ 0.30 ms over the bare loop",
                    abide.median - bare.median,
                    0.30,
                ),
                Claim::at_least(
                    "p50 ≥ 100 × faster than jupyter_server",
                    1.0 / outcome.ratio(2),
                    100.0,
                ),
                Claim::at_most("p99 ≤ 5 × p50", abide.p99 / abide.median, 5.0),
            ]
        },
    }
}

struct RoundTrip {
    server: Server,
    connection: Connection,
    request: Vec<u8>,
    answer: Vec<u8>,
    bare: BareLoop,
    jupyter: std::result::Result<Jupyter, String>,
    /// CPU time of server, keepers and interpreters for the steps counted last.
    cpu: [Duration; 3],
    steps: u32,
}

impl RoundTrip {
    fn open(bench: &Bench) -> Result<Self> {
        // No idle interpreters beside the one that is measured.
        let server = Server::start(bench, &["warm_python=0"])?;
        let python = real_interpreter(&server)?;
        let mut connection = server.connect()?;
        let session = create_python(&mut connection)?;
        run(&mut connection, &session, "x = 41")?;
        let path = format!("/sessions/{session}/steps");
        let request = connection.request("POST", &path, "application/json", r#"{"code":"x+1"}"#);
        Ok(Self {
            server,
            connection,
            request,
            answer: Vec::new(),
            bare: BareLoop::start(&python)?,
            jupyter: Jupyter::start(bench),
            cpu: [Duration::ZERO; 3],
            steps: 0,
        })
    }

    fn abide(&mut self) -> Result<Vec<f64>> {
        let before = self.cpu_now()?;
        let mut times = Vec::with_capacity(STEPS);
        for _ in 0..STEPS {
            self.answer.clear();
            let begun = Instant::now();
            let status = self.connection.exchange(&self.request, &mut self.answer)?;
            times.push(milliseconds(begun));
            let answer = String::from_utf8_lossy(&self.answer);
            ensure!(
                status == 200 && answer.contains(r#""text":"42""#),
                "answered {status}: {answer}"
            );
        }
        let after = self.cpu_now()?;
        for ((sum, before), after) in self.cpu.iter_mut().zip(before).zip(after) {
            *sum += after.saturating_sub(before);
        }
        self.steps += u32::try_from(STEPS)?;
        Ok(times)
    }

    fn cpu_now(&self) -> Result<[Duration; 3]> {
        let mut cpu = [
            process::cpu(self.server.pid()?)?,
            Duration::ZERO,
            Duration::ZERO,
        ];
        for keeper in self.server.keepers()? {
            cpu[1] += process::cpu_of_single_thread(keeper)?;
            for interpreter in process::descendants(keeper)? {
                cpu[2] += process::cpu_of_single_thread(interpreter)?;
            }
        }
        Ok(cpu)
    }

    fn bare(&mut self) -> Result<Vec<f64>> {
        self.bare.evaluate("globals().update(x=41)")?;
        let mut times = Vec::with_capacity(STEPS);
        for _ in 0..STEPS {
            let begun = Instant::now();
            let value = self.bare.evaluate("x+1")?;
            times.push(milliseconds(begun));
            ensure!(value == "42", "answered {value}");
        }
        Ok(times)
    }
}

impl Contest for RoundTrip {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        match (contender, &mut self.jupyter) {
            (0, _) => self.abide(),
            (1, _) => self.bare(),
            (_, Ok(jupyter)) => jupyter.times("steps", JUPYTER_STEPS),
            (_, Err(reason)) => Err(anyhow::Error::msg(reason.clone())),
        }
    }

    fn absent(&self, contender: usize) -> Option<String> {
        absent_jupyter(&self.jupyter, contender == 2)
    }

    fn notes(&self) -> Vec<String> {
        let each = self
            .cpu
            .map(|cpu| cpu.as_secs_f64() * 1e6 / f64::from(self.steps.max(1)));
        vec![
            format!(
                "CPU time per step: server {:.0} µs, keeper {:.0} µs, interpreter {:.0} µs",
                each[0], each[1], each[2]
            ),
            format!("{STEPS} steps a run; jupyter_server {JUPYTER_STEPS}"),
        ]
        .into_iter()
        .chain(self.jupyter.as_ref().map(Jupyter::note))
        .collect()
    }
}

/// The reason why jupyter_server does not take part, for a contender that is it.
pub(super) fn absent_jupyter(
    jupyter: &std::result::Result<Jupyter, String>,
    is_it: bool,
) -> Option<String> {
    jupyter.as_ref().err().filter(|_| is_it).cloned()
}

/// Milliseconds since then.
pub(super) fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}
