//! Sessions whose time is up.

use std::path::Path;
use std::time::Duration;

use abide_data_plane::PlaneEvent;
use abide_model::RouteStatus;

use crate::world::{World, create, new_session, run};

async fn mortal(world: &World, seconds: i64, sliding: bool) -> String {
    let mut new = new_session("s1");
    new.ttl_seconds = Some(seconds);
    new.sliding = sliding;
    let route = create(&world.plane, new).await.unwrap();
    route.workspace.clone()
}

#[tokio::test]
async fn an_expired_session_is_410_before_anybody_ends_it_and_after() {
    let world = World::new();
    let workspace = mortal(&world, 60, false).await;
    let mut events = world.plane.events();
    world.step("s1", "t", "x").await.unwrap();
    world.ground.clock.advance(59);
    world.step("s1", "u", "x").await.unwrap();
    world.plane.reap().await.unwrap();
    assert_eq!(
        world.plane.session("s1").await.unwrap().status,
        RouteStatus::Ready
    );
    world.ground.clock.advance(1);
    for _ in 0..2 {
        let problem = world.step("s1", "v", "x").await.unwrap_err();
        assert_eq!(
            (problem.status, problem.code.as_str()),
            (410, "session_expired")
        );
        assert!(!problem.retryable);
        world.plane.reap().await.unwrap();
    }
    let route = world.plane.session("s1").await.unwrap();
    assert_eq!(route.status, RouteStatus::Expired);
    assert!(world.agent.memory.lock().sessions.is_empty());
    assert!(!Path::new(&workspace).exists());
    assert!(matches!(events.try_recv().unwrap(), PlaneEvent::Expired(_)));
    assert!(events.try_recv().is_err(), "told once");
    assert_eq!(world.agent.executions(), 2);
}

#[tokio::test]
async fn each_step_begins_a_sliding_sessions_time_anew() {
    let world = World::new();
    mortal(&world, 60, true).await;
    for n in 0..4 {
        world.ground.clock.advance(40);
        world.plane.reap().await.unwrap();
        world.step("s1", &format!("t{n}"), "x").await.unwrap();
    }
    world.ground.clock.advance(61);
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(problem.code, "session_expired");
}

#[tokio::test]
async fn a_renewal_by_another_data_plane_is_never_overrun() {
    let world = World::new();
    mortal(&world, 60, true).await;
    let second = world.second_plane();
    run(&second, "s1", "a", "x").await.unwrap();
    world.ground.clock.advance(50);
    // The first plane's copy says that ten seconds are left; the second renews.
    run(&second, "s1", "b", "x").await.unwrap();
    world.ground.clock.advance(20);
    world.plane.reap().await.unwrap();
    assert_eq!(
        world.step("s1", "c", "x").await.unwrap().status,
        "completed"
    );
}

#[tokio::test]
async fn the_next_look_is_when_the_next_session_expires() {
    let world = World::new();
    let idle = world.plane.reap().await.unwrap();
    assert_eq!(idle, Duration::from_secs(30));
    mortal(&world, 5, false).await;
    let next = world.plane.reap().await.unwrap();
    assert!(
        next <= Duration::from_secs(5) && next > Duration::from_secs(4),
        "{next:?}"
    );
}

#[tokio::test]
async fn the_reaper_needs_nobody_to_ask() {
    let world = World::new();
    let mut events = world.plane.events();
    world.plane.start();
    mortal(&world, 1, false).await;
    loop {
        if let PlaneEvent::Expired(route) = events.recv().await.unwrap() {
            assert_eq!(route.session_id, "s1");
            break;
        }
    }
    world
        .agent
        .wait_for(|memory| memory.sessions.is_empty())
        .await;
}

#[tokio::test]
async fn what_ended_long_ago_is_forgotten() {
    let world = World::new();
    mortal(&world, 60, false).await;
    world.ground.clock.advance(60);
    world.plane.reap().await.unwrap();
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(problem.status, 410);
    world.ground.clock.advance(25 * 3600);
    world.plane.reap().await.unwrap();
    let problem = world.step("s1", "t", "x").await.unwrap_err();
    assert_eq!(problem.status, 404);
}
