//! What a plane costs, and what the three together achieve.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::http::Connection;
use super::process;
use super::row::{Claim, Contest, Kind, Row, Unit};
use super::server::pause;
use super::stack::{Stack, Which};
use super::steps::milliseconds;

/// Steps per run and plane.
const STEPS: usize = 1000;
/// Sessions at work at once, by figure.
const AT_ONCE: [usize; 4] = [1, 16, 64, 256];
/// How long they work, in each run.
const RUN: Duration = Duration::from_secs(2);
/// Sessions at rest.
const IDLE: usize = 1000;
/// How long those are watched.
const WATCHED: Duration = Duration::from_secs(30);
/// Sessions that live when the agent is killed.
const LIVE: usize = 100;

/// The same step through one, two and three planes.
pub(super) fn cost() -> Row {
    Row {
        name: "plane-cost",
        what: "round trip of the step `x+1` in a warm session, planes as processes of their own",
        contenders: &[
            "`abide session-agent` alone",
            "`abide data-plane` over it",
            "`abide control-plane` over both",
        ],
        kind: Kind::Figures,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Cost::open(bench)?)),
        claims: |outcome| {
            let [agent, data, control] = [0, 1, 2].map(|who| *outcome.summary(who));
            vec![
                Claim::at_most(
                    "data plane: p50 ≤ 0.15 ms",
                    data.median - agent.median,
                    0.15,
                ),
                Claim::at_most("data plane: p99 ≤ 0.6 ms", data.p99 - agent.p99, 0.6),
                Claim::at_most(
                    "control plane: p50 ≤ 0.15 ms",
                    control.median - data.median,
                    0.15,
                ),
                Claim::at_most("control plane: p99 ≤ 0.6 ms", control.p99 - data.p99, 0.6),
            ]
        },
    }
}

/// Many sessions at work through all three planes.
pub(super) fn throughput() -> Row {
    Row {
        name: "plane-load",
        what: "steps `x+1` through all three planes: CPU time of the planes per step",
        contenders: &["1 session", "16 sessions", "64 sessions", "256 sessions"],
        kind: Kind::Figures,
        unit: Unit::Microseconds,
        open: |bench| Ok(Box::new(Load::open(bench)?)),
        claims: |outcome| {
            let sixteen = outcome.summary(1).median;
            vec![Claim::at_most("16 sessions: ≤ 250 µs", sixteen, 250.0)]
        },
    }
}

/// A thousand sessions at rest on one session agent.
pub(super) fn idle() -> Row {
    Row {
        name: "agent-idle",
        what: "1,000 idle Python sessions on one session agent: PSS per session",
        contenders: &[
            "all of it: interpreter + keeper + share of the agent",
            "the keeper",
            "share of the agent",
        ],
        kind: Kind::Once,
        unit: Unit::Megabytes,
        open: |bench| Ok(Box::new(Idle::open(bench)?)),
        claims: |outcome| {
            vec![
                Claim::at_most("session ≤ 7 MB", outcome.summary(0).median, 7.0),
                Claim::at_most("keeper ≤ 0.7 MB", outcome.summary(1).median, 0.7),
            ]
        },
    }
}

/// The session agent killed with a hundred sessions.
pub(super) fn recovery() -> Row {
    Row {
        name: "agent-recovery",
        what: "session agent killed (SIGKILL) with 100 live sessions; start of the next one → answer",
        contenders: &[
            "the first step has its result from the agent, state intact",
            "the same through the data plane",
        ],
        kind: Kind::Figures,
        unit: Unit::Milliseconds,
        open: |bench| Ok(Box::new(Recovery::open(bench)?)),
        claims: |outcome| {
            let first = outcome.summary(0).median;
            vec![Claim::at_most(
                "first step answered ≤ 1000 ms",
                first,
                1000.0,
            )]
        },
    }
}

/// A session that can be given steps through one plane.
struct Session {
    connection: Connection,
    which: Which,
    label: String,
}

impl Session {
    fn create(stack: &Stack, which: Which, label: &str) -> Result<Self> {
        let mut connection = stack.connect(which)?;
        let label = match which {
            Which::Agent => {
                connection.add_header("X-Session-Token", "bench-token");
                let body =
                    json!({ "sessionId": label, "runtime": "python", "token": "bench-token" });
                connection.json("POST", "/v1/sessions", &body)?;
                label.to_owned()
            }
            Which::Data => {
                let body = json!({ "sessionId": label, "runtime": "python" });
                connection.json("POST", "/sessions", &body)?;
                label.to_owned()
            }
            Which::Control => {
                let session = connection.json("POST", "/sessions", &json!({}))?;
                session["id"].as_str().context("no id")?.to_owned()
            }
        };
        let mut session = Self {
            connection,
            which,
            label,
        };
        session.step("x = 41")?;
        Ok(session)
    }

