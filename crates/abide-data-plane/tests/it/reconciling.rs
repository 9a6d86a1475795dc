//! Routes against what the runtimes have.

use abide_data_plane::PlaneEvent;
use abide_model::{AuthMode, RegisterSession, RouteStatus};

use crate::world::{World, create, link, new_session, run, trace};

/// Registers a session that no route leads to.
async fn orphan(world: &World, label: &str) {
    let link = link(&world.agent);
    let new = RegisterSession {
        interpreter: None,
        session_id: label.to_owned(),
        runtime: "python".to_owned(),
        token: "secret".to_owned(),
        workspace_dir: String::new(),
    };
    let trace = trace();
    let caller = abide_data_plane::link::Caller {
        session: label,
        token: "secret",
        trace: &trace,
    };
    link.register(&new, caller).await.unwrap();
}

#[tokio::test]
async fn orphans_of_our_own_agent_are_ended_and_others_left_alone() {
    let world = World::new();
    world.create("s1").await;
    orphan(&world, "stray").await;
    // Without the agent's secret nothing there is known to be ours.
    let ground = crate::world::Ground::new();
    let client = abide_data_plane::agent_client::AgentClient::new(
        abide_data_plane::agent_client::Connections::new(Default::default()),
        &world.agent.url(),
        None,
    );
    let stranger = ground.plane(std::sync::Arc::new(client), AuthMode::Enforced);
    stranger.reconcile().await.unwrap();
    assert_eq!(world.agent.memory.lock().sessions.len(), 2);
    world.plane.reconcile().await.unwrap();
    let left: Vec<String> = world.agent.memory.lock().sessions.keys().cloned().collect();
    assert_eq!(left, ["s1"]);
    assert_eq!(
        world.step("s1", "t", "x").await.unwrap().status,
        "completed"
    );
}

#[tokio::test]
async fn a_restart_is_noticed_whole_or_empty() {
    for (whole, expected) in [(true, RouteStatus::Ready), (false, RouteStatus::Lost)] {
        let mut world = World::new();
        world.create("s1").await;
        world.agent.restart(whole);
        world.ground.clock.advance(1);
        world.plane.reconcile().await.unwrap();
        let route = world.plane.session("s1").await.unwrap();
        assert_eq!(route.status, expected);
        if whole {
            assert_eq!(route.boot_id, "boot-1+");
        }
    }
}

#[tokio::test]
async fn the_first_step_is_told_of_a_loss_also_where_the_comparison_noticed_first() {
    let mut world = World::new();
    world.create("s1").await;
    world.agent.restart(false);
    world.ground.clock.advance(1);
    let mut events = world.plane.events();
    world.plane.reconcile().await.unwrap();
    world.plane.reconcile().await.unwrap();
    let lost = world.plane.session("s1").await.unwrap();
    assert_eq!(events.recv().await.unwrap(), PlaneEvent::Crashed(lost));
    // Also by a data plane that comes after the one which noticed.
    let second = world.second_plane();
    for (status, code) in [(409, "runtime_identity_mismatch"), (503, "runtime_crashed")] {
        let problem = run(&second, "s1", "t", "x").await.unwrap_err();
        assert_eq!((problem.status, problem.code.as_str()), (status, code));
        assert!(!problem.retryable);
    }
    let now = world.plane.session("s1").await.unwrap();
    assert_eq!(now.status, RouteStatus::Crashed);
    world.plane.reconcile().await.unwrap();
    assert!(events.try_recv().is_err(), "it is told once");
    world.plane.restart("s1", &trace()).await.unwrap();
    assert_eq!(world.step("s1", "u", "x").await.unwrap().stdout, "ran x");
}

#[tokio::test]
async fn an_agent_that_does_not_list_is_asked_one_by_one() {
    let mut world = World::new();
    world.agent.memory.lock().secret = None;
    world.create("s1").await;
    world.create("s2").await;
    world.agent.restart(true);
    world
        .agent
        .memory
        .lock()
        .sessions
        .get_mut("s2")
        .unwrap()
        .dead = true;
    world.plane.reconcile().await.unwrap();
    let route = world.plane.session("s1").await.unwrap();
    assert_eq!(
        (route.status, route.boot_id.as_str()),
        (RouteStatus::Ready, "boot-1+")
    );
    let route = world.plane.session("s2").await.unwrap();
    assert_eq!(route.status, RouteStatus::Crashed);
}

#[tokio::test]
async fn an_interpreter_that_dies_is_heard_of_at_once() {
    let world = World::new();
    world.create("s1").await;
    let mut events = world.plane.events();
    world.plane.start();
    world.agent.die("s1");
    let PlaneEvent::Crashed(route) = events.recv().await.unwrap() else {
        panic!("another event");
    };
    assert_eq!(route.session_id, "s1");
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(
        (problem.status, problem.code.as_str()),
        (503, "runtime_crashed")
    );
    assert_eq!(world.agent.executions(), 0);
}

#[tokio::test]
async fn a_session_whose_maker_went_away_can_be_made_again() {
    let world = World::new();
    // What a data plane leaves that is killed while it makes a session.
    let second = world.second_plane();
    let registering = |memory: &crate::fake_agent::Memory| {
        memory.requests.iter().any(|r| r == "POST /v1/sessions")
    };
    tokio::select! {
        biased;
        () = world.agent.wait_for(registering) => {}
        made = create(&second, new_session("s1")) => {
            made.unwrap();
        }
    }
    let left = world.plane.session("s1").await.unwrap();
    if left.status == RouteStatus::Provisioning {
        let problem = create(&world.plane, new_session("s1")).await.unwrap_err();
        assert_eq!(
            (problem.code.as_str(), problem.retryable),
            ("session_exists", true)
        );
        world.ground.clock.advance(121);
        world.plane.reconcile().await.unwrap();
        let failed = world.plane.session("s1").await.unwrap();
        assert_eq!(failed.status, RouteStatus::Failed);
        assert!(world.agent.memory.lock().sessions.is_empty());
    }
    world.create("s1").await;
    assert_eq!(
        world.step("s1", "t", "x").await.unwrap().status,
        "completed"
    );
}
