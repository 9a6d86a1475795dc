//! How the data plane speaks to a session agent, whether over HTTP or within one process.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use abide_model::{
    AgentHealth, AgentSession, AgentStep, Problem, RegisterSession, RunStep, StepFrame,
    TerminalState, WorkerNews,
};
use abide_session_agent::Tasks;
use axum::body::Body;
use bytes::Bytes;
use futures_util::Stream;
use hyper::Response;

use crate::forward::Forward;
use crate::trace::TraceContext;

/// An exchange under way.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// Why an exchange failed. The three differ in what may have been done.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No byte of the request got there.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// Base URL.
        endpoint: String,
        /// What the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection broke, or the answer made no sense or did not come, after bytes may have got
    /// there.
    #[error("the exchange with {endpoint} broke off")]
    Broke {
        /// Base URL.
        endpoint: String,
        /// What the system says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The agent understood, and did nothing.
    #[error("refused: {}", problem.message)]
    Refused {
        /// What it said.
        problem: Box<Problem>,
        /// Its boot id; empty if it did not say.
        boot_id: String,
    },
}

/// An answer, and whose it is.
#[derive(Debug, Clone)]
pub struct Answered<T> {
    /// What was asked for.
    pub value: T,
    /// Boot id of the agent that gave it.
    pub boot_id: String,
}

/// For whom the data plane speaks.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The session's label.
    pub session: &'a str,
    /// The session's token; empty in bypass mode.
    pub token: &'a str,
    /// Names of the client's request.
    pub trace: &'a TraceContext,
}

/// One line of a step's frames.
#[derive(Debug, Clone)]
pub struct FrameLine {
    /// Understood.
    pub frame: StepFrame,
    /// As it came, with the line break.
    pub raw: Bytes,
}

/// A step's frames as they come. Ends without [`StepFrame::Ended`] only after an error, or where a
/// question waited as long as it was allowed to.
pub type Frames = Pin<Box<dyn Stream<Item = Result<FrameLine, CallError>> + Send>>;

/// An answer that is handed on as it is: status, the headers that say something, and the body.
pub struct PassedOn {
    /// HTTP status.
    pub status: u16,
    /// Name and value.
    pub headers: Vec<(String, String)>,
    /// The body as it comes.
    pub body: Pin<Box<dyn Stream<Item = Result<Bytes, CallError>> + Send>>,
}

/// One session agent.
pub trait AgentLink: Send + Sync + std::fmt::Debug {
    /// Base URL, or what stands for it in logs.
    fn endpoint(&self) -> &str;
    /// Whether it is there, and who.
    fn health(&self) -> Call<'_, Answered<AgentHealth>>;
    /// Starts a session's interpreter; may be repeated with the same token.
    fn register<'a>(
        &'a self,
        new: &'a RegisterSession,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<AgentSession>>;
    /// A session as the agent has it.
    fn session<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<AgentSession>>;
    /// Runs a step on the agent of this boot id and no other. Answers once it is accepted; the
    /// frames follow. With `output` they contain it, and the program waits for whoever reads them.
    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        output: bool,
        boot_id: &'a str,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<Frames>>;
    /// The same for a caller who does not wait for its end.
    fn hand_over<'a>(
        &'a self,
        step: &'a RunStep,
        boot_id: &'a str,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<AgentStep>>;
    /// The frames of a step, without output, for at most `wait`.
    fn follow<'a>(
        &'a self,
        step: &'a str,
        wait: Duration,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<Frames>>;
    /// A step as it stands, or as it ended within `wait`.
    fn step<'a>(
        &'a self,
        step: &'a str,
        wait: Duration,
        caller: Caller<'a>,
    ) -> Call<'a, Answered<AgentStep>>;
    /// A step in the form `accept`; `query` goes on as it is.
    fn tell_step<'a>(
        &'a self,
        step: &'a str,
        query: &'a str,
        accept: &'a str,
        caller: Caller<'a>,
    ) -> Call<'a, PassedOn>;
    /// Takes a step out of the queue, or interrupts it.
    fn cancel<'a>(&'a self, step: &'a str, caller: Caller<'a>) -> Call<'a, Answered<AgentStep>>;
    /// Interrupts what runs.
    fn interrupt<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<()>>;
    /// A fresh interpreter.
    fn restart<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<AgentSession>>;
    /// Ends a session and everything it has.
    fn terminate<'a>(&'a self, caller: Caller<'a>) -> Call<'a, Answered<()>>;
    /// Output of a session's worker as frames.
    fn output_frames<'a>(&'a self, query: &'a str, caller: Caller<'a>) -> Call<'a, Frames>;
    /// Output of a session's worker; `query` goes on as it is.
    fn output<'a>(&'a self, query: &'a str, caller: Caller<'a>) -> Call<'a, PassedOn>;
    /// Hands on a request about a session's workers, to this boot of the agent only. Where the answer is
    /// a WebSocket, one of `tasks` joins it to the client's.
    fn forward<'a>(
        &'a self,
        forward: &'a Forward,
        boot_id: &'a str,
        tasks: &'a Tasks,
        caller: Caller<'a>,
    ) -> Call<'a, Response<Body>>;
    /// Every terminal the agent has; needs its secret.
    fn terminals(&self) -> Call<'_, Answered<Vec<TerminalState>>>;
    /// Every session the agent has; needs its secret.
    fn sessions(&self) -> Call<'_, Answered<Vec<AgentSession>>>;
    /// Interpreters that died by themselves after this sequence number, waited for at most `wait`;
    /// needs the agent's secret.
    fn news(&self, after: u64, wait: Duration) -> Call<'_, Answered<Vec<WorkerNews>>>;
    /// Whether its secret is known, so that everything on it may be taken for ours.
    fn is_ours(&self) -> bool;
}

impl CallError {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { problem, .. } => Some(&problem.code),
            Self::Connect { .. } | Self::Broke { .. } => None,
        }
    }

    /// This and everything behind it, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }
}

impl std::fmt::Debug for PassedOn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PassedOn")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
