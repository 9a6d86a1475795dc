//! What a fake agent tells of a step.

use abide_model::{
    OutputView, RunStep, StepFrame, StepOutcome, StepStatus, Timestamp, WorkerId,
    session_id_of_label, step_id_of_label,
};
use bytes::Bytes;

/// Prints `ran <code>`.
pub(crate) fn outcome(new: &RunStep, status: StepStatus) -> StepOutcome {
    let session = session_id_of_label(&new.session_id);
    let mut stdout = OutputView::default();
    stdout.push(format!("ran {}", new.code).as_bytes());
    let output_end = 100 + stdout.bytes;
    let now = Timestamp::now();
    serde_json::from_value(serde_json::json!({
        "id": step_id_of_label(session, &new.step_id),
        "status": status,
        "stdout": stdout,
        "stderr": OutputView::default(),
        "started_at": now,
        "finished_at": now,
        "output_start": 100,
        "output_end": output_end,
    }))
    .unwrap()
}

pub(crate) fn started(worker_id: WorkerId) -> StepFrame {
    StepFrame::Started {
        at: Timestamp::now(),
        worker_id,
        output_start: 100,
    }
}

pub(crate) fn ended_frame(outcome: &StepOutcome, worker: WorkerId) -> StepFrame {
    StepFrame::Ended {
        outcome: Box::new(outcome.clone()),
        worker_id: Some(worker),
    }
}

pub(crate) fn line(frame: &StepFrame) -> Bytes {
    let mut text = serde_json::to_vec(frame).unwrap();
    text.push(b'\n');
    text.into()
}
