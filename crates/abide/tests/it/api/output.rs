//! Output as raw bytes, by offset: whole, in part, followed, expired.

use abide_model::ProblemCode;
use serde_json::{Value, json};

use super::http::{Answer, Api, Stream, output};
use super::steps::Pipe;

const VIEW: usize = 32 * 1024;

/// What `LINES` prints: numbered lines of 16 bytes.
fn lines(range: std::ops::Range<usize>) -> Vec<u8> {
    let lines = range.map(|n| format!("line {n:>10}\n"));
    lines.collect::<String>().into_bytes()
}

fn prints_lines(range: std::ops::Range<usize>) -> String {
    format!(
        "import sys\nsys.stdout.writelines(f'line {{n:>10}}\\n' for n in range({}, {}))",
        range.start, range.end
    )
}

fn of(step: &Value) -> String {
    format!(
        "/sessions/{}/steps/{}/output",
        step["session_id"].as_str().unwrap(),
        step["id"].as_str().unwrap()
    )
}

#[tokio::test]
async fn a_long_output_is_shown_in_part_and_kept_whole() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "print('before')").await;
    let count = 3 * 1024 * 1024 / 16;
    let step = api.run(&path, &prints_lines(0..count)).await;
    let all = lines(0..count);
    assert_eq!(step["stdout_bytes"], all.len());
    assert_eq!(step["truncated"], true);
    let shown = step["stdout"].as_str().unwrap();
    let head = std::str::from_utf8(&all[..VIEW]).unwrap();
    let tail = std::str::from_utf8(&all[all.len() - VIEW..]).unwrap();
    let omitted = all.len() - 2 * VIEW;
    assert_eq!(
        shown,
        format!("{head}\n[… {omitted} bytes left out …]\n{tail}")
    );
    let whole = api.get(&of(&step)).await;
    assert!(whole.bytes(200) == all, "every byte");
    assert_eq!(whole.header("content-type"), "application/octet-stream");
    assert_eq!(whole.header("x-output-from"), "0");
    assert_eq!(whole.header("x-output-next"), all.len().to_string());
    for from in [1, 15, VIEW, all.len() - 1, all.len()] {
        let part = api.get(&format!("{}?from={from}", of(&step))).await;
        assert!(part.bytes(200) == &all[from..], "from {from}");
        assert_eq!(part.header("x-output-from"), from.to_string());
    }
    let beyond = api
        .get(&format!("{}?from={}", of(&step), all.len() + 5))
        .await;
    assert_eq!(beyond.bytes(200), b"");
    // The next step's output is not this one's.
    let next = api.run(&path, "print('after')").await;
    assert_eq!(api.get(&of(&next)).await.bytes(200), b"after\n");
    assert!(api.get(&of(&step)).await.bytes(200) == all);
}

#[tokio::test]
async fn streams_can_be_asked_for_one_by_one() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    // Two pipes to the keeper have no order between them, so the step waits for the test.
    let gates: Vec<Pipe> = (0..4).map(|_| Pipe::new(&api)).collect();
    let mut code = "import os".to_owned();
    for (n, gate) in gates.iter().enumerate() {
        let fd = n % 2 + 1;
        code += &format!("\nos.write({fd}, b'part {n} ')\n{}", gate.waits());
    }
    let mut stream = api.stream_step(&path, &code).await;
    let started = stream.next().await.unwrap();
    for gate in &gates {
        assert!(["stdout", "stderr"].contains(&&*stream.next().await.unwrap().event));
        gate.write("");
    }
    stream.rest().await;
    let step = super::http::data(&started);
    let both = "part 0 part 1 part 2 part 3 ";
    for (query, expected) in [
        ("", both),
        ("?stream=all", both),
        ("?stream=all&from=8", &both[8..]),
        ("?stream=stdout", "part 0 part 2 "),
        ("?stream=stderr", "part 1 part 3 "),
        ("?stream=stdout&from=5", "0 part 2 "),
        ("?stream=stdout&from=9", "part 2 "),
        ("?stream=stderr&from=9", "rt 1 part 3 "),
    ] {
        let answer = api.get(&format!("{}{query}", of(&step))).await;
        assert_eq!(answer.text(), expected, "{query}");
        // Offsets are of everything, whichever stream is asked for.
        assert_eq!(answer.header("x-output-next"), both.len().to_string());
    }
}

#[tokio::test]
async fn following_ends_with_the_step() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let pipe = Pipe::new(&api);
    let code = format!("{}\nprint('then')", pipe.reads());
    let step = api.submit(&path, &code).await;
    api.begun(&step).await;
    assert_eq!(api.get(&format!("{step}/output")).await.bytes(200), b"on\n");
    let request = api.request("GET", &format!("{step}/output?from=1&follow=1"));
    let mut response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-output-from"], "1");
    assert!(response.headers().get("x-output-next").is_none());
    assert_eq!(&response.chunk().await.unwrap().unwrap()[..], b"n\n");
    pipe.write("");
    assert_eq!(&response.bytes().await.unwrap()[..], b"then\n");
    let ended = api.get(&format!("{step}/output?follow=1")).await;
    assert_eq!(ended.bytes(200), b"on\nthen\n");
}

