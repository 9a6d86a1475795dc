//! Steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use abide_model::{
    Exit, NewStep, OutputView, SessionId, Step, StepError, StepFilter, StepId, StepOutcome,
    StepResult, StepStatus, Timestamp, VIEW_HEAD_BYTES, VIEW_TAIL_BYTES,
};
use abide_store::{Accepted, OutputRange, Store, StoreError};
use serde_json::json;

use crate::fixtures::{WORKER, check_event, finish, last_event, log, new_step, outcome, session};

async fn accept(store: &Store, new: NewStep) -> Step {
    match store.accept_step(new).await.unwrap() {
        Accepted::New(step) => step,
        Accepted::Existing(step) => panic!("{step:?} should be new"),
    }
}

pub(crate) async fn accept_numbers_and_queues(store: &Store) {
    let session = session(store).await;
    let new = NewStep {
        timeout_ms: Some(250),
        ..new_step(session.id)
    };
    let first = accept(store, new.clone()).await;
    let expected = Step {
        id: new.id,
        session_id: session.id,
        sequence: 1,
        status: StepStatus::Queued,
        code: new.code,
        stdout: String::new(),
        stderr: String::new(),
        stdout_bytes: 0,
        stderr_bytes: 0,
        truncated: false,
        result: None,
        error: None,
        exit: None,
        timeout_ms: Some(250),
        created_at: new.created_at,
        started_at: None,
        finished_at: None,
        duration_ms: None,
        queue_position: 0,
    };
    assert_eq!(first, expected);
    assert_eq!(
        store.step(session.id, new.id).await.unwrap(),
        Some(expected)
    );
    let payload = json!({"step_id": new.id, "sequence": 1});
    check_event(
        &last_event(store).await,
        "step.accepted",
        ("session", session.id.0),
        payload,
    );

    let second = accept(store, new_step(session.id)).await;
    assert_eq!((second.sequence, second.queue_position), (2, 1));
    let third = accept(store, new_step(session.id)).await;
    assert_eq!((third.sequence, third.queue_position), (3, 2));
    let done = outcome(first.id, StepStatus::Completed);
    assert!(finish(store, session.id, done).await.unwrap());
    let position = |step: Option<Step>| step.unwrap().queue_position;
    assert_eq!(
        position(store.step(session.id, second.id).await.unwrap()),
        0
    );
    assert_eq!(position(store.step(session.id, third.id).await.unwrap()), 1);

    // Numbers are per session.
    let other = crate::fixtures::session(store).await;
    assert_eq!(accept(store, new_step(other.id)).await.sequence, 1);
}

pub(crate) async fn repeated_id_finds_the_first(store: &Store) {
    let session = session(store).await;
    let new = new_step(session.id);
    let first = accept(store, new.clone()).await;
    let events = log(store).await.len();
    assert_eq!(
        store.accept_step(new.clone()).await.unwrap(),
        Accepted::Existing(first)
    );
    let done = outcome(new.id, StepStatus::Completed);
    finish(store, session.id, done).await.unwrap();
    let Ok(Accepted::Existing(step)) = store.accept_step(new).await else {
        panic!("should be there");
    };
    assert_eq!(step.status, StepStatus::Completed);
    assert_eq!(log(store).await.len(), events + 1);
}

pub(crate) async fn conflicts_are_named(store: &Store) {
    let stranger = SessionId::new();
    let error = store.accept_step(new_step(stranger)).await.unwrap_err();
    assert!(
        matches!(error, StoreError::SessionMissing(id) if id == stranger),
        "{error}"
    );

    let (one, two) = (session(store).await, session(store).await);
    let new = new_step(one.id);
    accept(store, new.clone()).await;
    let elsewhere = NewStep {
        session_id: two.id,
        ..new.clone()
    };
    let error = store.accept_step(elsewhere).await.unwrap_err();
    assert!(
        matches!(error, StoreError::StepElsewhere(id) if id == new.id),
        "{error}"
    );
    assert_eq!(store.step(two.id, new.id).await.unwrap(), None);
    let done = outcome(new.id, StepStatus::Completed);
    let error = finish(store, two.id, done).await.unwrap_err();
    assert!(
        matches!(error, StoreError::StepElsewhere(id) if id == new.id),
        "{error}"
    );

    for status in [StepStatus::Queued, StepStatus::Running] {
        let error = finish(store, one.id, outcome(new.id, status))
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::NotTerminal(..)), "{error}");
    }
    let unknown = outcome(StepId::new(), StepStatus::Completed);
    let error = finish(store, stranger, unknown).await.unwrap_err();
    assert!(matches!(error, StoreError::SessionMissing(_)), "{error}");
}

