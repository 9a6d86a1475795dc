//! What to do next with a step, decided without doing anything.
//!
//! ```text
//!            ┌────────── not ready, and the copy may be old ─► look the route up again
//!            │
//! look up ───┼─ ready ─► send ──┬─ ended ────────────────────► answer
//!            │            ▲     ├─ could not connect ─► send again, at most three times in all
//!            │            │     ├─ broke after it was sent ─► ask for the step, until it is known
//!            │        rebind    └─ another boot id ─► ask for the session
//!            │            │                             ├─ the same interpreter ─► rebind
//!            └─ not ready ┴─ answer ◄───────────────────┴─ another one, or none
//! ```
//!
//! Two rules hold whatever happens: once the bytes of a step may have reached a runtime they are
//! not sent again, and every step gets exactly one answer.
//!
//! The first has one way out, which is no exception. Each step is sent to one boot id. When the
//! runtime comes back under another one, with the session's interpreter and without the step, then
//! the bytes came to nothing: the process they were meant for is gone and has not recorded them,
//! and whatever still carries them will be refused for the old boot id.

use std::time::Duration;

use abide_model::WorkerId;

/// Times that a step is offered to a runtime that cannot be connected to.
pub const SEND_ATTEMPTS: u32 = 3;
/// Wait before the second attempt; doubled before the third.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// Pauses before a runtime that does not know a step is asked again: the step may be on its way in
/// while the question passes it.
const NO_STEP_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];
/// Wait before asking again for a step whose connection broke; doubled each time, up to
/// [`LONGEST_ASK_BACKOFF`]. Short: most runtimes that went away are back at once.
const FIRST_ASK_BACKOFF: Duration = Duration::from_millis(50);
/// See [`FIRST_ASK_BACKOFF`].
const LONGEST_ASK_BACKOFF: Duration = Duration::from_secs(2);
/// Boot ids that one step follows; a runtime that restarts more often is not there.
const REBINDS: u32 = 3;

/// Where a session's way leads, as far as steps are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteState {
    /// There is none.
    Unknown,
    /// Its runtime is being made ready.
    Provisioning,
    /// Its runtime could not be made.
    Failed,
    /// Its runtime was restarted without it, and nobody has been told.
    Lost,
    /// Its interpreter is gone.
    Crashed,
    /// Its time is up, or it was ended.
    Gone,
    /// Steps go through.
    Ready {
        /// Base URL of the session agent that holds it.
        endpoint: String,
        /// That agent's boot id.
        boot_id: String,
        /// Its interpreter there.
        worker: Option<WorkerId>,
    },
}

/// What happened to what was asked for last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The route was looked up; `fresh` if in the store rather than in memory.
    Route {
        /// What was found.
        state: RouteState,
        /// Whether it can be out of date.
        fresh: bool,
    },
    /// No byte got there, or the runtime is stopping and did nothing.
    Unreached,
    /// The connection broke when bytes may have got there.
    Broke,
    /// The step ended (or, when nobody waits for its end, was accepted).
    Ended,
    /// The step is there and goes on.
    Unfinished,
    /// The session's runtime does not know the step.
    NoStep {
        /// The runtime that says so; empty if it did not tell.
        boot_id: String,
    },
    /// The runtime was restarted and did nothing.
    OtherBoot,
    /// The runtime does not know the session.
    NoSession,
    /// The runtime does not accept the session's token.
    WrongToken,
    /// The session's interpreter is dead.
    Dead,
    /// The runtime refused the step for another reason, which the client is to hear.
    Refused,
    /// How the runtime has the session.
    Session {
        /// Who said so.
        boot_id: String,
        /// Its interpreter.
        worker: Option<WorkerId>,
        /// That is dead.
        dead: bool,
    },
    /// The route was bound to the boot id.
    Rebound,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look the route up in the store, then tell [`Event::Route`].
    Reload,
    /// Send the step, after a pause.
    Send {
        /// How long, before jitter.
        pause: Duration,
    },
    /// Ask for the step by its id, after a pause.
    AskStep {
        /// How long, before jitter.
        pause: Duration,
    },
    /// Ask for the session, after a pause.
    AskSession {
        /// How long, before jitter.
        pause: Duration,
    },
    /// Bind the route to this boot id, then tell [`Event::Rebound`].
    Rebind {
        /// Which.
        boot_id: String,
    },
    /// The end.
    Answer(Verdict),
}

