//! The keeper that is started before there is a worker for it.

use abide_keeper::{KeeperSpec, Launcher};
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid,
};

use crate::support::{Kept, child, launcher};

#[test]
fn a_keeper_in_reserve_is_the_next_one() {
    let launcher = stocked();
    let reserve = reserve().unwrap();
    launcher.restock();
    assert_eq!(self::reserve(), Some(reserve), "one is enough");

    let spec = child(&["echo"]);
    let kept = launch(&launcher, &spec);
    assert_eq!(keeper(&kept), reserve);
    assert_eq!(self::reserve(), None);
    let shown = arguments(reserve);
    assert!(
        shown
            .trim_end_matches('\0')
            .ends_with(kept.dir.to_str().unwrap()),
        "{shown:?}"
    );
    let client = kept.connect();
    client.deliver([1; 16], b"hello").unwrap();
    drop(client);

    // And then one that was not.
    assert_ne!(keeper(&launch(&launcher, &spec)), reserve);
}

#[test]
fn a_keeper_in_reserve_ends_with_whoever_keeps_it() {
    let launcher = stocked();
    let reserve = reserve().unwrap();
    drop(launcher);
    assert_eq!(ended(reserve), Some(0));
}

#[test]
fn a_keeper_in_reserve_that_is_killed_is_not_missed() {
    let launcher = stocked();
    let reserve = reserve().unwrap();
    kill_process(reserve, Signal::KILL).unwrap();
    assert_eq!(ended(reserve), None);
    assert_ne!(keeper(&launch(&launcher, &child(&["echo"]))), reserve);
}

/// A launcher with a keeper in reserve, whose parent is this process as soon as it has left its own.
fn stocked() -> Launcher {
    set_child_subreaper(Some(getpid())).unwrap();
    let launcher = launcher();
    assert_eq!(reserve(), None);
    launcher.restock();
    launcher
}

fn launch(launcher: &Launcher, spec: &KeeperSpec) -> Kept {
    let kept = Kept::place(spec);
    launcher
        .launch(&kept.dir, spec)
        .unwrap()
        .wait_ready()
        .unwrap();
    kept
}

fn keeper(kept: &Kept) -> Pid {
    Pid::from_raw(kept.record().keeper.pid).unwrap()
}

/// The child of this process that does not know its worker yet.
fn reserve() -> Option<Pid> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let children: String = tasks
        .map(|task| std::fs::read_to_string(task.unwrap().path().join("children")).unwrap())
        .collect();
    let pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
    let mut keepers = pids
        .filter_map(Pid::from_raw)
        .filter(|pid| arguments(*pid).ends_with("  \0"));
    let keeper = keepers.next();
    assert_eq!(keepers.next(), None);
    keeper
}

fn arguments(pid: Pid) -> String {
    let pid = pid.as_raw_nonzero();
    String::from_utf8(std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).unwrap()
}

/// Waits for its end; its exit code, if it was not killed.
fn ended(pid: Pid) -> Option<i32> {
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status()
}