pub(crate) async fn an_outcome_brings_its_step_along(store: &Store) {
    let session = session(store).await;
    let events = log(store).await.len();
    let done = outcome(StepId::new(), StepStatus::Completed);
    let id = done.id;
    assert!(finish(store, session.id, done.clone()).await.unwrap());
    assert!(!finish(store, session.id, done).await.unwrap());
    let step = store.step(session.id, id).await.unwrap().unwrap();
    assert_eq!((step.sequence, step.status), (1, StepStatus::Completed));
    let told: Vec<_> = log(store).await.split_off(events);
    let told: Vec<_> = told.iter().map(|event| event.event_type.as_str()).collect();
    assert_eq!(told, ["step.accepted", "step.completed"]);
}

pub(crate) async fn finish_records_once(store: &Store) {
    let session = session(store).await;
    let new = new_step(session.id);
    let accepted = accept(store, new.clone()).await;
    assert_eq!(store.step_output_range(new.id).await.unwrap(), None);
    let view = |text: &str| {
        let mut view = OutputView::default();
        view.push(text.as_bytes());
        view
    };
    let html = BTreeMap::from([("text/html".to_owned(), "<b>1</b>".to_owned())]);
    let done = StepOutcome {
        stdout: view("hello é\n"),
        stderr: view("oh"),
        result: Some(StepResult {
            text: Some("1".to_owned()),
            data: html.clone(),
            displays: vec![html],
            truncated: true,
        }),
        error: Some(StepError {
            kind: "NameError".to_owned(),
            message: "name 'x' is not defined".to_owned(),
            traceback: "line 1".to_owned(),
        }),
        exit: Some(Exit {
            code: None,
            signal: Some(9),
            reason: "killed".to_owned(),
        }),
        output_start: 7,
        output_end: u64::MAX,
        ..outcome(new.id, StepStatus::Error)
    };
    assert!(finish(store, session.id, done.clone()).await.unwrap());
    let expected = Step {
        status: StepStatus::Error,
        stdout: "hello é\n".to_owned(),
        stderr: "oh".to_owned(),
        stdout_bytes: 9,
        stderr_bytes: 2,
        result: done.result.clone(),
        error: done.error.clone(),
        exit: done.exit.clone(),
        started_at: Some(Timestamp::from_micros(2_000)),
        finished_at: Some(Timestamp::from_micros(4_500)),
        duration_ms: Some(2.5),
        ..accepted
    };
    assert_eq!(
        store.step(session.id, new.id).await.unwrap(),
        Some(expected.clone())
    );
    let range = OutputRange {
        start: 7,
        end: u64::MAX,
        worker: Some(WORKER),
    };
    assert_eq!(store.step_output_range(new.id).await.unwrap(), Some(range));
    let payload = json!({
        "step_id": new.id, "sequence": 1, "status": "error", "stdout_bytes": 9, "stderr_bytes": 2,
    });
    check_event(
        &last_event(store).await,
        "step.completed",
        ("session", session.id.0),
        payload,
    );

    let events = log(store).await.len();
    assert!(!finish(store, session.id, done).await.unwrap());
    let lost = outcome(new.id, StepStatus::Lost);
    assert!(!finish(store, session.id, lost).await.unwrap());
    assert_eq!(
        store.step(session.id, new.id).await.unwrap(),
        Some(expected)
    );
    assert_eq!(log(store).await.len(), events);

    // A step that never started has no duration.
    let never = accept(store, new_step(session.id)).await;
    let interrupted = StepOutcome {
        started_at: None,
        ..outcome(never.id, StepStatus::Interrupted)
    };
    assert!(finish(store, session.id, interrupted).await.unwrap());
    let step = store.step(session.id, never.id).await.unwrap().unwrap();
    assert_eq!((step.started_at, step.duration_ms), (None, None));
    assert_eq!(step.status, StepStatus::Interrupted);
}

pub(crate) async fn large_output_shows_head_and_tail(store: &Store) {
    let session = session(store).await;
    let new = new_step(session.id);
    accept(store, new.clone()).await;
    let mut stdout = OutputView::default();
    for n in 0..20_000 {
        stdout.push(format!("line {n}\n").as_bytes());
    }
    let (text, bytes) = (stdout.text(), stdout.bytes);
    let done = StepOutcome {
        stdout,
        ..outcome(new.id, StepStatus::Completed)
    };
    finish(store, session.id, done).await.unwrap();
    let step = store.step(session.id, new.id).await.unwrap().unwrap();
    assert_eq!(step.stdout, text);
    assert_eq!(step.stdout_bytes, bytes);
    assert!(step.truncated);
    assert!(step.stdout.starts_with("line 0\n") && step.stdout.ends_with("line 19999\n"));
    assert!(step.stdout.len() < VIEW_HEAD_BYTES + VIEW_TAIL_BYTES + 100);
    assert_eq!(step.stderr, "");
}

