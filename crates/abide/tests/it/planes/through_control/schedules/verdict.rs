//! What must be true of every step when everything is whole again.

use std::collections::HashMap;

use abide_testkit::{Plane, TestStack};
use fastrand::Rng;
use serde_json::{Value, json};

use super::super::Whole;
use super::Tally;
use super::work::{Answer, Session, Step, Work, ask};
use crate::api::http::Answer as Reply;

/// How a step stands, or what is wrong with it.
type Verdict = Result<Option<Value>, String>;

/// Holds every step against what its clients were told, what its session's file says, and what the
/// event log says.
pub(super) async fn check(whole: &Whole, work: &Work, rng: &mut Rng, tally: &mut Tally) {
    for step in &work.steps {
        // Most are submitted again, the others only asked for.
        let end = of_step(whole, work, &step.id, rng.u8(..4) > 0).await;
        let end = end.unwrap_or_else(|wrong| panic!("{wrong}"));
        tally.steps += 1;
        match end.as_ref().and_then(|end| end["status"].as_str()) {
            Some("completed") => tally.completed += 1,
            Some("lost") => tally.lost += 1,
            Some(_) => tally.refused += 1,
            None => tally.never_accepted += 1,
        }
    }
    for session in &work.sessions {
        told_once(whole, work, session).await;
        let shown = Reply::of(whole.request("GET", &session.path)).await;
        if !session.dies {
            assert_eq!(shown.check(200)["status"], "active");
        }
        let path = format!("{}?force=1", session.path);
        let deleted = Reply::of(whole.request("DELETE", &path)).await;
        assert_eq!(deleted.status, 204, "{}", deleted.text());
    }
}

/// How a step stands in the end; `submit` says whether it is submitted once more first.
pub(super) async fn of_step(whole: &Whole, work: &Work, id: &str, submit: bool) -> Verdict {
    let step = work.steps.iter().find(|step| step.id == id).unwrap();
    let owner = &work.sessions[step.session];
    if submit {
        // What nobody knows yet is known after a while.
        while let Answer::Unreachable = ask(work.request(whole, step)).await {
            if recorded(whole, owner, step).await.is_some() {
                break;
            }
        }
    }
    let end = recorded(whole, owner, step).await;
    for (_, told) in work.told.lock().unwrap().iter().filter(|(of, _)| of == id) {
        if let Answer::Ended(said) = told
            && Some(said) != end.as_ref()
        {
            return Err(format!("{id} has two ends: {said} and {end:?}"));
        }
    }
    let times = work.executions(id);
    if times > 1 {
        return Err(format!("{id} was executed {times} times"));
    }
    if let Some(end) = &end {
        judge(owner, step, end, times)?;
    }
    Ok(end)
}

/// A step's end, once it has come; none if it was never accepted.
async fn recorded(whole: &Whole, owner: &Session, step: &Step) -> Option<Value> {
    let path = format!("{}/steps/{}?wait=60", owner.path, step.id);
    loop {
        let reply = Reply::of(whole.request("GET", &path)).await;
        match reply.status {
            404 => return None,
            // Nobody knows yet.
            503 => {}
            _ => {
                let step = reply.check(200);
                if step["finished_at"].is_string() {
                    return Some(step);
                }
            }
        }
    }
}

fn judge(owner: &Session, step: &Step, end: &Value, times: usize) -> Result<(), String> {
    let id = &step.id;
    let (status, kind) = (end["status"].as_str(), end["error"]["type"].as_str());
    let own = format!("{} {id}\n", owner.secret);
    match status {
        Some("completed") if times != 1 => Err(format!("{id} completed, and did nothing: {end}")),
        Some("completed") if end["stdout"] != own => Err(format!("{id} is not its own: {end}")),
        Some("completed") => Ok(()),
        // It was told that it did not run.
        Some("interrupted") if times != 0 || kind != Some("RuntimeUnreachable") => {
            Err(format!("{id} was refused, and ran {times} times: {end}"))
        }
        Some("interrupted" | "lost") => Ok(()),
        Some("crashed") if owner.dies => Ok(()),
        _ => Err(format!("{id} cannot have come to this: {end}")),
    }
}

/// The event log tells of each step that was accepted exactly once, and of its end exactly once.
async fn told_once(whole: &Whole, work: &Work, session: &Session) {
    let told = async |kind: &str| {
        let mut times: HashMap<String, usize> = HashMap::new();
        let path = format!(
            "/events?after_seq=0&limit=1000&event_type={kind}&aggregate_id={}",
            session.path.trim_start_matches("/sessions/")
        );
        let events = Reply::of(whole.request("GET", &path)).await.check(200);
        for event in events.as_array().unwrap() {
            let id = event["payload"]["step_id"].as_str().unwrap();
            *times.entry(id.to_owned()).or_default() += 1;
        }
        times
    };
    let (accepted, ended) = (told("step.accepted").await, told("step.completed").await);
    assert_eq!(accepted, ended, "each once, and only what was accepted");
    assert!(accepted.values().all(|times| *times == 1), "{accepted:?}");
    let ours = |step: &&Step| work.sessions[step.session].path == session.path;
    let ours = work.steps.iter().filter(ours).count();
    // The first step told the session its secret.
    assert!((1..=ours + 1).contains(&accepted.len()), "{accepted:?}");
}

/// After every schedule has ended its sessions, the one that the stack began with is left.
pub(super) async fn nothing_is_left(whole: &Whole) {
    let url = format!("{}/v1/sessions", whole.stack.plane_url(Plane::Agent));
    let request = whole.http.get(url).bearer_auth(TestStack::JWT_SECRET);
    let sessions = Reply::of(request).await.check(200);
    let ours = whole.session.trim_start_matches("/sessions/");
    assert_eq!(sessions.as_array().unwrap().len(), 1, "{sessions}");
    assert_eq!(sessions[0]["sessionId"], json!(ours));
}
