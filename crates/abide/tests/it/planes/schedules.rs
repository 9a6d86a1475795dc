//! Random faults by seed: whatever is cut, held, doubled, killed or stopped, each step is executed
//! at most once, comes to exactly one end, and that is its own.
//!
//! A schedule is a sequence of submissions and faults over a few sessions of its own, on planes that
//! many schedules share. The seed decides what is done and where; what meets what is up to the
//! machine. `ABIDE_SCHEDULES=500` runs that many seeds instead of [`SEEDS`], and
//! `ABIDE_SCHEDULE=N` that one alone.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test has no supervisor and no configuration, and tells what it did"
)]

pub(super) mod faults;
mod verdict;
mod work;

use std::sync::Arc;

use fastrand::Rng;

use super::{Planes, agent_options, data_options};
use faults::Faults;
use work::{Kind, Work};

/// How many seeds a test run tries.
const SEEDS: u64 = 60;
/// Planes that the seeds are shared out to.
const SHARDS: u64 = 4;
/// Sessions of a schedule.
const SESSIONS: usize = 2;

/// What befell the steps of some schedules.
#[derive(Debug, Default)]
struct Tally {
    schedules: usize,
    steps: usize,
    /// Answered at the first submission.
    at_once: usize,
    /// Told that nobody could be reached, or that nothing is known.
    unreachable: usize,
    /// The data plane went away instead of answering.
    lost: usize,
    /// Not there when they were asked for at the end.
    never_accepted: usize,
    /// Refused or ended by the death of their interpreter.
    crashed: usize,
    faults: usize,
    kills: usize,
}

/// Says which schedule failed, and what it did.
pub(super) struct Told<'a> {
    pub(super) seed: u64,
    pub(super) log: &'a std::sync::Mutex<Vec<String>>,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self
                .log
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            eprintln!(
                "ABIDE_SCHEDULE={} failed after:\n{}",
                self.seed,
                log.join("\n")
            );
        }
    }
}

async fn one(planes: &mut Planes, seed: u64, tally: &mut Tally) {
    let mut rng = Rng::with_seed(seed);
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let _told = Told { seed, log: &log };
    let say = |what: String| log.lock().unwrap().push(what);
    let mut work = Work::begin(planes, seed, SESSIONS, &mut rng).await;
    let mut faults = Faults::over(planes, work.seen.clone());
    let fatal = rng.u8(..5) == 0;
    for n in 0..rng.usize(10..22) {
        match rng.u8(..100) {
            0..45 => {
                let kind = match rng.u8(..8) {
                    0 | 1 => Kind::Waits,
                    2 if fatal && n > 4 => Kind::Dies,
                    _ => Kind::Plain,
                };
                let id = work.submit(planes, kind, &mut rng);
                say(format!("submit {id} {kind:?}"));
                if !faults.silent() && rng.u8(..4) > 0 {
                    work.seen_or_over(&id).await;
                }
            }
            45..75 => say(faults.arm(planes, &mut rng)),
            75..82 => {
                say(faults.restart_agent(planes));
                tally.kills += 1;
            }
            82..88 => {
                say(faults.restart_data_plane(planes));
                work.client_is(planes);
                tally.kills += 1;
            }
            88..92 => say(faults.stop_or_go_on(planes, rng.bool())),
            92..96 => {
                say("cut all".to_owned());
                planes.proxy.cut_all();
            }
            _ => say(faults.refuse_or_accept(planes)),
        }
    }
    say("heal".to_owned());
    faults.heal(planes, rng.bool());
    tally.faults += faults.done();
    work.open_gates();
    work.answered(tally).await;
    say("look".to_owned());
    verdict::check(planes, &work, &mut rng, tally).await;
    tally.schedules += 1;
}

/// The seeds of one of `shards`: `usual` in all, unless somebody says otherwise.
pub(super) fn seeds(usual: u64, shards: u64, shard: u64) -> impl Iterator<Item = u64> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seeds = match number("ABIDE_SCHEDULE") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ABIDE_SCHEDULES").unwrap_or(usual),
    };
    seeds.filter(move |seed| seed % shards == shard)
}

/// The seeds of one shard.
async fn shard(shard: u64) {
    let mut planes = Planes::with(
        agent_options().set("warm_python=2").set("warm_node=1"),
        data_options(),
    );
    let mut tally = Tally::default();
    for seed in seeds(SEEDS, SHARDS, shard) {
        let limit = std::time::Duration::from_secs(120);
        let schedule = one(&mut planes, seed, &mut tally);
        let ended = tokio::time::timeout(limit, schedule).await;
        assert!(ended.is_ok(), "ABIDE_SCHEDULE={seed} does not end");
    }
    eprintln!("{tally:?}");
    verdict::nothing_is_left(&planes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_first_quarter() {
    shard(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_second_quarter() {
    shard(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_third_quarter() {
    shard(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn random_faults_fourth_quarter() {
    shard(3).await;
}