    /// The bytes of a request for a step, with an id of its own where a plane wants one.
    fn request(&self, code: &str) -> Vec<u8> {
        let id = uuid::Uuid::new_v4().to_string();
        let label = &self.label;
        let (path, body) = match self.which {
            Which::Agent => (
                "/v1/steps".to_owned(),
                json!({ "sessionId": label, "stepId": id, "code": code }),
            ),
            Which::Data => (
                format!("/sessions/{label}/steps"),
                json!({ "command": code }),
            ),
            Which::Control => (format!("/sessions/{label}/steps"), json!({ "code": code })),
        };
        self.connection
            .request("POST", &path, "application/json", &body.to_string())
    }

    /// Sends a request and returns the value of the step.
    fn send(&mut self, request: &[u8]) -> Result<String> {
        let mut answer = Vec::new();
        let status = self.connection.exchange(request, &mut answer)?;
        let text = String::from_utf8_lossy(&answer);
        ensure!((200..300).contains(&status), "answered {status}: {text}");
        let step: Value = serde_json::from_slice(&answer)?;
        let value = &step["result"]["text"];
        Ok(value.as_str().unwrap_or_default().to_owned())
    }

    fn step(&mut self, code: &str) -> Result<String> {
        let request = self.request(code);
        self.send(&request)
    }
}

struct Cost {
    stack: Stack,
    sessions: [Session; 3],
}

impl Cost {
    fn open(bench: &Bench) -> Result<Self> {
        let stack = Stack::start(bench, Which::Control)?;
        let [agent, data, control] = Which::ALL
            .map(|which| Session::create(&stack, which, &format!("cost-{}", which as u8)));
        let sessions = [agent?, data?, control?];
        Ok(Self { stack, sessions })
    }
}

impl Contest for Cost {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let session = &mut self.sessions[contender];
        let requests: Vec<_> = (0..STEPS).map(|_| session.request("x+1")).collect();
        let mut times = Vec::with_capacity(STEPS);
        for request in requests {
            let begun = Instant::now();
            let value = session.send(&request)?;
            times.push(milliseconds(begun));
            ensure!(value == "42", "answered {value}");
        }
        Ok(times)
    }

    fn notes(&self) -> Vec<String> {
        let resident: Vec<_> = Which::ALL
            .iter()
            .filter_map(|which| process::rss(self.stack.pid(*which).ok()?).ok())
            .map(|bytes| format!("{:.1}", bytes / 1e6))
            .collect();
        vec![format!(
            "RSS of agent, data plane and control plane: {} MB",
            resident.join(", ")
        )]
    }
}

struct Load {
    stack: Stack,
    sessions: Vec<Session>,
    /// By figure: steps per second of each run, and the 95th percentile of a step in milliseconds.
    seen: [Vec<(f64, f64)>; AT_ONCE.len()],
}

impl Load {
    fn open(bench: &Bench) -> Result<Self> {
        let stack = Stack::start(bench, Which::Control)?;
        let most = AT_ONCE[AT_ONCE.len() - 1];
        let sessions: Result<_> = (0..most)
            .map(|_| Session::create(&stack, Which::Control, ""))
            .collect();
        Ok(Self {
            sessions: sessions?,
            stack,
            seen: Default::default(),
        })
    }

    fn cpu(&self) -> Result<Duration> {
        let mut all = Duration::ZERO;
        for which in Which::ALL {
            all += process::cpu(self.stack.pid(which)?)?;
        }
        Ok(all)
    }

