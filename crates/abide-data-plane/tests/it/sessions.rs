//! Making and ending sessions.

use std::path::Path;
use std::sync::Arc;

use abide_model::{Problem, ProblemCode, RouteStatus, Runtime};
use futures_util::future::join_all;

use crate::world::{World, create, new_session, run, trace};

#[tokio::test]
async fn a_session_is_registered_with_a_token_that_does_not_rest_in_the_open() {
    let world = World::new();
    let route = world.create("s1").await;
    assert_eq!(route.status, RouteStatus::Ready);
    assert_eq!(route.boot_id, "boot-1");
    assert_eq!(route.endpoint, world.agent.url());
    let session = world.agent.memory.lock().sessions["s1"].clone();
    assert_eq!(Some(session.worker), route.worker_id);
    assert_eq!(session.token, route.token);
    assert_eq!(route.token.len(), 64);
    assert!(Path::new(&session.workspace).is_dir());
    for entry in std::fs::read_dir(world.ground.dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes.windows(64).any(|w| w == route.token.as_bytes());
            assert!(!found, "the token is in {}", path.display());
        }
    }
}

#[tokio::test]
async fn creating_twice_is_idempotent_and_another_runtime_is_409() {
    let world = World::new();
    let first = world.create("s1").await;
    let again = world.create("s1").await;
    assert_eq!(first, again);
    let mut other = new_session("s1");
    other.runtime = Runtime::Node;
    let problem = create(&world.plane, other).await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (409, "runtime_mismatch")
    );
    let requests = &world.agent.memory.lock().requests;
    let registered = requests.iter().filter(|r| *r == "POST /v1/sessions");
    assert_eq!(registered.count(), 1);
}

#[tokio::test]
async fn twenty_creates_at_once_are_twenty_sessions_and_one_of_each() {
    let world = World::new();
    let second = world.second_plane();
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    let creates = names.iter().map(|name| world.create(name));
    let routes = join_all(creates).await;
    assert_eq!(routes.len(), 20);
    assert_eq!(world.agent.memory.lock().sessions.len(), 20);
    // The same one, twenty times, from two planes.
    let planes = [&world.plane, &second];
    let creates = (0..20).map(|n| create(planes[n % 2], new_session("same")));
    let answers: Vec<Result<_, Problem>> = join_all(creates).await;
    let made: Vec<_> = answers.iter().filter_map(|a| a.as_ref().ok()).collect();
    assert!(made.len() >= 10, "{answers:?}");
    for route in &made {
        assert_eq!(route.worker_id, made[0].worker_id);
    }
    // The others were told to try again.
    for problem in answers.iter().filter_map(|a| a.as_ref().err()) {
        assert_eq!(
            (problem.code.as_str(), problem.retryable),
            ("session_exists", true)
        );
    }
    let steps = names.iter().map(|name| world.step(name, "t", name));
    for (name, step) in names.iter().zip(join_all(steps).await) {
        assert_eq!(step.unwrap().stdout, format!("ran {name}"));
    }
}

#[tokio::test]
async fn a_session_that_cannot_be_made_leaves_nothing() {
    let world = World::new();
    let refusal = Problem::new(ProblemCode::RuntimeUnavailable, "no interpreter");
    world.agent.memory.lock().refuse_registration = Some(refusal);
    let problem = create(&world.plane, new_session("s1")).await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "runtime_unavailable")
    );
    let problem = world.plane.session("s1").await.unwrap_err();
    assert_eq!(problem.code, "session_not_found");
    let scratch = world.ground.dir.path().join("workspaces/.scratch");
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
    world.agent.memory.lock().refuse_registration = None;
    world.create("s1").await;
}

#[tokio::test]
async fn a_runtime_that_is_away_makes_no_session() {
    let mut world = World::new();
    world.agent.kill();
    let problem = create(&world.plane, new_session("s1")).await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "runtime_unreachable")
    );
    let problem = world.plane.session("s1").await.unwrap_err();
    assert_eq!(problem.code, "session_not_found");
}

#[tokio::test]
async fn terminate_during_a_running_step_answers_at_once() {
    let world = World::new();
    let route = world.create("s1").await;
    let running = world.step("s1", "t", "wait for ever");
    let ending = async {
        world
            .agent
            .wait_for(|memory| memory.executions.len() == 1)
            .await;
        world.plane.terminate("s1", &trace()).await.unwrap()
    };
    let (step, ended) = tokio::join!(running, ending);
    assert_eq!(ended.status, RouteStatus::Terminated);
    assert_eq!(step.unwrap().status, "failed");
    assert!(world.agent.memory.lock().sessions.is_empty());
    assert!(
        !Path::new(&route.workspace).exists(),
        "scratch goes with it"
    );
    // Ending it again changes nothing; one that never was is not found.
    world.plane.terminate("s1", &trace()).await.unwrap();
    let problem = world.plane.terminate("s2", &trace()).await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (404, "session_not_found")
    );
}

