//! One code submission to an interpreter.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Exit, SessionId, StepId, Timestamp, WorkerId};

/// Bytes of a stream's beginning that a step's record keeps.
pub const VIEW_HEAD_BYTES: usize = 32 * 1024;
/// Bytes of a stream's end that a step's record keeps.
pub const VIEW_TAIL_BYTES: usize = 32 * 1024;

crate::closed_set! {
    /// ```text
    /// queued ──► running ──► completed | error | timeout | interrupted | out_of_memory | crashed | lost
    ///    └─────────────────► interrupted | crashed | lost           (never started)
    /// ```
    /// A step ends in exactly one of the seven terminal states and never leaves it.
    StepStatus {
        /// Accepted, waits for the steps before it.
        Queued = "queued",
        /// Handed to the interpreter.
        Running = "running",
        /// Ran to its end.
        Completed = "completed",
        /// Raised; the interpreter lives on.
        Error = "error",
        /// Stopped when its `timeout_ms` had passed.
        Timeout = "timeout",
        /// Stopped, or taken out of the queue, on request.
        Interrupted = "interrupted",
        /// Ran out of memory.
        OutOfMemory = "out_of_memory",
        /// The interpreter died while it ran.
        Crashed = "crashed",
        /// Nobody can say how it ended: the keeper or the machine went down with it.
        Lost = "lost",
    }
}

impl StepStatus {
    /// Whether the step has ended.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Representations of one value by media type (`text/plain`, `text/html`, `image/png` in
/// base64, `application/json` as JSON text, …).
pub type MimeBundle = BTreeMap<String, String>;

/// The value of a step's last expression, and what it displayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepResult {
    /// `repr` in Python, `util.inspect` in Node; absent when the last statement has no value.
    pub text: Option<String>,
    /// Richer forms of the same value.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub data: MimeBundle,
    /// Things shown besides the value, such as figures, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub displays: Vec<MimeBundle>,
    /// A form was left out or cut because it was too large.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
}

/// Why a step did not complete.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepError {
    /// The exception's type name (`NameError`), or one of ours (`Timeout`, `RuntimeCrashed`, …).
    #[serde(rename = "type")]
    pub kind: String,
    /// What it says.
    pub message: String,
    /// The user's frames with source lines; empty when there are none.
    pub traceback: String,
}

/// A bounded view of one output stream: all of it, or its head and its tail.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputView {
    /// The beginning, at most [`VIEW_HEAD_BYTES`].
    #[serde(with = "crate::bytes")]
    pub head: Vec<u8>,
    /// The end, at most [`VIEW_TAIL_BYTES`]; empty while everything fits into `head`.
    #[serde(with = "crate::bytes")]
    pub tail: Vec<u8>,
    /// Bytes written in all.
    pub bytes: u64,
}

impl OutputView {
    /// Adds what follows.
    pub fn push(&mut self, mut data: &[u8]) {
        self.bytes += data.len() as u64;
        let room = VIEW_HEAD_BYTES - self.head.len().min(VIEW_HEAD_BYTES);
        if room > 0 && self.tail.is_empty() {
            let (first, rest) = data.split_at(room.min(data.len()));
            self.head.extend_from_slice(first);
            data = rest;
        }
        if data.is_empty() {
            return;
        }
        if data.len() >= VIEW_TAIL_BYTES {
            self.tail.clear();
            self.tail
                .extend_from_slice(&data[data.len() - VIEW_TAIL_BYTES..]);
        } else {
            // Trim rarely (at twice the size), so that a flood of small writes stays linear.
            if self.tail.len() + data.len() > 2 * VIEW_TAIL_BYTES {
                let keep = VIEW_TAIL_BYTES - data.len();
                self.tail.drain(..self.tail.len() - keep);
            }
            self.tail.extend_from_slice(data);
        }
    }

    /// Adds what follows, of which only the end is given: `skipped` bytes came before it.
    ///
    /// For a view whose head is full; of any other the skipped bytes would be missing.
    pub fn push_end(&mut self, skipped: u64, end: &[u8]) {
        self.bytes += skipped;
        if skipped > 0 && end.len() < VIEW_TAIL_BYTES {
            // What was skipped stands between the two: nothing of before is adjacent any more.
            self.tail.clear();
        }
        self.push(end);
    }

    /// Whether all that follows can only be in the tail.
    pub fn is_head_full(&self) -> bool {
        self.head.len() >= VIEW_HEAD_BYTES
    }

    /// Bytes between head and tail that the view leaves out.
    pub fn omitted(&self) -> u64 {
        self.bytes - self.head.len() as u64 - self.kept_tail().len() as u64
    }

    /// The text as a reader sees it: UTF-8 with replacement characters, and one line in the
    /// middle that says how many bytes were left out.
    pub fn text(&self) -> String {
        let omitted = self.omitted();
        if omitted == 0 {
            let mut all = self.head.clone();
            all.extend_from_slice(self.kept_tail());
            return String::from_utf8_lossy(&all).into_owned();
        }
        format!(
            "{}\n[… {omitted} bytes left out …]\n{}",
            String::from_utf8_lossy(&self.head),
            String::from_utf8_lossy(self.kept_tail())
        )
    }

