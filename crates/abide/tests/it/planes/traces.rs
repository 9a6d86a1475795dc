//! One step is one trace: its names go through all planes, and what each plane did for it can be
//! sent to a collector.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use abide_model::StepId;
use abide_testkit::{AgentOptions, Plane, TestStack};
use serde_json::{Value, json};

use super::{blocking, options};
use crate::api::http::Answer;

/// Receives OTLP over HTTP.
#[derive(Clone)]
struct Collector {
    url: String,
    received: Arc<(Mutex<Vec<Span>>, Condvar)>,
}

/// A span as it came.
#[derive(Debug, Clone)]
struct Span {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    attributes: HashMap<String, Value>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let this = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            received: Arc::default(),
        };
        let collector = this.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let collector = collector.clone();
                std::thread::spawn(move || collector.serve(&stream.unwrap()));
            }
        });
        this
    }

    /// Answers the requests of one connection.
    fn serve(&self, stream: &TcpStream) {
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
            let head = head.to_ascii_lowercase();
            assert!(head.contains("\r\ncontent-type: application/json\r\n"));
            let length = head.split("content-length: ").nth(1).unwrap();
            let length = length.split('\r').next().unwrap().parse().unwrap();
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            self.take(&serde_json::from_slice(&body).unwrap());
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
            (&mut &*stream).write_all(answer.as_bytes()).unwrap();
        }
    }

    fn take(&self, request: &Value) {
        let (spans, changed) = &*self.received;
        for resource in request["resourceSpans"].as_array().unwrap() {
            let about = attributes(&resource["resource"]["attributes"]);
            for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
                let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
                let nanos = |name: &str| text(name).parse::<u64>().unwrap();
                assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"));
                spans.lock().unwrap().push(Span {
                    service: about["service.name"].as_str().unwrap().to_owned(),
                    name: text("name"),
                    trace: text("traceId"),
                    id: text("spanId"),
                    parent: text("parentSpanId"),
                    attributes: attributes(&span["attributes"]),
                });
            }
        }
        changed.notify_all();
    }

    /// The spans of a step once those of these services are there.
    async fn spans_of(&self, step: &str, services: &'static [&str]) -> Vec<Span> {
        let (received, step) = (Arc::clone(&self.received), step.to_owned());
        let of_step = move |spans: &[Span]| -> Vec<Span> {
            let its = |span: &&Span| span.attributes.get("step_id") == Some(&json!(step));
            spans.iter().filter(its).cloned().collect()
        };
        blocking(move || {
            let (spans, changed) = &*received;
            let missing = |spans: &mut Vec<Span>| {
                let there = of_step(spans);
                let ended = |service: &&str| {
                    let of = |span: &Span| span.service == **service && span.name != "attempt";
                    there.iter().any(of)
                };
                !services.iter().all(ended)
            };
            let there = changed.wait_while(spans.lock().unwrap(), missing).unwrap();
            of_step(&there)
        })
        .await
    }
}

fn attributes(list: &Value) -> HashMap<String, Value> {
    let pair = |one: &Value| {
        let value = match &one["value"]["intValue"] {
            Value::String(number) => number.parse::<i64>().unwrap().into(),
            _ => one["value"]["stringValue"].clone(),
        };
        (one["key"].as_str().unwrap().to_owned(), value)
    };
    list.as_array().unwrap().iter().map(pair).collect()
}

/// The three planes with one session.
struct Whole {
    stack: TestStack,
    http: reqwest::Client,
    session: String,
}

