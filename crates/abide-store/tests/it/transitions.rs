//! Any order of accepting and finishing steps ends as the state machine says: a step is accepted
//! once and finished once, and its session's log tells exactly that.

use std::collections::BTreeMap;

use abide_model::{SessionId, StepFilter, StepId, StepStatus};
use abide_store::{Accepted, Store};
use proptest::prelude::*;

use crate::fixtures::{TestStore, finish, log, new_session, new_step, outcome, owner};

/// Steps that the random actions choose from.
const STEPS: usize = 4;

#[derive(Debug, Clone, Copy)]
enum Action {
    Accept(usize),
    Finish(usize, StepStatus),
}

fn action() -> impl Strategy<Value = Action> {
    let terminal: Vec<_> = StepStatus::ALL
        .iter()
        .copied()
        .filter(|status| status.is_terminal())
        .collect();
    prop_oneof![
        (0..STEPS).prop_map(Action::Accept),
        (0..STEPS, prop::sample::select(terminal))
            .prop_map(|(n, status)| Action::Finish(n, status)),
    ]
}

async fn check(store: &Store, session_id: SessionId, actions: Vec<Action>) {
    let ids: [StepId; STEPS] = std::array::from_fn(|_| StepId::new());
    // What should be: sequence and status by step, and the log.
    let mut steps = BTreeMap::<usize, (i64, StepStatus)>::new();
    let mut events = vec!["session.created"];
    for action in actions {
        match action {
            Action::Accept(n) => {
                let mut new = new_step(session_id);
                new.id = ids[n];
                let next = i64::try_from(steps.len()).unwrap() + 1;
                match (store.accept_step(new).await.unwrap(), steps.get(&n)) {
                    (Accepted::New(step), None) => {
                        assert_eq!((step.sequence, step.status), (next, StepStatus::Queued));
                        let waiting = steps.values().filter(|(_, s)| !s.is_terminal()).count();
                        assert_eq!(step.queue_position as usize, waiting);
                        steps.insert(n, (next, StepStatus::Queued));
                        events.push("step.accepted");
                    }
                    (Accepted::Existing(step), Some(known)) => {
                        assert_eq!((step.sequence, step.status), *known);
                    }
                    (answer, known) => panic!("{answer:?}, but {known:?}"),
                }
            }
            Action::Finish(n, status) => {
                let recorded = finish(store, session_id, outcome(ids[n], status))
                    .await
                    .unwrap();
                let next = i64::try_from(steps.len()).unwrap() + 1;
                // An outcome brings a step along that was not accepted before.
                let (_, now) = steps.entry(n).or_insert_with(|| {
                    events.push("step.accepted");
                    (next, StepStatus::Queued)
                });
                assert_eq!(recorded, !now.is_terminal(), "step {n} to {status}");
                if recorded {
                    *now = status;
                    events.push("step.completed");
                }
            }
        }
    }
    let list = store
        .steps(
            session_id,
            StepFilter {
                after: 0,
                limit: 100,
            },
        )
        .await
        .unwrap();
    let mut expected: Vec<_> = steps
        .iter()
        .map(|(n, (s, status))| (*s, ids[*n], *status))
        .collect();
    expected.sort_by_key(|(sequence, ..)| *sequence);
    assert!(
        list.iter()
            .map(|step| (step.sequence, step.id, step.status))
            .eq(expected)
    );
    let log = log(store).await;
    let told = log
        .iter()
        .filter(|event| event.aggregate_id == session_id.0);
    assert!(told.map(|event| event.event_type.as_str()).eq(events));
}

#[test]
fn steps_are_accepted_once_and_finished_once() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let test = TestStore::new();
    let agent = runtime.block_on(owner(&test.store));
    proptest!(ProptestConfig::with_cases(128), |(actions in prop::collection::vec(action(), 0..24))| {
        runtime.block_on(async {
            let session = test.store.create_session(new_session(agent.id)).await.unwrap();
            check(&test.store, session.id, actions).await;
        });
    });
}