    fn kept_tail(&self) -> &[u8] {
        &self.tail[self.tail.len().saturating_sub(VIEW_TAIL_BYTES)..]
    }
}

/// A step as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Step {
    /// See [`StepId`].
    pub id: StepId,
    /// Whose interpreter.
    pub session_id: SessionId,
    /// Position within the session, from 1.
    pub sequence: i64,
    /// See [`StepStatus`].
    pub status: StepStatus,
    /// What was submitted.
    pub code: String,
    /// Standard output: all of it, or head and tail with a line about what is missing.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
    /// Bytes written to standard output.
    pub stdout_bytes: u64,
    /// Bytes written to standard error.
    pub stderr_bytes: u64,
    /// `stdout` or `stderr` left something out; the whole is at `…/steps/{id}/output?from=0`
    /// while the journal has it.
    pub truncated: bool,
    /// The value of the last expression; absent when there is none.
    pub result: Option<StepResult>,
    /// Why it did not complete.
    pub error: Option<StepError>,
    /// How the interpreter ended, when it died with this step.
    pub exit: Option<Exit>,
    /// The limit it was submitted with, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was handed to the interpreter.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// From hand-over to end, in milliseconds.
    pub duration_ms: Option<f64>,
    /// Steps before it in the queue; 0 once it runs.
    pub queue_position: u32,
}

/// What a client submits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubmitStep {
    /// Source text.
    pub code: String,
    /// The client's own step id; a repeated one answers with the first execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_id: Option<StepId>,
    /// Stops the step after this many milliseconds; none by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// What the step reads from standard input and `input()`; empty by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
}

/// What the store needs to record an accepted step.
#[derive(Debug, Clone)]
pub struct NewStep {
    /// See [`Step::id`].
    pub id: StepId,
    /// See [`Step::session_id`].
    pub session_id: SessionId,
    /// Source text.
    pub code: String,
    /// See [`SubmitStep::stdin`].
    pub stdin: Option<String>,
    /// See [`SubmitStep::timeout_ms`].
    pub timeout_ms: Option<u64>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// See [`Step::sequence`]; `None` where who accepts it does not know, and the store finds it.
    pub sequence: Option<i64>,
}

impl Step {
    /// A step that was accepted and has not started.
    pub fn accepted(new: NewStep, sequence: i64, queue_position: u32) -> Self {
        Self {
            id: new.id,
            session_id: new.session_id,
            sequence,
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
            timeout_ms: new.timeout_ms,
            created_at: new.created_at,
            started_at: None,
            finished_at: None,
            duration_ms: None,
            queue_position,
        }
    }
}

/// How a step ended; written once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepOutcome {
    /// Which step.
    pub id: StepId,
    /// Always terminal.
    pub status: StepStatus,
    /// Captured standard output.
    pub stdout: OutputView,
    /// Captured standard error.
    pub stderr: OutputView,
    /// See [`Step::result`].
    pub result: Option<StepResult>,
    /// See [`Step::error`].
    pub error: Option<StepError>,
    /// See [`Step::exit`].
    pub exit: Option<Exit>,
    /// See [`Step::started_at`].
    pub started_at: Option<Timestamp>,
    /// See [`Step::finished_at`].
    pub finished_at: Timestamp,
    /// Where the step's output begins in the worker's journal (output offset).
    pub output_start: u64,
    /// Where it ends.
    pub output_end: u64,
    /// The worker that ran it, and whose journal has the output.
    pub worker: Option<WorkerId>,
}

impl StepOutcome {
    /// The end of a step of which nobody saw the end, with a sentence that says why.
    pub fn lost(id: StepId, why: &str) -> Self {
        Self {
            id,
            status: StepStatus::Lost,
            stdout: OutputView::default(),
            stderr: OutputView::default(),
            result: None,
            error: Some(StepError {
                kind: "Lost".to_owned(),
                message: why.to_owned(),
                traceback: String::new(),
            }),
            exit: None,
            started_at: None,
            finished_at: Timestamp::now(),
            output_start: 0,
            output_end: 0,
            worker: None,
        }
    }
}

/// Which steps a list shows, oldest first.
#[derive(Debug, Clone, Copy, Default)]
pub struct StepFilter {
    /// Only steps after this sequence number.
    pub after: i64,
    /// At most this many.
    pub limit: i64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn view_keeps_head_tail_and_count(writes in prop::collection::vec(0usize..60_000, 0..12)) {
            let mut view = OutputView::default();
            let mut whole = Vec::new();
            for (n, len) in writes.into_iter().enumerate() {
                let data: Vec<u8> = (0..len).map(|i| (i * 7 + n) as u8).collect();
                view.push(&data);
                whole.extend_from_slice(&data);
            }
            prop_assert_eq!(view.bytes, whole.len() as u64);
            prop_assert!(whole.starts_with(&view.head));
            prop_assert!(whole.ends_with(view.kept_tail()));
            let kept = view.head.len() + view.kept_tail().len();
            if whole.len() <= VIEW_HEAD_BYTES + VIEW_TAIL_BYTES {
                prop_assert_eq!(kept, whole.len());
            } else {
                prop_assert_eq!(kept, VIEW_HEAD_BYTES + VIEW_TAIL_BYTES);
            }
            prop_assert_eq!(view.omitted(), (whole.len() - kept) as u64);
        }
    }
}
