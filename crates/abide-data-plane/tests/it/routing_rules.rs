//! Each rule of routing by name.

use std::sync::Arc;

use abide_data_plane::{PlaneEvent, StepItem};
use abide_model::{AuthMode, RouteStatus, StepFrame};

use crate::fake_agent::{Fault, ended_frame};
use crate::world::{World, create, link, new_session, request, run, trace};

#[tokio::test]
async fn a_step_reaches_its_session_and_comes_back_under_its_own_name() {
    let world = World::new();
    world.create("s1").await;
    world.create("s2").await;
    let step = world.step("s1", "first", "x").await.unwrap();
    assert_eq!(step.step_id, "first");
    assert_eq!(
        (step.status.as_str(), step.exit_code),
        ("completed", Some(0))
    );
    assert_eq!(step.stdout, "ran x");
    let executed = &world.agent.memory.lock().executions;
    let expected = ("s1".to_owned(), "first".to_owned(), "x".to_owned());
    assert_eq!(*executed, [expected]);
}

#[tokio::test]
async fn an_unknown_session_is_404_and_an_ended_one_410() {
    let world = World::new();
    let problem = world.step("nobody", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (404, "session_not_found")
    );
    world.create("s1").await;
    world.plane.terminate("s1", &trace()).await.unwrap();
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (410, "session_expired")
    );
    assert!(!problem.retryable);
    assert_eq!(world.agent.executions(), 0);
}

#[tokio::test]
async fn a_runtime_that_is_away_is_503_unreachable_after_three_attempts() {
    let mut world = World::new();
    world.create("s1").await;
    world.agent.kill();
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "runtime_unreachable")
    );
    assert!(!problem.retryable);
    let details = problem.details.unwrap();
    assert_eq!(details["attempts"], 3);
    assert_eq!(details["sent"], false);
    // Nothing is held against the session.
    world.agent.serve();
    assert_eq!(world.step("s1", "t", "x").await.unwrap().stdout, "ran x");
}

#[tokio::test]
async fn a_draining_runtime_is_tried_again() {
    let world = World::new();
    world.create("s1").await;
    world.agent.fault(Fault::Draining);
    assert_eq!(world.step("s1", "t", "x").await.unwrap().stdout, "ran x");
    assert_eq!(world.agent.executions(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_after_the_step_ran_is_resolved_by_asking() {
    for fault in [Fault::CutAfter, Fault::CutMiddle] {
        let world = World::new();
        world.create("s1").await;
        world.agent.fault(fault);
        let step = world.step("s1", "t", "x").await.unwrap();
        assert_eq!(step.stdout, "ran x", "{fault:?}");
        let memory = world.agent.memory.lock();
        assert_eq!(memory.executions.len(), 1, "{fault:?}");
        let sent = memory
            .requests
            .iter()
            .filter(|r| r.starts_with("POST /v1/steps"));
        assert_eq!(sent.count(), 1, "{fault:?}: {:?}", memory.requests);
        let asked = memory.requests.iter().filter(|r| r.contains("/steps/t"));
        assert_eq!(asked.count(), 1, "{fault:?}: {:?}", memory.requests);
    }
}

#[tokio::test]
async fn a_step_that_got_lost_on_the_way_is_not_sent_again() {
    let world = World::new();
    world.create("s1").await;
    world.agent.fault(Fault::CutBefore);
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "runtime_unreachable")
    );
    let details = problem.details.unwrap();
    assert_eq!(
        (&details["sent"], &details["step_id"]),
        (&true.into(), &"t".into())
    );
    assert_eq!(world.agent.executions(), 0);
    let memory = world.agent.memory.lock();
    let sent = memory
        .requests
        .iter()
        .filter(|r| r.starts_with("POST /v1/steps"));
    assert_eq!(sent.count(), 1);
}

#[tokio::test]
async fn a_step_outlives_a_runtime_that_is_killed_and_comes_back() {
    let mut world = World::new();
    world.create("s1").await;
    let plane = Arc::clone(&world.plane);
    let running = tokio::task::spawn_blocking(move || {
        tokio::runtime::Handle::current().block_on(run(&plane, "s1", "t", "wait for it"))
    });
    world
        .agent
        .wait_for(|memory| memory.executions.len() == 1)
        .await;
    world.agent.restart(true);
    world.agent.released.send_replace(true);
    // Whoever ran it went with the old process; the new one tells its outcome all the same.
    world.agent.memory.lock().finish("s1", "t");
    let step = running.await.unwrap().unwrap();
    assert_eq!(step.stdout, "ran wait for it");
    assert_eq!(world.agent.executions(), 1);
}

#[tokio::test]
async fn us2_2_restarted_runtime_is_detected() {
    let mut world = World::new();
    let route = world.create("s1").await;
    let mut events = world.plane.events();
    world.agent.restart(false);
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str(), problem.retryable),
        (409, "runtime_identity_mismatch", false)
    );
    let now = world.plane.session("s1").await.unwrap();
    assert_eq!(now.status, RouteStatus::Crashed);
    assert_eq!(
        events.recv().await.unwrap(),
        PlaneEvent::Crashed(Arc::clone(&now))
    );
    assert!(now.generation > route.generation);
    // From now on it is a crashed session, until somebody asks for a fresh interpreter.
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "runtime_crashed")
    );
    world.plane.restart("s1", &trace()).await.unwrap();
    assert_eq!(world.step("s1", "u", "x").await.unwrap().stdout, "ran x");
    assert_eq!(world.agent.executions(), 1);
}

