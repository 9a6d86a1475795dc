//! `ResumableStep`: each byte once, the step submitted under one id, whatever breaks.

use std::time::Duration;

use abide_client::{Client, Error, ResumableStep, ResumePolicy, StepEvent};
use abide_model::{ProblemCode, SessionId, Step, StepId, StepStatus, SubmitStep, Timestamp};

use crate::scripted::{Answer, Scripted};

const POLICY: ResumePolicy = ResumePolicy {
    first_wait: Duration::from_millis(1),
    longest_wait: Duration::from_millis(4),
    patience: Duration::from_secs(20),
};

fn step(id: StepId, status: StepStatus) -> Step {
    Step {
        id,
        session_id: SessionId::new(),
        sequence: 1,
        status,
        code: String::new(),
        stdout: String::new(),
        stderr: String::new(),
        stdout_bytes: 0,
        stderr_bytes: 0,
        truncated: false,
        result: None,
        error: None,
        exit: None,
        timeout_ms: None,
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
        duration_ms: None,
        queue_position: 0,
    }
}

fn message(event: &str, data: &impl serde::Serialize) -> String {
    format!(
        "event: {event}\ndata: {}\n\n",
        serde_json::to_string(data).unwrap()
    )
}

fn stdout(end: u64, text: &str) -> String {
    format!("event: stdout\nid: {end}\ndata: {{\"text\":{text:?}}}\n\n")
}

struct Seen {
    events: Vec<StepEvent>,
    error: Option<Error>,
}

impl Seen {
    fn stdout(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            if let StepEvent::Stdout(bytes) = event {
                text.push_str(std::str::from_utf8(bytes).unwrap());
            }
        }
        text
    }

    fn count(&self, matches: impl Fn(&StepEvent) -> bool) -> usize {
        self.events.iter().filter(|e| matches(e)).count()
    }
}

async fn follow(mut step: ResumableStep) -> Seen {
    let mut seen = Seen {
        events: Vec::new(),
        error: None,
    };
    while let Some(event) = step.next().await {
        match event {
            Ok(event) => seen.events.push(event),
            Err(error) => seen.error = Some(error),
        }
    }
    seen
}

/// Runs a step against a script; returns what was seen and the requests.
async fn check(id: StepId, answers: Vec<Answer>) -> (Seen, Vec<String>) {
    let server = Scripted::bind().await;
    let client = Client::new(&server.url, Some("sesame")).unwrap();
    let submit = SubmitStep {
        code: "work()".to_owned(),
        step_id: Some(id),
        ..Default::default()
    };
    let running = ResumableStep::new(client, SessionId::new(), submit, POLICY);
    tokio::join!(follow(running), server.serve(answers))
}

fn methods(requests: &[String]) -> Vec<&str> {
    requests
        .iter()
        .map(|r| r.split(' ').next().unwrap())
        .collect()
}

#[tokio::test]
async fn lost_connections_lose_and_double_nothing() {
    let id = StepId::new();
    let started = message("started", &step(id, StepStatus::Running));
    let completed = message("completed", &step(id, StepStatus::Completed));
    let (seen, requests) = check(
        id,
        vec![
            Answer::Broken(format!("{started}{}", stdout(12, "ab"))),
            Answer::HangUp,
            Answer::Problem(ProblemCode::ShuttingDown),
            Answer::Stream(format!(
                "{started}{}{}event: stdout\nid: 15",
                stdout(12, "ab"),
                stdout(14, "cd")
            )),
            Answer::Stream(format!("{started}{}{completed}", stdout(16, "abcdef"))),
        ],
    )
    .await;
    assert!(seen.error.is_none(), "{:?}", seen.error);
    assert_eq!(seen.stdout(), "abcdef");
    assert_eq!(seen.count(|e| matches!(e, StepEvent::Started(_))), 1);
    assert_eq!(seen.count(|e| matches!(e, StepEvent::Completed(_))), 1);
    assert_eq!(methods(&requests), ["POST", "GET", "GET", "GET", "GET"]);
    assert!(
        requests
            .iter()
            .all(|r| r.contains("authorization: Bearer sesame"))
    );
    assert!(requests[4].contains("last-event-id: 14"), "{}", requests[4]);
}

#[tokio::test]
async fn a_step_the_server_never_got_is_sent_again_under_the_same_id() {
    let id = StepId::new();
    let completed = message("completed", &step(id, StepStatus::Completed));
    let (seen, requests) = check(
        id,
        vec![
            Answer::HangUp,
            Answer::Problem(ProblemCode::StepNotFound),
            Answer::Stream(completed),
        ],
    )
    .await;
    assert!(seen.error.is_none(), "{:?}", seen.error);
    assert_eq!(methods(&requests), ["POST", "GET", "POST"]);
    assert!(requests[0].contains(&id.to_string()) && requests[2].contains(&id.to_string()));
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (seen, requests) = check(
        StepId::new(),
        vec![Answer::Problem(ProblemCode::LimitReached)],
    )
    .await;
    assert!(seen.error.unwrap().is(ProblemCode::LimitReached));
    assert_eq!(requests.len(), 1);
}

#[tokio::test]
async fn no_server_at_all_is_an_error_at_once() {
    let server = Scripted::bind().await;
    let client = Client::new(&server.url, None).unwrap();
    drop(server);
    let seen = follow(ResumableStep::new(
        client,
        SessionId::new(),
        SubmitStep::default(),
        ResumePolicy {
            patience: Duration::MAX,
            ..POLICY
        },
    ))
    .await;
    assert!(
        matches!(seen.error, Some(Error::Unreachable { .. })),
        "{:?}",
        seen.error
    );
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up() {
    let server = Scripted::bind().await;
    let client = Client::new(&server.url, None).unwrap();
    let policy = ResumePolicy {
        patience: Duration::from_millis(20),
        ..POLICY
    };
    let running = ResumableStep::new(client, SessionId::new(), SubmitStep::default(), policy);
    let (seen, _) = tokio::join!(follow(running), async move {
        server.serve(vec![Answer::HangUp]).await;
        drop(server);
    });
    assert!(
        matches!(seen.error, Some(Error::GaveUp { .. })),
        "{:?}",
        seen.error
    );
}

#[tokio::test]
async fn the_server_may_come_back_elsewhere() {
    let (old, new) = (Scripted::bind().await, Scripted::bind().await);
    let id = StepId::new();
    let submit = SubmitStep {
        step_id: Some(id),
        ..Default::default()
    };
    let url = new.url.clone();
    let running = ResumableStep::new(
        Client::new(&old.url, None).unwrap(),
        SessionId::new(),
        submit,
        POLICY,
    )
    .with_locate(Box::new(move || Client::new(&url, None).ok()));
    let completed = message("completed", &step(id, StepStatus::Completed));
    let (seen, ..) = tokio::join!(
        follow(running),
        old.serve(vec![Answer::Broken(stdout(1, "a"))]),
        new.serve(vec![Answer::Stream(format!(
            "{}{completed}",
            stdout(2, "ab")
        ))]),
    );
    assert!(seen.error.is_none(), "{:?}", seen.error);
    assert_eq!(seen.stdout(), "ab");
}
