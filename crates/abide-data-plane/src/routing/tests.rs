//! The decisions against a world in which everything can go wrong.

use proptest::prelude::*;

use super::*;

const PATIENCE: Patience = Patience {
    deadline: None,
    silence: Duration::from_secs(30),
};

fn ready(boot_id: &str, worker: Option<WorkerId>) -> RouteState {
    RouteState::Ready {
        endpoint: "http://agent".to_owned(),
        boot_id: boot_id.to_owned(),
        worker,
    }
}

fn looked_up(state: RouteState, fresh: bool) -> Event {
    Event::Route { state, fresh }
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn a_runtime_that_cannot_be_connected_to_is_tried_three_times() {
    let mut routing = StepRouting::new(PATIENCE);
    let now = Duration::ZERO;
    let way = ready("a", None);
    assert_eq!(
        routing.next(looked_up(way.clone(), false), now),
        Action::Send { pause: ms(0) }
    );
    assert_eq!(routing.next(Event::Unreached, now), Action::Reload);
    assert_eq!(
        routing.next(looked_up(way, true), now),
        Action::Send { pause: ms(200) }
    );
    assert_eq!(
        routing.next(Event::Unreached, now),
        Action::Send { pause: ms(400) }
    );
    assert_eq!(
        routing.next(Event::Unreached, now),
        Action::Answer(Verdict::Unreachable { sent: false })
    );
    assert_eq!(routing.attempts(), 3);
}

#[test]
fn what_was_sent_is_asked_for_until_the_runtime_is_back() {
    let mut routing = StepRouting::new(PATIENCE);
    let now = Duration::ZERO;
    routing.next(looked_up(ready("a", None), true), now);
    let mut pauses = Vec::new();
    let mut event = Event::Broke;
    for _ in 0..8 {
        let Action::AskStep { pause } = routing.next(event, now) else {
            panic!("not asked for");
        };
        pauses.push(pause.as_millis());
        event = Event::Unreached;
    }
    assert_eq!(pauses, [0, 50, 100, 200, 400, 800, 1600, 2000]);
    assert_eq!(
        routing.next(Event::Ended, now),
        Action::Answer(Verdict::Ended)
    );
}

#[test]
fn asking_ends_when_deadline_and_silence_have_passed() {
    for (deadline, now, ends) in [
        (None, 29, false),
        (None, 30, true),
        (Some(40), 39, false),
        (Some(40), 40, true),
    ] {
        let mut routing = StepRouting::new(Patience {
            deadline: deadline.map(Duration::from_secs),
            ..PATIENCE
        });
        routing.next(looked_up(ready("a", None), true), Duration::ZERO);
        routing.next(Event::Broke, Duration::ZERO);
        let action = routing.next(Event::Unreached, Duration::from_secs(now));
        let ended = action == Action::Answer(Verdict::Unreachable { sent: true });
        assert_eq!(ended, ends, "{deadline:?} {now}: {action:?}");
    }
}

#[test]
fn a_restarted_runtime_is_followed_only_with_the_same_interpreter() {
    let worker = Some(WorkerId::new());
    let answers = [
        (
            worker,
            false,
            Action::Rebind {
                boot_id: "b".into(),
            },
        ),
        (worker, true, Action::Answer(Verdict::Crashed)),
        (
            Some(WorkerId::new()),
            false,
            Action::Answer(Verdict::Mismatch),
        ),
        (None, false, Action::Answer(Verdict::Mismatch)),
    ];
    for (there, dead, expected) in answers {
        let mut routing = StepRouting::new(PATIENCE);
        let now = Duration::ZERO;
        routing.next(looked_up(ready("a", worker), true), now);
        let asked = routing.next(Event::OtherBoot, now);
        assert_eq!(asked, Action::AskSession { pause: ms(0) });
        let session = Event::Session {
            boot_id: "b".to_owned(),
            worker: there,
            dead,
        };
        assert_eq!(routing.next(session, now), expected);
        if matches!(expected, Action::Rebind { .. }) {
            assert_eq!(
                routing.next(Event::Rebound, now),
                Action::Send { pause: ms(0) }
            );
        }
    }
}

#[test]
fn an_old_copy_of_a_route_refuses_nothing_by_itself() {
    let refusing = [
        (RouteState::Unknown, Verdict::NotFound),
        (RouteState::Gone, Verdict::Gone),
        (RouteState::Lost, Verdict::Mismatch),
        (RouteState::Crashed, Verdict::Crashed),
        (RouteState::Failed, Verdict::Failed),
        (RouteState::Provisioning, Verdict::NotReady),
    ];
    for (state, verdict) in refusing {
        let now = Duration::ZERO;
        let mut routing = StepRouting::new(PATIENCE);
        assert_eq!(
            routing.next(looked_up(state.clone(), false), now),
            Action::Reload
        );
        assert_eq!(
            routing.next(looked_up(state.clone(), true), now),
            Action::Answer(verdict)
        );
        let mut routing = StepRouting::new(PATIENCE);
        routing.next(looked_up(state, false), now);
        assert_eq!(
            routing.next(looked_up(ready("a", None), true), now),
            Action::Send { pause: ms(0) }
        );
    }
}

#[test]
fn a_step_that_a_restarted_runtime_never_got_is_sent_to_its_new_boot_id() {
    let worker = Some(WorkerId::new());
    let now = Duration::ZERO;
    let mut routing = StepRouting::new(PATIENCE);
    routing.next(looked_up(ready("a", worker), true), now);
    routing.next(Event::Broke, now);
    let no_step = |boot_id: &str| Event::NoStep {
        boot_id: boot_id.to_owned(),
    };
    // The runtime it was sent to may still get it.
    for pause in [ms(100), ms(400)] {
        assert_eq!(routing.next(no_step("a"), now), Action::AskStep { pause });
    }
    assert_eq!(
        routing.next(no_step("b"), now),
        Action::AskSession { pause: ms(0) }
    );
    let session = Event::Session {
        boot_id: "b".to_owned(),
        worker,
        dead: false,
    };
    let boot_id = "b".to_owned();
    assert_eq!(routing.next(session, now), Action::Rebind { boot_id });
    assert_eq!(
        routing.next(Event::Rebound, now),
        Action::Send { pause: ms(0) }
    );
    // And once more there.
    routing.next(Event::Broke, now);
    for pause in [ms(100), ms(400)] {
        assert_eq!(routing.next(no_step("b"), now), Action::AskStep { pause });
    }
    assert_eq!(
        routing.next(no_step("b"), now),
        Action::Answer(Verdict::Unreachable { sent: true })
    );
}

/// What befalls one exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unconnected,
    CutBeforeArrival,
    CutAfterArrival,
    /// The connection breaks, and the bytes get there some time later.
    Delayed,
    Through,
    RestartedWhole,
    RestartedEmpty,
    Moved,
    Terminated,
    DiedMeanwhile,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => Just(Fate::Unconnected),
        3 => Just(Fate::CutBeforeArrival),
        3 => Just(Fate::CutAfterArrival),
        2 => Just(Fate::Delayed),
        4 => Just(Fate::Through),
        2 => Just(Fate::RestartedWhole),
        1 => Just(Fate::RestartedEmpty),
        1 => Just(Fate::Moved),
        1 => Just(Fate::Terminated),
        1 => Just(Fate::DiedMeanwhile),
    ]
}

