//! What a schedule's clients submit, and what they are told.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::super::super::Gate;
use super::super::Whole;
use crate::api::http::Answer as Reply;

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
    /// Its path.
    pub(super) path: String,
    pub(super) secret: String,
    /// A step of it ends its interpreter.
    pub(super) dies: bool,
    /// Where its steps note that they run.
    ran: PathBuf,
}

/// A step of the schedule.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) session: usize,
    pub(super) id: String,
    pub(super) body: Value,
}

/// What a client was told of a step.
pub(super) enum Answer {
    /// It ended so.
    Ended(Value),
    /// Nobody could be reached, or nothing is known.
    Unreachable,
    /// The interpreter is dead.
    Crashed,
    /// No answer at all.
    Lost,
}

/// Ids of steps that came to a wire, or whose clients have stopped waiting.
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
    /// How many control planes there have been.
    control_planes: watch::Sender<usize>,
    gates: Vec<Gate>,
}

impl Work {
    /// Makes the schedule's sessions, before anything fails.
    pub(super) async fn begin(whole: &Whole, seed: u64, count: usize, rng: &mut Rng) -> Self {
        let mut sessions = Vec::new();
        for n in 0..count {
            let made = whole.request("POST", "/sessions").json(&json!({}));
            let made = Reply::of(made).await.check(201);
            let path = format!("/sessions/{}", made["id"].as_str().unwrap());
            let secret = format!("secret-{seed}-{n}-{:x}", rng.u64(..));
            let set = json!({ "code": format!("secret = {secret:?}") });
            let set = whole.request("POST", &format!("{path}/steps")).json(&set);
            assert_eq!(Reply::of(set).await.check(200)["status"], "completed");
            let ran = format!("ran{}", path.replace('/', "-"));
            sessions.push(Session {
                ran: whole.stack.home().join(ran),
                path,
                secret,
                dies: false,
            });
        }
        Self {
            seen: Arc::default(),
            sessions,
            steps: Vec::new(),
            told: Arc::default(),
            clients: JoinSet::new(),
            control_planes: watch::Sender::default(),
            gates: Vec::new(),
        }
    }

    /// Submits a step; its id.
    pub(super) fn submit(&mut self, whole: &Whole, kind: Kind, rng: &mut Rng) -> String {
        let session = rng.usize(..self.sessions.len());
        let owner = &mut self.sessions[session];
        owner.dies |= kind == Kind::Dies;
        let id = Uuid::from_u128(rng.u128(..)).to_string();
        let middle = match kind {
            Kind::Plain => "pass".to_owned(),
            Kind::Waits => {
                let gate = Gate::new(whole.stack.home().join(&id));
                let waits = gate.waits();
                self.gates.push(gate);
                waits
            }
            Kind::Dies => "import os; os._exit(3)".to_owned(),
        };
        let ran = &owner.ran;
        let code = format!(
            "with open({ran:?}, 'a') as f: f.write('{id}\\n')\n{middle}\nprint(secret, '{id}')"
        );
        let step = Step {
            session,
            body: json!({ "code": code, "step_id": id }),
            id: id.clone(),
        };
        self.steps.push(step.clone());
        // Now and then two clients submit the same step.
        for _ in 0..=usize::from(rng.u8(..6) == 0) {
            let request = self.request(whole, &step);
            let (mut control_planes, tries) = (self.control_planes.subscribe(), rng.usize(1..4));
            let (id, seen) = (id.clone(), Arc::clone(&self.seen));
            let told = Arc::clone(&self.told);
            self.clients.spawn(async move {
                for _ in 0..tries {
                    control_planes.borrow_and_update();
                    let answer = ask(request.try_clone().unwrap()).await;
                    let again = match &answer {
                        Answer::Unreachable => true,
                        // Until the next control plane is there.
                        Answer::Lost => control_planes.changed().await.is_ok(),
                        Answer::Ended(_) | Answer::Crashed => false,
                    };
                    told.lock().unwrap().push((id.clone(), answer));
                    if !again {
                        break;
                    }
                }
                seen.note(id);
            });
        }
        id
    }

    /// The submission of a step.
    pub(super) fn request(&self, whole: &Whole, step: &Step) -> RequestBuilder {
        let path = format!("{}/steps", self.sessions[step.session].path);
        whole.request("POST", &path).json(&step.body)
    }

    /// How often a step ran.
    pub(super) fn executions(&self, id: &str) -> usize {
        let times = |session: &Session| {
            let ran = std::fs::read_to_string(&session.ran).unwrap_or_default();
            ran.lines().filter(|line| *line == id).count()
        };
        self.sessions.iter().map(times).sum()
    }

    /// Waits until the step came to a wire, or nobody waits for it any more.
    pub(super) async fn seen_or_over(&self, id: &str) {
        let mut seen = self.seen.0.subscribe();
        seen.wait_for(|ids| ids.contains(id)).await.unwrap();
    }

    /// There is another control plane now.
    pub(super) fn control_plane_is_new(&self) {
        self.control_planes.send_modify(|count| *count += 1);
    }

    /// Lets every step go on.
    pub(super) fn open_gates(&self) {
        self.gates.iter().for_each(Gate::open);
    }

    /// Waits for every client.
    pub(super) async fn answered(&mut self) {
        // Nobody waits for another control plane.
        self.control_planes = watch::Sender::default();
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

/// One submission.
pub(super) async fn ask(request: RequestBuilder) -> Answer {
    let Ok(response) = request.send().await else {
        return Answer::Lost;
    };
    let status = response.status().as_u16();
    let Ok(body) = response.bytes().await else {
        return Answer::Lost;
    };
    let body: Value = serde_json::from_slice(&body).unwrap();
    match (status, body["error"].as_str()) {
        (200, _) => Answer::Ended(body),
        (503, Some("runtime_unreachable")) => Answer::Unreachable,
        (503, Some("runtime_crashed")) => Answer::Crashed,
        _ => panic!("{status} {body}"),
    }
}
