//! Measures what a screen costs: megabytes fed per second, milliseconds per snapshot, bytes of memory.
//!
//! `cargo run --release -p abide-terminal --example measure`
#![allow(clippy::print_stdout, reason = "a program for people")]

use std::fmt::Write as _;
use std::time::Instant;

use abide_terminal::{Error, Screen, ScrollbackLimit, Size};

const CORPUS: usize = 50_000_000;
const RUNS: usize = 5;
const LIMIT: ScrollbackLimit = ScrollbackLimit(2 << 20);
/// As they come out of a journal.
const CHUNK: usize = 64 * 1024;

fn main() -> Result<(), Error> {
    let size = Size::new(80, 24)?;
    let before = resident();
    let mut screen = Screen::new(size, LIMIT, 0);
    let lines = listing();
    let mut fed = 0;
    while fed < 10_000 {
        screen.feed(lines.as_bytes());
        fed += lines.lines().count();
    }
    println!(
        "{fed} lines of ls: {} kB resident more",
        resident() - before
    );
    let times = |name: &str, take: &dyn Fn(&Screen) -> usize| {
        let started = Instant::now();
        let mut length = 0;
        for _ in 0..RUNS {
            length = take(&screen);
        }
        let took = started.elapsed().as_secs_f64() * 1e3 / RUNS as f64;
        println!("{name}: {took:.3} ms, {length} bytes");
    };
    times("visible", &|screen| screen.visible().len());
    times("snapshot", &|screen| screen.snapshot(usize::MAX).len());
    times("keyframe", &|screen| screen.keyframe().as_bytes().len());
    let keyframe = screen.keyframe();
    let started = Instant::now();
    let restored = Screen::from_keyframe(&keyframe, LIMIT)?;
    println!("restore: {:.3} ms", started.elapsed().as_secs_f64() * 1e3);
    drop(restored);
    let started = Instant::now();
    screen.resize(Size::new(120, 40)?);
    println!("resize: {:.3} ms", started.elapsed().as_secs_f64() * 1e3);
    let started = Instant::now();
    let length = screen.snapshot(usize::MAX).len();
    println!(
        "snapshot at another width: {:.3} ms, {length} bytes",
        started.elapsed().as_secs_f64() * 1e3
    );
    for (name, corpus) in [
        ("coloured ls", repeated(&listing())),
        ("full-screen program", repeated(&full_screen())),
        ("an agent's TUI", repeated(&agent())),
        ("plain text", repeated(&plain())),
        ("Chinese text", repeated(&chinese())),
    ] {
        let mut speeds: Vec<f64> = (0..RUNS)
            .map(|_| {
                let mut screen = Screen::new(size, LIMIT, 0);
                let started = Instant::now();
                corpus.chunks(CHUNK).for_each(|chunk| screen.feed(chunk));
                corpus.len() as f64 / 1e6 / started.elapsed().as_secs_f64()
            })
            .collect();
        speeds.sort_by(f64::total_cmp);
        println!("{name}: {:.0} MB/s", speeds[RUNS / 2]);
    }
    Ok(())
}

/// Kilobytes of this process in memory.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}

fn repeated(text: &str) -> Vec<u8> {
    text.as_bytes()
        .iter()
        .copied()
        .cycle()
        .take(CORPUS)
        .collect()
}

fn listing() -> String {
    (0..200).fold(String::new(), |mut text, index| {
        let _ = write!(
            text,
            "-rw-r--r-- 1 user user {:8} Nov {:2} 12:{:02} \x1b[0m\x1b[01;3{}mfile-{index}.txt\x1b[0m\r\n",
            index * 7919 % 1_000_000,
            index % 30 + 1,
            index % 60,
            index % 8
        );
        text
    })
}

fn full_screen() -> String {
    (0..100).fold(String::new(), |mut text, frame| {
        text.push_str("\x1b[H");
        for row in 1..=24 {
            let _ = write!(
                text,
                "\x1b[{row};1H\x1b[38;5;{}m{:>5} \x1b[0m\x1b[1mname-{frame}\x1b[0m \x1b[32m{}\x1b[0m\x1b[K",
                (row + frame) % 256,
                row * frame,
                "|".repeat((row * frame) % 50)
            );
        }
        text
    })
}

fn agent() -> String {
    (0..100).fold(String::new(), |mut text, frame| {
        let _ = write!(
            text,
            "\x1b[?2026h\x1b[4A\r\x1b[2K\x1b[38;2;215;119;87m✻ Thinking… ({frame}s)\x1b[39m\r\n\x1b[2K\r\n\x1b[2K╭{}╮\r\n\x1b[2K│ > \x1b[7m \x1b[27m │\r\n\x1b[2K\x1b[2m  ? for shortcuts and a line of some length that says what is going on\x1b[22m\x1b[?2026l",
            "─".repeat(70)
        );
        text
    })
}

fn plain() -> String {
    (0..100).fold(String::new(), |mut text, index| {
        let _ = writeln!(
            text,
            "line {index}: {}\r",
            "the quick brown fox ".repeat(index % 6)
        );
        text
    })
}

fn chinese() -> String {
    (0..100).fold(String::new(), |mut text, index| {
        let _ = writeln!(text, "{index} {}\r", "漢字かな交じり文".repeat(index % 8));
        text
    })
}
