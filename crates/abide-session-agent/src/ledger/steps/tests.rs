//! What a ledger knows after kills at bad moments.

use abide_model::{SessionId, StepStatus, Timestamp};

use super::*;

fn step(n: usize) -> NewStep {
    NewStep {
        id: StepId(uuid::Uuid::from_u128(n as u128 + 1)),
        session_id: SessionId(uuid::Uuid::nil()),
        code: format!("print({n})"),
        stdin: Some("in".to_owned()),
        timeout_ms: Some(5),
        created_at: Timestamp::from_micros(n as i64),
        sequence: None,
    }
}

fn outcome(step: &NewStep, stdout: &[u8]) -> StepOutcome {
    let mut view = OutputView::default();
    view.push(stdout);
    StepOutcome {
        stdout: view,
        status: StepStatus::Completed,
        ..in_short(&OlderStep {
            id: step.id,
            digest: CodeDigest::of(""),
            status: StepStatus::Completed,
            finished_at: step.created_at,
            bytes: [0; 2],
        })
    }
}

fn ended(steps: &Steps, n: usize) -> StepOutcome {
    match steps.find(step(n).id).unwrap() {
        Some((digest, KnownStep::Ended(outcome))) => {
            assert_eq!(digest, CodeDigest::of(&step(n).code));
            (*outcome).clone()
        }
        other => panic!("{n}: {other:?}"),
    }
}

#[test]
fn a_torn_line_is_as_if_never_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut steps = Steps::open(dir.path()).unwrap();
    for n in 0..3 {
        assert_eq!(
            steps.accept(step(n), Some(9)).unwrap().sequence,
            n as i64 + 1
        );
    }
    let first = outcome(&step(0), b"\xff\x00out");
    assert_eq!(steps.finish(&step(0), &first).unwrap(), (true, 1));
    assert_eq!(steps.finish(&step(0), &first).unwrap(), (false, 1));
    let whole = std::fs::read(dir.path().join(NAME)).unwrap();
    let last_line = whole[..whole.len() - 1]
        .iter()
        .rposition(|b| *b == b'\n')
        .unwrap()
        + 1;
    for cut in last_line..=whole.len() {
        std::fs::write(dir.path().join(NAME), &whole[..cut]).unwrap();
        let mut steps = Steps::open(dir.path()).unwrap();
        let unfinished: Vec<_> = steps.unfinished().iter().map(|it| it.sequence).collect();
        if cut == whole.len() {
            assert_eq!(ended(&steps, 0), first);
            assert_eq!(unfinished, [2, 3]);
        } else {
            assert_eq!(unfinished, [1, 2, 3], "cut at {cut}");
            // It runs on as if nothing had been: told again after the start.
            assert_eq!(steps.finish(&step(0), &first).unwrap(), (true, 1));
        }
        let waiting = steps.unfinished().pop().unwrap();
        assert_eq!(waiting.queue_timeout_ms, Some(9));
        assert_eq!(
            (waiting.step.stdin.as_deref(), waiting.step.timeout_ms),
            (Some("in"), Some(5))
        );
        assert_eq!(steps.accept(step(9), None).unwrap().sequence, 4);
        assert_eq!(ended(&Steps::open(dir.path()).unwrap(), 0), first);
    }
}

#[test]
fn old_outcomes_leave_and_their_ids_stay() {
    let dir = tempfile::tempdir().unwrap();
    let mut steps = Steps::open(dir.path()).unwrap();
    let many = 5 * KEEP + 7;
    steps.accept(step(many), None).unwrap();
    for n in 0..many {
        steps.accept(step(n), None).unwrap();
        steps
            .finish(&step(n), &outcome(&step(n), format!("{n}").as_bytes()))
            .unwrap();
    }
    for steps in [steps, Steps::open(dir.path()).unwrap()] {
        assert!(steps.full.len() < 2 * KEEP);
        for n in 0..many {
            let outcome = ended(&steps, n);
            assert_eq!(outcome.status, StepStatus::Completed);
            let kept = outcome.stdout.text() == format!("{n}");
            // Kept or not, how much it was is known.
            assert_eq!(outcome.stdout.bytes, format!("{n}").len() as u64);
            assert_eq!(kept, n >= many - steps.full.len(), "{n}");
            assert!(kept || n < many - KEEP, "{n}");
        }
        let unfinished = steps.unfinished();
        assert_eq!(unfinished.len(), 1);
        assert_eq!(unfinished[0].step.id, step(many).id);
        assert_eq!(steps.last_sequence, many as i64 + 1);
    }
}

#[test]
fn large_outcomes_leave_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut steps = Steps::open(dir.path()).unwrap();
    // No text, which takes twice as many bytes.
    let large = vec![0xff; 60_000];
    let many = 290;
    for n in 0..many {
        steps.accept(step(n), None).unwrap();
        steps.finish(&step(n), &outcome(&step(n), &large)).unwrap();
        assert!(steps.len <= 2 * KEEP_BYTES, "{}", steps.len);
    }
    assert!(steps.full.len() < KEEP, "{}", steps.full.len());
    let last = ended(&steps, many - 1);
    assert_eq!((last.stdout.bytes, last.stdout.omitted()), (60_000, 0));
    let first = ended(&steps, 0);
    assert_eq!(first.stdout.omitted(), 60_000, "said to be left out");
}