#[tokio::test]
async fn what_has_left_the_journal_is_said_to_have() {
    let api = Api::with(&["journal_bytes=256KiB"]);
    let path = api.session(json!({})).await;
    let early = api.run(&path, "print('early')").await;
    let count = 1024 * 1024 / 16;
    let step = api.run(&path, &prints_lines(0..count)).await;
    let all = lines(0..count);
    assert_eq!(step["stdout_bytes"], all.len());
    let tail = std::str::from_utf8(&all[all.len() - VIEW..]).unwrap();
    assert!(
        step["stdout"].as_str().unwrap().ends_with(tail),
        "the record keeps its ends"
    );
    let expired = api
        .get(&of(&step))
        .await
        .problem(ProblemCode::OutputExpired);
    let earliest = usize::try_from(expired["details"]["earliest"].as_u64().unwrap()).unwrap();
    assert!(
        earliest > all.len() - 256 * 1024 && earliest < all.len(),
        "{earliest}"
    );
    let kept = api.get(&format!("{}?from={earliest}", of(&step))).await;
    assert!(kept.bytes(200) == &all[earliest..]);
    let before = api
        .get(&format!("{}?from={}", of(&step), earliest - 1))
        .await;
    before.problem(ProblemCode::OutputExpired);
    api.get(&of(&early))
        .await
        .problem(ProblemCode::OutputExpired);
    assert_eq!(early["stdout"], "early\n");
    // The session's own output begins where the journal does.
    let session = api.get(&format!("{path}/output")).await;
    assert!(all.ends_with(session.bytes(200)));
    let from = session.header("x-output-from");
    assert_eq!(from, (earliest + "early\n".len()).to_string());
    let gone = api.get(&format!("{path}/output?from=0")).await;
    gone.problem(ProblemCode::OutputExpired);
}

#[tokio::test]
async fn a_session_shows_what_was_printed_between_steps_too() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let nothing = api.get(&format!("{path}/output")).await;
    assert_eq!(
        (nothing.bytes(200), nothing.header("x-output-next")),
        (&b""[..], "0")
    );
    let pipe = Pipe::new(&api);
    let code = format!(
        "import threading\ndef late():\n    {}\n    print('between', flush=True)\n\
         thread = threading.Thread(target=late)\nthread.start()\nprint('in')",
        pipe.reads().replace('\n', "\n    ")
    );
    // The thread prints `on` at once, within or after the step.
    let step = api.run(&path, &code).await;
    let request = api.request("GET", &format!("{path}/output?follow=1"));
    let mut response = request.send().await.unwrap();
    pipe.write("");
    let mut seen = Vec::new();
    while !seen.ends_with(b"between\n") {
        seen.extend_from_slice(&response.chunk().await.unwrap().unwrap());
    }
    let next = api.run(&path, "thread.join()\nprint('next')").await;
    assert_eq!(next["stdout"], "next\n", "what came between is in no step");
    assert!(!step["stdout"].as_str().unwrap().contains("between"));
    seen.extend_from_slice(b"next\n");
    let all = api.get(&format!("{path}/output?from=0")).await;
    assert_eq!(all.bytes(200), seen);
    let tail = api.get(&format!("{path}/output?tail=5")).await;
    assert_eq!(tail.bytes(200), b"next\n");
    assert_eq!(tail.header("x-output-from"), (seen.len() - 5).to_string());
    assert_eq!(tail.header("x-output-next"), seen.len().to_string());
}

#[tokio::test]
async fn old_output_stays_readable_after_a_restart() {
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    let step = api.run(&path, "print('of the first interpreter')").await;
    Answer::of(api.request("POST", &format!("{path}/restart")))
        .await
        .check(200);
    let newer = api.run(&path, "print('of the second')").await;
    assert_eq!(
        api.get(&of(&step)).await.bytes(200),
        b"of the first interpreter\n"
    );
    assert_eq!(api.get(&of(&newer)).await.bytes(200), b"of the second\n");
    assert_eq!(
        api.get(&format!("{path}/output")).await.bytes(200),
        b"of the second\n"
    );
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_megabytes_arrive_whole_through_a_server_that_stays_small() {
    const TOTAL: usize = 100_000_000;
    let api = Api::with(&[]);
    let path = api.session(json!({})).await;
    api.run(&path, "import os").await;
    let pid = api.server.pid().unwrap();
    let before = resident(pid);
    // A period that is no divisor of any buffer: a byte lost or doubled shows at once.
    let code = format!(
        "block = bytes(32 + n % 95 for n in range(95 * 10007))\nleft = {TOTAL}\n\
         while left: left -= os.write(1, block[:left])"
    );
    // os.write may write in part, so the next block begins anew; make that impossible to miss.
    let code = code.replace(
        "left -= os.write(1, block[:left])",
        "\n    view = block[:left]\n    left -= len(view)\n    \
         while view: view = view[os.write(1, view):]",
    );
    let body = json!({ "code": code });
    let steps = format!("{path}/steps");
    let mut stream = Stream::of(api.request("POST", &steps).json(&body)).await;
    let pattern: Vec<u8> = (32..127).collect();
    let (mut seen, mut most) = (0, 0);
    let mut completed = false;
    while let Some(event) = stream.next().await {
        match event.event.as_str() {
            "stdout" => {
                let bytes = output(&event);
                let mut expected = pattern.iter().cycle().skip(seen % pattern.len());
                assert!(
                    bytes.iter().all(|byte| Some(byte) == expected.next()),
                    "at {seen}"
                );
                seen += bytes.len();
                most = most.max(resident(pid));
            }
            "completed" => completed = true,
            "started" => {}
            other => panic!("{other}: {:?}", String::from_utf8_lossy(&event.data)),
        }
    }
    assert!(completed);
    assert_eq!(seen, TOTAL);
    let growth = most.saturating_sub(before);
    assert!(
        growth < 64 * 1024 * 1024,
        "the server grew by {growth} bytes"
    );
}