pub(crate) async fn unfinished_come_in_order_with_input(store: &Store) {
    let (one, two) = (session(store).await, session(store).await);
    let mut ids = BTreeMap::<_, Vec<_>>::new();
    for n in 0..4_u64 {
        for session in [&one, &two] {
            let stdin = Some(format!("input {n}"));
            let new = NewStep {
                stdin,
                timeout_ms: Some(n),
                ..new_step(session.id)
            };
            ids.entry(session.id)
                .or_default()
                .push(accept(store, new).await.id);
        }
    }
    let done = outcome(ids[&one.id][1], StepStatus::Completed);
    finish(store, one.id, done).await.unwrap();

    let left = store.unfinished_steps(Some(one.id)).await.unwrap();
    let shown: Vec<_> = left.iter().map(|u| (u.sequence, u.step.id)).collect();
    let of_one = &ids[&one.id];
    assert_eq!(shown, [(1, of_one[0]), (3, of_one[2]), (4, of_one[3])]);
    assert_eq!(left[1].step.stdin.as_deref(), Some("input 2"));
    assert_eq!(left[1].step.timeout_ms, Some(2));
    assert_eq!(left[1].step.code, "x + 1");
    assert_eq!(left[1].step.created_at, Timestamp::from_micros(1_000));

    let all = store.unfinished_steps(None).await.unwrap();
    assert_eq!(all.len(), 7);
    for session in [one.id, two.id] {
        let of: Vec<_> = all
            .iter()
            .filter(|u| u.step.session_id == session)
            .map(|u| u.sequence)
            .collect();
        assert!(of.is_sorted(), "{of:?}");
    }
}

pub(crate) async fn lists_page_by_sequence(store: &Store) {
    let session = session(store).await;
    for _ in 0..5 {
        accept(store, new_step(session.id)).await;
    }
    let list = async |id, after, limit| {
        let steps = store.steps(id, StepFilter { after, limit }).await.unwrap();
        steps
            .into_iter()
            .map(|step| step.sequence)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(session.id, 0, 100).await, [1, 2, 3, 4, 5]);
    assert_eq!(list(session.id, 2, 2).await, [3, 4]);
    assert_eq!(list(session.id, 5, 2).await, [0; 0]);
    assert_eq!(list(session.id, 0, 0).await, [0; 0]);
    assert_eq!(list(SessionId::new(), 0, 100).await, [0; 0]);
}

pub(crate) async fn an_end_is_seen_once_it_is_handed_in(store: &Store) {
    let session = session(store).await;
    let mut recordings = Vec::new();
    for sequence in 1..=40 {
        let new = NewStep {
            sequence: Some(sequence),
            ..new_step(session.id)
        };
        let ended = outcome(new.id, StepStatus::Completed);
        // Nobody polls it until the reads are over.
        let recording = store.finish_step(Arc::new(new.clone()), Arc::new(ended), false);
        match sequence % 4 {
            0 => {
                let step = store.step(session.id, new.id).await.unwrap().unwrap();
                assert_eq!(
                    (step.sequence, step.status),
                    (sequence, StepStatus::Completed)
                );
            }
            1 => {
                let steps = store.steps(
                    session.id,
                    StepFilter {
                        after: 0,
                        limit: 1000,
                    },
                );
                assert_eq!(
                    steps.await.unwrap().len(),
                    usize::try_from(sequence).unwrap()
                );
            }
            2 => assert_eq!(store.last_sequence(session.id).await.unwrap(), sequence),
            _ => {
                let last = last_event(store).await;
                assert_eq!(last.payload.to_value()["step_id"], json!(new.id));
            }
        }
        recordings.push(recording);
    }
    for (recording, sequence) in recordings.into_iter().zip(1..) {
        let finished = recording.await.unwrap();
        assert_eq!((finished.first, finished.sequence), (true, sequence));
    }
}

pub(crate) async fn a_given_sequence_is_kept_while_it_is_free(store: &Store) {
    let session = session(store).await;
    let step = |sequence| NewStep {
        sequence,
        ..new_step(session.id)
    };
    let sequence_of = |accepted| match accepted {
        Accepted::New(step) => step.sequence,
        Accepted::Existing(step) => panic!("{step:?}"),
    };
    // One that is to end soon has the first place, and is recorded after the second.
    let first = step(Some(1));
    let second = store.accept_step(step(Some(2))).await.unwrap();
    assert_eq!(sequence_of(second), 2);
    let ended = outcome(first.id, StepStatus::Completed);
    let finished = store
        .finish_step(Arc::new(first), Arc::new(ended), false)
        .await
        .unwrap();
    assert_eq!(finished.sequence, 1);
    // Taken: the next that is free.
    let third = store.accept_step(step(Some(2))).await.unwrap();
    assert_eq!(sequence_of(third), 3);
    assert_eq!(sequence_of(store.accept_step(step(None)).await.unwrap()), 4);
}
