//! A step is executed at most once, and its answer is found, wherever its way is broken.

use abide_testkit::proxy::{Action, Fault, Point, Request};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Planes, blocking, refused, signal};
use crate::api::http::Answer;

/// Every named place of an exchange; the requests have some 600 bytes, the answers some 300 before
/// the step has ended.
const POINTS: [Point; 8] = [
    Point::BeforeRequest,
    Point::InRequest(20),
    Point::InRequest(400),
    Point::AfterRequest,
    Point::BeforeResponse,
    Point::InResponse(10),
    Point::InResponse(150),
    Point::InResponse(400),
];

fn is_step(request: &Request<'_>) -> bool {
    request.is("POST", "/v1/steps")
}

/// Adds one to what ran and prints it.
const COUNT: &str = "n = globals().get('n', 0) + 1\nprint('run', n)";

/// Checks the answer to the step of the id whose way was broken, and that the same id finds its
/// one execution: the one that prints this.
async fn found_once(planes: &Planes, answer: &Answer, id: &str, ran: usize, context: &str) {
    if answer.status != 202 {
        let problem = refused(answer, 503, abide_model::ProblemCode::RuntimeUnreachable);
        // Not told to be tried again blindly, but what became of it is not known.
        assert_eq!(
            (&problem["retryable"], &problem["details"]["sent"]),
            (&json!(false), &json!(true)),
            "{context}: {problem}"
        );
        assert_eq!(problem["details"]["step_id"], id);
    }
    let again = planes.submit("s1", id, COUNT).await.check(202);
    let expected = (&json!(format!("run {ran}\n")), &json!("completed"));
    assert_eq!((&again["stdout"], &again["outcome"]), expected, "{context}");
    if answer.status == 202 {
        assert_eq!(answer.json(), again, "{context}: the first answer");
    }
    assert_eq!(planes.ended("s1", id).await, again, "{context}: by its id");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_anywhere_costs_no_second_execution() {
    let planes = Planes::start();
    planes.create("s1").await;
    let mut ran = 0;
    for action in [
        Action::Cut,
        Action::Reset,
        Action::HalfClose,
        Action::Duplicate,
    ] {
        for at in POINTS {
            ran += 1;
            let (id, context) = (format!("step-{ran}"), format!("{action:?} at {at:?}"));
            let before = planes.proxy.count("POST", "/v1/steps");
            planes.proxy.once(is_step, Fault::new(at, action.clone()));
            let answer = planes.submit("s1", &id, COUNT).await;
            let sent = planes.proxy.count("POST", "/v1/steps") - before;
            assert_eq!(sent, 1, "{context}: sent again");
            // Once the runtime has answered anything, the answer is found.
            if at >= Point::BeforeResponse || matches!(action, Action::Duplicate) {
                answer.check(202);
            }
            found_once(&planes, &answer, &id, ran, &context).await;
        }
    }
    planes.prints("s1", "print(n)", &format!("{ran}\n")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_anywhere_in_an_exchange_costs_no_second_execution() {
    let mut planes = Planes::start();
    let worker = planes.create("s1").await["workerId"].clone();
    for (n, at) in POINTS.into_iter().enumerate() {
        let (ran, id, context) = (n + 1, format!("step-{n}"), format!("killed at {at:?}"));
        let gate = planes.proxy.gate();
        let fault = Fault::new(at, Action::Hold(gate.clone()));
        planes.proxy.once(is_step, fault);
        let client = planes.client.clone();
        let killing = async {
            let reached = gate.clone();
            blocking(move || reached.wait_reached()).await;
            planes.restart_agent();
            gate.open();
        };
        let (answer, ()) = tokio::join!(client.submit("s1", &id, COUNT), killing);
        found_once(&planes, &answer, &id, ran, &context).await;
        let session = planes.session("s1").await;
        assert_eq!(
            (&session["workerId"], &session["status"]),
            (&worker, &json!("running")),
            "{context}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_data_plane_killed_anywhere_in_an_exchange_costs_no_second_execution() {
    let mut planes = Planes::start();
    planes.create("s1").await;
    for (n, at) in POINTS.into_iter().enumerate() {
        let (ran, id, context) = (n + 1, format!("step-{n}"), format!("killed at {at:?}"));
        let gate = planes.proxy.gate();
        planes
            .proxy
            .once(is_step, Fault::new(at, Action::Hold(gate.clone())));
        let body = json!({ "stepId": id, "command": COUNT }).to_string();
        let request = planes.request("POST", "/sessions/s1/steps").body(body);
        let killing = async {
            let reached = gate.clone();
            blocking(move || reached.wait_reached()).await;
            planes.restart_data_plane();
        };
        let (lost, ()) = tokio::join!(request.send(), killing);
        assert!(lost.is_err(), "{context}: {lost:?}");
        // The client tries again, and only then does the first request go on, from nobody.
        let again = planes.submit("s1", &id, COUNT).await;
        gate.open();
        found_once(&planes, &again, &id, ran, &context).await;
    }
    planes.proxy.settle();
    planes.prints("s1", "print(n)", "8\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn planes_that_stand_still_and_go_on_cost_no_second_execution() {
    let planes = Planes::start();
    planes.create("s1").await;
    for (n, pid) in [planes.agent.pid(), planes.data.pid()]
        .into_iter()
        .enumerate()
    {
        let pid = pid.unwrap();
        signal(pid, Signal::STOP);
        let id = format!("step-{n}");
        let seen = planes.proxy.count("POST", "/v1/steps");
        let going_on = async {
            if n == 0 {
                // The data plane has sent it to an agent that does not read.
                planes.wait_for(seen + 1, "POST", "/v1/steps").await;
            }
            signal(pid, Signal::CONT);
        };
        let (answer, ()) = tokio::join!(planes.submit("s1", &id, COUNT), going_on);
        answer.check(202);
        found_once(&planes, &answer, &id, n + 1, "stopped").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_at_once_from_many_is_one_execution_and_other_code_is_refused() {
    let planes = Planes::start();
    planes.create("s1").await;
    let gate = planes.gate();
    let code = format!("{}\n{COUNT}", gate.waits());
    let many = (0..20).map(|_| planes.submit("s1", "same", &code));
    let opening = async {
        planes.wait_for(20, "POST", "/v1/steps").await;
        gate.open();
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(many), opening);
    let first = answers[0].check(202);
    assert_eq!(first["stdout"], "run 1\n");
    assert!(answers.iter().all(|answer| answer.check(202) == first));
    let other = planes.submit("s1", "same", "print('other')").await;
    refused(&other, 409, abide_model::ProblemCode::IdempotencyConflict);
    planes.prints("s1", "print(n)", "1\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_neither_stops_nor_repeats_its_step() {
    let planes = Planes::start();
    planes.create("s1").await;
    let gate = planes.gate();
    let code = format!("{}\n{COUNT}", gate.begins_and_waits());
    let body = json!({ "stepId": "left", "command": code }).to_string();
    let request = planes.request("POST", "/sessions/s1/steps").body(body);
    tokio::select! {
        answer = request.send() => panic!("{answer:?}"),
        // Its own timeout, say.
        () = gate.begun() => {}
    }
    let step = planes.get("/sessions/s1/steps/left").await.check(200);
    assert_eq!(step["status"], "running");
    gate.open();
    assert_eq!(planes.ended("s1", "left").await["stdout"], "run 1\n");
    let again = planes.submit("s1", "left", &code).await.check(202);
    assert_eq!(again["stdout"], "run 1\n");
    let body: Value = json!({ "stepId": "left", "command": code });
    let path = "/sessions/s1/steps?wait=0";
    let told = planes.post(path, &body).await.check(202);
    assert_eq!(told["stdout"], "run 1\n", "known at once by now: {told}");
}
