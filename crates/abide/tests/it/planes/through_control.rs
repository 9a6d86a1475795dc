//! The same through all three planes, with a proxy on either wire: a step that the control plane
//! accepted is executed at most once and comes to one end, which everybody is told.

mod schedules;

use abide_model::{ProblemCode, StepId};
use abide_testkit::proxy::{Action, Fault, Point, Request};
use abide_testkit::{Plane, Proxy, TestStack};
use serde_json::{Value, json};

use super::{blocking, options, refused};
use crate::api::http::Answer;

/// Adds one to what ran and prints it.
const COUNT: &str = "n = globals().get('n', 0) + 1\nprint('run', n)";

/// The three planes and what is between them.
struct Whole {
    stack: TestStack,
    /// From the control plane to the data plane, and from that to the session agent.
    wires: [Proxy; 2],
    http: reqwest::Client,
    key: String,
    /// The path of the one session.
    session: String,
    /// How many steps have run in it.
    ran: usize,
}

impl Whole {
    async fn start() -> Self {
        // Where they lead is known only when the planes are there.
        let wires = [(); 2].map(|()| Proxy::start("http://127.0.0.1:9").unwrap());
        let options = options()
            .set(&format!("data_plane_url={}", wires[0].url()))
            .set(&format!("agent_endpoint={}", wires[1].url()));
        let stack = TestStack::start(options).unwrap();
        for (wire, below) in wires.iter().zip([Plane::Data, Plane::Agent]) {
            wire.set_target(stack.plane_url(below)).unwrap();
        }
        let mut whole = Self {
            key: stack.key().unwrap(),
            http: super::client(),
            session: String::new(),
            stack,
            wires,
            ran: 0,
        };
        let made = whole.request("POST", "/sessions").json(&json!({}));
        let made = Answer::of(made).await.check(201);
        whole.session = format!("/sessions/{}", made["id"].as_str().unwrap());
        // The interpreter is started with the first step, and that is not what fails here.
        let first = whole.submit(&StepId::new().to_string()).await;
        assert_eq!(first.check(200)["stdout"], "run 1\n");
        whole.ran = 1;
        whole
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let request = self
            .http
            .request(method, format!("{}{path}", self.stack.url()));
        request.bearer_auth(&self.key)
    }

    fn submit(&self, id: &str) -> impl Future<Output = Answer> + use<> {
        let body = json!({ "code": COUNT, "step_id": id });
        let path = format!("{}/steps", self.session);
        Answer::of(self.request("POST", &path).json(&body))
    }

    /// The answer to a step; `None` if the control plane goes away instead.
    fn submit_or_lose(&self, id: &str) -> impl Future<Output = Option<Answer>> + use<> {
        let body = json!({ "code": COUNT, "step_id": id });
        let path = format!("{}/steps", self.session);
        let request = self.request("POST", &path).json(&body);
        async {
            let response = request.send().await.ok()?;
            Some(Answer {
                status: response.status().as_u16(),
                headers: response.headers().clone(),
                body: response.bytes().await.ok()?.into(),
            })
        }
    }

    /// How the step ended, by its id.
    async fn ended(&self, id: &str) -> Value {
        let path = format!("{}/steps/{id}?wait=60", self.session);
        let step = Answer::of(self.request("GET", &path)).await.check(200);
        assert!(step["finished_at"].is_string(), "it does not end: {step}");
        step
    }

    /// Does `fault` to the next step on a wire.
    fn break_next(&self, wire: usize, fault: Fault) {
        self.wires[wire].once(is_step, fault);
    }

    /// Checks the step's one end, and that it stays so; `true` if it ran.
    async fn came_to_one_end(&mut self, id: &str, answer: Option<&Answer>, context: &str) -> bool {
        let end = self.ended(id).await;
        let ran = end["status"] == "completed";
        if ran {
            self.ran += 1;
            let expected = format!("run {}\n", self.ran);
            assert_eq!(end["stdout"], expected, "{context}: {end}");
        } else {
            assert_eq!(end["status"], "lost", "{context}: {end}");
        }
        match answer {
            Some(answer) if answer.status == 200 => assert_eq!(answer.json(), end, "{context}"),
            Some(answer) => {
                let problem = refused(answer, 503, ProblemCode::RuntimeUnreachable);
                assert_eq!(problem["details"]["sent"], true, "{context}: {problem}");
            }
            None => {}
        }
        let again = self.submit(id).await;
        assert_eq!(again.check(200), end, "{context}: submitted again");
        ran
    }

    /// What the interpreter says ran in it.
    async fn check_count(&self) {
        let body = json!({ "code": "print(n)" });
        let path = format!("{}/steps", self.session);
        let told = Answer::of(self.request("POST", &path).json(&body)).await;
        assert_eq!(told.check(200)["stdout"], format!("{}\n", self.ran));
    }
}

fn is_step(request: &Request<'_>) -> bool {
    request.method == "POST" && request.has("\"stepId\":")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wire_that_breaks_anywhere_costs_no_second_execution() {
    let mut whole = Whole::start().await;
    let mut never_arrived = 0;
    for wire in 0..2 {
        for (at, action) in [
            (Point::BeforeRequest, Action::Cut),
            (Point::InRequest(300), Action::Reset),
            (Point::AfterRequest, Action::Cut),
            (Point::AfterRequest, Action::HalfClose),
            (Point::AfterRequest, Action::Duplicate),
            (Point::BeforeResponse, Action::Reset),
            (Point::InResponse(10), Action::Cut),
            (Point::InResponse(150), Action::Cut),
            (Point::InResponse(150), Action::HalfClose),
            (Point::InResponse(400), Action::Reset),
        ] {
            let context = format!("wire {wire}: {action:?} at {at:?}");
            let id = StepId::new().to_string();
            whole.break_next(wire, Fault::new(at, action));
            let answer = whole.submit(&id).await;
            let ran = whole.came_to_one_end(&id, Some(&answer), &context).await;
            assert!(ran || at <= Point::AfterRequest, "{context}: lost");
            never_arrived += usize::from(!ran);
        }
    }
    assert!(
        never_arrived >= 4,
        "what was cut before it arrived did not run"
    );
    whole.check_count().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plane_killed_anywhere_in_an_exchange_costs_no_second_execution() {
    let mut whole = Whole::start().await;
    for wire in 0..2 {
        for plane in Plane::ALL {
            for at in [
                Point::BeforeRequest,
                Point::AfterRequest,
                Point::BeforeResponse,
                Point::InResponse(150),
            ] {
                let context = format!("{plane:?} killed, wire {wire} held at {at:?}");
                let id = StepId::new().to_string();
                let gate = whole.wires[wire].gate();
                whole.break_next(wire, Fault::new(at, Action::Hold(gate.clone())));
                let submitting = whole.submit_or_lose(&id);
                let killing = async {
                    let reached = gate.clone();
                    blocking(move || reached.wait_reached()).await;
                    tokio::task::block_in_place(|| {
                        whole.stack.kill(plane).unwrap();
                        whole.stack.up(plane).unwrap();
                    });
                    gate.open();
                };
                let (answer, ()) = tokio::join!(submitting, killing);
                assert_eq!(answer.is_none(), plane == Plane::Control, "{context}");
                whole.came_to_one_end(&id, answer.as_ref(), &context).await;
            }
        }
    }
    whole.check_count().await;
}