/// A runtime that does not protect itself: a step that arrives twice is executed twice.
#[derive(Debug)]
struct World {
    executions: u32,
    boots: u32,
    endpoints: u32,
    worker: Option<WorkerId>,
    dead: bool,
    terminated: bool,
    /// What the store says: endpoint, boot id, worker.
    stored: (u32, u32, Option<WorkerId>),
}

impl World {
    fn new() -> Self {
        let worker = Some(WorkerId::new());
        Self {
            executions: 0,
            boots: 0,
            endpoints: 0,
            worker,
            dead: false,
            terminated: false,
            stored: (0, 0, worker),
        }
    }

    fn befall(&mut self, fate: Fate) {
        match fate {
            Fate::RestartedWhole => self.boots += 1,
            Fate::RestartedEmpty => {
                self.boots += 1;
                self.worker = None;
            }
            // Another data plane restarted the session somewhere else.
            Fate::Moved => {
                self.endpoints += 1;
                self.boots += 1;
                self.worker = Some(WorkerId::new());
                self.dead = false;
                self.stored = (self.endpoints, self.boots, self.worker);
            }
            Fate::Terminated => self.terminated = true,
            Fate::DiedMeanwhile => self.dead = true,
            Fate::Unconnected
            | Fate::CutBeforeArrival
            | Fate::CutAfterArrival
            | Fate::Delayed
            | Fate::Through => {}
        }
    }

    fn state(&self, (endpoint, boot, worker): (u32, u32, Option<WorkerId>)) -> RouteState {
        RouteState::Ready {
            endpoint: endpoint.to_string(),
            boot_id: boot.to_string(),
            worker,
        }
    }