#[tokio::test]
async fn a_restarted_runtime_that_kept_its_sessions_goes_on() {
    let mut world = World::new();
    let before = world.create("s1").await;
    world.agent.restart(true);
    assert_eq!(world.step("s1", "t", "x").await.unwrap().stdout, "ran x");
    let after = world.plane.session("s1").await.unwrap();
    assert_eq!(after.boot_id, "boot-1+");
    assert_eq!(after.worker_id, before.worker_id);
    assert_eq!(world.agent.executions(), 1);
}

#[tokio::test]
async fn a_dead_interpreter_is_503_runtime_crashed_and_never_replaced() {
    let world = World::new();
    world.create("s1").await;
    world
        .agent
        .memory
        .lock()
        .sessions
        .get_mut("s1")
        .unwrap()
        .dead = true;
    for _ in 0..2 {
        let problem = world.step("s1", "t", "x").await.unwrap_err();
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (503, "runtime_crashed")
        );
    }
    let now = world.plane.session("s1").await.unwrap();
    assert_eq!(now.status, RouteStatus::Crashed);
    let memory = world.agent.memory.lock();
    let registered = memory.requests.iter().filter(|r| *r == "POST /v1/sessions");
    assert_eq!(registered.count(), 1);
    assert!(memory.executions.is_empty());
}

#[tokio::test]
async fn a_runtime_that_refuses_the_token_never_leads_to_another_interpreter() {
    let world = World::new();
    world.create("s1").await;
    "somebody else's".clone_into(
        &mut world
            .agent
            .memory
            .lock()
            .sessions
            .get_mut("s1")
            .unwrap()
            .token,
    );
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (409, "runtime_identity_mismatch")
    );
    assert!(!problem.retryable);
    assert_eq!(world.agent.executions(), 0);
}

#[tokio::test]
async fn another_data_planes_changes_are_seen_before_anything_is_refused() {
    let mut world = World::new();
    let second = world.second_plane();
    world.create("s1").await;
    run(&second, "s1", "a", "x").await.unwrap();
    // The second one's copy is of an interpreter that is gone, on an agent that was restarted.
    world.agent.restart(false);
    world.plane.restart("s1", &trace()).await.unwrap();
    assert_eq!(run(&second, "s1", "b", "y").await.unwrap().stdout, "ran y");
    // And of a session that was ended and made again, with another token.
    world.plane.terminate("s1", &trace()).await.unwrap();
    let problem = run(&second, "s1", "c", "y").await.unwrap_err();
    assert_eq!(problem.code, "session_expired");
    world.create("s1").await;
    assert_eq!(run(&second, "s1", "d", "z").await.unwrap().stdout, "ran z");
}

#[tokio::test]
async fn bypass_sends_no_token() {
    let world = World::new();
    world.agent.memory.lock().enforced = false;
    let ground = crate::world::Ground::new();
    let plane = ground.plane(link(&world.agent), AuthMode::Bypass);
    create(&plane, new_session("s1")).await.unwrap();
    assert_eq!(run(&plane, "s1", "t", "x").await.unwrap().stdout, "ran x");
    let memory = world.agent.memory.lock();
    assert!(
        memory
            .headers
            .iter()
            .all(|h| !h.contains_key("x-session-token"))
    );
    assert_eq!(memory.sessions["s1"].token, "");
}