/// What the client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// How the step ended.
    Ended,
    /// The runtime's own refusal.
    Refused,
    /// 404: there never was such a session.
    NotFound,
    /// 410: its time is up, or it was ended.
    Gone,
    /// 503, to be tried again: its runtime is being made ready.
    NotReady,
    /// 503: its runtime could not be made.
    Failed,
    /// 503: its interpreter is dead.
    Crashed,
    /// 409: its runtime was restarted without it.
    Mismatch,
    /// 409: its runtime takes somebody else for its owner.
    WrongToken,
    /// 503: nobody could be reached.
    Unreachable {
        /// The step may have got there.
        sent: bool,
    },
}

impl Verdict {
    /// One word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Refused => "refused",
            Self::NotFound => "session_not_found",
            Self::Gone => "session_expired",
            Self::NotReady => "not_ready",
            Self::Failed => "runtime_failed",
            Self::Crashed => "runtime_crashed",
            Self::Mismatch => "runtime_identity_mismatch",
            Self::WrongToken => "invalid_session_token",
            Self::Unreachable { .. } => "runtime_unreachable",
        }
    }

    /// Whether the session's variables are gone, which its route must say from now on.
    pub const fn ends_session(self) -> bool {
        matches!(self, Self::Crashed | Self::Mismatch)
    }
}

/// How long a step is asked for after its connection broke: until both have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Since the submission: the step's own deadlines and what they need to take effect.
    pub deadline: Option<Duration>,
    /// Since the runtime was last heard of.
    pub silence: Duration,
}

/// One step's way.
#[derive(Debug)]
pub struct StepRouting {
    patience: Patience,
    /// Where the bytes may have got to.
    sent: Option<Way>,
    /// The route was read from the store.
    fresh: bool,
    /// The way that is taken.
    way: Option<Way>,
    /// What to do if the store has nothing newer to say of the route.
    otherwise: Option<Action>,
    attempts: u32,
    asks: u32,
    no_step: usize,
    rebinds: u32,
    last_contact: Duration,
    doing: Doing,
}

/// What a route says of a way that can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Way {
    endpoint: String,
    boot_id: String,
    worker: Option<WorkerId>,
}

/// What was asked for last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Send,
    AskStep,
    AskSession,
    Other,
}

impl StepRouting {
    /// A step whose route has not been looked up yet.
    pub fn new(patience: Patience) -> Self {
        Self {
            patience,
            sent: None,
            fresh: false,
            way: None,
            otherwise: None,
            attempts: 1,
            asks: 0,
            no_step: 0,
            rebinds: 0,
            last_contact: Duration::ZERO,
            doing: Doing::Other,
        }
    }

    /// Attempts to get it there, from 1.
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Decides, `now` after the submission. Not to be asked again once it has given an answer.
    pub fn next(&mut self, event: Event, now: Duration) -> Action {
        let action = self.decide(event, now);
        self.doing = match &action {
            Action::Send { .. } => Doing::Send,
            Action::AskStep { .. } => Doing::AskStep,
            Action::AskSession { .. } => Doing::AskSession,
            Action::Reload | Action::Rebind { .. } | Action::Answer(_) => Doing::Other,
        };
        action
    }

    fn decide(&mut self, event: Event, now: Duration) -> Action {
        if !matches!(event, Event::Unreached | Event::Broke) {
            self.last_contact = now;
        }
        match event {
            Event::Route { state, fresh } => {
                self.fresh |= fresh;
                self.routed(state)
            }
            Event::Unreached => self.unreached(now),
            Event::Broke => {
                // Before anything else: from here on it is never sent again.
                if self.doing == Doing::Send {
                    self.sent.clone_from(&self.way);
                }
                self.broke(now)
            }
            Event::Ended => Action::Answer(Verdict::Ended),
            Event::Refused => Action::Answer(Verdict::Refused),
            Event::Dead => Action::Answer(Verdict::Crashed),
            Event::Unfinished => {
                self.asks = 0;
                Action::AskStep {
                    pause: Duration::ZERO,
                }
            }
            Event::NoStep { boot_id } => self.not_there(&boot_id),
            Event::OtherBoot => self.reload_or(Action::AskSession {
                pause: Duration::ZERO,
            }),
            Event::NoSession => self.reload_or(Action::Answer(Verdict::Mismatch)),
            Event::WrongToken => self.reload_or(Action::Answer(Verdict::WrongToken)),
            Event::Session {
                boot_id,
                worker,
                dead,
            } => self.identified(boot_id, worker, dead),
            Event::Rebound => self.go(),
        }
    }