    fn arrives(&mut self, way: (u32, u32)) -> Event {
        if way.0 != self.endpoints {
            return Event::Unreached;
        }
        if way.1 != self.boots {
            return Event::OtherBoot;
        }
        if self.worker.is_none() || self.terminated {
            return Event::NoSession;
        }
        if self.dead {
            return Event::Dead;
        }
        self.executions += 1;
        Event::Ended
    }

    fn asked(&self, endpoint: u32) -> Event {
        match (endpoint == self.endpoints, self.worker, self.executions) {
            (false, ..) => Event::Unreached,
            (true, None, _) => Event::NoSession,
            (true, Some(_), 0) => Event::NoStep {
                boot_id: self.boots.to_string(),
            },
            (true, Some(_), _) => Event::Ended,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens: at most one execution, exactly one answer, and an answer that is true.
    #[test]
    fn at_most_one_execution_and_exactly_one_answer(
        fates in prop::collection::vec(fate(), 0..24),
        cached in any::<bool>(),
    ) {
        let mut world = World::new();
        let mut fates = fates.into_iter();
        let mut routing = StepRouting::new(PATIENCE);
        let mut way = (0, 0);
        let mut now = Duration::ZERO;
        // The boot id that the bytes were last sent to.
        let mut sent_to = None;
        let mut delayed: Vec<(u32, u32)> = Vec::new();
        let mut event = Event::Route { state: world.state(world.stored), fresh: !cached };
        let mut verdict = None;
        for _ in 0..200 {
            let action = routing.next(event, now);
            let fate = match &action {
                Action::Send { .. } | Action::AskStep { .. } | Action::AskSession { .. } => {
                    fates.next().unwrap_or(Fate::Through)
                }
                _ => Fate::Through,
            };
            world.befall(fate);
            // At the worst moment, which is any.
            if fate == Fate::Through {
                for way in delayed.drain(..) {
                    world.arrives(way);
                }
            }
            now += Duration::from_secs(1);
            event = match action {
                Action::Answer(given) => {
                    verdict = Some(given);
                    break;
                }
                Action::Reload => {
                    let state = if world.terminated {
                        RouteState::Gone
                    } else {
                        way = (world.stored.0, world.stored.1);
                        world.state(world.stored)
                    };
                    Event::Route { state, fresh: true }
                }
                Action::Rebind { boot_id } => {
                    way.1 = boot_id.parse().unwrap();
                    world.stored.1 = way.1;
                    Event::Rebound
                }
                Action::Send { pause } => {
                    prop_assert_ne!(sent_to, Some(way.1), "sent again where it may have arrived");
                    now += pause;
                    match fate {
                        Fate::Unconnected => Event::Unreached,
                        Fate::CutBeforeArrival | Fate::Delayed => {
                            sent_to = Some(way.1);
                            if fate == Fate::Delayed {
                                delayed.push(way);
                            }
                            Event::Broke
                        }
                        Fate::CutAfterArrival => {
                            sent_to = Some(way.1);
                            world.arrives(way);
                            Event::Broke
                        }
                        _ => world.arrives(way),
                    }
                }
                Action::AskStep { pause } => {
                    now += pause;
                    match fate {
                        Fate::Unconnected => Event::Unreached,
                        Fate::CutBeforeArrival | Fate::CutAfterArrival | Fate::Delayed => Event::Broke,
                        _ => world.asked(way.0),
                    }
                }
                Action::AskSession { pause } => {
                    now += pause;
                    match fate {
                        Fate::Unconnected => Event::Unreached,
                        Fate::CutBeforeArrival | Fate::CutAfterArrival | Fate::Delayed => Event::Broke,
                        _ if way.0 != world.endpoints => Event::Unreached,
                        _ if world.worker.is_none() || world.terminated => Event::NoSession,
                        _ => Event::Session {
                            boot_id: world.boots.to_string(),
                            worker: world.worker,
                            dead: world.dead,
                        },
                    }
                }
            };
        }
        for way in delayed {
            world.arrives(way);
        }
        prop_assert!(world.executions <= 1, "executed {} times", world.executions);
        let Some(verdict) = verdict else {
            return Err(TestCaseError::fail("no answer"));
        };
        match verdict {
            Verdict::Ended => prop_assert_eq!(world.executions, 1),
            // It may have been executed only if it was sent, and these say so.
            Verdict::Unreachable { sent: true }
            | Verdict::Mismatch
            | Verdict::Gone
            | Verdict::Crashed => prop_assert!(world.executions == 0 || sent_to.is_some()),
            other => prop_assert_eq!(world.executions, 0, "{:?}", other),
        }
    }
}