#[tokio::test]
async fn a_session_is_ended_although_its_runtime_is_away_and_finished_later() {
    let mut world = World::new();
    let route = world.create("s1").await;
    world.agent.kill();
    world.plane.terminate("s1", &trace()).await.unwrap();
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(problem.code, "session_expired");
    world.agent.serve();
    assert_eq!(world.agent.memory.lock().sessions.len(), 1);
    world.plane.reconcile().await.unwrap();
    assert!(world.agent.memory.lock().sessions.is_empty());
    assert!(!Path::new(&route.workspace).exists());
    let now = world.plane.session("s1").await.unwrap();
    assert_eq!((now.workspace.as_str(), now.worker_id), ("", None));
}

#[tokio::test]
async fn an_ended_session_can_be_made_again_with_another_token_and_interpreter() {
    let world = World::new();
    let first = world.create("s1").await;
    world.plane.terminate("s1", &trace()).await.unwrap();
    let mut node = new_session("s1");
    node.runtime = Runtime::Node;
    let second = create(&world.plane, node).await.unwrap();
    assert_ne!(first.token, second.token);
    assert_ne!(first.worker_id, second.worker_id);
    assert!(second.generation > first.generation);
    assert_eq!(second.runtime, Runtime::Node);
}

#[tokio::test]
async fn workspaces_are_shared_by_name_and_contained() {
    let world = World::new();
    let mut paths = Vec::new();
    for session in ["s1", "s2"] {
        let mut new = new_session(session);
        new.workspace_ref = Some("team/one".to_owned());
        paths.push(create(&world.plane, new).await.unwrap().workspace.clone());
    }
    assert_eq!(paths[0], paths[1]);
    assert!(paths[0].ends_with("workspaces/team/one"), "{paths:?}");
    world.plane.terminate("s1", &trace()).await.unwrap();
    assert!(Path::new(&paths[0]).is_dir(), "named ones stay");
    for bad in ["../x", "/etc", "a/../../b", ".scratch/x", "a//b", "a\0b"] {
        let mut new = new_session("s3");
        new.workspace_ref = Some(bad.to_owned());
        let problem = create(&world.plane, new).await.unwrap_err();
        assert_eq!(problem.status, 400, "{bad}: {problem:?}");
        assert!(problem.message.starts_with("workspaceRef"), "{problem:?}");
        let left = world.plane.session("s3").await.unwrap_err();
        assert_eq!(left.code, "session_not_found");
    }
}

#[tokio::test]
async fn a_fresh_interpreter_on_request() {
    let world = World::new();
    let before = world.create("s1").await;
    world.agent.die("s1");
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(problem.code, "runtime_crashed");
    let after = world.plane.restart("s1", &trace()).await.unwrap();
    assert_eq!(after.status, RouteStatus::Ready);
    assert_ne!(after.worker_id, before.worker_id);
    assert_eq!(
        world.step("s1", "u", "x").await.unwrap().status,
        "completed"
    );
}

#[tokio::test]
async fn interrupt_ends_what_runs() {
    let world = World::new();
    world.create("s1").await;
    let running = world.step("s1", "t", "wait for ever");
    let interrupting = async {
        world
            .agent
            .wait_for(|memory| memory.executions.len() == 1)
            .await;
        world.plane.interrupt("s1", &trace()).await.unwrap();
    };
    let (step, ()) = tokio::join!(running, interrupting);
    let step = step.unwrap();
    assert_eq!(
        (step.status.as_str(), step.exit_code),
        ("failed", Some(130))
    );
}

#[tokio::test]
async fn a_data_plane_that_is_started_anew_knows_its_sessions() {
    let world = World::new();
    let route = world.create("s1").await;
    let second = world.second_plane();
    let known = second.session("s1").await.unwrap();
    assert_eq!(known.token, route.token);
    assert_eq!(run(&second, "s1", "t", "x").await.unwrap().stdout, "ran x");
    let listed = second.list(None, 10).await.unwrap();
    assert_eq!(listed, [Arc::clone(&known)]);
}
