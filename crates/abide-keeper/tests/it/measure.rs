//! Numbers, not checks: `cargo test --release -p abide-keeper -- --ignored --nocapture measure`.

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::{Kept, Told, child, eventually, harness};

const TOTAL: u64 = 200_000_000;

fn rate(started: Instant) -> f64 {
    TOTAL as f64 / 1e6 / started.elapsed().as_secs_f64()
}

fn raw_pipe() -> f64 {
    let mut child = Command::new(harness())
        .args(["child", "zeros", &TOTAL.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let started = Instant::now();
    let (mut buf, mut at) = (vec![0; 64 * 1024], 0);
    loop {
        match pipe.read(&mut buf).unwrap() {
            0 => break,
            len => at += len as u64,
        }
    }
    assert_eq!(at, TOTAL);
    let rate = rate(started);
    child.wait().unwrap();
    rate
}

fn through_keeper(journal_bytes: u64) -> f64 {
    let mut spec = child(&[]);
    // Held until the reader is there.
    spec.argv = vec![
        "/bin/sh".to_owned(),
        "-c".to_owned(),
        format!(
            "head -c 1 <&3 >&2; exec {} child zeros {TOTAL}",
            harness().display()
        ),
    ];
    spec.env
        .push(("PATH".to_owned(), "/usr/bin:/bin".to_owned()));
    spec.journal_bytes = journal_bytes;
    let kept = Kept::launch(&spec);
    let client = kept.connect();
    let journal = client.journal();
    client.deliver([1; 16], b"g").unwrap();
    let mut told = Told::default();
    told.until(&client, |told| told.stderr == b"g");
    let started = Instant::now();
    let (mut cursor, mut at, mut buf) = (told.cursor, told.stdout.len() as u64, Vec::new());
    while at < TOTAL {
        buf.clear();
        match journal.next(&mut cursor, &mut buf).unwrap() {
            Some(record) => {
                if record.tag.is_output() {
                    at += buf.len() as u64;
                }
                journal.set_cursor(cursor);
            }
            None => client.wait(cursor).unwrap(),
        }
    }
    rate(started)
}

#[test]
#[ignore = "a measurement"]
fn measure_throughput() {
    for _ in 0..3 {
        println!("raw pipe reader: {:.0} MB/s", raw_pipe());
        for mib in [1, 4, 16] {
            println!(
                "keeper, journal of {mib} MiB: {:.0} MB/s",
                through_keeper(mib << 20)
            );
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_echo() {
    let kept = Kept::launch(&child(&["echo"]));
    let client = kept.connect();
    let mut told = Told::default();
    let mut times = Vec::new();
    for number in 0..3000u64 {
        let started = Instant::now();
        client
            .deliver(u128::from(number).to_le_bytes(), &[1, 0, 0, 0, 7])
            .unwrap();
        told.until(&client, |told| told.frames.len() as u64 == number + 1);
        times.push(started.elapsed().as_nanos() as f64 / 1000.0);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "message to the program and back: p50 {:.1} us, p99 {:.1} us",
        times[1500], times[2970]
    );

    // The same without a keeper.
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut echo = Command::new("/bin/sh")
        .args([
            "-c",
            &format!("exec 3<&0; exec {} child echo", harness().display()),
        ])
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .unwrap();
    let mut times = Vec::new();
    for _ in 0..3000 {
        let started = Instant::now();
        std::io::Write::write_all(&mut ours, &[1, 0, 0, 0, 7]).unwrap();
        ours.read_exact(&mut [0; 5]).unwrap();
        times.push(started.elapsed().as_nanos() as f64 / 1000.0);
    }
    drop(ours);
    echo.wait().unwrap();
    times.sort_by(f64::total_cmp);
    println!(
        "the same over a bare socket: p50 {:.1} us, p99 {:.1} us",
        times[1500], times[2970]
    );
}

/// Set `KEEPER_EXE` to measure another binary, run as `$KEEPER_EXE keeper <dir>`.
#[test]
#[ignore = "a measurement"]
fn measure_memory() {
    const KEEPERS: usize = 20;
    let exe = std::env::var_os("KEEPER_EXE").map_or_else(|| harness().to_owned(), Into::into);
    let kept: Vec<Kept> = (0..KEEPERS)
        .map(|_| {
            let spec = child(&["echo"]);
            let kept = Kept::place(&spec);
            abide_keeper::launch(&exe, &["keeper"], &kept.dir, &spec)
                .unwrap()
                .wait_ready()
                .unwrap();
            let client = kept.connect();
            client.deliver([1; 16], &[1, 0, 0, 0, 7]).unwrap();
            Told::default().until(&client, |told| told.frames.len() == 1);
            kept
        })
        .collect();
    let field = |name: &str| {
        let total: u64 = kept
            .iter()
            .map(|kept| {
                let pid = kept.record().keeper.pid;
                let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
                let line = text.lines().find(|line| line.starts_with(name)).unwrap();
                line.split_ascii_whitespace()
                    .nth(1)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            })
            .sum();
        total / KEEPERS as u64
    };
    eventually("keepers idle", || true);
    for name in [
        "Rss",
        "Pss:",
        "Pss_Dirty",
        "Private_Dirty",
        "Private_Clean",
        "Shared_Clean",
    ] {
        println!("{name} {} kB", field(name));
    }
    let text =
        std::fs::read_to_string(format!("/proc/{}/smaps", kept[0].record().keeper.pid)).unwrap();
    let mut mapping = "";
    for line in text.lines() {
        if line.contains('-')
            && line
                .split_ascii_whitespace()
                .next()
                .is_some_and(|first| first.contains('-'))
        {
            mapping = line;
        }
        if line.starts_with("Private_Dirty:") && !line.contains(" 0 kB") {
            println!(
                "{} {}",
                line.split_ascii_whitespace().nth(1).unwrap(),
                mapping
            );
        }
    }
}
