//! A session agent without sockets, for tests in which time is not real.

use std::collections::VecDeque;
use std::time::Duration;

use abide_data_plane::forward::Forward;
use abide_data_plane::link::{
    AgentLink, Answered, Call, CallError, Caller, FrameLine, Frames, PassedOn,
};
use abide_model::{
    AgentHealth, AgentSession, AgentStep, Problem, ProblemCode, RegisterSession, RunStep, Runtime,
    StepStatus, TerminalState, WorkerId, WorkerNews,
};
use abide_session_agent::Tasks;
use axum::body::Body;
use axum::response::Response;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::fake_agent::{ended_frame, line, outcome};

/// What comes of one exchange about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// No connection.
    Unconnected,
    /// The connection breaks.
    Broke,
    /// Nothing, ever.
    Silence,
    /// The end of the step, after this long.
    EndsAfter(Duration),
}

#[derive(Debug)]
pub(crate) struct ScriptedLink {
    worker: WorkerId,
    /// For submissions; then [`Reply::Silence`].
    pub(crate) runs: Mutex<VecDeque<Reply>>,
    /// For questions; the last one is repeated.
    pub(crate) asks: Mutex<VecDeque<Reply>>,
    /// Whether it shows signs of life.
    pub(crate) lives: bool,
    /// When each submission and question came.
    pub(crate) ran_at: Mutex<Vec<Instant>>,
    pub(crate) asked_at: Mutex<Vec<Instant>>,
}

impl ScriptedLink {
    pub(crate) fn new(runs: &[Reply], asks: &[Reply], lives: bool) -> Self {
        Self {
            worker: WorkerId::new(),
            runs: Mutex::new(runs.iter().copied().collect()),
            asks: Mutex::new(asks.iter().copied().collect()),
            lives,
            ran_at: Mutex::default(),
            asked_at: Mutex::default(),
        }
    }

    async fn reply(&self, reply: Reply, step: &str) -> Result<Answered<Frames>, CallError> {
        let error = || std::io::Error::other("scripted").into();
        let endpoint = "scripted".to_owned();
        match reply {
            Reply::Unconnected => Err(CallError::Connect {
                endpoint,
                source: error(),
            }),
            Reply::Broke => Err(CallError::Broke {
                endpoint,
                source: error(),
            }),
            Reply::Silence => std::future::pending().await,
            Reply::EndsAfter(pause) => {
                let run = RunStep {
                    session_id: "s1".to_owned(),
                    step_id: step.to_owned(),
                    code: "x".to_owned(),
                    ..RunStep::default()
                };
                let frame = ended_frame(&outcome(&run, StepStatus::Completed), self.worker);
                let raw = line(&frame);
                let frames = futures_util::stream::once(async move {
                    after(pause).await;
                    Ok(FrameLine { frame, raw })
                });
                Ok(answered(Box::pin(frames)))
            }
        }
    }

    fn session_view(&self) -> AgentSession {
        AgentSession {
            session_id: "s1".to_owned(),
            status: "registered".to_owned(),
            runtime: Some(Runtime::Python),
            worker_id: Some(self.worker),
            exit: None,
        }
    }
}

fn answered<T>(value: T) -> Answered<T> {
    Answered {
        value,
        boot_id: "scripted".to_owned(),
    }
}

fn refused<T>() -> Result<T, CallError> {
    let problem = Problem::new(ProblemCode::NotFound, "not scripted");
    Err(CallError::Refused {
        problem: Box::new(problem),
        boot_id: "scripted".to_owned(),
    })
}

impl AgentLink for ScriptedLink {
    fn endpoint(&self) -> &str {
        "scripted"
    }

