//! How commands fail: a message, what to do about it, and an exit code.

use abide_client::Error as ClientError;
use abide_model::{ProblemCode, StepStatus};

/// Why the program ends without success. The exit codes are decided here and nowhere else;
/// `abide help exit-codes` and `docs/cli.md` show this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The step ended in this status, which is not `completed`.
    Step(StepStatus),
    /// The step goes on without us, as the user wished.
    LeftRunning,
    /// What `wait` waited for cannot come any more.
    NeverComes,
    /// What `wait` waited for did not come in time.
    TimedOut,
    /// `doctor` found something that must be fixed.
    Unhealthy,
    /// Arguments, variables or the configuration file are wrong.
    Usage,
    /// A setting is refused: said in one line, `config error: NAME …`.
    Config,
    /// The server refuses: invalid input or a conflict.
    Refused,
    /// What the command is about does not exist.
    NotFound,
    /// No server is running, or it cannot be reached.
    NoServer,
    /// A defect of ours.
    Internal,
    /// Files, pipes or processes of this machine.
    Io,
    /// Later it may work: limits, shutdown, a server that went away.
    Temporary,
    /// The server's answer is not understood.
    Protocol,
    /// The key is missing or wrong.
    Denied,
    /// The reader of our output is gone. Says nothing.
    BrokenPipe,
}

/// Exit code, name, meaning: the table for people.
pub(crate) const EXIT_CODES: &[(u8, &str)] = &[
    (0, "success; for `run`: the step completed"),
    (
        1,
        "`run`: the step raised an error; `wait`: the program ended without it",
    ),
    (
        2,
        "`doctor`: something must be fixed before Abide can work here",
    ),
    (
        64,
        "wrong arguments, environment variable or configuration file",
    ),
    (
        65,
        "the server refused the request: invalid input or a conflict",
    ),
    (66, "the session, agent, step or terminal does not exist"),
    (69, "no server is running, or it cannot be reached"),
    (70, "a defect of Abide's own"),
    (74, "a file, a pipe or a process of this machine"),
    (
        75,
        "may work later: a limit was reached, the server is stopping or went away",
    ),
    (76, "the server's answer was not understood"),
    (77, "the key is missing or not accepted"),
    (
        124,
        "`run`: the step ran into its timeout; `wait`: so did waiting",
    ),
    (130, "`run`: the step was interrupted"),
    (131, "`run`: the step was left running (second Ctrl-C)"),
    (137, "`run`: the step ran out of memory"),
    (
        139,
        "`run`: the interpreter died; `abide restart` gives the session a new one",
    ),
    (140, "`run`: nobody can say how the step ended"),
    (141, "the reader of the output went away"),
];

impl Kind {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Step(StepStatus::Completed | StepStatus::Queued | StepStatus::Running) => 0,
            Self::Step(StepStatus::Error) | Self::NeverComes => 1,
            Self::Unhealthy => 2,
            Self::Usage | Self::Config => 64,
            Self::Refused => 65,
            Self::NotFound => 66,
            Self::NoServer => 69,
            Self::Internal => 70,
            Self::Io => 74,
            Self::Temporary => 75,
            Self::Protocol => 76,
            Self::Denied => 77,
            Self::Step(StepStatus::Timeout) | Self::TimedOut => 124,
            Self::Step(StepStatus::Interrupted) => 130,
            Self::LeftRunning => 131,
            Self::Step(StepStatus::OutOfMemory) => 137,
            Self::Step(StepStatus::Crashed) => 139,
            Self::Step(StepStatus::Lost) => 140,
            Self::BrokenPipe => 141,
        }
    }
}

/// A command that failed.
#[derive(Debug)]
pub(crate) struct CommandError {
    /// Decides the exit code.
    pub(crate) kind: Kind,
    /// One sentence; empty when everything has been said already.
    pub(crate) message: String,
    /// The errors beneath, outermost first.
    pub(crate) causes: Vec<String>,
    /// What to do.
    pub(crate) hints: Vec<String>,
}

/// What commands return.
pub(crate) type Result<T = ()> = std::result::Result<T, CommandError>;

impl CommandError {
    /// An error of one sentence.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// An exit code without words.
    pub(crate) fn silent(kind: Kind) -> Self {
        Self::new(kind, "")
    }

    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// Something on this machine failed.
    pub(crate) fn io(message: impl Into<String>, source: &dyn std::error::Error) -> Self {
        Self::new(Kind::Io, message).because(source)
    }

