//! Random faults by seed through all three planes: on either wire, and to each of the planes. Each
//! step is executed at most once, and what the control plane accepted comes to one end, which it
//! tells once and to everybody.
//!
//! Like the schedules between two planes, and run again in the same way.

#![expect(clippy::print_stderr, reason = "a test tells what it did")]

mod faults;
mod verdict;
mod work;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use abide_testkit::Plane;
use fastrand::Rng;

use self::faults::Faults;
use self::work::{Kind, Work};
use super::super::schedules::{Told, seeds};
use super::Whole;

/// How many seeds a test run tries.
const SEEDS: u64 = 24;
/// Stacks that the seeds are shared out to.
const SHARDS: u64 = 2;
/// Sessions of a schedule.
const SESSIONS: usize = 2;

/// What befell the steps of some schedules.
#[derive(Debug, Default)]
struct Tally {
    schedules: usize,
    steps: usize,
    completed: usize,
    /// Ended without anybody having seen an end.
    lost: usize,
    /// Refused before they were sent, or with their interpreter.
    refused: usize,
    never_accepted: usize,
    faults: usize,
    kills: usize,
}

async fn one(whole: &mut Whole, seed: u64, tally: &mut Tally) {
    let mut rng = Rng::with_seed(seed);
    let log = Mutex::new(Vec::new());
    let _told = Told { seed, log: &log };
    let say = |what: String| log.lock().unwrap().push(what);
    let mut work = Work::begin(whole, seed, SESSIONS, &mut rng).await;
    let mut faults = Faults::over(whole, Arc::clone(&work.seen));
    let fatal = rng.u8(..5) == 0;
    for n in 0..rng.usize(10..20) {
        match rng.u8(..100) {
            0..45 => {
                let kind = match rng.u8(..8) {
                    0 | 1 => Kind::Waits,
                    2 if fatal && n > 4 => Kind::Dies,
                    _ => Kind::Plain,
                };
                let id = work.submit(whole, kind, &mut rng);
                say(format!("submit {id} {kind:?}"));
                if !faults.may_block() && rng.u8(..4) > 0 {
                    work.seen_or_over(&id).await;
                }
            }
            45..72 => say(faults.arm(whole, &mut rng)),
            72..86 => {
                let plane = Plane::ALL[rng.usize(..3)];
                say(faults.restart(whole, plane));
                if plane == Plane::Control {
                    work.control_plane_is_new();
                }
                tally.kills += 1;
            }
            86..92 => say(faults.stop_or_go_on(whole, Plane::ALL[rng.usize(..3)])),
            92..96 => {
                let wire = rng.usize(..2);
                say(format!("cut all of wire {wire}"));
                whole.wires[wire].cut_all();
            }
            _ => say(faults.refuse_or_accept(whole, rng.usize(..2))),
        }
    }
    say("heal".to_owned());
    faults.heal(whole, rng.bool());
    tally.faults += faults.done();
    work.open_gates();
    work.answered().await;
    say("look".to_owned());
    verdict::check(whole, &work, &mut rng, tally).await;
    tally.schedules += 1;
}

/// The seeds of one shard.
async fn shard(shard: u64) {
    let mut whole = Whole::start().await;
    let mut tally = Tally::default();
    for seed in seeds(SEEDS, SHARDS, shard) {
        let limit = Duration::from_secs(120);
        let schedule = one(&mut whole, seed, &mut tally);
        let ended = tokio::time::timeout(limit, schedule).await;
        assert!(ended.is_ok(), "ABIDE_SCHEDULE={seed} does not end");
    }
    eprintln!("{tally:?}");
    verdict::nothing_is_left(&whole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_first_half() {
    shard(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_second_half() {
    shard(1).await;
}

/// The schedules would notice: something on the wire makes two steps of one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_second_execution_is_counted() {
    let whole = Whole::start().await;
    let mut rng = Rng::with_seed(0);
    let mut work = Work::begin(&whole, 0, 1, &mut rng).await;
    faults::forge_next_step(&whole);
    let id = work.submit(&whole, Kind::Plain, &mut rng);
    work.answered().await;
    // The second one is on its way.
    while work.executions(&id) < 2 {
        tokio::task::yield_now().await;
    }
    let found = verdict::of_step(&whole, &work, &id, true).await;
    let twice = format!("{id} was executed 2 times");
    assert_eq!(found.err().as_deref(), Some(twice.as_str()));
}
