//! The session agent dies at every point of a step's life, and whoever submitted the step through
//! the public API gets the answer of its one execution.

use abide_model::StepId;
use abide_testkit::Plane;
use serde_json::json;

use super::http::{Answer, Api};
use crate::survival::POINTS;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_at_every_point_of_a_step_costs_nobody_an_answer() {
    let mut api = Api::with(&["warm_python=0"]);
    let path = api.session(json!({})).await;
    api.run(&path, "n = 0").await;
    for (ran, point) in POINTS.iter().enumerate() {
        let ran = ran + 1;
        tokio::task::block_in_place(|| {
            api.server.kill(Plane::Agent).unwrap();
            let crash = format!("{point}:1");
            let arguments = ["--crash-point", crash.as_str()];
            api.server.up_with(Plane::Agent, &arguments).unwrap();
        });
        if *point == "step.before_write" {
            // The first step after a start goes through the keeper.
            api.run(&path, "None").await;
        }
        let id = StepId::new();
        let code = "n += 1\nprint('run', n, flush=True)\nn";
        let body = json!({ "code": code, "step_id": id });
        let submitted = api.request("POST", &format!("{path}/steps")).json(&body);
        let mut waiting = tokio::task::JoinSet::new();
        waiting.spawn(Answer::of(submitted));
        tokio::task::block_in_place(|| {
            let exited = api.server.wait(Plane::Agent).unwrap();
            assert_eq!(exited.signal, Some(9), "{point}: {exited:?}");
            api.server.up(Plane::Agent).unwrap();
        });
        let step = waiting.join_next().await.unwrap().unwrap().check(200);
        assert_eq!(step["status"], "completed", "{point}: {step}");
        assert_eq!(step["stdout"], format!("run {ran}\n"), "{point}: {step}");
        assert_eq!(step["result"]["text"], ran.to_string(), "{point}");
        let again = api.post(&format!("{path}/steps"), &body).await;
        assert_eq!(again.check(200), step, "{point}: submitted again");
    }
    let steps = api.get(&format!("{path}/steps")).await.check(200);
    assert_eq!(steps.as_array().unwrap().len(), POINTS.len() + 2);
}
