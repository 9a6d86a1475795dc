//! One step that prints 100 MB, streamed to an HTTP client, against a pipe and a read loop.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Bench;
use super::digest::Digest;
use super::http::Connection;
use super::process;
use super::python::{program, real_interpreter};
use super::row::{Claim, Contest, Kind, Row, Unit};
use super::server::{Server, create_python, run};

/// Lines of 1,000 bytes each.
const LINES: usize = 100_000;
const LINE_BYTES: usize = 1000;
const TOTAL_BYTES: usize = LINES * LINE_BYTES;
/// What the client keeps of an event stream until it has ended: the text and what frames it.
const EVENT_BYTES: usize = TOTAL_BYTES + TOTAL_BYTES / 4;

/// As raw bytes.
pub(super) fn bytes() -> Row {
    Row {
        name: "stream-bytes",
        what: "100 MB in lines of 1 kB from one step, followed as `application/octet-stream`",
        contenders: &[
            "`GET …/output?follow=1`",
            "the same program, a raw pipe reader",
            "the same with a write per line, as in a session",
        ],
        kind: Kind::Contest,
        unit: Unit::MegabytesPerSecond,
        open: |bench| Ok(Box::new(Stream::open(bench, Form::Bytes)?)),
        claims: |outcome| vec![at_least_the_pipe(outcome.ratio(1))],
    }
}

/// As server-sent events.
pub(super) fn events() -> Row {
    Row {
        name: "stream-events",
        what: "100 MB in lines of 1 kB from one step, streamed as server-sent events",
        contenders: &[
            "`POST …/steps`, `text/event-stream`",
            "the same program, a raw pipe reader",
            "the same with a write per line, as in a session",
        ],
        kind: Kind::Contest,
        unit: Unit::MegabytesPerSecond,
        open: |bench| Ok(Box::new(Stream::open(bench, Form::Events)?)),
        claims: |outcome| vec![at_least_the_pipe(outcome.ratio(1))],
    }
}

fn at_least_the_pipe(ratio: f64) -> Claim {
    Claim::at_least("≥ 0.6 × the raw pipe", ratio, 0.6)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Bytes,
    Events,
}

struct Stream {
    server: Server,
    session: String,
    form: Form,
    python: PathBuf,
    /// Where the program waits for its start.
    gate: TcpListener,
    expected: Digest,
    /// An event stream as it came, kept from run to run so that its pages are there.
    received: Vec<u8>,
    /// Runs of Abide whose bytes were all there and the right ones, and all of its runs.
    whole: usize,
    runs: usize,
    /// The most that the server's memory grew by in a run: all of it, and its own part.
    growth: f64,
    own_growth: f64,
    trouble: Vec<String>,
}

impl Stream {
    fn open(bench: &Bench, form: Form) -> Result<Self> {
        let server = Server::start(bench, &["warm_python=0"])?;
        let python = real_interpreter(&server)?;
        let mut connection = server.connect()?;
        let session = create_python(&mut connection)?;
        run(&mut connection, &session, "None")?;
        let mut expected = Digest::default();
        for line in 0..LINES {
            expected.add(format!("{line:08} {}\n", "x".repeat(LINE_BYTES - 10)).as_bytes());
        }
        let mut received = vec![1; if form == Form::Events { EVENT_BYTES } else { 0 }];
        received.clear();
        Ok(Self {
            server,
            session,
            form,
            python,
            gate: TcpListener::bind("127.0.0.1:0")?,
            expected,
            received,
            whole: 0,
            runs: 0,
            growth: 0.0,
            own_growth: 0.0,
            trouble: Vec::new(),
        })
    }

    /// Waits until it is told to, then prints.
    fn source(&self) -> Result<String> {
        let port = self.gate.local_addr()?.port();
        let padding = LINE_BYTES - 10;
        Ok(format!(
            "import socket\n\
             with socket.create_connection(('127.0.0.1', {port})) as gate: gate.recv(1)\n\
             padding = 'x' * {padding}\n\
             for line in range({LINES}): print(f'{{line:08}} {{padding}}')\n"
        ))
    }

    fn abide(&mut self) -> Result<Vec<f64>> {
        let mut connection = self.server.connect()?;
        let server = self.server.pid()?;
        let (rss, own) = (process::rss(server)?, process::anonymous(server)?);
        process::forget_peak(server)?;
        let delivered = match self.form {
            Form::Bytes => self.follow(&mut connection)?,
            Form::Events => self.events(&mut connection)?,
        };
        self.growth = self.growth.max(process::peak_rss(server)? - rss);
        self.own_growth = self.own_growth.max(process::anonymous(server)? - own);
        self.runs += 1;
        if delivered.digest == self.expected {
            self.whole += 1;
        } else {
            let bytes = delivered.digest.bytes;
            let why = delivered.broken.as_deref().unwrap_or_default();
            let trouble = format!("a run delivered {bytes} of {TOTAL_BYTES} bytes; {why}");
            self.trouble.push(trouble);
        }
        Ok(vec![delivered.rate()])
    }

