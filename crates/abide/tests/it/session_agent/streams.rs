//! A step as it happens, and output by offset: every byte, once, in order.

use abide_model::{STEP_FRAMES, StepFrame, StepStatus};
use base64::Engine as _;
use serde_json::json;

use super::{Agent, options, step};
use crate::api::http::{Answer, Stream, data, output};

/// Writes 3 MB of bytes that are no text, and some to standard error in between.
const POURS: &str = "import os\n\
    def write(fd, data):\n    while data: data = data[os.write(fd, data):]\n\
    block = bytes(range(256)) * 256\n\
    for n in range(48):\n    write(1, block); write(2, b'%d,' % n)";

fn poured() -> (Vec<u8>, Vec<u8>) {
    let block: Vec<u8> = (0..=255).collect::<Vec<u8>>().repeat(256);
    let errors = (0..48).map(|n| format!("{n},")).collect::<String>();
    (block.repeat(48), errors.into_bytes())
}

fn frames(answer: &Answer) -> Vec<StepFrame> {
    assert_eq!(answer.header("content-type"), STEP_FRAMES);
    let lines = answer.bytes(200).split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// Both streams from output frames that follow each other without a gap from `start` on.
fn outputs(frames: &[StepFrame], start: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err, mut at) = (Vec::new(), Vec::new(), start);
    for frame in frames {
        let StepFrame::Output { stderr, data, end } = frame else {
            continue;
        };
        let data = base64::engine::general_purpose::STANDARD
            .decode(data)
            .unwrap();
        at += data.len() as u64;
        assert_eq!(*end, at);
        if *stderr { &mut err } else { &mut out }.extend(data);
    }
    (out, err)
}

#[tokio::test]
async fn frames_carry_every_byte_through_a_small_ring() {
    let agent = Agent::with(options().set("journal_bytes=1MiB"));
    let session = agent.register("s1").await;
    agent.run("s1", "print('before')").await;
    let body = step("s1", "pours", POURS).to_string();
    let request = agent
        .request("POST", "/v1/steps?output=1")
        .header("accept", STEP_FRAMES);
    let told = frames(&Answer::of(request.body(body.clone())).await);
    let StepFrame::Started {
        worker_id,
        output_start,
        ..
    } = &told[0]
    else {
        panic!("{:?}", told[0]);
    };
    assert_eq!(
        (json!(worker_id), *output_start),
        (session["workerId"].clone(), 7)
    );
    let (out, err) = outputs(&told, 7);
    let expected = poured();
    assert!(
        out == expected.0,
        "{} bytes of {}",
        out.len(),
        expected.0.len()
    );
    assert_eq!(err, expected.1);
    assert!(
        !told
            .iter()
            .any(|frame| matches!(frame, StepFrame::Gap { .. }))
    );
    let Some(StepFrame::Ended {
        outcome,
        worker_id: Some(ended_by),
    }) = told.last()
    else {
        panic!("{:?}", told.last());
    };
    assert_eq!(
        (outcome.status, ended_by),
        (StepStatus::Completed, worker_id)
    );
    assert_eq!(outcome.stdout.bytes, out.len() as u64);
    // Asked for afterwards, the beginning has left the ring, and that is said.
    let request = agent
        .request("POST", "/v1/steps?output=1")
        .header("accept", STEP_FRAMES);
    let later = frames(&Answer::of(request.body(body)).await);
    assert!(matches!(later[0], StepFrame::Started { .. }));
    let StepFrame::Gap { from: 7, to } = later[1] else {
        panic!("{:?}", later[1])
    };
    let (rest, _) = outputs(&later, to);
    assert!(out.ends_with(&rest) && !rest.is_empty());
    assert_eq!(later.last(), told.last());
}

