//! The lines of `steps.jsonl`.

use std::borrow::Cow;

use abide_model::{NewStep, SessionId, StepId, StepOutcome, StepStatus, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::CodeDigest;
use super::older::OlderStep;

/// A line to write.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    Accepted(Accepted<'a>),
    Ended {
        sequence: i64,
        digest: CodeDigest,
        outcome: &'a StepOutcome,
    },
}

/// A line that was read, without what is read again when it is asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Read {
    Accepted(Accepted<'static>),
    Ended(Ended<OutcomeInShort>),
}

/// A step that was accepted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Accepted<'a> {
    pub(super) id: StepId,
    session: SessionId,
    pub(super) sequence: i64,
    pub(super) code: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stdin: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) queue_timeout_ms: Option<u64>,
    created_at: Timestamp,
}

/// A step that ended.
#[derive(Debug, Deserialize)]
pub(super) struct Ended<T> {
    pub(super) sequence: i64,
    pub(super) digest: CodeDigest,
    pub(super) outcome: T,
}

/// What stays in memory of an outcome.
#[derive(Debug, Deserialize)]
pub(super) struct OutcomeInShort {
    id: StepId,
    status: StepStatus,
    finished_at: Timestamp,
    stdout: Length,
    stderr: Length,
}

/// How much output there was.
#[derive(Debug, Deserialize)]
struct Length {
    bytes: u64,
}

impl OutcomeInShort {
    pub(super) fn with(&self, digest: CodeDigest) -> OlderStep {
        OlderStep {
            id: self.id,
            digest,
            status: self.status,
            finished_at: self.finished_at,
            bytes: [self.stdout.bytes, self.stderr.bytes],
        }
    }
}

impl Line<'_> {
    /// The outcome in a line of a step that ended.
    pub(super) fn outcome(line: &[u8]) -> std::io::Result<StepOutcome> {
        #[derive(Deserialize)]
        struct Whole {
            ended: Ended<StepOutcome>,
        }
        let whole: Whole = serde_json::from_slice(line)?;
        Ok(whole.ended.outcome)
    }
}

impl<'a> Accepted<'a> {
    pub(super) fn of(step: &'a NewStep, sequence: i64, queue_timeout_ms: Option<u64>) -> Self {
        Self {
            id: step.id,
            session: step.session_id,
            sequence,
            code: Cow::Borrowed(&step.code),
            stdin: step.stdin.as_deref().map(Cow::Borrowed),
            timeout_ms: step.timeout_ms,
            queue_timeout_ms,
            created_at: step.created_at,
        }
    }

    pub(super) fn into_step(self) -> NewStep {
        NewStep {
            id: self.id,
            session_id: self.session,
            code: self.code.into_owned(),
            stdin: self.stdin.map(Cow::into_owned),
            timeout_ms: self.timeout_ms,
            created_at: self.created_at,
            sequence: Some(self.sequence),
        }
    }
}

/// The line with its end.
pub(super) fn write_line(line: &Line<'_>) -> std::io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}