#[tokio::test]
async fn the_same_step_twice_is_one_execution() {
    let world = World::new();
    world.create("s1").await;
    let (plane, again) = (Arc::clone(&world.plane), world.second_plane());
    let both = async {
        tokio::join!(
            run(&plane, "s1", "t", "wait"),
            run(&again, "s1", "t", "wait")
        )
    };
    let release = async {
        let two = |memory: &crate::fake_agent::Memory| {
            let posts = memory
                .requests
                .iter()
                .filter(|r| r.starts_with("POST /v1/steps"));
            posts.count() == 2
        };
        world.agent.wait_for(two).await;
        world.agent.released.send_replace(true);
    };
    let ((one, two), ()) = tokio::join!(both, release);
    assert_eq!(one.unwrap().stdout, "ran wait");
    assert_eq!(two.unwrap().stdout, "ran wait");
    assert_eq!(world.agent.executions(), 1);
}

#[tokio::test]
async fn a_follower_gets_output_byte_for_byte_over_a_broken_stream() {
    let world = World::new();
    world.create("s1").await;
    for (fault, expected) in [(None, "ran x"), (Some(Fault::CutMiddle), "from 100")] {
        if let Some(fault) = fault {
            world.agent.fault(fault);
        }
        let name = format!("step-{}", fault.is_some());
        let mut items = world.plane.follow_step(request("s1", &name, "x"), true);
        let mut told = Vec::new();
        while let Some(item) = items.recv().await {
            told.push(match item {
                StepItem::Accepted => "accepted".to_owned(),
                StepItem::Line(line) => match line.frame {
                    StepFrame::Started { .. } => "started".to_owned(),
                    StepFrame::Output { data, .. } => data,
                    other => panic!("{other:?}"),
                },
                StepItem::Ended(line) => {
                    let StepFrame::Ended { outcome, worker_id } = line.frame else {
                        panic!("no end");
                    };
                    // Handed on as it came.
                    let frame = ended_frame(&outcome, worker_id.unwrap());
                    assert_eq!(line.raw, crate::fake_agent::line(&frame));
                    "ended".to_owned()
                }
                StepItem::Failed(problem) => panic!("{problem:?}"),
            });
        }
        use base64::Engine as _;
        let output = base64::engine::general_purpose::STANDARD.encode(expected);
        assert_eq!(told, ["accepted", "started", output.as_str(), "ended"]);
    }
}

#[tokio::test]
async fn a_step_that_nobody_waits_for_is_accepted_and_can_be_asked_for() {
    let world = World::new();
    world.create("s1").await;
    for (name, fault) in [("a", None), ("b", Some(Fault::CutAfter))] {
        if let Some(fault) = fault {
            world.agent.fault(fault);
        }
        let request = request("s1", name, "wait");
        let reply = world.plane.run_step(&request, false).await.unwrap();
        let step = reply.into_step(name);
        assert_eq!(
            (step.step_id.as_str(), step.status.as_str()),
            (name, "running")
        );
    }
    world.agent.released.send_replace(true);
    let wait = std::time::Duration::from_secs(30);
    for name in ["a", "b"] {
        let step = world.plane.step("s1", name, wait, &trace()).await.unwrap();
        assert_eq!(
            (step.step_id.as_str(), step.status.as_str()),
            (name, "completed")
        );
    }
    let problem = world
        .plane
        .step("s1", "c", wait, &trace())
        .await
        .unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (404, "step_not_found")
    );
    assert_eq!(world.agent.executions(), 2);
}

#[tokio::test]
async fn names_of_the_request_go_on_to_the_runtime() {
    let world = World::new();
    world.create("s1").await;
    let mut request = request("s1", "t", "x");
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.trace = abide_data_plane::trace::TraceContext::new(Some("req-1"), Some(parent));
    world.plane.run_step(&request, true).await.unwrap();
    let memory = world.agent.memory.lock();
    let headers = memory.headers.last().unwrap();
    assert_eq!(headers["x-request-id"], "req-1");
    let sent = headers["traceparent"].to_str().unwrap();
    assert!(sent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert!(!sent.contains("b7ad6b7169203331"));
}