    fn health(&self) -> Call<'_, Answered<AgentHealth>> {
        Box::pin(async {
            if !self.lives {
                return Err(CallError::Broke {
                    endpoint: "scripted".to_owned(),
                    source: std::io::Error::other("no sign of life").into(),
                });
            }
            Ok(answered(AgentHealth {
                status: "ok".to_owned(),
                boot_id: "scripted".to_owned(),
                version: String::new(),
                sessions: 1,
                interpreters: 1,
                running_steps: 1,
                queued_steps: 0,
                auth_mode: abide_model::AuthMode::Enforced,
            }))
        })
    }

    fn register<'a>(
        &'a self,
        _: &'a RegisterSession,
        _: Caller<'a>,
    ) -> Call<'a, Answered<AgentSession>> {
        Box::pin(std::future::ready(Ok(answered(self.session_view()))))
    }

    fn session<'a>(&'a self, _: Caller<'a>) -> Call<'a, Answered<AgentSession>> {
        Box::pin(std::future::ready(Ok(answered(self.session_view()))))
    }

    fn run<'a>(
        &'a self,
        step: &'a RunStep,
        _: bool,
        _: &'a str,
        _: Caller<'a>,
    ) -> Call<'a, Answered<Frames>> {
        self.ran_at.lock().push(Instant::now());
        let reply = self.runs.lock().pop_front().unwrap_or(Reply::Silence);
        Box::pin(self.reply(reply, &step.step_id))
    }

    fn hand_over<'a>(
        &'a self,
        _: &'a RunStep,
        _: &'a str,
        _: Caller<'a>,
    ) -> Call<'a, Answered<AgentStep>> {
        Box::pin(std::future::ready(refused()))
    }

    fn follow<'a>(
        &'a self,
        step: &'a str,
        _: Duration,
        _: Caller<'a>,
    ) -> Call<'a, Answered<Frames>> {
        self.asked_at.lock().push(Instant::now());
        let reply = {
            let mut asks = self.asks.lock();
            if asks.len() > 1 {
                asks.pop_front().unwrap()
            } else {
                asks[0]
            }
        };
        Box::pin(self.reply(reply, step))
    }

    fn step<'a>(&'a self, _: &'a str, _: Duration, _: Caller<'a>) -> Call<'a, Answered<AgentStep>> {
        Box::pin(std::future::ready(refused()))
    }

    fn tell_step<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: &'a str,
        _: Caller<'a>,
    ) -> Call<'a, PassedOn> {
        Box::pin(std::future::ready(refused()))
    }

    fn cancel<'a>(&'a self, _: &'a str, _: Caller<'a>) -> Call<'a, Answered<AgentStep>> {
        Box::pin(std::future::ready(refused()))
    }

    fn interrupt<'a>(&'a self, _: Caller<'a>) -> Call<'a, Answered<()>> {
        Box::pin(std::future::ready(Ok(answered(()))))
    }

    fn restart<'a>(&'a self, _: Caller<'a>) -> Call<'a, Answered<AgentSession>> {
        Box::pin(std::future::ready(refused()))
    }

    fn terminate<'a>(&'a self, _: Caller<'a>) -> Call<'a, Answered<()>> {
        Box::pin(std::future::ready(Ok(answered(()))))
    }

    fn output_frames<'a>(&'a self, _: &'a str, _: Caller<'a>) -> Call<'a, Frames> {
        Box::pin(std::future::ready(refused()))
    }

    fn output<'a>(&'a self, _: &'a str, _: Caller<'a>) -> Call<'a, PassedOn> {
        Box::pin(std::future::ready(refused()))
    }

    fn forward<'a>(
        &'a self,
        _: &'a Forward,
        _: &'a str,
        _: &'a Tasks,
        _: Caller<'a>,
    ) -> Call<'a, Response<Body>> {
        Box::pin(std::future::ready(refused()))
    }

    fn terminals(&self) -> Call<'_, Answered<Vec<TerminalState>>> {
        Box::pin(std::future::ready(refused()))
    }

    fn sessions(&self) -> Call<'_, Answered<Vec<AgentSession>>> {
        Box::pin(std::future::ready(refused()))
    }

    fn news(&self, _: u64, _: Duration) -> Call<'_, Answered<Vec<WorkerNews>>> {
        Box::pin(std::future::ready(refused()))
    }

    fn is_ours(&self) -> bool {
        false
    }
}

/// Lets time that is not real pass.
pub(crate) async fn after(pause: Duration) {
    let _ = tokio::time::timeout(pause, std::future::pending::<()>()).await;
}
