//! Pauses and deadlines, in time that is not real.

use std::sync::Arc;
use std::time::Duration;

use abide_data_plane::DataPlane;
use abide_model::AuthMode;
use tokio::time::Instant;

use crate::scripted_link::{Reply, ScriptedLink, after};
use crate::world::{Ground, create, new_session, request, run, trace};

/// A plane whose only session `s1` is ready.
async fn plane(link: &Arc<ScriptedLink>) -> (Ground, Arc<DataPlane>) {
    let ground = Ground::new();
    let plane = ground.plane(link.clone(), AuthMode::Enforced);
    create(&plane, new_session("s1")).await.unwrap();
    (ground, plane)
}

#[tokio::test(start_paused = true)]
async fn attempts_come_after_200_and_400_milliseconds_and_a_little() {
    let link = Arc::new(ScriptedLink::new(&[Reply::Unconnected; 4], &[], true));
    let (_ground, plane) = plane(&link).await;
    let problem = run(&plane, "s1", "t", "x").await.unwrap_err();
    assert_eq!(problem.code, "runtime_unreachable");
    let at = link.ran_at.lock();
    let pauses: Vec<u128> = at.windows(2).map(|w| (w[1] - w[0]).as_millis()).collect();
    assert_eq!(pauses.len(), 2, "{pauses:?}");
    assert!((200..=251).contains(&pauses[0]), "{pauses:?}");
    assert!((400..=501).contains(&pauses[1]), "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_runs_longer_than_any_timeout_in_between_is_sent_once() {
    let an_hour = Duration::from_secs(3600);
    let link = Arc::new(ScriptedLink::new(&[Reply::EndsAfter(an_hour)], &[], true));
    let (_ground, plane) = plane(&link).await;
    let begun = Instant::now();
    let step = run(&plane, "s1", "t", "x").await.unwrap();
    assert_eq!(step.stdout, "ran x");
    assert!(begun.elapsed() >= an_hour);
    assert_eq!(link.ran_at.lock().len(), 1);
    assert!(link.asked_at.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_runtime_without_signs_of_life_is_asked_and_then_given_up() {
    let link = Arc::new(ScriptedLink::new(
        &[Reply::Silence],
        &[Reply::Unconnected],
        false,
    ));
    let (_ground, plane) = plane(&link).await;
    let begun = Instant::now();
    let problem = run(&plane, "s1", "t", "x").await.unwrap_err();
    assert_eq!(problem.code, "runtime_unreachable");
    assert_eq!(problem.details.unwrap()["sent"], true);
    // The probe after 0.3 s, 4 s of silence, and the longest pause.
    let elapsed = begun.elapsed().as_millis();
    assert!((4000..=7200).contains(&elapsed), "{elapsed}");
    assert_eq!(link.ran_at.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_step_with_limits_is_asked_for_until_they_have_passed() {
    let link = Arc::new(ScriptedLink::new(
        &[Reply::Broke],
        &[Reply::Unconnected],
        true,
    ));
    let (_ground, plane) = plane(&link).await;
    let mut request = request("s1", "t", "x");
    request.run.timeout_ms = Some(20_000);
    request.run.queue_timeout_ms = Some(10_000);
    let begun = Instant::now();
    let problem = plane.run_step(&request, true).await.unwrap_err();
    assert_eq!(problem.code, "runtime_unreachable");
    // To run, to wait, two seconds of grace, and the longest pause.
    let elapsed = begun.elapsed().as_millis();
    assert!((32_000..=34_600).contains(&elapsed), "{elapsed}");
    let asked = link.asked_at.lock().len();
    assert!(asked > 10, "{asked}");
    assert_eq!(link.ran_at.lock().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_is_still_the_answer() {
    let late = [
        Reply::Unconnected,
        Reply::Broke,
        Reply::EndsAfter(Duration::from_secs(600)),
    ];
    let link = Arc::new(ScriptedLink::new(&[Reply::Broke], &late, true));
    let (_ground, plane) = plane(&link).await;
    let step = run(&plane, "s1", "t", "x").await.unwrap();
    assert_eq!(step.status, "completed");
    assert_eq!(link.ran_at.lock().len(), 1);
    assert_eq!(link.asked_at.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_sliding_session_does_not_expire_while_its_step_runs() {
    let ran = Duration::from_secs(40);
    let link = Arc::new(ScriptedLink::new(&[Reply::EndsAfter(ran)], &[], true));
    let ground = Ground::new();
    let plane = ground.plane(link.clone(), AuthMode::Enforced);
    let mut new = new_session("s1");
    new.ttl_seconds = Some(3600);
    new.sliding = true;
    let before = create(&plane, new).await.unwrap();
    ground.clock.advance(3000);
    let running = run(&plane, "s1", "t", "x");
    let watching = async {
        after(ran / 2).await;
        let now = plane.session("s1").await.unwrap();
        let moved = now.expires_at.unwrap().as_micros() - before.expires_at.unwrap().as_micros();
        assert!(moved >= 3_000_000_000, "{moved}");
        // Later than it would have expired when it was made.
        ground.clock.advance(3000);
        after(ran / 4).await;
        plane.reap().await.unwrap();
        plane.session("s1").await.unwrap().status
    };
    let (step, status) = tokio::join!(running, watching);
    assert_eq!(step.unwrap().status, "completed");
    assert_eq!(status, abide_model::RouteStatus::Ready);
    plane.terminate("s1", &trace()).await.unwrap();
}
