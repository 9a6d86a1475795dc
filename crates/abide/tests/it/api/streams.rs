//! One step as server-sent events: order, ids, every byte, and going on where a stream broke.

use abide_client::Message;
use serde_json::json;

use super::http::{Api, Stream, data, output};
use super::steps::Pipe;

fn names(events: &[Message]) -> Vec<&str> {
    events.iter().map(|event| event.event.as_str()).collect()
}

/// The bytes of one stream of output, and the whole order with ids that count every byte.
#[track_caller]
fn bytes(events: &[Message], begin: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err, mut offset) = (Vec::new(), Vec::new(), begin);
    for event in events {
        let to = match event.event.as_str() {
            "stdout" => &mut out,
            "stderr" => &mut err,
            _ => continue,
        };
        let data = output(event);
        offset += data.len() as u64;
        to.extend_from_slice(&data);
        assert_eq!(event.id.as_deref(), Some(&*offset.to_string()), "{event:?}");
    }
    (out, err)
}

#[tokio::test]
async fn a_step_is_told_in_order() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    // Two pipes to the keeper have no order between them, so the step waits for the test.
    let (one, two) = (Pipe::new(&api), Pipe::new(&api));
    let code = &format!(
        "import sys\nprint('a', flush=True)\n{}\nprint('b', file=sys.stderr, flush=True)\n{}\n\
         print('c')\n'value'",
        one.waits(),
        two.waits()
    );
    let mut stream = api.stream_step(&path, code).await;
    let mut events = Vec::new();
    for _ in 0..2 {
        events.push(stream.next().await.unwrap());
    }
    one.write("");
    events.push(stream.next().await.unwrap());
    two.write("");
    events.extend(stream.rest().await);
    let expected = [
        "started",
        "stdout",
        "stderr",
        "stdout",
        "result",
        "completed",
    ];
    assert_eq!(names(&events), expected);
    let started = data(&events[0]);
    assert_eq!(started["status"], "running");
    assert_eq!(started["code"], *code);
    assert_eq!(data(&events[1]), json!({"text": "a\n"}));
    assert_eq!(bytes(&events, 0), (b"a\nc\n".to_vec(), b"b\n".to_vec()));
    assert_eq!(data(&events[4]), json!({"text": "'value'"}));
    let completed = data(&events[5]);
    let step = format!("{path}/steps/{}", completed["id"].as_str().unwrap());
    assert_eq!(api.get(&step).await.check(200), completed);
    // Later, from its beginning, and for the second step of a session from where it began.
    let again = api.stream(&step, None).await.rest().await;
    assert_eq!(names(&again), expected);
    assert_eq!(bytes(&again, 0), (b"a\nc\n".to_vec(), b"b\n".to_vec()));
    let second = api.stream_step(&path, "print('d')").await.rest().await;
    assert_eq!(
        names(&second),
        ["started", "stdout", "completed"],
        "no value, no result"
    );
    assert_eq!(bytes(&second, 6).0, b"d\n");
    let failed = api.stream_step(&path, "1/0").await.rest().await;
    assert_eq!(names(&failed), ["started", "completed"]);
    assert_eq!(data(&failed[1])["status"], "error");
}

#[tokio::test]
async fn every_byte_arrives_whatever_it_is() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    // All bytes, characters cut in two by separate writes, and cut by the other stream.
    let code = r#"
import os
everything = bytes(range(256))
os.write(1, everything)
for byte in "grün 🦀 日本".encode():
    os.write(1, bytes([byte]))