impl Whole {
    async fn start(options: AgentOptions) -> Self {
        let stack = TestStack::start(options).unwrap();
        let mut whole = Self {
            stack,
            http: super::client(),
            session: String::new(),
        };
        let made = whole.post("/sessions").json(&json!({}));
        let made = Answer::of(made).await.check(201);
        whole.session = format!("/sessions/{}", made["id"].as_str().unwrap());
        whole
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.stack.url());
        self.http.post(url).bearer_auth(self.stack.key().unwrap())
    }

    /// Runs a step under these names.
    async fn run(&self, id: &str, request: &str, traceparent: Option<&str>) -> Answer {
        let body = json!({ "code": "print('ran')", "step_id": id });
        let path = format!("{}/steps", self.session);
        let mut step = self.post(&path).json(&body).header("x-request-id", request);
        if let Some(traceparent) = traceparent {
            step = step.header("traceparent", traceparent);
        }
        Answer::of(step).await
    }
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_sees_one_trace_of_a_step_with_a_span_of_each_plane() {
    let collector = Collector::start();
    let options = options().env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url);
    let mut whole = Whole::start(options).await;
    let (other, step) = (StepId::new().to_string(), StepId::new().to_string());
    let unwanted = format!("00-{}-{CALLER}-00", TRACE.replace('0', "1"));
    whole.run(&other, "r0", Some(&unwanted)).await.check(200);
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    whole.run(&step, "r1", Some(&traceparent)).await.check(200);
    let all = ["control-plane", "data-plane", "session-agent"].as_slice();
    let spans = collector.spans_of(&step, all).await;
    assert_eq!(spans.len(), 3, "{spans:#?}");
    let mut parent = CALLER.to_owned();
    for service in all {
        let span = spans.iter().find(|span| span.service == *service).unwrap();
        assert_eq!((&*span.trace, &span.parent), (TRACE, &parent), "{span:#?}");
        let attribute = |name: &str| &span.attributes[name];
        let session = whole.session.trim_start_matches("/sessions/");
        assert_eq!(attribute("session_id"), session);
        assert_eq!(attribute("request_id"), "r1");
        assert_eq!(attribute("auth_mode"), "enforced");
        assert_eq!(attribute("outcome"), "completed");
        assert_eq!(attribute("attempt"), 1);
        assert!(attribute("runtime_id").is_string(), "{span:#?}");
        assert!(attribute("target_endpoint").is_string(), "{span:#?}");
        parent.clone_from(&span.id);
    }
    let data_plane = spans.iter().find(|span| span.service == "data-plane");
    let target = &data_plane.unwrap().attributes["target_endpoint"];
    assert_eq!(target, whole.stack.plane_url(Plane::Agent));

    // A trace that begins here, and a runtime that is not there: each attempt is told of.
    tokio::task::block_in_place(|| whole.stack.kill(Plane::Agent).unwrap());
    let lost = StepId::new().to_string();
    assert_eq!(whole.run(&lost, "r2", None).await.status, 503);
    let spans = collector.spans_of(&lost, &all[..2]).await;
    let of = |service: &str, name: &str| -> Vec<&Span> {
        let its = |span: &&Span| span.service == service && span.name == name;
        spans.iter().filter(its).collect()
    };
    let (control, data) = (of(all[0], "deliver_step"), of(all[1], "route_step"));
    assert_eq!((control.len(), data.len()), (1, 1), "{spans:#?}");
    assert_eq!(control[0].parent, "");
    assert_eq!(
        (&data[0].parent, &data[0].trace),
        (&control[0].id, &control[0].trace)
    );
    assert_eq!(data[0].attributes["outcome"], "runtime_unreachable");
    assert_eq!(data[0].attributes["attempt"], 3);
    let attempts = of(all[1], "attempt");
    assert!(attempts.len() >= 2, "{spans:#?}");
    for attempt in attempts {
        let places = (&attempt.parent, &attempt.trace);
        assert_eq!(places, (&data[0].id, &data[0].trace));
        assert!(attempt.attributes["outcome"].is_string());
    }
    // What its caller did not want recorded is not, in no plane.
    let received = collector.received.0.lock().unwrap();
    assert!(
        received
            .iter()
            .all(|span| span.attributes["step_id"] != other)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_each_plane_names_the_request_and_its_trace() {
    let options = options()
        .set("log=info,abide_session_agent=debug")
        .set("log_format=json")
        .keeping_logs();
    let whole = Whole::start(options).await;
    let step = StepId::new().to_string();
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let answer = whole
        .run(&step, "request-of-the-test", Some(&traceparent))
        .await;
    assert_eq!(answer.header("x-request-id"), "request-of-the-test");
    answer.check(200);
    for (plane, message) in [
        (Plane::Control, "answered"),
        (Plane::Data, "step routed"),
        (Plane::Agent, "step routed"),
    ] {
        let log = whole.stack.log(plane).unwrap();
        let named = log.lines().any(|line| {
            let told: Value = serde_json::from_str(line).unwrap();
            told["message"] == message
                && line.contains("\"request-of-the-test\"")
                && line.contains(&format!("\"{TRACE}\""))
        });
        assert!(named, "{plane:?}: {log}");
    }
}