#[tokio::test]
async fn frames_without_output_say_how_it_began_and_ended() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let ask = |method: &str, path: &str, body: String| {
        let request = agent.request(method, path).header("accept", STEP_FRAMES);
        Answer::of(request.body(body))
    };
    let code = "print('x')\n6 * 7";
    let told = frames(&ask("POST", "/v1/steps", step("s1", "a", code).to_string()).await);
    let [StepFrame::Started { .. }, StepFrame::Ended { outcome, .. }] = told.as_slice() else {
        panic!("{told:?}");
    };
    assert_eq!(outcome.stdout.head, b"x\n");
    assert_eq!(outcome.result.as_ref().unwrap().text.as_deref(), Some("42"));
    for (method, path, body) in [
        ("POST", "/v1/steps", step("s1", "a", code).to_string()),
        ("GET", "/v1/sessions/s1/steps/a", String::new()),
        ("GET", "/v1/sessions/s1/steps/a?wait_ms=5", String::new()),
    ] {
        assert_eq!(
            frames(&ask(method, path, body).await),
            told,
            "{method} {path}"
        );
    }
    // A step that has not started has nothing to tell yet.
    let gate = agent.gate();
    agent.submit("s1", "b", &gate.waits()).await;
    agent.submit("s1", "c", "1").await;
    let path = "/v1/sessions/s1/steps/c";
    assert_eq!(frames(&ask("GET", path, String::new()).await), []);
    let path = format!("{path}?wait_ms=60000");
    let (ended, ()) = tokio::join!(ask("GET", &path, String::new()), gate.open());
    assert_eq!(frames(&ended).len(), 2);
}

#[tokio::test]
async fn events_tell_a_step_as_it_happens() {
    let agent = Agent::enforced();
    agent.register("s1").await;
    let gate = agent.gate();
    let code = format!(
        "print('grün', flush=True)\n{}\nprint('end')\n5",
        gate.waits()
    );
    let body = step("s1", "a", &code).to_string();
    let mut stream = Stream::of(agent.request("POST", "/v1/steps").body(body)).await;
    let started = stream.next().await.unwrap();
    assert_eq!(
        (started.event.as_str(), &data(&started)["status"]),
        ("started", &json!("running"))
    );
    let first = stream.next().await.unwrap();
    assert_eq!(
        (first.event.as_str(), output(&first)),
        ("stdout", "grün\n".as_bytes().to_vec())
    );
    gate.open().await;
    let rest = stream.rest().await;
    let names: Vec<_> = rest.iter().map(|message| message.event.as_str()).collect();
    assert_eq!(names, ["stdout", "result", "completed"]);
    assert_eq!(output(&rest[0]), b"end\n");
    assert_eq!(data(&rest[1])["text"], "5");
    let ended = data(&rest[2]);
    assert_eq!(
        (&ended["stepId"], &ended["stdout"]),
        (&json!("a"), &json!("grün\nend\n"))
    );
}

#[tokio::test]
async fn output_is_read_by_offset_and_followed() {
    let agent = Agent::enforced();
    let session = agent.register("s1").await;
    let code = "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr, flush=True)";
    agent.run("s1", code).await;
    let path = "/v1/sessions/s1/output";
    let whole = agent.get(path).await;
    assert_eq!(
        (
            whole.header("x-output-head"),
            whole.header("x-output-earliest")
        ),
        ("8", "0")
    );
    assert_eq!(
        outputs(&frames(&whole), 0),
        (b"out\n".to_vec(), b"err\n".to_vec())
    );
    let part = frames(&agent.get(&format!("{path}?from=1&end=6")).await);
    assert_eq!(outputs(&part, 1), (b"ut\n".to_vec(), b"er".to_vec()));
    let worker = session["workerId"].as_str().unwrap();
    let errors = agent
        .get(&format!("{path}?worker={worker}&stream=stderr"))
        .await;
    let [
        StepFrame::Output {
            stderr: true,
            end: 8,
            ..
        },
    ] = frames(&errors)[..]
    else {
        panic!("{}", errors.text());
    };
    for wrong in ["stream=both", "from=x", "worker=1"] {
        assert_eq!(
            agent.get(&format!("{path}?{wrong}")).await.status,
            400,
            "{wrong}"
        );
    }
    let unknown = format!("{path}?worker={}", abide_model::WorkerId::new());
    assert_eq!(agent.get(&unknown).await.status, 404);
    // Followed until the interpreter ends.
    let from = format!("{path}?from=8&follow=1");
    let following = agent.get(&from);
    let ending = async {
        agent.run("s1", "print('more')").await;
        agent
            .post("/v1/sessions/s1/restart", &json!(null))
            .await
            .check(200);
    };
    let (followed, ()) = tokio::join!(following, ending);
    assert_eq!(outputs(&frames(&followed), 8).0, b"more\n");
}
