//! A disk that all planes share is full: said as what it is, nothing lost, all well with space.

use abide_model::ProblemCode;
use abide_testkit::Plane;
use serde_json::json;

use super::http::{Answer, Api};
use super::steps::Pipe;
use crate::api::full_disk::{Place, fill, small_disk};

#[tokio::test]
async fn a_full_disk_is_told_by_whichever_plane_needs_it_and_loses_nothing() {
    let name =
        "split::full_disk::a_full_disk_is_told_by_whichever_plane_needs_it_and_loses_nothing";
    let disk = match small_disk(name) {
        Place::Here(disk) => disk,
        Place::Elsewhere => return,
        Place::Nowhere => return println!("SKIPPED: no file system can be mounted here"),
    };
    let mut api = Api::with(&["journal_bytes=1MiB", "log=off"]);
    let busy = api.session(json!({})).await;
    api.run(&busy, "n = 0").await;
    let pipe = Pipe::new(&api);
    let running = api
        .submit(&busy, &format!("{}\nn += 1\nn", pipe.reads()))
        .await;
    api.begun(&running).await;
    let idle = api.session(json!({})).await;
    api.run(&idle, "m = 0").await;

    let ballast = fill(&disk);
    // What the planes still have room for is run; then one of them refuses, and it does not run.
    let (steps, mut ran) = (format!("{idle}/steps"), 0);
    loop {
        let answer = api.post(&steps, &json!({ "code": "m += 1" })).await;
        if answer.status != 200 {
            let problem = answer.problem(ProblemCode::StorageFull);
            let message = problem["message"].as_str().unwrap();
            assert!(message.contains("the disk is full"), "{message}");
            break;
        }
        ran += 1;
    }
    let ready = Answer::of(api.bare("GET", "/readyz")).await;
    assert_eq!(ready.check(503)["status"], "not_ready");
    let alive = Answer::of(api.bare("GET", "/healthz")).await;
    assert_eq!(alive.status, 200, "restarting it would not help");
    pipe.write("opened");

    std::fs::remove_file(&ballast).unwrap();
    while Answer::of(api.bare("GET", "/readyz")).await.status != 200 {}
    let ended = api.ended(&running).await;
    assert_eq!(
        (&ended["status"], &ended["result"]["text"]),
        (&json!("completed"), &json!("1"))
    );
    let counted = async |api: &Api| api.run(&idle, "m").await["result"]["text"].clone();
    assert_eq!(counted(&api).await, ran.to_string());

    // And all of it is on the disk.
    for plane in Plane::ALL {
        api.server.kill(plane).unwrap();
        api.server.up(plane).unwrap();
    }
    api.reconnect();
    assert_eq!(api.get(&running).await.check(200), ended);
    assert_eq!(counted(&api).await, ran.to_string());
}