    /// Adds advice.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds an error and those beneath it.
    #[must_use]
    pub(crate) fn because(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat the inner error in the outer one's message.
            if self.causes.last().is_none_or(|last| !last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        use std::error::Error as _;
        let kind = match &error {
            ClientError::Unreachable { .. } => Kind::NoServer,
            ClientError::ConnectionLost { .. } | ClientError::GaveUp { .. } => Kind::Temporary,
            ClientError::BadUrl { .. } | ClientError::BadKey => Kind::Usage,
            ClientError::Build(_) => Kind::Internal,
            ClientError::Problem(problem) => match problem.status {
                401 | 403 => Kind::Denied,
                404 | 410 => Kind::NotFound,
                429 | 503 if problem.retryable => Kind::Temporary,
                500.. if problem.code == ProblemCode::Internal.as_str() => Kind::Internal,
                _ => Kind::Refused,
            },
            _ => Kind::Protocol,
        };
        let mut out = Self::new(kind, error.to_string());
        if let Some(source) = error.source() {
            out = out.because(source);
        }
        match &error {
            ClientError::Unreachable { .. } => {
                out = out.hint("start a server with `abide up`, or name another with --url");
            }
            ClientError::Foreign { body, .. } if !body.is_empty() => out.causes.push(body.clone()),
            ClientError::Problem(problem) => {
                if let Some(hint) = problem_hint(&problem.code) {
                    out = out.hint(hint);
                }
                if let (Kind::Internal, Some(id)) = (kind, &problem.request_id) {
                    out = out.hint(format!("the server's log has more under request {id}"));
                }
            }
            _ => {}
        }
        out
    }
}

impl From<anyhow::Error> for CommandError {
    fn from(error: anyhow::Error) -> Self {
        let mut chain = error.chain();
        let message = chain.next().map(ToString::to_string).unwrap_or_default();
        let causes = chain.map(ToString::to_string).collect();
        Self {
            kind: Kind::Internal,
            message,
            causes,
            hints: Vec::new(),
        }
    }
}

fn problem_hint(code: &str) -> Option<&'static str> {
    let is = |c: ProblemCode| c.as_str() == code;
    Some(match code {
        _ if is(ProblemCode::AuthenticationRequired) || is(ProblemCode::InvalidApiKey) => {
            "the key comes from --key, ABIDE_KEY or the data directory; `abide key` shows it"
        }
        _ if is(ProblemCode::SessionNotFound) => "`abide ls` lists the sessions",
        _ if is(ProblemCode::SessionActive) => "--force removes an active session",
        _ if is(ProblemCode::RuntimeCrashed) => {
            "`abide restart SESSION` gives it a fresh interpreter; `abide logs SESSION` shows the last output"
        }
        _ if is(ProblemCode::RuntimeUnavailable) => "`abide doctor` says what is missing",
        _ if is(ProblemCode::ShuttingDown) => "wait for it, then start it again with `abide up`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let mut kinds = vec![
            Kind::LeftRunning,
            Kind::NeverComes,
            Kind::TimedOut,
            Kind::Unhealthy,
            Kind::Usage,
            Kind::Config,
            Kind::Refused,
            Kind::NotFound,
            Kind::NoServer,
            Kind::Internal,
            Kind::Io,
            Kind::Temporary,
            Kind::Protocol,
            Kind::Denied,
            Kind::BrokenPipe,
        ];
        kinds.extend(StepStatus::ALL.iter().map(|s| Kind::Step(*s)));
        let documented: Vec<u8> = EXIT_CODES.iter().map(|(code, _)| *code).collect();
        for kind in &kinds {
            assert!(documented.contains(&kind.code()), "{kind:?}");
        }
        for code in documented {
            assert!(
                kinds.iter().any(|k| k.code() == code),
                "{code} cannot happen"
            );
        }
    }

    #[test]
    fn problems_become_codes_and_hints() {
        let error = |code| {
            CommandError::from(ClientError::Problem(Box::new(abide_model::Problem::new(
                code, "no",
            ))))
        };
        for (code, kind) in [
            (ProblemCode::InvalidApiKey, Kind::Denied),
            (ProblemCode::SessionNotFound, Kind::NotFound),
            (ProblemCode::SessionExists, Kind::Refused),
            (ProblemCode::InvalidInput, Kind::Refused),
            (ProblemCode::LimitReached, Kind::Temporary),
            (ProblemCode::ShuttingDown, Kind::Temporary),
            (ProblemCode::RuntimeCrashed, Kind::Refused),
            (ProblemCode::Internal, Kind::Internal),
        ] {
            assert_eq!(error(code).kind, kind, "{code:?}");
        }
        assert!(!error(ProblemCode::RuntimeCrashed).hints.is_empty());
    }
}
