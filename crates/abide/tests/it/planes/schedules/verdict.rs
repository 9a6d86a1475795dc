//! What must be true of every step when everything is whole again.

use std::collections::HashMap;

use abide_testkit::processes_of_worker_dir;
use fastrand::Rng;
use serde_json::{Value, json};

use super::super::Planes;
use super::Tally;
use super::work::{Answer, Kind, Session, Step, Work, ask};
use crate::api::http::Answer as Reply;

/// Submissions at the end until a step is there.
const TRIES: usize = 10;

/// Holds every step against what its clients were told and what its session's file says.
pub(super) async fn check(planes: &Planes, work: &Work, rng: &mut Rng, tally: &mut Tally) {
    let mut came_to = HashMap::new();
    for step in &work.steps {
        let owner = &work.sessions[step.session];
        // Most are submitted again until they are there, the others only asked for.
        let end = if rng.u8(..4) > 0 {
            submitted(planes, owner, step).await
        } else {
            asked_for(planes, owner, step).await
        };
        came_to.insert(step.id.as_str(), end);
    }
    for (id, told) in work.told.lock().unwrap().iter() {
        let end = &came_to[id.as_str()];
        match told {
            Answer::Ended(said) => assert_eq!(Some(said), end.as_ref(), "{id}: two ends"),
            Answer::Accepted => assert!(end.is_some(), "{id}: accepted, and forgotten"),
            Answer::Unreachable | Answer::Crashed | Answer::Lost => {}
        }
    }
    for (n, session) in work.sessions.iter().enumerate() {
        let steps = work.steps.iter().filter(|step| step.session == n);
        let root = planes.data.files().join("workspaces");
        let ran = root.join(&session.name).join("ran");
        let ran = std::fs::read_to_string(ran).unwrap_or_default();
        for step in steps {
            let times = ran.lines().filter(|line| *line == step.id).count();
            judge(
                session,
                step,
                came_to[step.id.as_str()].as_ref(),
                times,
                tally,
            );
        }
        let shown = planes.session(&session.name).await;
        if !session.dies {
            let whole = (&shown["status"], &shown["workerId"]);
            assert_eq!(whole, (&json!("running"), &session.worker), "{shown}");
        }
        planes.terminate(&session.name).await;
    }
}

/// Submits a step until it is there; its end, or none if its interpreter is dead.
async fn submitted(planes: &Planes, owner: &Session, step: &Step) -> Option<Value> {
    let path = format!("/sessions/{}/steps", owner.name);
    for _ in 0..TRIES {
        match ask(planes, &path, step).await {
            Answer::Ended(end) => {
                let found = planes.ended(&owner.name, &step.id).await;
                assert_eq!(found, end, "{}: by its id", step.id);
                return Some(end);
            }
            // It died before this came: then there is no such step.
            Answer::Crashed => return asked_for(planes, owner, step).await,
            Answer::Unreachable | Answer::Accepted | Answer::Lost => {}
        }
    }
    panic!("{} does not get through", step.id);
}

/// What became of a step, if it was ever accepted.
async fn asked_for(planes: &Planes, owner: &Session, step: &Step) -> Option<Value> {
    let path = format!("/sessions/{}/steps/{}", owner.name, step.id);
    let reply = planes.get(&path).await;
    if reply.status == 404 {
        return None;
    }
    reply.check(200);
    Some(planes.ended(&owner.name, &step.id).await)
}

fn judge(owner: &Session, step: &Step, end: Option<&Value>, times: usize, tally: &mut Tally) {
    let id = &step.id;
    assert!(times <= 1, "{id} was executed {times} times");
    let Some(end) = end else {
        // It may still be on its way, and then runs when nobody waits for it.
        tally.never_accepted += 1;
        return;
    };
    if end["outcome"] == "completed" {
        assert_eq!(times, 1, "{id} completed, and did nothing: {end}");
        let own = format!("{} {id}\n", owner.secret);
        assert_eq!(
            (&end["stdout"], &end["stderr"]),
            (&json!(own), &json!("")),
            "{end}"
        );
        assert_ne!(step.kind, Kind::Dies);
        return;
    }
    assert!(owner.dies, "{id}: {end}");
    tally.crashed += 1;
    assert_eq!(end["status"], "failed", "{end}");
    if step.kind == Kind::Dies && times == 1 {
        let code = if owner.node { 137 } else { 3 };
        let expected = (&json!("crashed"), &json!(code));
        assert_eq!((&end["outcome"], &end["exitCode"]), expected, "{end}");
    }
}

/// After every schedule has ended its sessions there are none, and no process of theirs.
pub(super) async fn nothing_is_left(planes: &Planes) {
    let url = format!("{}/v1/sessions", planes.agent.url());
    let request = planes.http.get(url).bearer_auth(super::super::SECRET);
    assert_eq!(Reply::of(request).await.check(200), json!([]));
    // Interpreters that are kept ready are the agent's own.
    let sessions = planes.agent.files().join("sessions");
    assert_eq!(std::fs::read_dir(sessions).unwrap().count(), 0);
    let of_sessions = processes_of_worker_dir(&planes.data.files().join("workspaces"));
    let of_sessions: Vec<_> = of_sessions
        .into_iter()
        .filter(|pid| Some(*pid) != planes.data.pid())
        .collect();
    assert!(of_sessions.is_empty(), "{of_sessions:?}");
}