    /// The runtime was sent the step and does not know it.
    fn not_there(&mut self, boot_id: &str) -> Action {
        let worker = self.way.as_ref().and_then(|way| way.worker);
        let came_to_nothing = self.sent.as_ref().is_some_and(|sent| {
            !boot_id.is_empty() && sent.boot_id != boot_id && sent.worker == worker
        });
        if came_to_nothing && worker.is_some() {
            // See the module. Whether the runtime has the interpreter is asked next.
            self.sent = None;
            self.no_step = 0;
            self.asks = 0;
            return Action::AskSession {
                pause: Duration::ZERO,
            };
        }
        match NO_STEP_PAUSES.get(self.no_step) {
            Some(&pause) => {
                self.no_step += 1;
                Action::AskStep { pause }
            }
            None => Action::Answer(Verdict::Unreachable { sent: true }),
        }
    }

    /// The way is clear.
    fn go(&self) -> Action {
        let pause = Duration::ZERO;
        if self.sent.is_some() {
            Action::AskStep { pause }
        } else {
            Action::Send { pause }
        }
    }

    /// The runtime contradicts the route: unless that was read just now, the store may know more.
    fn reload_or(&mut self, action: Action) -> Action {
        if self.fresh {
            return action;
        }
        self.otherwise = Some(action);
        Action::Reload
    }

    fn routed(&mut self, state: RouteState) -> Action {
        let verdict = match state {
            RouteState::Ready {
                endpoint,
                boot_id,
                worker,
            } => {
                let way = Way {
                    endpoint,
                    boot_id,
                    worker,
                };
                let otherwise = self.otherwise.take();
                let unchanged = self.way.as_ref() == Some(&way);
                self.way = Some(way);
                return otherwise.filter(|_| unchanged).unwrap_or_else(|| self.go());
            }
            RouteState::Unknown => Verdict::NotFound,
            RouteState::Gone => Verdict::Gone,
            RouteState::Provisioning => Verdict::NotReady,
            RouteState::Failed => Verdict::Failed,
            RouteState::Lost => Verdict::Mismatch,
            RouteState::Crashed => Verdict::Crashed,
        };
        if self.fresh {
            Action::Answer(verdict)
        } else {
            Action::Reload
        }
    }

    fn unreached(&mut self, now: Duration) -> Action {
        if self.doing == Doing::AskStep {
            return self.ask_again(now);
        }
        if self.attempts >= SEND_ATTEMPTS {
            return Action::Answer(Verdict::Unreachable {
                sent: self.sent.is_some(),
            });
        }
        let pause = FIRST_BACKOFF * 2_u32.pow(self.attempts - 1);
        self.attempts += 1;
        if self.doing == Doing::AskSession {
            return Action::AskSession { pause };
        }
        // It may be somewhere else by now.
        self.reload_or(Action::Send { pause })
    }

    fn broke(&mut self, now: Duration) -> Action {
        match self.doing {
            Doing::Send => Action::AskStep {
                pause: Duration::ZERO,
            },
            // Questions may be repeated.
            Doing::AskStep | Doing::AskSession | Doing::Other => self.unreached(now),
        }
    }

    fn ask_again(&mut self, now: Duration) -> Action {
        let silent = now.saturating_sub(self.last_contact) >= self.patience.silence;
        if silent && self.patience.deadline.is_none_or(|limit| now >= limit) {
            return Action::Answer(Verdict::Unreachable { sent: true });
        }
        let pause = FIRST_ASK_BACKOFF
            .saturating_mul(2_u32.saturating_pow(self.asks))
            .min(LONGEST_ASK_BACKOFF);
        self.asks += 1;
        Action::AskStep { pause }
    }

    fn identified(&mut self, boot_id: String, worker: Option<WorkerId>, dead: bool) -> Action {
        let ours = self.way.as_ref().and_then(|way| way.worker);
        if ours.is_none() || worker != ours {
            return Action::Answer(Verdict::Mismatch);
        }
        if dead {
            return Action::Answer(Verdict::Crashed);
        }
        if self.rebinds >= REBINDS {
            return Action::Answer(Verdict::Unreachable {
                sent: self.sent.is_some(),
            });
        }
        self.rebinds += 1;
        if let Some(way) = &mut self.way {
            way.boot_id.clone_from(&boot_id);
        }
        Action::Rebind { boot_id }
    }
}

#[cfg(test)]
mod tests;
