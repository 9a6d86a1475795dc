//! What a schedule's clients submit, and what they are told.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::super::{Client, Gate, Planes};
use super::Tally;

/// What a step does besides saying who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// Waits until the schedule's end.
    Waits,
    /// Ends its interpreter.
    Dies,
}

/// A session of the schedule.
pub(super) struct Session {
    pub(super) name: String,
    pub(super) node: bool,
    pub(super) secret: String,
    pub(super) worker: Value,
    /// A step of it ends its interpreter.
    pub(super) dies: bool,
}

/// A step of the schedule.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) session: usize,
    pub(super) id: String,
    pub(super) body: Value,
    pub(super) kind: Kind,
}

/// What a client was told of a step.
pub(super) enum Answer {
    /// It ended so.
    Ended(Value),
    /// It was accepted.
    Accepted,
    /// Nobody could be reached, or nothing is known.
    Unreachable,
    /// The interpreter is dead.
    Crashed,
    /// No answer at all.
    Lost,
}

/// Ids of steps that came to the proxy, or whose clients have stopped waiting.
#[derive(Default)]
pub(super) struct Seen(watch::Sender<HashSet<String>>);

impl Seen {
    pub(super) fn note(&self, id: String) {
        self.0.send_if_modified(|ids| ids.insert(id));
    }
}

/// See the module.
pub(super) struct Work {
    pub(super) seen: Arc<Seen>,
    pub(super) sessions: Vec<Session>,
    pub(super) steps: Vec<Step>,
    /// By step, in no order.
    pub(super) told: Arc<Mutex<Vec<(String, Answer)>>>,
    clients: JoinSet<()>,
    current: watch::Sender<Client>,
    gates: Vec<Gate>,
}

impl Work {
    /// Makes the schedule's sessions, before anything fails.
    pub(super) async fn begin(planes: &Planes, seed: u64, count: usize, rng: &mut Rng) -> Self {
        let mut sessions = Vec::new();
        for n in 0..count {
            let (name, node) = (format!("s{seed}-{n}"), rng.u8(..5) == 0);
            let runtime = if node { "node" } else { "python" };
            let body = json!({ "sessionId": name, "runtime": runtime, "workspaceRef": name });
            let made = planes.create_with(body).await;
            sessions.push(Session {
                secret: format!("secret-of-{name}-{:x}", rng.u64(..)),
                name,
                node,
                worker: made["workerId"].clone(),
                dies: false,
            });
        }
        for session in &sessions {
            let set = format!("secret = {:?};", session.secret);
            planes.run(&session.name, &set).await;
        }
        Self {
            seen: Arc::default(),
            sessions,
            steps: Vec::new(),
            told: Arc::default(),
            clients: JoinSet::new(),
            current: watch::Sender::new(planes.client.clone()),
            gates: Vec::new(),
        }
    }

    /// Submits a step; its id.
    pub(super) fn submit(&mut self, planes: &Planes, kind: Kind, rng: &mut Rng) -> String {
        let session = rng.usize(..self.sessions.len());
        let owner = &mut self.sessions[session];
        let kind = if owner.node && kind == Kind::Waits {
            Kind::Plain
        } else {
            kind
        };
        owner.dies |= kind == Kind::Dies;
        let id = format!("{}-{}", owner.name, self.steps.len());
        let code = if owner.node {
            let end = if kind == Kind::Dies {
                "process.kill(process.pid, 'SIGKILL')"
            } else {
                "undefined"
            };
            format!(
                "require('fs').appendFileSync('ran', '{id}\\n');\nconsole.log(secret, '{id}');\n{end}"
            )
        } else {
            let middle = match kind {
                Kind::Plain => "pass".to_owned(),
                Kind::Waits => {
                    let gate = planes.gate();
                    let waits = gate.waits();
                    self.gates.push(gate);
                    waits
                }
                Kind::Dies => "import os; os._exit(3)".to_owned(),
            };
            format!(
                "with open('ran', 'a') as f: f.write('{id}\\n')\n{middle}\nprint(secret, '{id}')"
            )
        };
        let step = Step {
            session,
            body: json!({ "stepId": id, "command": code }),
            id: id.clone(),
            kind,
        };
        self.steps.push(step.clone());
        // Now and then two clients submit the same step.
        for _ in 0..=usize::from(rng.u8(..6) == 0) {
            let wait = if rng.u8(..5) == 0 { "?wait=0" } else { "" };
            let path = format!("/sessions/{}/steps{wait}", owner.name);
            let (mut current, tries) = (self.current.subscribe(), rng.usize(1..4));
            let (step, seen) = (step.clone(), Arc::clone(&self.seen));
            let told = Arc::clone(&self.told);
            self.clients.spawn(async move {
                for _ in 0..tries {
                    let client = current.borrow_and_update().clone();
                    let answer = ask(&client, &path, &step).await;
                    let again = match &answer {
                        Answer::Unreachable => true,
                        // Until the next data plane is there.
                        Answer::Lost => current.changed().await.is_ok(),
                        _ => false,
                    };
                    told.lock().unwrap().push((step.id.clone(), answer));
                    if !again {
                        break;
                    }
                }
                seen.note(step.id);
            });
        }
        id
    }

    /// Waits until the step came to the proxy, or nobody waits for it any more.
    pub(super) async fn seen_or_over(&self, id: &str) {
        let mut seen = self.seen.0.subscribe();
        seen.wait_for(|ids| ids.contains(id)).await.unwrap();
    }

    /// There is another data plane now.
    pub(super) fn client_is(&self, planes: &Planes) {
        self.current.send_replace(planes.client.clone());
    }

    /// Lets every step go on.
    pub(super) fn open_gates(&self) {
        self.gates.iter().for_each(Gate::open);
    }

    /// Waits for every client.
    pub(super) async fn answered(&mut self, tally: &mut Tally) {
        // Nobody waits for another data plane.
        let current = self.current.borrow().clone();
        self.current = watch::Sender::new(current);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        for (_, answer) in self.told.lock().unwrap().iter() {
            match answer {
                Answer::Ended(_) | Answer::Accepted => tally.at_once += 1,
                Answer::Unreachable => tally.unreachable += 1,
                Answer::Lost => tally.lost += 1,
                Answer::Crashed => {}
            }
        }
        tally.steps += self.steps.len();
    }
}

/// One submission.
pub(super) async fn ask(client: &Client, path: &str, step: &Step) -> Answer {
    let request = client.request("POST", path).body(step.body.to_string());
    let Ok(response) = request.send().await else {
        return Answer::Lost;
    };
    let status = response.status().as_u16();
    let Ok(body) = response.bytes().await else {
        return Answer::Lost;
    };
    let body: Value = serde_json::from_slice(&body).unwrap();
    match (status, body["error"].as_str()) {
        (202, _) if body["exitCode"].is_number() => Answer::Ended(body),
        (202, _) => Answer::Accepted,
        (503, Some("runtime_unreachable")) => Answer::Unreachable,
        (503, Some("runtime_crashed")) => Answer::Crashed,
        _ => panic!("{}: {status} {body}", step.id),
    }
}