    /// The median of what was seen of a figure.
    fn median(&self, figure: usize, of: impl Fn(&(f64, f64)) -> f64) -> f64 {
        let mut all: Vec<f64> = self.seen[figure].iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl Contest for Load {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let count = AT_ONCE[contender];
        let barrier = Barrier::new(count);
        let before = self.cpu()?;
        let begun = Instant::now();
        let times = std::thread::scope(|scope| {
            let work = |session: &mut Session| {
                let request = session.request("x+1");
                let mut times = Vec::new();
                barrier.wait();
                let begun = Instant::now();
                while begun.elapsed() < RUN {
                    let sent = Instant::now();
                    let value = session.send(&request)?;
                    times.push(milliseconds(sent));
                    ensure!(value == "42", "answered {value}");
                }
                Ok(times)
            };
            let threads: Vec<_> = self.sessions[..count]
                .iter_mut()
                .map(|session| scope.spawn(move || work(session)))
                .collect();
            let mut all = Vec::new();
            for thread in threads {
                all.extend(thread.join().ok().context("a thread panicked").flatten()?);
            }
            Ok::<_, anyhow::Error>(all)
        });
        let mut times = times?;
        let took = begun.elapsed().as_secs_f64();
        let cpu = self.cpu()?.saturating_sub(before);
        times.sort_by(f64::total_cmp);
        let p95 = times.get(times.len() * 95 / 100).copied();
        let steps = times.len() as f64;
        self.seen[contender].push((steps / took, p95.context("no step ended")?));
        Ok(vec![cpu.as_secs_f64() * 1e6 / steps])
    }

    fn claims(&self) -> Vec<Claim> {
        let (rate, p95) = (self.median(1, |it| it.0), self.median(1, |it| it.1));
        vec![
            Claim::at_least("16 sessions: ≥ 6000 steps per second", rate, 6000.0),
            Claim::at_most("16 sessions: p95 ≤ 10 ms", p95, 10.0),
        ]
    }

    fn notes(&self) -> Vec<String> {
        let figures: Vec<_> = (0..AT_ONCE.len())
            .map(|figure| {
                let rate = self.median(figure, |it| it.0);
                let p95 = self.median(figure, |it| it.1);
                format!("{rate:.0} at {} (p95 {p95:.2} ms)", AT_ONCE[figure])
            })
            .collect();
        vec![format!(
            "steps per second, client, interpreters and planes on the same cores: {}",
            figures.join(", ")
        )]
    }
}

struct Idle {
    stack: Stack,
    /// CPU time of agent and keepers while they were watched, in % of a core.
    cpu: f64,
}

impl Idle {
    fn open(bench: &Bench) -> Result<Self> {
        let stack = Stack::start(bench, Which::Agent)?;
        for number in 0..IDLE {
            Session::create(&stack, Which::Agent, &format!("idle-{number}"))?;
        }
        // For what the last step left to do.
        pause(Duration::from_secs(5));
        let watched = Instant::now();
        let before = Self::used(&stack)?;
        pause(WATCHED);
        let used = Self::used(&stack)?.saturating_sub(before);
        let cpu = used.as_secs_f64() / watched.elapsed().as_secs_f64() * 100.0;
        Ok(Self { stack, cpu })
    }

    fn used(stack: &Stack) -> Result<Duration> {
        let mut all = process::cpu(stack.pid(Which::Agent)?)?;
        for keeper in stack.keepers()? {
            all += process::cpu_of_single_thread(keeper)?;
        }
        Ok(all)
    }
}

impl Contest for Idle {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        let keepers = self.stack.keepers()?;
        let count = keepers.len();
        ensure!(count == IDLE, "{count} keepers for {IDLE} sessions");
        let agent = process::pss(self.stack.pid(Which::Agent)?)? / IDLE as f64;
        let mut samples = Vec::with_capacity(IDLE);
        for keeper in keepers {
            let own = process::pss(keeper)?;
            let below: Result<f64> = match contender {
                0 => process::descendants(keeper)?
                    .into_iter()
                    .map(process::pss)
                    .sum(),
                _ => Ok(0.0),
            };
            samples.push(match contender {
                0 => (own + below? + agent) / 1e6,
                1 => own / 1e6,
                _ => agent / 1e6,
            });
        }
        Ok(samples)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::at_most(
            "CPU of agent and keepers ≤ 1 % of a core",
            self.cpu,
            1.0,
        )]
    }
}

struct Recovery {
    stack: Stack,
    sessions: [Vec<String>; 2],
    next: usize,
}

impl Recovery {
    fn open(bench: &Bench) -> Result<Self> {
        let stack = Stack::start(bench, Which::Data)?;
        let mut sessions = [Vec::new(), Vec::new()];
        for number in 0..LIVE {
            let which = Which::ALL[number % 2];
            let mut session = Session::create(&stack, which, &format!("live-{number}"))?;
            session.step(&format!("x = {number}"))?;
            sessions[number % 2].push(session.label);
        }
        Ok(Self {
            stack,
            sessions,
            next: 0,
        })
    }
}

impl Contest for Recovery {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        self.stack.kill(Which::Agent)?;
        self.next = (self.next + 37) % self.sessions[contender].len();
        let label = self.sessions[contender][self.next].clone();
        let which = Which::ALL[contender];
        let begun = Instant::now();
        self.stack.up(Which::Agent)?;
        let mut connection = self.stack.connect(which)?;
        connection.add_header("X-Session-Token", "bench-token");
        let mut session = Session {
            connection,
            which,
            label,
        };
        let value = session.step("x")?;
        let time = milliseconds(begun);
        let expected = (self.next * 2 + contender).to_string();
        ensure!(value == expected, "session holds {value}, not {expected}");
        Ok(vec![time])
    }
}