    /// Submits the step without waiting for it and follows its output.
    fn follow(&self, connection: &mut Connection) -> Result<Delivered> {
        let steps = format!("/sessions/{}/steps", self.session);
        let code = json!({ "code": self.source()? });
        let step = connection.json("POST", &format!("{steps}?wait=0"), &code)?;
        let step = step["id"].as_str().context("no id")?;
        let output = format!("{steps}/{step}/output?follow=1");
        let request = connection.request("GET", &output, "application/octet-stream", "");
        let (program, _) = self.gate.accept().context("the program does not come")?;
        let head = connection.begin(&request)?;
        ensure!(head.status == 200, "{output} answered {}", head.status);
        let begun = release(program)?;
        let mut digest = Digest::default();
        let finished = connection.finish(head, |part| digest.add(part));
        let delivered = Delivered {
            begun,
            ended: Instant::now(),
            digest,
            broken: finished.err().map(|error| format!("{error:#}")),
        };
        let mut connection = self.server.connect()?;
        let path = format!("{steps}/{step}?wait=60");
        let step = connection.json("GET", &path, &Value::Null)?;
        ensure!(
            step["status"] == "completed",
            "the step did not complete: {step}"
        );
        Ok(delivered)
    }

    /// Submits the step as a stream. What comes is kept and looked at afterwards, so that the
    /// client does not slow the server down.
    fn events(&mut self, connection: &mut Connection) -> Result<Delivered> {
        let path = format!("/sessions/{}/steps", self.session);
        let body = json!({ "code": self.source()? }).to_string();
        let request = connection.request("POST", &path, "text/event-stream", &body);
        let head = connection.begin(&request)?;
        ensure!(head.status == 200, "{path} answered {}", head.status);
        let (program, _) = self.gate.accept().context("the program does not come")?;
        let begun = release(program)?;
        let received = &mut self.received;
        received.clear();
        let finished = connection.finish(head, |part| received.extend_from_slice(part));
        let ended = Instant::now();
        let mut broken = finished.err().map(|error| format!("{error:#}"));
        let mut digest = Digest::default();
        let mut event: &[u8] = b"";
        for line in received.split(|byte| *byte == b'\n') {
            if let Some(name) = line.strip_prefix(b"event: ") {
                event = name;
            } else if let Some(data) = line.strip_prefix(b"data: ") {
                match event {
                    b"stdout" => digest.add(serde_json::from_slice::<Text>(data)?.text.as_bytes()),
                    b"stderr" | b"gap" => {
                        broken = Some(String::from_utf8_lossy(data).into_owned());
                    }
                    _ => {}
                }
            }
        }
        Ok(Delivered {
            begun,
            ended,
            digest,
            broken,
        })
    }

    /// A program and a read loop, nothing between them but a pipe.
    fn pipe(&self, options: &str) -> Result<Vec<f64>> {
        let source = format!("import sys\n{options}\n{}", self.source()?);
        let mut child = program(&self.python, &source)
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start Python")?;
        let mut pipe = child.stdout.take().context("no standard output")?;
        let (program, _) = self.gate.accept().context("the program does not come")?;
        let begun = release(program)?;
        let (mut digest, mut buffer) = (Digest::default(), vec![0; 64 * 1024]);
        loop {
            match pipe.read(&mut buffer)? {
                0 => break,
                count => digest.add(&buffer[..count]),
            }
        }
        let delivered = Delivered {
            begun,
            ended: Instant::now(),
            digest,
            broken: None,
        };
        child.wait()?;
        ensure!(delivered.digest == self.expected, "the pipe lost bytes");
        Ok(vec![delivered.rate()])
    }
}

/// Lets the program begin; returns when that was.
fn release(mut program: TcpStream) -> Result<Instant> {
    let begun = Instant::now();
    program.write_all(b"g")?;
    Ok(begun)
}

impl Contest for Stream {
    fn run(&mut self, contender: usize) -> Result<Vec<f64>> {
        match contender {
            0 => self.abide(),
            1 => self.pipe(""),
            _ => self.pipe("sys.stdout.reconfigure(line_buffering=True)"),
        }
    }

    fn claims(&self) -> Vec<Claim> {
        vec![
            Claim::at_least(
                "every byte delivered, in order: runs of which that is true, of all",
                self.whole as f64 / self.runs as f64,
                1.0,
            ),
            Claim::at_most(
                "server memory ≤ +32 MiB, mapped journal included",
                self.growth / MEBIBYTE,
                32.0,
            ),
        ]
    }

    fn notes(&self) -> Vec<String> {
        let own = self.own_growth / MEBIBYTE;
        let mut notes = vec![format!("server memory without mapped files: +{own:.1} MiB")];
        notes.extend(self.trouble.iter().cloned());
        notes
    }
}

const MEBIBYTE: f64 = 1_048_576.0;

/// Data of an event of output that is text.
#[derive(serde::Deserialize)]
struct Text {
    text: String,
}

/// What a reader got, from the moment when the program was let go.
struct Delivered {
    begun: Instant,
    ended: Instant,
    digest: Digest,
    /// Why it is not all.
    broken: Option<String>,
}

impl Delivered {
    /// Megabytes per second.
    fn rate(&self) -> f64 {
        self.digest.bytes as f64 / 1e6 / (self.ended - self.begun).as_secs_f64()
    }
}
