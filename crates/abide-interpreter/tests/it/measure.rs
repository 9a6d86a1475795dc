//! Figures; `cargo test -p abide-interpreter --release -- --ignored --nocapture measure`.

use std::{
    fs,
    io::{Read, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use abide_model::Runtime;

use crate::running::{Running, interpreter};

/// The smallest program that does the essential work.
const BARE: &str = "
import posix
g = {'__name__': '__main__'}
posix.write(1, b'r')
while True:
    n = int.from_bytes(posix.read(0, 4), 'little')
    if not n: break
    r = repr(eval(posix.read(0, n), g)).encode()
    posix.write(1, len(r).to_bytes(4, 'little') + r)
";

#[test]
#[ignore = "prints figures"]
fn measure() {
    let starts = 30;
    let bare = median((0..starts).map(|_| bare_start()));
    let python = median((0..starts).map(|_| harness_start(Runtime::Python)));
    let node = median((0..starts).map(|_| harness_start(Runtime::Node)));
    eprintln!("start: bare loop {bare:?}, Python harness {python:?}, Node harness {node:?}");
    eprintln!("step x+1: bare loop {:?}", bare_step());
    for runtime in [Runtime::Python, Runtime::Node] {
        let mut running: Vec<_> = (0..10).map(|_| Running::start(runtime)).collect();
        let fresh = median(running.iter().map(pss));
        for one in &mut running {
            one.run("x = 41");
        }
        let step = median((0..3000).map(|_| {
            let start = Instant::now();
            running[0].value("x+1", "42");
            start.elapsed()
        }));
        eprintln!(
            "{runtime}: step x+1 {step:?}, PSS of each of ten {fresh} kB fresh, {} kB after a step",
            median(running[1..].iter().map(pss))
        );
    }
}

fn median<T: Ord>(values: impl Iterator<Item = T>) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort();
    let middle = values.len() / 2;
    values.swap_remove(middle)
}

fn bare_loop() -> std::process::Child {
    Command::new(&interpreter(Runtime::Python).binary)
        .args(["-I", "-S", "-c", BARE])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn bare_start() -> Duration {
    let start = Instant::now();
    let mut child = bare_loop();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let elapsed = start.elapsed();
    child.kill().unwrap();
    child.wait().unwrap();
    elapsed
}

fn bare_step() -> Duration {
    let mut child = bare_loop();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    let step = median((0..3000).map(|_| {
        let start = Instant::now();
        stdin.write_all(b"\x04\0\0\x0041+1").unwrap();
        stdout.read_exact(&mut [0; 6]).unwrap();
        start.elapsed()
    }));
    child.kill().unwrap();
    child.wait().unwrap();
    step
}

fn harness_start(runtime: Runtime) -> Duration {
    interpreter(runtime);
    let start = Instant::now();
    let _running = Running::spawn(runtime);
    start.elapsed()
}

/// Proportional set size in kB.
fn pss(running: &Running) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", running.pid())).unwrap();
    let line = rollup
        .lines()
        .find(|line| line.starts_with("Pss:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
