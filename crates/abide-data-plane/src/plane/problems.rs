//! What clients hear of what went wrong below.

use abide_model::{Exit, Problem, ProblemCode, Route};
use serde_json::json;

use crate::link::CallError;
use crate::routing::Verdict;

/// 404 for a session that never was.
pub(crate) fn session_not_found() -> Problem {
    Problem::new(ProblemCode::SessionNotFound, "session not found")
}

/// 410 for one that ended.
pub(crate) fn session_gone() -> Problem {
    Problem::new(
        ProblemCode::SessionExpired,
        "the session has expired or was terminated; create a new one",
    )
}

/// 503: its interpreter is dead.
pub(crate) fn crashed() -> Problem {
    Problem::new(
        ProblemCode::RuntimeCrashed,
        "session runtime is not available: its interpreter is dead; restart the session",
    )
}

/// How an interpreter ended, where a problem tells.
pub(crate) fn exit_of(problem: &Problem) -> Option<Exit> {
    serde_json::from_value(problem.details.as_ref()?.get("exit")?.clone()).ok()
}

/// 409: the runtime lost the session.
pub fn mismatch() -> Problem {
    Problem::new(
        ProblemCode::RuntimeIdentityMismatch,
        "the session's runtime was restarted without the session: its variables are gone; restart \
         the session to go on with fresh ones",
    )
}

/// 409: the runtime takes somebody else for the owner.
pub(crate) fn wrong_token() -> Problem {
    Problem::new(
        ProblemCode::RuntimeIdentityMismatch,
        "the runtime does not accept this session's token: it is not, or no longer, this session's \
         runtime",
    )
    .with_details(json!({ "reason": "invalid_session_token" }))
}

/// 503: nobody could be reached.
pub(crate) fn unreachable(attempts: u32, sent: bool, step: Option<&str>) -> Problem {
    let message = if sent {
        "runtime agent is not reachable: the step was sent, and what became of it is not known; \
         ask for it by its id, or submit it again under the same id"
    } else {
        "runtime agent is not reachable"
    };
    let mut details = json!({ "attempts": attempts, "sent": sent });
    if let (Some(step), Some(details)) = (step, details.as_object_mut()) {
        details.insert("step_id".to_owned(), step.into());
    }
    Problem::new(ProblemCode::RuntimeUnreachable, message).with_details(details)
}

/// The answer to a step that did not end. `refusal` is what the runtime said.
pub(crate) fn of_verdict(
    verdict: Verdict,
    refusal: Option<Problem>,
    attempts: u32,
    step: &str,
) -> Problem {
    match verdict {
        Verdict::NotFound => session_not_found(),
        Verdict::Gone => session_gone(),
        Verdict::NotReady => Problem {
            retryable: true,
            ..Problem::new(
                ProblemCode::RuntimeUnavailable,
                "the session's runtime is being made ready; try again",
            )
        },
        Verdict::Failed => Problem::new(
            ProblemCode::RuntimeUnavailable,
            "the session's runtime could not be made",
        ),
        Verdict::Crashed => refusal.unwrap_or_else(crashed),
        Verdict::Mismatch => mismatch(),
        Verdict::WrongToken => wrong_token(),
        Verdict::Unreachable { sent } => unreachable(attempts, sent, Some(step)),
        Verdict::Ended | Verdict::Refused => {
            refusal.unwrap_or_else(|| Problem::new(ProblemCode::Internal, "no answer"))
        }
    }
}

/// The answer to a request other than a step that failed on the way to the runtime.
pub(crate) fn of_call(error: CallError, attempts: u32) -> Problem {
    match error {
        CallError::Connect { .. } => unreachable(attempts, false, None),
        CallError::Broke { .. } => Problem::new(
            ProblemCode::RuntimeUnreachable,
            "the runtime did not answer; whether it did what was asked is not known",
        )
        .with_details(json!({ "attempts": attempts, "sent": true })),
        CallError::Refused { problem, .. } => match problem.code.as_str() {
            "session_not_found" | "runtime_identity_mismatch" => mismatch(),
            "shutting_down" => unreachable(attempts, false, None),
            _ if problem.status == 401 => wrong_token(),
            _ => *problem,
        },
    }
}

/// 409: the session is there, with another runtime.
pub(crate) fn other_runtime(route: &Route) -> Problem {
    Problem::new(
        ProblemCode::RuntimeMismatch,
        format!(
            "session {} is there already, with {} as its runtime",
            route.session_id, route.runtime
        ),
    )
}