crab = "🦀".encode()
os.write(1, crab[:2])
os.write(2, b"between")
os.write(1, crab[2:])
os.write(2, crab[:1])
os.write(1, b"end" + crab[:3])
"#;
    let mut expected: Vec<u8> = (0..=255).collect();
    expected.extend_from_slice("grün 🦀 日本🦀end".as_bytes());
    expected.extend_from_slice(&"🦀".as_bytes()[..3]);
    let mut stderr = b"between".to_vec();
    stderr.push("🦀".as_bytes()[0]);
    let events = api.stream_step(&path, code).await.rest().await;
    assert_eq!(bytes(&events, 0), (expected.clone(), stderr.clone()));
    let completed = data(events.last().unwrap());
    assert_eq!(completed["stdout_bytes"], expected.len());
    let step = format!("{path}/steps/{}", completed["id"].as_str().unwrap());
    // From every offset: exactly the rest. The ids are where a client may go on.
    let all = (expected.len() + stderr.len()) as u64;
    for seen in (0..=all).step_by(7).chain([all]) {
        let rest = api
            .stream(&step, Some(&seen.to_string()))
            .await
            .rest()
            .await;
        let (out, err) = bytes(&rest, seen);
        assert!(
            expected.ends_with(&out) && stderr.ends_with(&err),
            "from {seen}"
        );
        assert_eq!((out.len() + err.len()) as u64, all - seen);
    }
}

#[tokio::test]
async fn a_broken_stream_is_resumed_without_loss_or_repetition() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "print('an earlier step')").await;
    let pipe = Pipe::new(&api);
    let code = format!("print('first')\n{}\nprint('last')", pipe.reads());
    let step = api.submit(&path, &code).await;
    let mut stream = api.stream(&step, None).await;
    let mut seen = Vec::new();
    let mut last = String::new();
    while seen.len() < b"first\non\n".len() {
        let event = stream.next().await.unwrap();
        if event.event == "stdout" {
            seen.extend_from_slice(&output(&event));
            last = event.id.unwrap();
        }
    }
    drop(stream);
    let resumed = api.stream(&step, Some(&last)).await;
    pipe.write("go");
    let rest = resumed.rest().await;
    let (out, _) = bytes(&rest, last.parse().unwrap());
    seen.extend_from_slice(&out);
    assert_eq!(seen, b"first\non\nlast\n");
    assert_eq!(names(&rest), ["started", "stdout", "completed"]);
}

#[tokio::test]
async fn two_followers_of_one_step_see_the_same() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pipe = Pipe::new(&api);
    let code = format!("{}\nprint('x' * 100_000)", pipe.reads());
    let body = json!({ "code": code });
    let steps = format!("{path}/steps");
    let own = Stream::of(api.request("POST", &steps).json(&body)).await;
    let list = api.get(&steps).await.check(200);
    let step = format!("{steps}/{}", list[0]["id"].as_str().unwrap());
    let (one, two) = (api.stream(&step, None).await, api.stream(&step, None).await);
    pipe.write("go");
    let (own, one, two) = tokio::join!(own.rest(), one.rest(), two.rest());
    let expected = format!("on\n{}\n", "x".repeat(100_000)).into_bytes();
    for events in [own, one, two] {
        assert_eq!(bytes(&events, 0).0, expected);
        assert_eq!(events.last().unwrap().event, "completed");
    }
}

#[tokio::test]
async fn a_follower_who_leaves_does_not_stop_the_step() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pipe = Pipe::new(&api);
    let mut stream = api.stream_step(&path, &pipe.reads()).await;
    let step = data(&stream.next().await.unwrap());
    let step = format!("{path}/steps/{}", step["id"].as_str().unwrap());
    drop(stream);
    pipe.write("on its own");
    assert_eq!(api.ended(&step).await["result"]["text"], "'on its own'");
}

#[tokio::test]
async fn a_stream_of_a_cancelled_waiting_step_ends() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pipe = Pipe::new(&api);
    let running = api.submit(&path, &pipe.reads()).await;
    let waiting = api.submit(&path, "1").await;
    let follower = async {
        let stream = api.stream(&waiting, None).await;
        stream.rest().await
    };
    let cancel = async {
        api.begun(&running).await;
        api.delete(&waiting).await.check(202);
    };
    let (events, ()) = tokio::join!(follower, cancel);
    assert_eq!(names(&events), ["started", "completed"]);
    assert_eq!(data(&events[1])["status"], "interrupted");
    pipe.write("");
    api.ended(&running).await;
}
